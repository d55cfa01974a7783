"""A question to a person, with everything that one needs to decide it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

from ostiary_console.shown.bounds import WHOLE
from ostiary_console.shown.kubernetes import diff
from ostiary_console.shown.postgres import facts_of
from ostiary_console.views import Answered, AnyBlock, ApprovalView
from ostiary_gateway.audit.transcript_words import items, mapping

_TITLES: Final = {
    "Explain": "What PostgreSQL says it would do (EXPLAIN; nothing was run)",
    "Diff": "What the API server says it would change (a dry run; nothing was done)",
    "Command": "What it is, read from what was sent (nothing was run)",
}
MAX_PARAMETERS: Final = 200


def approval_view(item: Mapping[str, object], *, now: float, can_decide: bool, why_not: str) -> ApprovalView:
    """`item` is an approval as the admin socket gives it: `approval`, `state`, `acting`."""
    approval, state = mapping(item.get("approval")), str(item.get("state", ""))
    metadata, spec, status = (mapping(approval.get(name)) for name in ("metadata", "spec", "status"))
    request, requester, terms = (mapping(spec.get(name)) for name in ("request", "requester", "approval"))
    namespace, name = str(metadata.get("namespace") or "default"), str(metadata.get("name", ""))
    facts = mapping(request.get("facts"))
    sql = mapping(facts.get("sql"))
    evidence = mapping(request.get("evidence"))
    answers = tuple(_answers(status, mapping(item.get("acting"))))
    rows = sql.get("estimatedRows")
    parameters = items(sql.get("params"))
    return ApprovalView(
        namespace=namespace,
        name=name,
        state=state,
        asked=_time(metadata.get("creationTimestamp")),
        expires=_time(status.get("grantExpiresAt") if state == "Approved" else status.get("expiresAt")),
        title=str(request.get("title") or ""),
        summary=str(request.get("summary", "")),
        language=_language(facts, evidence),
        hash=str(request.get("hash", "")),
        version=str(metadata.get("resourceVersion") or ""),
        connection=f"{namespace}/{mapping(spec.get('connectionRef')).get('name', '')}",
        requester=str(requester.get("username", "")),
        groups=tuple(map(str, items(requester.get("groups")))),
        on_behalf_of=str(requester.get("onBehalfOf") or ""),
        session=str(requester.get("session") or ""),
        policies=tuple(
            f"{each.get('namespace')}/{each.get('name')}#{each.get('rule')}"
            for each in map(mapping, items(spec.get("policies")))
        ),
        approvers=tuple(map(str, items(terms.get("groups")))),
        needed=_count(terms.get("minApprovals"), 1),
        given=sum(answer.verdict == "Approve" for answer in answers),
        parameters=tuple(WHOLE.value(None if each is None else str(each)) for each in parameters[:MAX_PARAMETERS]),
        truncated=bool(request.get("truncated")) or len(parameters) > MAX_PARAMETERS,
        redacted=bool(request.get("redacted")),
        facts=tuple(facts_of(sql)),
        estimated_rows=rows if isinstance(rows, int) else None,
        evidence_title=_TITLES.get(str(evidence.get("type")), "Evidence") if evidence else "",
        evidence=_evidence(evidence) if evidence else None,
        answers=answers,
        can_decide=can_decide and state == "Pending",
        why_not=why_not,
        href=f"/approvals/{namespace}/{name}",
    )


def _language(facts: Mapping[str, object], evidence: Mapping[str, object]) -> str:
    if "sql" in facts or evidence.get("type") == "Explain":
        return "sql"
    return "bash" if mapping(facts.get("ssh")).get("kind") == "exec" else ""


def _evidence(evidence: Mapping[str, object]) -> AnyBlock:
    text = str(evidence.get("text", ""))
    return diff(text, WHOLE) if evidence.get("type") == "Diff" else WHOLE.plain(text)


def _answers(status: Mapping[str, object], acting: Mapping[str, object]) -> Iterator[Answered]:
    for each in map(mapping, items(status.get("approvals"))):
        approver = str(each.get("approver", ""))
        yield Answered(
            approver, str(each.get("verdict", "")), str(each.get("reason") or ""), _time(each.get("at")),
            str(acting.get(approver) or ""),
        )  # fmt: skip


def _time(text: object) -> float | None:
    try:
        return datetime.fromisoformat(str(text)).timestamp() if text else None
    except (ValueError, OverflowError):
        return None


def _count(value: object, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise
