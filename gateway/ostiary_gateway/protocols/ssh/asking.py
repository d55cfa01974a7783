"""Asking people about one session's requests: the question, its evidence, the wait, the grant."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum

from pydantic import ValidationError

from ostiary_api.approval import ApprovalRequest, Evidence
from ostiary_api.counting import state_of
from ostiary_gateway.approvals import words
from ostiary_gateway.approvals.local import new_name
from ostiary_gateway.approvals.request import Action, Standing, draft, hash_of, standing
from ostiary_gateway.approvals.store import Approvals, ApprovalsError, TooManyQuestions
from ostiary_gateway.checkpoint import Gate
from ostiary_policy.answer import Reason
from ostiary_policy.decision import Decision

from . import evidence
from .normal import normal_form
from .questions import PREFIX, Question, told
from .veil import Veil


class Next(Enum):
    """GRANTED: it may run. AGAIN: decide anew, much may have changed. REFUSED: it does not run now."""

    GRANTED = "granted"
    AGAIN = "again"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nobody can be asked."""

    code: str
    reason: Reason
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of it. `problem`: instead of the usual words."""

    next: Next
    standing: Standing | None = None
    problem: Problem | None = None


class Held:
    """One question's: how long the client has been held for it. Who waits in `settle` may be cancelled at any time:
    the question to people stays open."""

    def __init__(self, gate: Gate, question: Question) -> None:
        self.standing: Standing | None = None
        """Of what the client is held for now."""
        self._gate = gate
        self._question = question
        self._since = 0.0
        self._until = 0.0

    async def settle(self, decision: Decision, facts: Mapping[str, object]) -> Settled:
        """Finds or makes the question, uses its grant, waits for one."""
        approvals = self._gate.approvals
        if approvals is None:
            return Settled(Next.REFUSED)
        try:
            return await self._settle(approvals, decision, facts)
        except ApprovalsError as problem:
            found = Problem(
                "unavailable", Reason.APPROVAL, f"This needs approval, and nobody can be asked now: {problem}.",
                "Try again later, and tell the gateway's operator.",
            )  # fmt: skip
        except TooManyQuestions as problem:
            found = Problem(
                "limit", Reason.APPROVAL, f"This needs approval, and too much waits for approval already: {problem}.",
                "Wait until they are decided or have expired; `ostiary approvals` lists them.",
            )  # fmt: skip
        except (ValidationError, ValueError) as problem:
            found = Problem(
                "approval", Reason.APPROVAL,
                f"This needs approval, and nobody can be asked about it: {_first_line(problem)}.",
                "Ask for something that needs no approval.",
            )  # fmt: skip
        return Settled(Next.REFUSED, problem=found)

    async def _settle(self, approvals: Approvals, decision: Decision, facts: Mapping[str, object]) -> Settled:
        gate, connection = self._gate, self._gate.connection_now
        subject = gate.identity.subject
        action = Action("SSH", normal_form(self._question, facts, connection), None, "", {})
        found = await approvals.find(connection, hash_of(action, connection, subject, decision))
        if found is not None and state_of(found.status) == "Approved":
            used = await approvals.take(found, gate.id)
            if used is not None:
                return Settled(Next.GRANTED, standing(used, waited=self._waited()))
            found = None
        if found is None:
            shown = evidence.shown(self._question, facts, connection, Veil(gate.policies.all_masks))
            action = Action(
                action.protocol, action.normal, None, shown.summary, {"ssh": shown.facts},
                Evidence(type="Command", text=shown.text), shown.redacted, shown.summary.partition("\n")[0],
            )  # fmt: skip
            question = draft(
                action, name=new_name(), connection=connection, subject=subject, session=gate.id, decision=decision,
                now=datetime.now(UTC),
            )  # fmt: skip
            found = await approvals.ask(question)
        return await self._wait(approvals, decision, found)

    async def _wait(self, approvals: Approvals, decision: Decision, request: ApprovalRequest) -> Settled:
        seconds = decision.approval.wait if decision.approval is not None else 0.0
        now = time.monotonic()
        if not self._since:
            self._since, self._until = now, now + seconds
        left = self._until - now
        self.standing = stands = standing(request, waited=self._waited())
        if left > 0 and stands.state == "Pending":
            self._tell(stands, left)
            request = await approvals.wait(request, left)
            self._gate.waited(time.monotonic() - now)
        stands = standing(request, waited=self._waited())
        self.standing = None
        if left > 0 and state_of(request.status) in ("Approved", "Consumed"):
            return Settled(Next.AGAIN)  # Consumed: the same request in another session was faster, and this asks anew
        return Settled(Next.REFUSED, stands)

    def _tell(self, stands: Standing, seconds: float) -> None:
        tell = self._question.tell
        if tell is not None:
            message, hint = words.notice(stands, seconds)
            tell(f"{PREFIX}{told(message)} {told(hint)}")

    def _waited(self) -> float:
        return time.monotonic() - self._since if self._since else 0.0


def _first_line(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        first = problem.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(problem).partition("\n")[0].rstrip(".")


__all__ = ["Held", "Next", "Problem", "Settled"]
