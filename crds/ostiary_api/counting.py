"""How the answers to an ApprovalRequest count. Pure: whoever keeps the requests, their state comes out of this.

    Pending ──▶ Approved ──▶ Consumed
       │            └──────▶ Expired      the grant was not used in time
       ├──────────▶ Denied                one Deny is enough
       └──────────▶ Expired               nobody decided in time

A condition that is True stays True; nothing leaves Denied, Expired or Consumed.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from ostiary_api.approval import ApprovalRequest, ApprovalRequestStatus, ApproverDecision, CountedApproval, State
from ostiary_api.meta import Condition

__all__ = [
    "OPEN", "NotGranted", "State", "approvers", "consume", "consumed", "count", "is_own", "state_of", "with_answer",
]  # fmt: skip

OPEN: tuple[State, ...] = ("Pending", "Approved")
"""States that may still change."""


class NotGranted(Exception):
    """There is no grant to use; the message says why."""


def count(request: ApprovalRequest, now: datetime) -> ApprovalRequestStatus:
    """The status that follows from the answers in the spec and from the time. The same again changes nothing.

    An answer counts if it is there before the question closes; those of the requester never do.
    """
    status = _begun(request, now)
    state = state_of(status)
    if state == "Approved":
        return _expire_grant(status, now)
    if state != "Pending":
        return status
    assert status.expires_at is not None
    if now >= status.expires_at:
        return _with(status, "Expired", "NotAnswered", "Nobody decided in time.", now)
    counted = {answer.approver for answer in status.approvals}
    added = tuple(
        CountedApproval(approver=each.approver, verdict=each.verdict, reason=each.reason, at=now)
        for each in request.spec.decisions
        if each.approver not in counted and not is_own(request, each.approver)
    )
    status = status.model_copy(update={"approvals": (*status.approvals, *added)})
    return _decide(request, status, now)


def _decide(request: ApprovalRequest, status: ApprovalRequestStatus, now: datetime) -> ApprovalRequestStatus:
    denials = [answer for answer in status.approvals if answer.verdict == "Deny"]
    if denials:
        return _with(status, "Denied", "Denied", _said(denials[0].approver, "denied", denials[0].reason), now)
    approvers = {answer.approver for answer in status.approvals}
    if len(approvers) < request.spec.approval.min_approvals:
        return status
    status = status.model_copy(update={"grant_expires_at": now + timedelta(seconds=request.spec.approval.grant_ttl)})
    return _with(status, "Approved", "Approved", f"Approved by {', '.join(sorted(approvers))}.", now)


def consume(request: ApprovalRequest, now: datetime) -> ApprovalRequestStatus:
    """The status once the grant is used. Raises NotGranted if there is none (any more)."""
    return consumed(request.model_copy(update={"status": count(request, now)}), now)


def consumed(request: ApprovalRequest, now: datetime, by: str = "") -> ApprovalRequestStatus:
    """The same for who does not count: by the status as it is, and what else it says stays. `by`: told in the message.

    Raises NotGranted if it is not approved, or the grant is over.
    """
    status = request.status or ApprovalRequestStatus()
    state = state_of(status)
    if state != "Approved":
        raise NotGranted(_WHY_NOT[state])
    if status.grant_expires_at is None or now >= status.grant_expires_at:
        raise NotGranted(_WHY_NOT["Expired"])
    status = status.model_copy(update={"consumed_at": now})
    message = "The request that this was for was let through"
    return _with(status, "Consumed", "Used", f"{message}: {by}." if by else f"{message}.", now)


def state_of(status: ApprovalRequestStatus | None) -> State:
    """How a request stands, by its conditions."""
    if status is None:
        return "Pending"
    final: tuple[State, ...] = ("Consumed", "Denied", "Expired", "Approved")
    return next((state for state in final if status.is_true(state)), "Pending")


def is_own(request: ApprovalRequest, approver: str) -> bool:
    """True if the approver is who asks, or the person that the agent acts for."""
    return approver in (request.spec.requester.username, request.spec.requester.on_behalf_of)


def with_answer(request: ApprovalRequest, answer: ApproverDecision) -> ApprovalRequest:
    """The request with one more answer in its spec."""
    spec = request.spec.model_copy(update={"decisions": (*request.spec.decisions, answer)})
    metadata = request.metadata.model_copy(update={"generation": request.metadata.generation + 1})
    return request.model_copy(update={"spec": spec, "metadata": metadata})


def approvers(request: ApprovalRequest) -> tuple[str, ...]:
    """Who has approved, in the order of counting."""
    counted = request.status.approvals if request.status is not None else ()
    return tuple(answer.approver for answer in counted if answer.verdict == "Approve")


def _begun(request: ApprovalRequest, now: datetime) -> ApprovalRequestStatus:
    status = request.status or ApprovalRequestStatus()
    changes: dict[str, object] = {"observed_generation": request.metadata.generation}
    if status.expires_at is None:
        asked = request.metadata.creation_timestamp or now
        changes["expires_at"] = asked + timedelta(seconds=request.spec.approval.pending_ttl)
    return _named(status.model_copy(update=changes))


def _expire_grant(status: ApprovalRequestStatus, now: datetime) -> ApprovalRequestStatus:
    # A status without the time was not made here; a grant that never ends is none.
    if status.grant_expires_at is None or now >= status.grant_expires_at:
        return _with(status, "Expired", "NotUsed", "It was approved, and not used in time.", now)
    return status


def _with(
    status: ApprovalRequestStatus, kind: State, reason: str, message: str, now: datetime
) -> ApprovalRequestStatus:
    """The condition is True from now on; if it is already, its time stays."""
    if status.is_true(kind):
        return status
    condition = Condition(
        type=kind, status="True", reason=reason, message=message,
        observed_generation=status.observed_generation, last_transition_time=now,
    )  # fmt: skip
    others = tuple(each for each in status.conditions if each.type != kind)
    return _named(status.model_copy(update={"conditions": (*others, condition)}))


def _named(status: ApprovalRequestStatus) -> ApprovalRequestStatus:
    """With its state as one word, which `kubectl get` shows."""
    return status.model_copy(update={"state": state_of(status)})


def _said(approver: str, verdict: str, reason: str) -> str:
    return f"{approver} {verdict} it: {reason}" if reason else f"{approver} {verdict} it."


_WHY_NOT: dict[State, str] = {
    "Pending": "it is not approved yet",
    "Denied": "it was denied",
    "Expired": "it has expired",
    "Consumed": "it was used already",
}
