"""Decides recorded requests with candidate policies and compares: the engine of `ostiary replay`. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

import orjson

from ostiary_gateway.audit.encoding import decision_fields
from ostiary_gateway.protocols.postgres.folding import fold
from ostiary_gateway.protocols.postgres.literal_places import mere_values
from ostiary_policy.bundle import BoundConnection, Bundle
from ostiary_policy.decision import Needs
from ostiary_policy.facts import PROTOCOL_VARIABLE, ClientFacts
from ostiary_policy.policy_set import PolicySet
from ostiary_store.replay.facts import CANNOT_KNOW, NotRebuilt, Rebuilt, protocol_facts, request_facts, subject_facts
from ostiary_store.replay.recorded import Json, Recorded, mapping
from ostiary_store.replay.report import MAX_GROUPS, Change, Example, Group, Report, Verdict

_Key = TypeVar("_Key")
_KEPT: Final = 20_000
"""Decisions and facts that are kept for requests that are alike."""
_STRICT: Final = ("Deny", "RequireApproval")
_NOTHING_HELD: Final = ("No rule allows this.", "No policy is for you at ", "No policy is in force for this request ")
"""How PolicySet begins when no rule held; what the gateway refuses by itself begins otherwise."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a bundle makes of a request."""

    verdict: Verdict | None
    why: str = ""
    """Why there is no verdict."""
    message: str = ""
    assumed: frozenset[str] = frozenset()
    would: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class _Known:
    """What is kept of a folded text: the first text, and whether its literals are known not to matter."""

    text: str
    certain: bool = False


class _Bench:
    """One bundle's verdicts, each for as many requests as it certainly holds for."""

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle
        self._kept: dict[tuple[object, ...], _Judged] = {}
        self._sets: dict[tuple[str, bytes], PolicySet] = {}

    def connection(self, name: str) -> BoundConnection | None:
        namespace, _, own = name.partition("/")
        return self._bundle.connection(namespace, own)

    def judge(self, recorded: Recorded, subject: bytes, alike: tuple[object, ...], same: tuple[object, ...]) -> _Judged:
        """`alike` is a key of requests that differ in literals only, `same` one of requests that differ in nothing."""
        bound = self.connection(recorded.connection)
        assert bound is not None
        policies = self._policies(bound, recorded, subject)
        key: tuple[object, ...] | None = None
        if policies.reusable("text"):
            key = (recorded.connection, subject, *alike)
        elif policies.reusable("request"):
            key = (recorded.connection, subject, *same)
        if key is not None and recorded.begun < policies.valid_until:
            found = self._kept.get(key)
            if found is None:
                found = self._decide(recorded, bound, policies)
                if len(self._kept) >= _KEPT:
                    self._kept.clear()
                self._kept[key] = found
            return found
        return self._decide(recorded, bound, policies)

    def _policies(self, bound: BoundConnection, recorded: Recorded, subject: bytes) -> PolicySet:
        key = (recorded.connection, subject)
        found = self._sets.get(key)
        if found is None:
            if len(self._sets) >= _KEPT:
                self._sets.clear()
            client = ClientFacts(address="", application="")
            found = self._sets[key] = bound.for_subject(subject_facts(recorded.subject), client)
        return found

    def _decide(self, recorded: Recorded, bound: BoundConnection, policies: PolicySet) -> _Judged:
        try:
            rebuilt: Rebuilt = protocol_facts(recorded)
        except NotRebuilt as problem:
            return _Judged(None, str(problem))
        given: Mapping[str, object] = {
            "request": request_facts(recorded, bound.facts), PROTOCOL_VARIABLE[recorded.protocol]: rebuilt.facts,
        }  # fmt: skip
        decision = policies.decide(given, recorded.begun)
        if isinstance(decision, Needs):
            facts = ", ".join(sorted(decision.facts))
            return _Judged(None, f"a rule reads {facts}, which the record does not have")
        assumed = policies.reads & (rebuilt.assumed | CANNOT_KNOW)
        if "k8s.object" in rebuilt.assumed and any(each.startswith("k8s.object") for each in policies.reads):
            assumed |= {"k8s.object"}
        return _Judged(
            _verdict(decision_fields(decision)), "", decision.message, assumed,
            tuple(
                (str(each.rule), each.action)
                for each in decision.matched
                if not each.enforced and each.action in _STRICT
            ),
        )  # fmt: skip


class Replay:
    """Give it requests by `add`, and read `report` at any time.

    candidate: what is tried. base: what is in force now; with it both decide on the same facts, so that a change comes
    from the policies alone. Without it the candidate is compared with what was recorded.
    """

    def __init__(self, candidate: Bundle, base: Bundle | None = None) -> None:
        self.report = Report()
        self._candidate = _Bench(candidate)
        self._base = _Bench(base) if base is not None else None
        self._session = ""
        self._subject = b""
        self._folded: dict[bytes, _Known] = {}

    def add(self, recorded: Recorded) -> None:
        """Decide one request."""
        report = self.report
        if recorded.session_id != self._session:
            self._session = recorded.session_id
            self._subject = orjson.dumps(dict(recorded.subject), option=orjson.OPT_SORT_KEYS, default=str)
            report.sessions += 1
        report.requests += 1
        report.since = min(report.since or recorded.begun, recorded.begun)
        report.until = max(report.until, recorded.begun)
        for rule, action in _would(recorded.decision):
            report.would_then[(rule, action)] = report.would_then.get((rule, action), 0) + 1
        if self._candidate.connection(recorded.connection) is None:
            report.elsewhere[recorded.connection] = report.elsewhere.get(recorded.connection, 0) + 1
            return
        then = _verdict(recorded.decision)
        if _by_the_gateway(recorded.decision, then):
            report.outside += 1
            return
        alike, same = self._keys(recorded)
        after = self._candidate.judge(recorded, self._subject, alike, same)
        for name in after.would:
            self._group(report.would, name).add(_example(recorded, after.message))
        if after.verdict is None:
            self._group(report.undecided, after.why).add(_example(recorded, ""))
            return
        before = then
        if self._base is not None and self._base.connection(recorded.connection) is not None:
            now = self._base.judge(recorded, self._subject, alike, same)
            if now.verdict is not None:
                report.drifted += (now.verdict.action, now.verdict.rule) != (then.action, then.rule)
                before = now.verdict
        if before.action == after.verdict.action and before.masks == after.verdict.masks:
            report.same += 1
            return
        change = Change(before, after.verdict)
        self._group(report.changed, change).add(_example(recorded, after.message), after.assumed)

    def _keys(self, recorded: Recorded) -> tuple[tuple[object, ...], tuple[object, ...]]:
        detail = orjson.dumps(dict(recorded.detail), default=str)
        where = (recorded.session.get("database"), recorded.session.get("upstreamRole"),
                 recorded.session.get("upstreamUser"), recorded.session.get("login"))  # fmt: skip
        same = (recorded.text, detail, where)
        if recorded.protocol != "Postgres":
            return same, same
        text = recorded.text.encode("utf-8", "surrogatepass")
        key = fold(text)
        if key is text:
            return same, same
        known = self._folded.get(key)
        if known is None:
            if len(self._folded) >= _KEPT:
                self._folded.clear()
            self._folded[key] = _Known(recorded.text)
            return (recorded.text, where), same
        if known.text == recorded.text:
            return (recorded.text, where), same
        if not known.certain:
            try:
                known.certain = mere_values(known.text.encode()) and mere_values(text)
            except ValueError:
                known.certain = False
        return ((key if known.certain else recorded.text), where), same

    def _group(self, groups: dict[_Key, Group], key: _Key) -> Group:
        found = groups.get(key)
        if found is None:
            if len(groups) >= MAX_GROUPS:
                return next(reversed(groups.values()))
            found = groups[key] = Group()
        return found


def _example(recorded: Recorded, message: str) -> Example:
    username = recorded.subject.get("username")
    return Example(
        recorded.id, recorded.begun, recorded.connection, username if isinstance(username, str) else "",
        recorded.text, message,
    )  # fmt: skip


def _verdict(decision: Json) -> Verdict:
    """Of a decision as it is recorded."""
    rule = mapping(decision.get("rule"))
    name = f"{rule.get('namespace')}/{rule.get('policy')}#{rule.get('rule')}" if rule else ""
    masks = decision.get("masks")
    said = sorted({_mask(mapping(each)) for each in masks}) if isinstance(masks, (list, tuple)) else []
    return Verdict(str(decision.get("action", "")), name, tuple(said))


def _mask(mask: Json) -> str:
    kind = next((name for name in ("column", "jsonPath", "detector") if name in mask), "mask")
    return f"{kind} {mask.get(kind)}: {mask.get('strategy')}"


def _would(decision: Json) -> set[tuple[str, str]]:
    matched = decision.get("matched")
    found = set()
    for each in matched if isinstance(matched, (list, tuple)) else ():
        fields = mapping(each)
        if fields.get("enforced") is False and fields.get("action") in _STRICT:
            name = f"{fields.get('namespace')}/{fields.get('policy')}#{fields.get('rule')}"
            found.add((name, str(fields["action"])))
    return found


def _by_the_gateway(decision: Json, verdict: Verdict) -> bool:
    """Denied by no rule and no error of one, in other words than the policies': no policy can change that."""
    if verdict.action != "Deny" or verdict.rule or decision.get("errors"):
        return False
    return not str(decision.get("message", "")).startswith(_NOTHING_HELD)
