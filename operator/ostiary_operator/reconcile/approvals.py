"""What is due about an ApprovalRequest: answers counted, a question or a grant that has expired, a closed one deleted.

How answers count is in `ostiary_api.counting`. That an approver is who the answer says, of a group that may answer, and
not who asked, the API server has seen to before the answer was there: nobody's groups can be looked up later. So where
the admission policies are not in force (`ostiary_operator.selfcheck`), gateways are told to let nothing through.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from pydantic import ValidationError

from ostiary_api.admission import SELFCHECK
from ostiary_api.approval import ApprovalRequest, ApprovalRequestStatus
from ostiary_api.counting import OPEN, count, state_of

Manifest = dict[str, Any]
Step = Literal["Answered", "Approved", "Denied", "Expired"]


@dataclass(frozen=True, slots=True)
class Retention:
    """How long closed questions are kept, and how many of them for each Connection at most. The record of the gateways
    keeps what was asked and answered."""

    closed: timedelta = timedelta(days=7)
    most: int = 200


@dataclass(frozen=True, slots=True)
class Settled:
    """What is due. `status`: to be written as a whole under the resourceVersion that was read; None: nothing to write.
    `delete`: it is closed long enough. `recheck_at`: when something is due again without anybody's doing."""

    status: Manifest | None = None
    delete: bool = False
    recheck_at: datetime | None = None
    steps: tuple[tuple[Step, str], ...] = ()
    """What becomes of it by this status, and by whom."""
    problem: str = ""
    """Why it cannot be counted."""


def settle(manifest: Manifest, now: datetime, retention: Retention) -> Settled:
    """What is due about this object at this time. The same again changes nothing."""
    now = now.replace(microsecond=0)  # the resource has whole seconds
    if manifest.get("metadata", {}).get("deletionTimestamp"):
        return Settled()
    request = read(manifest)
    if request is None:
        return Settled(problem="it is not as this version of Ostiary makes them: nothing in it is counted")
    if state_of(request.status) not in OPEN:
        gone = closed_at(request, now) + retention.closed
        return Settled(delete=True) if now >= gone else Settled(recheck_at=gone)
    status = count(request, now)
    changed = None if status == request.status else status.model_dump(mode="json", by_alias=True, exclude_unset=True)
    return Settled(status=changed, recheck_at=_due(status, retention), steps=_steps(request, status))


def surplus(manifests: Iterable[Manifest], now: datetime, retention: Retention) -> list[tuple[str, str]]:
    """(namespace, name) of closed questions beyond the number that is kept for their Connection, the oldest first.

    An agent that asks and asks must not fill the store of the API server.
    """
    closed: defaultdict[tuple[str, str], list[ApprovalRequest]] = defaultdict(list)
    for manifest in manifests:
        request = read(manifest)
        if request is not None and state_of(request.status) not in OPEN:
            closed[request.metadata.namespace, request.spec.connection_ref.name].append(request)
    found = []
    for requests in closed.values():
        requests.sort(key=lambda each: (closed_at(each, now), each.metadata.name))
        beyond = requests[: max(0, len(requests) - retention.most)]
        found += [(each.metadata.namespace, each.metadata.name) for each in beyond]
    return found


def is_question(manifest: Manifest, system_namespace: str) -> bool:
    """False for the one object that is only there to try forgeries on."""
    metadata = manifest.get("metadata", {})
    return (metadata.get("namespace"), metadata.get("name")) != (system_namespace, SELFCHECK)


def read(manifest: Manifest) -> ApprovalRequest | None:
    """The object; None if it is none that this version understands."""
    try:
        return ApprovalRequest.model_validate(manifest)
    except ValidationError:
        return None


def closed_at(request: ApprovalRequest, now: datetime) -> datetime:
    """When it came to the state that it is in."""
    state = state_of(request.status)
    conditions = request.status.conditions if request.status is not None else ()
    return next((each.last_transition_time for each in conditions if each.type == state), now)


def _due(status: ApprovalRequestStatus, retention: Retention) -> datetime | None:
    match state_of(status):
        case "Pending":
            return status.expires_at
        case "Approved":
            return status.grant_expires_at
    conditions = [each.last_transition_time for each in status.conditions]
    return max(conditions) + retention.closed if conditions else None


def _steps(request: ApprovalRequest, status: ApprovalRequestStatus) -> tuple[tuple[Step, str], ...]:
    known = {each.approver for each in request.status.approvals} if request.status is not None else set()
    new = [each.approver for each in status.approvals if each.approver not in known]
    steps: list[tuple[Step, str]] = [("Answered", approver) for approver in new]
    before, after = state_of(request.status), state_of(status)
    if after != before:
        by = [each.approver for each in status.approvals if (each.verdict == "Deny") == (after == "Denied")]
        if after == "Approved" or after == "Denied":
            steps.append((after, ", ".join(by)))
        elif after == "Expired":
            steps.append((after, ""))
    return tuple(steps)
