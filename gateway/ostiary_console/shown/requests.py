"""One request from its begin to its end: what was asked, what was decided and why, what came back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ostiary_console.shown import kubernetes, other, postgres, ssh
from ostiary_console.shown.bounds import IN_SESSION, Bounds
from ostiary_console.shown.protocol import Answer, Shown
from ostiary_console.views import (
    Answered,
    AnyBlock,
    AskedPeople,
    DecisionView,
    Matched,
    Remark,
    RequestView,
    Terminal,
)
from ostiary_gateway.audit.reader import Request
from ostiary_gateway.audit.transcript_words import bytes_text, items, mapping
from ostiary_store.model import SessionRow

PROTOCOLS: Final[Mapping[str, Shown]] = {"Kubernetes": kubernetes, "Postgres": postgres, "SSH": ssh}


def shown_of(protocol: str) -> Shown:
    """What is a protocol's own."""
    return PROTOCOLS.get(protocol, other)


def request_view(
    session: SessionRow,
    request: Request,
    pieces: Iterable[bytes],
    *,
    first_row: int = 0,
    bounds: Bounds = IN_SESSION,
    expired: bool = False,
) -> RequestView:
    """`pieces` of its recorded response, in order; they may end early. expired: its retention is over."""
    of = shown_of(session.protocol)
    begun = request.begun.fields if request.begun is not None else {}
    ended = request.ended.fields if request.ended is not None else {}
    detail, told = mapping(begun.get("detail")), mapping(ended.get("detail"))
    asked = of.asked(str(begun.get("text", "")), detail, bounds)
    response = mapping(ended.get("response"))
    truncated = bool(response.get("truncated"))
    number = request.number
    href = f"/sessions/{session.id}/requests/{number}"
    cast = f"{href}/cast" if asked.kind in ("command", "shell") else ""
    answer = Answer(told, truncated, pieces, first_row, cast)
    blocks = tuple(_safely(of.answered(answer, bounds)))
    result, good = of.result(told)
    outcome = str(ended.get("outcome", ""))
    recorded = response.get("recorded")
    shown, hidden = bounds.cut(asked.text)
    notes = asked.notes + ((f"{hidden:,} more lines are not shown here",) if hidden else ())
    return RequestView(
        id=request.id,
        session=session.id,
        number=number,
        protocol=session.protocol,
        kind=asked.kind,
        begun=seconds(begun.get("at")),
        ended=seconds(ended.get("at")),
        text=shown,
        language=asked.language,
        href=href,
        parameters=asked.parameters,
        notes=notes,
        warnings=asked.warnings,
        asked=asked.blocks,
        decision=decision_view(mapping(begun.get("decision")), str(detail.get("refused", ""))) if begun else None,
        approval=_people(mapping(detail.get("approval"))),
        outcome=outcome,
        result=result,
        good=good and outcome not in ("error", "denied", "lost"),
        failure="" if recorded else of.failure(told),
        rows=_count(ended.get("rows")),
        bytes=_count(ended.get("bytes")),
        answered=blocks,
        recorded=recorded if isinstance(recorded, int) else None,
        truncated=truncated,
        missing=bool(response.get("missing")),
        expired=expired,
        cast_href=cast if any(isinstance(block, Terminal) for block in blocks) else "",
        response_href=f"{href}/response" if recorded and not expired else "",
    )


def _safely(blocks: Iterator[AnyBlock]) -> Iterator[AnyBlock]:
    """That a response is damaged is shown in its place."""
    try:
        yield from blocks
    except (LookupError, ValueError) as error:
        yield Remark(f"The recorded response cannot be read: {error}. `ostiary verify` says more.", bad=True)


def decision_view(decision: Mapping[str, object], refused: str = "") -> DecisionView:
    """A decision as it was recorded."""
    rule = mapping(decision.get("rule"))
    name = _rule_name(rule)
    message = str(decision.get("message", ""))
    if rule:
        # The rule's name stands there already.
        full = f"{name}#{rule.get('rule')}"
        message = message.removesuffix(f" (rule {full})").removeprefix(f"Allowed by rule {full}.").strip()
    errors = (
        f"{each.get('namespace')}/{each.get('policy')}: {each.get('field')}: {each.get('message')}"
        for each in map(mapping, items(decision.get("errors")))
    )
    masks = (
        f"{each.get('column') or each.get('detector') or each.get('jsonPath')} ({each.get('strategy')})"
        for each in map(mapping, items(decision.get("masks")))
    )
    matched = (
        Matched(
            _rule_name(each), str(each.get("rule")), str(each.get("action")), bool(each.get("enforced", True)),
            _count(each.get("priority")),
        )
        for each in map(mapping, items(decision.get("matched")))
    )  # fmt: skip
    action = str(decision.get("action", ""))
    return DecisionView(
        id=str(decision.get("id", "")),
        action=action,
        policy=name if rule else "",
        rule=str(rule.get("rule", "")),
        revision=str(rule.get("revision", "")),
        message=message,
        hint=str(decision.get("hint") or ""),
        refused=refused,
        errors=tuple(errors),
        masks=tuple(masks) if action != "Deny" else (),
        matched=tuple(matched),
    )


def _rule_name(rule: Mapping[str, object]) -> str:
    return f"{rule.get('namespace')}/{rule.get('policy')}"


def _people(approval: Mapping[str, object]) -> AskedPeople | None:
    if not approval:
        return None
    name = str(approval.get("name", ""))
    answers = tuple(
        Answered(
            str(each.get("approver", "")), str(each.get("verdict", "")), str(each.get("reason") or ""),
            seconds(each.get("at")), str(each.get("acting") or ""),
        )
        for each in map(mapping, items(approval.get("answers")))
    )  # fmt: skip
    href = f"/approvals/{name}" if name.count("/") == 1 else ""
    return AskedPeople(name, str(approval.get("state", "")), seconds(approval.get("waited")), answers, href)


def recorded_words(view: RequestView) -> str:
    """What is not there of the response, in words; empty if all of it is."""
    if view.expired:
        return "The response is no longer kept: its retention is over. Its digest still is, and verifies."
    if view.truncated:
        return f"The recording was cut at {bytes_text(view.recorded or 0)} (limits.maxRecordedBytes)."
    if view.missing:
        return f"Only {bytes_text(view.recorded or 0)} could be recorded: the record could not be written."
    return ""


def seconds(value: object) -> float | None:
    """A time or a span, if it is one."""
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _count(value: object) -> int:
    return value if isinstance(value, int) else 0
