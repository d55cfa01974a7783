"""What a gateway asks of a place that keeps approvals: a file beside it, or the objects of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from ostiary_api.approval import ApprovalRequest
from ostiary_api.connection import Connection

Step = Literal["Asked", "Answered", "Approved", "Denied", "Expired", "Consumed"]


@dataclass(frozen=True, slots=True)
class Transition:
    """Something became of a question. `by`: who asked, answered, or used the grant (a session)."""

    at: float
    step: Step
    request: ApprovalRequest
    by: str = ""
    verdict: str = ""
    reason: str = ""
    acting: str = ""
    """In what capacity somebody answered."""


class ApprovalsError(Exception):
    """The store cannot be read or written: nothing that needs it may run. The message says why."""


class TooManyQuestions(Exception):
    """The subject has as many open questions as it may have. The message says how many."""


class Approvals(Protocol):
    """Every method may raise ApprovalsError. Nothing that was returned is lost by a crash.

    One question is open for a hash at a time; `request` arguments are found again by namespace and name.
    """

    async def find(self, connection: Connection, hash: str) -> ApprovalRequest | None:
        """The open question of this hash at this Connection: pending, or with a grant that was not used yet."""

    async def ask(self, draft: ApprovalRequest) -> ApprovalRequest:
        """Asks, unless a question of this hash is open: then that one. Raises TooManyQuestions."""

    async def take(self, request: ApprovalRequest, session: str) -> ApprovalRequest | None:
        """Uses the grant for one run in this session; None if there is none. Durable when it returns, and for one
        caller only, in whatever process. Only then may the request run."""

    async def wait(self, request: ApprovalRequest, seconds: float) -> ApprovalRequest:
        """Waits until it is not pending any more, at most so long. As it stands then. May be cancelled at any time."""

    async def close(self) -> None:
        """Lets go of everything; who waits gets what stands."""
