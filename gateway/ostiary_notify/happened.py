"""What became of an ApprovalRequest, and what of that a receiver is still to be told. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from ostiary_api.approval import ApprovalRequest, ApprovalRequestStatus, ToldReceiver, ToldStep, Verdict
from ostiary_notify.settings import Receiver, Step

_ENDS: Final[tuple[ToldStep, ...]] = ("Approved", "Denied", "Expired", "Consumed")
"""In the order in which they can come."""


@dataclass(frozen=True, slots=True)
class Happening:
    """One step of one question."""

    step: Step
    at: datetime
    by: str = ""
    """Who asked, answered, approved or denied."""
    verdict: Verdict | None = None
    """Of an answer."""
    reason: str = ""
    number: int = 0
    """Of an answer, from 1."""


def happenings(request: ApprovalRequest) -> tuple[Happening, ...]:
    """All that became of it so far, in order."""
    asked = request.metadata.creation_timestamp or datetime.fromtimestamp(0, UTC)
    found = [Happening("Asked", asked, request.spec.requester.username)]
    status = request.status or ApprovalRequestStatus()
    for number, each in enumerate(status.approvals, 1):
        found.append(Happening("Answered", each.at, each.approver, each.verdict, each.reason, number))
    times = {each.type: each.last_transition_time for each in status.conditions if each.status == "True"}
    found += [_end(status, step, times[step]) for step in _ENDS if step in times]
    return tuple(found)


def _end(status: ApprovalRequestStatus, step: ToldStep, at: datetime) -> Happening:
    if step == "Approved":
        return Happening(step, at, ", ".join(each.approver for each in status.approvals if each.verdict == "Approve"))
    if step == "Denied":
        denial = next((each for each in status.approvals if each.verdict == "Deny"), None)
        return Happening(step, at, denial.approver, "Deny", denial.reason) if denial else Happening(step, at)
    return Happening(step, at)


def next_untold(
    request: ApprovalRequest, receiver: Receiver, told: ToldReceiver | None, now: datetime, fresh_for: float
) -> Happening | None:
    """The first thing that this receiver wants to hear, was not told, and that is not too old to be news."""
    if not receiver.hears_of(f"{request.metadata.namespace}/{request.spec.connection_ref.name}"):
        return None
    known = told or ToldReceiver(receiver=receiver.name)
    oldest = now - timedelta(seconds=fresh_for)
    for each in happenings(request):
        was_told = each.number <= known.answers if each.step == "Answered" else each.step in known.steps
        if each.step in receiver.steps and not was_told and each.at >= oldest:
            return each
    return None


def with_told(told: ToldReceiver | None, receiver: str, happening: Happening) -> ToldReceiver:
    """What it was told, this too."""
    known = told or ToldReceiver(receiver=receiver)
    if happening.step == "Answered":
        return known.model_copy(update={"answers": max(known.answers, happening.number)})
    if happening.step in known.steps:
        return known
    return known.model_copy(update={"steps": (*known.steps, happening.step)})


def merged(one: ToldReceiver | None, other: ToldReceiver | None) -> ToldReceiver | None:
    """What either says was told."""
    if one is None or other is None:
        return one or other
    steps = tuple(dict.fromkeys((*one.steps, *other.steps)))
    return one.model_copy(update={"steps": steps, "answers": max(one.answers, other.answers)})


def of_receiver(status: ApprovalRequestStatus | None, receiver: str) -> ToldReceiver | None:
    """What the status says that it was told."""
    told: Iterable[ToldReceiver] = status.told if status is not None else ()
    return next((each for each in told if each.receiver == receiver), None)


def identity(request: ApprovalRequest) -> str:
    """What tells a question from every other."""
    return request.metadata.uid or f"{request.key}/{request.spec.request.hash}"


def message_id(request: ApprovalRequest, happening: Happening) -> str:
    """The same for the same step of the same question, whoever tells it and however often."""
    what = f"{identity(request)}\0{happening.step}\0{happening.number}"
    return f"msg_{hashlib.sha256(what.encode()).hexdigest()[:32]}"
