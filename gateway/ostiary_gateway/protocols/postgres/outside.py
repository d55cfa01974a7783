"""Stepping out of the transaction that a pipeline opens by itself, so that nothing is held while a person decides.

In the extended protocol the server opens a transaction with the first Parse or Bind and holds its locks until Sync.
Before the first Execute nothing has been done in it. So a hidden Sync ends it, and when the statement may run the
portals, which went with it, are bound again: those of this cycle only, and only while their statements' names still
stand for what they were made of. No I/O.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING

from . import wire
from .questions import Admission, Ask, Effect, Outcome, Wait
from .state import ENDS_CYCLE, Awaited, Kind, Portal

if TYPE_CHECKING:
    from .frontend import Frontend


def ask_outside(frontend: Frontend, ask: Ask) -> Generator[Effect, Outcome, Admission | None]:
    """Asks again where the client may be held, or with `ask.outside` False where it may not.

    None: an earlier message of the pipeline has failed, so the server ignores this one.
    """
    state = frontend.state
    if state.skipping:
        return None
    cycle = frontend.cycle_open
    known = not any(entry.kind in ENDS_CYCLE for entry in state.awaited)
    if frontend.ran_in_cycle or (cycle and ask.portal is None) or (known and state.status != b"I"):
        ask.outside = False
        return (yield from _asked(frontend, ask))
    mine = _since_sync(list(state.awaited))
    portals = [portal for portal in state.portals.values() if portal.bind and portal.epoch == state.epoch]
    if any(state.statements.get(portal.statement.name) is not portal.statement for portal in portals):
        ask.outside = False  # bound again, it would be another statement
        return (yield from _asked(frontend, ask))
    if cycle:
        frontend.hidden_sync()
    if state.awaited:
        yield Wait.DRAIN
    if cycle and any(entry.failed for entry in mine):
        state.skipping = True  # as the server would, had it not been told to stop
        return None
    ask.outside = state.status == b"I"
    admission = yield from _asked(frontend, ask)
    if cycle and ask.outside and admission.denial is None:
        _bind_again(frontend, portals)
    return admission


def _asked(frontend: Frontend, ask: Ask) -> Generator[Effect, Outcome, Admission]:
    admission = frontend.admit(ask)
    if admission is None:
        outcome = yield ask
        assert isinstance(outcome, Admission)
        admission = outcome
    assert not admission.ask_outside
    return admission


def _since_sync(awaited: list[Awaited]) -> list[Awaited]:
    last = max((index for index, entry in enumerate(awaited) if entry.kind in ENDS_CYCLE), default=-1)
    return awaited[last + 1 :]


def _bind_again(frontend: Frontend, portals: list[Portal]) -> None:
    for portal in portals:
        portal.epoch = frontend.state.epoch
        frontend.state.portals[portal.name] = portal
        entry = Awaited(Kind.BIND, hidden=True, name=portal.name, portal_kind=True, portal=portal)
        frontend.owe(entry, wire.frame(b"B", portal.bind))
