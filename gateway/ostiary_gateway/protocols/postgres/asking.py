"""Asking people about one PostgreSQL session's statements: the question, its evidence, the wait, the grant."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Final, cast

from pydantic import ValidationError

from ostiary_api.approval import ApprovalRequest, Evidence
from ostiary_api.counting import state_of
from ostiary_gateway.approvals import words
from ostiary_gateway.approvals.local import new_name
from ostiary_gateway.approvals.request import Action, Standing, draft, hash_of, standing
from ostiary_gateway.approvals.store import Approvals, ApprovalsError, TooManyQuestions
from ostiary_gateway.checkpoint import Gate
from ostiary_policy.decision import Decision
from ostiary_policy.masking import MaskPlan

from . import params, wire
from .evidence import Named, normal_form, parameters_of
from .facts import Analysis, Scope
from .questions import Ask
from .reference import Known, Reference
from .state import Denial, Portal
from .upstream import QuestionFailed, UpstreamError
from .veil import Veil

MAX_PORTALS: Final = 16
"""Portals that are remembered to have been granted, so that what is left of their rows may be fetched."""
MAX_EXPLAINED: Final = 8
"""Statements of one text whose plan is asked for."""
LONG_TEXT: Final = 16_384
"""Characters; secrets in a longer text are looked for in a thread."""

Waits = Generator[Awaitable[object], object, "Settled"]


class Next(Enum):
    """GRANTED: it may run. AGAIN: decide anew, much may have changed. OUTSIDE: ask again outside a transaction, if
    that can be had. REFUSED: it does not run now."""

    GRANTED = "granted"
    AGAIN = "again"
    OUTSIDE = "outside"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of it. `denial`: instead of the usual words. `cancelled`: the client stopped the waiting."""

    next: Next
    standing: Standing | None = None
    denial: Denial | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A statement that needs approval, as it was decided on."""

    decision: Decision
    analysis: Analysis
    facts: Mapping[str, object]
    scope: Scope
    path: tuple[str, str]
    """search_path and role as the server tells them."""
    database: str
    settings: str
    """The sum of what may have changed the session's settings."""
    masks: MaskPlan
    prepared: Known
    cursors: Known

    def named(self) -> list[Named]:
        """What EXECUTE and FETCH name."""
        found: list[Named] = []
        for each in self.analysis.statements:
            if (executes := each.effects.executes) is not None:
                found.append(Named("prepared", executes, self.prepared(executes)))
            if (fetches := each.effects.fetches) is not None:
                found.append(Named("cursor", fetches, self.cursors(fetches)))
        return found


class Asking:
    """One session's. `tell` sends the client a message at once."""

    def __init__(self, gate: Gate, reference: Reference) -> None:
        self.tell: Callable[[bytes], None] = lambda _: None
        self.waiting = ""
        """The question that the client is held for now; empty if none."""
        self._gate = gate
        self._reference = reference
        self._cancelled: asyncio.Future[None] | None = None
        self._held: tuple[Ask, float, float] | None = None
        """The statement that is or was held last, since when and until when (monotonic)."""
        self._granted: dict[int, tuple[Portal, str, Standing]] = {}

    def cancel(self) -> bool:
        """Stops the waiting, if there is any: the question stays open. False if nothing waits."""
        if self._cancelled is None or self._cancelled.done():
            return False
        self._cancelled.set_result(None)
        return True

    def settle(self, ask: Ask, case: Case) -> Waits:
        """Finds or makes the question, uses its grant, waits for one where that may be."""
        approvals = self._gate.approvals
        if approvals is None:
            return Settled(Next.REFUSED)
        try:
            return (yield from self._settle(approvals, ask, case))
        except ApprovalsError as problem:
            denial = Denial(
                "58030", f"This needs approval, and nobody can be asked now: {problem}.",
                hint="Try again later, and tell the gateway's operator.",
            )  # fmt: skip
        except TooManyQuestions as problem:
            denial = Denial(
                "53400", f"This needs approval, and too much waits for approval already: {problem}.",
                hint="Wait until they are decided or have expired; `ostiary approvals` lists them.",
            )  # fmt: skip
        except (ValidationError, ValueError) as problem:
            denial = Denial(
                "42501", f"This needs approval, and nobody can be asked about it: {_first_line(problem)}.",
                hint="Ask for something that needs no approval.",
            )  # fmt: skip
        return Settled(Next.REFUSED, denial=denial)

    def _settle(self, approvals: Approvals, ask: Ask, case: Case) -> Waits:
        gate, connection = self._gate, self._gate.connection_now
        role = self._reference.planner.stand_in(case.scope.role)
        normal = normal_form(
            ask.text, case.database, case.scope, role, gate.id, case.settings, case.analysis, case.named()
        )
        action = Action("Postgres", normal, parameters_of(ask.portal), "", {})
        digest = hash_of(action, connection, gate.identity.subject, case.decision)
        if (rest := self._rest_of(ask.portal, digest)) is not None:
            return Settled(Next.GRANTED, rest)
        found = cast("ApprovalRequest | None", (yield approvals.find(connection, digest)))
        if found is not None and state_of(found.status) == "Approved":
            used = cast("ApprovalRequest | None", (yield approvals.take(found, gate.id)))
            if used is not None:
                grant = standing(used, waited=self._waited(ask))
                self._remember(ask.portal, digest, grant)
                return Settled(Next.GRANTED, grant)
            found = None
        if ask.outside is None:
            return Settled(Next.OUTSIDE)
        if found is None:
            action = yield from self._for_people(ask, case, action)
            question = draft(
                action, name=new_name(), connection=connection, subject=gate.identity.subject, session=gate.id,
                decision=case.decision, now=datetime.now(UTC),
            )  # fmt: skip
            found = cast(ApprovalRequest, (yield approvals.ask(question)))
        return (yield from self._wait(approvals, ask, case.decision, found))

    # -- the wait

    def _wait(self, approvals: Approvals, ask: Ask, decision: Decision, request: ApprovalRequest) -> Waits:
        seconds = decision.approval.wait if decision.approval is not None else 0.0
        if not ask.outside:
            note = "Inside a transaction or a pipeline nobody waits for it"
            return Settled(Next.REFUSED, standing(request, note=note))
        if self._held is None or self._held[0] is not ask:
            self._held = ask, time.monotonic(), time.monotonic() + seconds
        left = self._held[2] - time.monotonic()
        if left <= 0:
            return Settled(Next.REFUSED, standing(request, waited=self._waited(ask)))
        stands = standing(request)
        message, hint = words.notice(stands, left)
        detail = words.waiting(stands, time.time() + left)
        self.tell(wire.notice_response(message, detail=detail, hint=hint))
        request = cast(ApprovalRequest, (yield self._hold(approvals, request, left)))
        waited = self._waited(ask)
        self._gate.waited(waited)
        state = state_of(request.status)
        stands = standing(request, waited=waited)
        if self._cancelled is not None and self._cancelled.done() and state == "Pending":
            return Settled(Next.REFUSED, stands, cancelled=True)
        if state == "Approved":
            return Settled(Next.AGAIN)
        if state == "Consumed":
            return Settled(Next.AGAIN)  # another session of the same subject was faster: this one asks anew
        return Settled(Next.REFUSED, stands)

    async def _hold(self, approvals: Approvals, request: ApprovalRequest, seconds: float) -> ApprovalRequest:
        """Until it is decided, cancelled, or the time is over."""
        self._cancelled = asyncio.get_running_loop().create_future()
        self.waiting = request.metadata.name
        deciding = asyncio.ensure_future(approvals.wait(request, seconds))
        try:
            await asyncio.wait((deciding, self._cancelled), return_when=asyncio.FIRST_COMPLETED)
            return deciding.result() if deciding.done() else request
        finally:
            self.waiting = ""
            if not deciding.done():
                deciding.cancel()
                await asyncio.gather(deciding, return_exceptions=True)

    def _waited(self, ask: Ask) -> float:
        held = self._held
        return time.monotonic() - held[1] if held is not None and held[0] is ask else 0.0

    # -- portals that give their rows in several Executes

    def _rest_of(self, portal: Portal | None, digest: str) -> Standing | None:
        """The grant that a portal runs under: PostgreSQL runs a portal's statement once, later Executes fetch rows."""
        found = self._granted.get(id(portal)) if portal is not None else None
        return found[2] if found is not None and found[0] is portal and found[1] == digest else None

    def _remember(self, portal: Portal | None, digest: str, grant: Standing) -> None:
        if portal is None:
            return
        while len(self._granted) >= MAX_PORTALS:
            self._granted.pop(next(iter(self._granted)))
        self._granted[id(portal)] = portal, digest, grant

    # -- what a person sees

    def _for_people(self, ask: Ask, case: Case, action: Action) -> Generator[Awaitable[object], object, Action]:
        plan = cast(str, (yield self._plans(ask, case)))
        veil = Veil(case.masks)
        facts = dict(case.facts)
        if ask.portal is not None and ask.portal.bind:
            bind = wire.parse_bind(ask.portal.bind)
            facts["params"] = params.for_record(bind, ask.portal.statement.parameter_types)

        def work() -> tuple[str, object, str]:
            return veil.text(ask.text), veil.everything(facts), veil.text(plan)

        if len(ask.text) > LONG_TEXT:
            veiled = cast("tuple[str, object, str]", (yield asyncio.to_thread(work)))
        else:
            veiled = work()
        summary, shown = veiled[0].strip(), cast("dict[str, object]", veiled[1])
        evidence = Evidence(type="Explain", text=veiled[2][:65_536])
        return Action(
            action.protocol, action.normal, action.parameters, summary, {"sql": shown}, evidence, veil.touched
        )

    async def _plans(self, ask: Ask, case: Case) -> str:
        """EXPLAIN of each statement, with the parameters, never run; or why there is none."""
        statements = case.analysis.statements
        parts = []
        for number, statement in enumerate(statements[:MAX_EXPLAINED], 1):
            effects = statement.effects
            if effects.copy is not None and effects.copy.direction == "in":
                plan = "No plan: the rows come from the client, and are not a part of what is approved."
            elif effects.executes is not None or effects.fetches is not None:
                plan = "No plan: what was prepared or declared before is known to its own session only."
            elif effects.copy is not None:
                plan = await self._explain(ask, effects.copy.select_text, case.path)
            elif not effects.estimable:
                plan = f"No plan: PostgreSQL does not explain {statement.facts['verb'] or 'what it cannot parse'}."
            else:
                plan = await self._explain(ask, effects.explain_text, case.path)
            parts.append(plan if len(statements) == 1 else f"-- statement {number}\n{plan}")
        if len(statements) > MAX_EXPLAINED:
            parts.append(f"-- {len(statements) - MAX_EXPLAINED} more statements were not explained")
        return "\n\n".join(parts) or "No plan: there is no statement in it."

    async def _explain(self, ask: Ask, text: str, path: tuple[str, str]) -> str:
        bind: wire.Bind | None = None
        types: tuple[int, ...] = ()
        if ask.portal is not None and ask.portal.bind:
            bind, types = wire.parse_bind(ask.portal.bind), ask.portal.statement.declared_types
        try:
            return await self._reference.planner.explain(
                text, *path, types=types, formats=bind.formats if bind is not None else (),
                values=bind.values if bind is not None else (), form="TEXT",
            )  # fmt: skip
        except (QuestionFailed, UpstreamError, TimeoutError) as problem:
            return f"No plan: EXPLAIN failed: {str(problem) or 'no answer in time'}"


def _first_line(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        first = problem.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(problem).partition("\n")[0]
