"""An ApprovalRequest from what a protocol knows: its canonical hash, what a person needs to decide. Pure."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ostiary_api.approval import (
    ApprovalRequest,
    ApprovalRequestSpec,
    ApprovalTerms,
    ConnectionRef,
    Evidence,
    PolicyRule,
    RequestedAction,
    Requester,
)
from ostiary_api.canonical import approval_hash
from ostiary_api.connection import Connection
from ostiary_api.counting import State, approvers, state_of
from ostiary_api.meta import ObjectMeta
from ostiary_policy.decision import Approval, Decision, RuleRef
from ostiary_policy.facts import SubjectFacts

MAX_SUMMARY: Final = 4096
MAX_EVIDENCE: Final = 65_536
"""Characters, as the resource has them."""
MAX_FACTS: Final = 65_536
"""Bytes of the facts as JSON; an object in a cluster may have 1.5 MB in all."""
MAX_TITLE: Final = 60
TAIL: Final = 1024
"""Characters of the end of a long text that are shown: what is hidden must not be where it is expected."""
MAX_ITEMS: Final = 100
MAX_STRING: Final = 2048
"""Of lists and strings in the facts."""


@dataclass(frozen=True, slots=True)
class Action:
    """One request that needs approval. `normal` and `parameters` are what a grant is for; the rest is for people.

    `redacted`: something that is secret was left out of summary, facts or evidence.
    """

    protocol: str
    normal: Mapping[str, object]
    parameters: Sequence[object] | None
    summary: str
    facts: Mapping[str, object]
    evidence: Evidence | None = None
    redacted: bool = False
    title: str = ""
    """One line for lists, if that is not the beginning of the summary."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a request stands with its approval. Times are seconds since the epoch, 0 if there is none."""

    name: str
    namespace: str
    state: State
    groups: tuple[str, ...]
    min_approvals: int
    approvers: tuple[str, ...] = ()
    verdicts: tuple[tuple[str, str, str], ...] = ()
    """(approver, verdict, reason) of every answer that counted."""
    expires_at: float = 0.0
    """Of the question while it is open, of the grant once there is one."""
    waited: float = 0.0
    """Seconds that the client was held for it."""
    note: str = ""
    """Why it does not go on now, for people."""
    decide: str = ""
    """The command that a person approves it with."""

    @property
    def denied_by(self) -> tuple[str, str] | None:
        """Who denied it, and why."""
        return next(((who, reason) for who, verdict, reason in self.verdicts if verdict == "Deny"), None)


def standing(request: ApprovalRequest, *, waited: float = 0.0, note: str = "") -> Standing:
    """How a request stands."""
    status, terms = request.status, request.spec.approval
    state = state_of(status)
    until = None
    if status is not None:
        until = status.grant_expires_at if status.grant_expires_at is not None else status.expires_at
    return Standing(
        request.metadata.name, request.metadata.namespace, state, terms.groups, terms.min_approvals,
        approvers(request),
        tuple((each.approver, each.verdict, each.reason) for each in (status.approvals if status else ())),
        until.timestamp() if until is not None else 0.0, waited, note, _command(request.metadata),
    )  # fmt: skip


def _command(metadata: ObjectMeta) -> str:
    # What the API server has, has a uid.
    if metadata.uid:
        return f"kubectl ostiary approve {metadata.name} -n {metadata.namespace}"
    return f"ostiary approve {metadata.name}"


def asking_rules(decision: Decision) -> tuple[RuleRef, ...]:
    """The rules that ask: the one that decided, and the others of its priority that ask too."""
    if decision.rule is None:
        return ()
    priority = next((each.priority for each in decision.matched if each.rule == decision.rule), None)
    others = (
        each.rule
        for each in decision.matched
        if each.enforced and each.action == "RequireApproval" and each.priority == priority
    )
    return tuple(dict.fromkeys((decision.rule, *others)))


def hash_of(action: Action, connection: Connection, subject: SubjectFacts, decision: Decision) -> str:
    """What a grant is for: this text with these parameters, by this subject, through this Connection as it is now,
    asked for by these revisions of these rules. Anything that differs is another request."""
    rules = sorted((rule.namespace, rule.policy, rule.rule, rule.revision) for rule in asking_rules(decision))
    return approval_hash(
        protocol=action.protocol,
        request={**action.normal, "rules": [list(rule) for rule in rules]},
        parameters=action.parameters,
        connection_uid=f"{connection.key} {connection.metadata.uid} {connection.revision}",
        subject=subject,
    )


def draft(
    action: Action,
    *,
    name: str,
    connection: Connection,
    subject: SubjectFacts,
    session: str,
    decision: Decision,
    now: datetime.datetime,
) -> ApprovalRequest:
    """The question, not asked yet. ValueError if it cannot be put (a name over its limit); the message says why."""
    approval = decision.approval
    if approval is None:
        raise ValueError("no rule says who may approve it")
    facts, facts_cut = bounded(action.facts)
    summary = shortened(action.summary, MAX_SUMMARY)
    evidence, evidence_cut = action.evidence, False
    if evidence is not None and len(evidence.text) > MAX_EVIDENCE:
        evidence, evidence_cut = Evidence(type=evidence.type, text=shortened(evidence.text, MAX_EVIDENCE)), True
    groups = tuple(dict.fromkeys(subject["groups"]))
    spec = ApprovalRequestSpec(
        request=RequestedAction(
            hash=hash_of(action, connection, subject, decision),
            summary=summary or "(an empty text)",
            title=titled(action.title or action.summary),
            facts=facts,
            evidence=evidence,
            truncated=facts_cut or evidence_cut or summary != action.summary or len(groups) > 256,
            redacted=action.redacted,
        ),
        connection_ref=ConnectionRef(name=connection.metadata.name, uid=connection.metadata.uid),
        requester=Requester(
            username=subject["username"], uid=subject["uid"], groups=groups[:256],
            on_behalf_of=subject["onBehalfOf"], session=session,
        ),
        approval=_terms(approval),
        policies=tuple(
            PolicyRule(namespace=rule.namespace, name=rule.policy, rule=rule.rule, revision=rule.revision)
            for rule in asking_rules(decision)[:64]
        ),
    )  # fmt: skip
    metadata = ObjectMeta(
        name=name, namespace=connection.metadata.namespace, creation_timestamp=now, generation=1,
    )  # fmt: skip
    return ApprovalRequest(metadata=metadata, spec=spec)


def _terms(approval: Approval) -> ApprovalTerms:
    return ApprovalTerms(
        groups=approval.groups, min_approvals=approval.min_approvals, scope="ExactRequest",
        pending_ttl=approval.pending_ttl, grant_ttl=approval.grant_ttl,
    )  # fmt: skip


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning and its end with a word between that says how much is missing."""
    if len(text) <= limit:
        return text
    tail = min(TAIL, limit // 4)
    gap = f"\n… {len(text) - limit:,} of {len(text):,} characters and more are not shown …\n"
    return text[: limit - tail - len(gap)] + gap + text[-tail:]


def titled(text: str) -> str:
    """The beginning of a text on one printable line."""
    line = " ".join(text[: 16 * MAX_TITLE].split())
    line = "".join(character if character.isprintable() else "?" for character in line)
    return line if len(line) <= MAX_TITLE and len(text) <= 16 * MAX_TITLE else line[: MAX_TITLE - 1] + "…"


def bounded(facts: Mapping[str, object]) -> tuple[dict[str, Any], bool]:
    """Facts as plain JSON in MAX_FACTS bytes, and whether something was left out."""
    items, string = MAX_ITEMS, MAX_STRING
    while True:
        cutter = _Cutter(items, string)
        made = cutter.plain(facts)
        assert isinstance(made, dict)
        if items <= 1 or len(json.dumps(made, ensure_ascii=False).encode("utf-8", "replace")) <= MAX_FACTS:
            return made, cutter.cut
        items, string = items // 2, max(64, string // 2)


class _Cutter:
    def __init__(self, items: int, string: int) -> None:
        self.items = items
        self.string = string
        self.cut = False

    def plain(self, value: object, depth: int = 0) -> object:
        if isinstance(value, str):
            short = shortened(value, self.string)
            self.cut = self.cut or short != value
            return short.encode("utf-8", "backslashreplace").decode()
        if value is None or isinstance(value, (bool, int, float)):
            return value
        if depth > 16:
            self.cut = True
            return "…"
        if isinstance(value, Mapping):
            self.cut = self.cut or len(value) > self.items
            return {str(key): self.plain(item, depth + 1) for key, item in list(value.items())[: self.items]}
        if isinstance(value, (list, tuple)):
            self.cut = self.cut or len(value) > self.items
            return [self.plain(item, depth + 1) for item in value[: self.items]]
        return str(value)
