"""Asking people about one connection's requests: the question, its evidence, the wait, the grant."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final

from pydantic import ValidationError

from ostiary_api.approval import ApprovalRequest, Evidence
from ostiary_api.counting import state_of
from ostiary_gateway.approvals.local import new_name
from ostiary_gateway.approvals.request import Action, Standing, draft, hash_of, standing
from ostiary_gateway.approvals.store import Approvals, ApprovalsError, TooManyQuestions
from ostiary_gateway.checkpoint import Gate
from ostiary_policy.decision import Decision

from . import evidence
from .messages import WireError
from .normal import normal_form
from .questions import Ask, Unmaskable
from .resulting import Resulting

LARGE: Final = 200_000
"""Bytes of a request; the evidence of one with a larger body, or of several objects, is made in a thread."""
_OBJECTS: Final = ("object", "oldObject", "oldObjects")
"""Facts that the evidence shows, with what is masked left out."""


class Next(Enum):
    """GRANTED: it may run. AGAIN: decide anew, much may have changed. REFUSED: it does not run now."""

    GRANTED = "granted"
    AGAIN = "again"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nobody can be asked: a Status of ours."""

    status: int
    reason: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of it. `problem`: instead of the usual words. `warning`: for the response of what may run."""

    next: Next
    standing: Standing | None = None
    problem: Problem | None = None
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A request that needs approval, as it was decided on. `hide` masks an object as a response with it would be."""

    decision: Decision
    resulting: Resulting
    hide: evidence.Hide


class Asking:
    """One connection's. Who waits in `settle` may be cancelled at any time: the question stays open."""

    def __init__(self, gate: Gate) -> None:
        self.standing: Standing | None = None
        """Of the question that the client is held for now."""
        self._gate = gate
        self._held: tuple[Ask, float, float] | None = None
        """The request that is or was held last, since when and until when (monotonic)."""
        self._granted: tuple[Ask, str, Settled] | None = None

    async def settle(self, ask: Ask, case: Case) -> Settled:
        """Finds or makes the question, uses its grant, waits for one."""
        approvals = self._gate.approvals
        if approvals is None:
            return Settled(Next.REFUSED)
        try:
            return await self._settle(approvals, ask, case)
        except ApprovalsError as problem:
            found = Problem(
                503, "ServiceUnavailable", f"This needs approval, and nobody can be asked now: {problem}.",
                "Try again later, and tell the gateway's operator.",
            )  # fmt: skip
        except TooManyQuestions as problem:
            found = Problem(
                403, "Forbidden", f"This needs approval, and too much waits for approval already: {problem}.",
                "Wait until they are decided or have expired; `ostiary approvals` lists them.",
            )  # fmt: skip
        except (ValidationError, ValueError, WireError, Unmaskable) as problem:
            found = Problem(
                403, "Forbidden", f"This needs approval, and nobody can be asked about it: {_first_line(problem)}.",
                "Ask for something that needs no approval.",
            )  # fmt: skip
        return Settled(Next.REFUSED, problem=found)

    async def _settle(self, approvals: Approvals, ask: Ask, case: Case) -> Settled:
        gate, connection = self._gate, self._gate.connection_now
        action = Action("Kubernetes", normal_form(ask, case.resulting), None, "", {})
        digest = hash_of(action, connection, gate.identity.subject, case.decision)
        if (granted := self._granted) is not None and granted[0] is ask and granted[1] == digest:
            return granted[2]  # its precondition failed, and what it does is the same still
        found = await approvals.find(connection, digest)
        if found is not None and state_of(found.status) == "Approved":
            used = await approvals.take(found, gate.id)
            if used is not None:
                stands = standing(used, waited=self._waited(ask))
                by = " and ".join(stands.approvers)
                settled = Settled(Next.GRANTED, stands, warning=f"approved by {by} ({stands.name})")
                self._granted = ask, digest, settled
                return settled
            found = None
        if found is None:
            question = draft(
                await self._for_people(ask, case, action), name=new_name(), connection=connection,
                subject=gate.identity.subject, session=gate.id, decision=case.decision, now=datetime.now(UTC),
            )  # fmt: skip
            found = await approvals.ask(question)
        return await self._wait(approvals, ask, case.decision, found)

    async def _wait(self, approvals: Approvals, ask: Ask, decision: Decision, request: ApprovalRequest) -> Settled:
        seconds = decision.approval.wait if decision.approval is not None else 0.0
        if self._held is None or self._held[0] is not ask:
            self._held = ask, time.monotonic(), time.monotonic() + seconds
        left = self._held[2] - time.monotonic()
        self.standing = standing(request, waited=self._waited(ask))
        if left > 0:
            began = time.monotonic()
            request = await approvals.wait(request, left)
            self._gate.waited(time.monotonic() - began)
        stands = standing(request, waited=self._waited(ask))
        self.standing = None
        if left > 0 and state_of(request.status) in ("Approved", "Consumed"):
            return Settled(Next.AGAIN)  # Consumed: the same request in another session was faster, and this asks anew
        return Settled(Next.REFUSED, stands)

    def _waited(self, ask: Ask) -> float:
        held = self._held
        return time.monotonic() - held[1] if held is not None and held[0] is ask else 0.0

    async def _for_people(self, ask: Ask, case: Case, action: Action) -> Action:
        resulting = case.resulting

        def work() -> evidence.Shown:
            return evidence.shown(ask, resulting, case.hide)

        large = len(ask.request.body) > LARGE or len(resulting.olds or ()) > 1
        shown = await asyncio.to_thread(work) if large else work()
        facts = {name: value for name, value in ask.facts.items() if name not in _OBJECTS}
        return Action(
            action.protocol, action.normal, None, shown.summary, {"k8s": facts},
            Evidence(type="Diff", text=shown.diff[:65_536]), shown.redacted, shown.summary.partition("\n")[0],
        )  # fmt: skip


def _first_line(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        first = problem.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(problem).partition("\n")[0].rstrip(".")
