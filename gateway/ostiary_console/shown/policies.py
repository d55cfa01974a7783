"""The page of policies: what their rules say, how often each held, and what they denied last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from ostiary_console.shown.hours import by_hour
from ostiary_console.shown.words import iso
from ostiary_console.views import Condition, PoliciesPage, PolicyView, RuleView
from ostiary_gateway.audit.transcript_words import items, mapping
from ostiary_store.model import RequestRow, RuleHits, Tally

_SECONDS: Final = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
Hits = Mapping[tuple[str, str], Sequence[RuleHits]]


def policies_page(
    manifests: Sequence[Mapping[str, object]],
    *,
    hits: Sequence[RuleHits],
    tallies: Sequence[Tally],
    denials: Mapping[str, Sequence[RequestRow]],
    since: str,
    now: float,
    problem: str = "",
) -> PoliciesPage:
    """Policies that are there, those with the most hits first; behind them those that only the record has."""
    began = _began(since, tallies, now)
    found: dict[tuple[str, str], list[RuleHits]] = defaultdict(list)
    hours: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for each in hits:
        found[each.policy, each.rule].append(each)
    for tally in tallies:
        hours[tally.policy, tally.rule].append((tally.hour, tally.requests))
    charts = {key: by_hour(counts, began, now) for key, counts in hours.items()}
    views = [_policy(manifest, found, charts, denials, since) for manifest in manifests]
    known = {view.key for view in views}
    views += [
        _unknown(name, found, charts, denials, since) for name in sorted({p for p, _ in found if p and p not in known})
    ]
    views.sort(key=lambda view: (not view.known, -sum(rule.hits for rule in view.rules), view.key))
    return PoliciesPage(
        policies=tuple(views),
        since=since,
        unmatched=sum(each.requests for each in hits if not each.policy and each.action == "Deny" and each.enforced),
        would_have=would_have(hits),
        problem=problem,
    )


def would_have(hits: Iterable[RuleHits]) -> tuple[RuleHits, ...]:
    """What rules in `enforcement: Audit` held for, the most first."""
    return tuple(sorted((each for each in hits if not each.enforced), key=lambda each: -each.requests))


def _began(since: str, tallies: Sequence[Tally], now: float) -> float:
    number, unit = since[:-1], since[-1:]
    if number.isdecimal() and unit in _SECONDS and len(number) < 6:
        return now - int(number) * _SECONDS[unit]
    return min((tally.hour for tally in tallies), default=int(now) - 3600)


def _policy(
    manifest: Mapping[str, object],
    hits: Hits,
    charts: Mapping[tuple[str, str], tuple[int, ...]],
    denials: Mapping[str, Sequence[RequestRow]],
    since: str,
) -> PolicyView:
    metadata, spec, status = (mapping(manifest.get(name)) for name in ("metadata", "spec", "status"))
    namespace, name = str(metadata.get("namespace") or "default"), str(metadata.get("name", ""))
    key = f"{namespace}/{name}"
    enforcement = str(spec.get("enforcement") or "Enforce")
    rules = []
    for each in map(mapping, items(spec.get("rules"))):
        rule, own = str(each.get("name", "")), hits.get((key, str(each.get("name", ""))), ())
        approval = mapping(each.get("approval"))
        rules.append(
            RuleView(
                name=rule,
                action=str(each.get("action", "")),
                enforced=str(each.get("enforcement") or enforcement) == "Enforce",
                expression=str(each.get("expression") or "").strip(),
                message=str(each.get("message") or ""),
                hint=str(each.get("hint") or ""),
                masks=tuple(_masks(each)),
                approvers=tuple(map(str, items(approval.get("groups")))),
                hits=sum(hit.requests for hit in own),
                last=max((hit.last for hit in own), default=None),
                hours=charts.get((key, rule), ()),
                href=_href(key, rule, str(each.get("action", "")), since),
            )
        )
    return PolicyView(
        namespace=namespace,
        name=name,
        enforcement=enforcement,
        priority=_number(spec.get("priority")),
        matches=tuple(_matches(spec)),
        rules=tuple(rules),
        conditions=tuple(conditions(status)),
        not_after=_moment(spec.get("notAfter")),
        connections=tuple(_connections(status)),
        denials=denials.get(key, ()),
        tests=len(items(spec.get("tests"))),
    )


def _unknown(
    key: str,
    hits: Hits,
    charts: Mapping[tuple[str, str], tuple[int, ...]],
    denials: Mapping[str, Sequence[RequestRow]],
    since: str,
) -> PolicyView:
    namespace, _, name = key.partition("/")
    rules = [
        RuleView(
            rule, found[0].action, found[0].enforced, "", hits=sum(hit.requests for hit in found),
            last=max(hit.last for hit in found), hours=charts.get((policy, rule), ()),
            href=_href(key, rule, found[0].action, since),
        )
        for (policy, rule), found in hits.items() if policy == key
    ]  # fmt: skip
    return PolicyView(
        namespace, name, "Enforce", 0, (), tuple(sorted(rules, key=lambda rule: -rule.hits)),
        denials=denials.get(key, ()), known=False,
    )  # fmt: skip


def _href(key: str, rule: str, action: str, since: str) -> str:
    """Requests that the rule decided. Masks and audits decide none."""
    return f"/sessions?rule={key}/{rule}&since={since}&view=requests" if action not in ("Mask", "Audit") else ""


def _masks(rule: Mapping[str, object]) -> Iterator[str]:
    for mask in map(mapping, items(rule.get("masking"))):
        pattern = mapping(mask.get("pattern")).get("name")
        what = mask.get("column") or mask.get("jsonPath") or mask.get("detector") or pattern
        yield f"{what} ({mapping(mask.get('strategy')).get('type') or 'Redact'})"


def _matches(spec: Mapping[str, object]) -> Iterator[str]:
    """What it is for, in words."""
    match = mapping(spec.get("match"))
    if protocols := items(match.get("protocols")):
        yield ", ".join(map(str, protocols))
    for name, words in (("connectionSelector", "Connections with"), ("namespaceSelector", "namespaces with")):
        if said := _selector(mapping(match.get(name))):
            yield f"{words} {said}"
    subjects = _subjects(match)
    if subjects:
        yield ", ".join(subjects[:8]) + (f" and {len(subjects) - 8} more" if len(subjects) > 8 else "")
    for condition in map(mapping, items(spec.get("matchConditions"))):
        yield f"if {condition.get('name')}: {condition.get('expression')}"


def _subjects(match: Mapping[str, object]) -> list[str]:
    found = []
    for each in map(mapping, items(match.get("subjects"))):
        space = f"{each.get('namespace')}/" if each.get("namespace") else ""
        found.append(f"{each.get('kind')} {space}{each.get('name')}")
    return found


def _selector(selector: Mapping[str, object]) -> str:
    parts = [f"{key}={value}" for key, value in mapping(selector.get("matchLabels")).items()]
    for each in map(mapping, items(selector.get("matchExpressions"))):
        values = ", ".join(map(str, items(each.get("values"))))
        parts.append(f"{each.get('key')} {each.get('operator')} {values}".strip())
    return " and ".join(parts)


def conditions(status: Mapping[str, object]) -> Iterator[Condition]:
    """As the operator or the gateway tells them."""
    for each in map(mapping, items(status.get("conditions"))):
        yield Condition(
            str(each.get("type", "")), str(each.get("status", "Unknown")), str(each.get("reason") or ""),
            str(each.get("message") or ""),
        )  # fmt: skip


def _connections(status: Mapping[str, object]) -> Iterator[str]:
    for each in items(status.get("connections")):
        fields = mapping(each)
        yield f"{fields.get('namespace')}/{fields.get('name')}" if fields else str(each)


def _moment(value: object) -> str:
    if isinstance(value, (int, float)):
        return iso(value)
    return str(value) if value else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
