"""What a request is decided on beside its URL: the API server's word on what it would do, and a person's."""

from __future__ import annotations

import time
from dataclasses import dataclass

from ostiary_gateway.checkpoint import Gate
from ostiary_policy.decision import Action, Decision, Needs

from . import resulting
from .asking import Asking, Case, Next, Settled
from .questions import Ask
from .resulting import EVERYTHING, Resulting
from .upstream import Upstream
from .veil import Veil


@dataclass(frozen=True, slots=True)
class Weighed:
    """A decision, and what led to it. `facts`: as it was made by them. `settled`: with people, if they were asked."""

    decision: Decision
    facts: dict[str, object]
    resulting: Resulting | None = None
    settled: Settled | None = None

    @property
    def unknown(self) -> str:
        """Why it cannot be known what the request does; empty if nothing is missing."""
        return next(iter(self.resulting.missing.values()), "") if self.resulting is not None else ""


class Weighing:
    """One session's."""

    def __init__(self, gate: Gate) -> None:
        self.asking = Asking(gate)
        self._gate = gate

    async def weigh(self, ask: Ask, upstream: Upstream, first: Decision | Needs | None = None) -> Weighed:
        """Decides with all that is needed. May be cancelled at any time. `first`: what was said of it just now.

        Raises resulting.Refused, WireError, QuestionFailed: the request cannot go on.
        """
        while True:
            found = await self._decide(ask, upstream, first)
            first = None
            if found.decision.action is not Action.REQUIRE_APPROVAL or found.resulting is None:
                return found
            veil = Veil(self._gate.policies.all_masks, ask.info)
            settled = await self.asking.settle(ask, Case(found.decision, found.resulting, veil.document))
            if settled.next is not Next.AGAIN:
                return Weighed(found.decision, found.facts, found.resulting, settled)

    async def _decide(self, ask: Ask, upstream: Upstream, first: Decision | Needs | None) -> Weighed:
        gate = self._gate
        decision = first if first is not None else gate.decide({"k8s": ask.facts})
        facts, made, needs = ask.facts, None, frozenset[str]()
        while isinstance(decision, Needs):
            if decision.facts <= needs:
                decision = gate.decide({"k8s": facts}, final=True)
                break
            # Other policies may have come meanwhile, which read more.
            needs |= decision.facts
            made = await self._work_out(ask, upstream, needs)
            facts = {**ask.facts, **made.facts(needs)}
            decision = gate.decide({"k8s": facts})
        assert isinstance(decision, Decision)
        if decision.action is Action.REQUIRE_APPROVAL and gate.approvals is not None and not needs >= EVERYTHING:
            # A person sees old and new, and what is granted is this change: decided anew on the same look.
            made = await self._work_out(ask, upstream, EVERYTHING)
            facts = {**ask.facts, **made.facts(EVERYTHING)}
            decision = gate.decide({"k8s": facts}, final=True)
            assert isinstance(decision, Decision)
        return Weighed(decision, facts, made)

    async def _work_out(self, ask: Ask, upstream: Upstream, needs: frozenset[str]) -> Resulting:
        steps = resulting.work_out(ask, needs, upstream.dry_runs, time.monotonic())
        try:
            questions = next(steps)
            while True:
                questions = steps.send(await upstream.ask(self._gate.identity, questions))
        except StopIteration as end:
            found = end.value
            assert isinstance(found, Resulting)
            return found
        finally:
            steps.close()
