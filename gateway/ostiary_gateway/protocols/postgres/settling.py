"""What must be known before a name is resolved: DDL has ended, and the settings that names depend on. No I/O."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from . import wire
from .questions import SHOWN, Settings, Steps, Wait
from .state import Awaited, Kind

if TYPE_CHECKING:
    from .frontend import Frontend


def settled(frontend: Frontend) -> Steps:
    """Before a name is resolved.

    It comes before a message opens a cycle: what is asked inside one makes a pipeline of it to the server, where
    VACUUM may not run and LOCK TABLE may.
    """
    state = frontend.state
    if not (state.ddl_sent or state.unsure):
        return
    if state.awaited.first is not None:
        yield from frontend.drained()
    if state.ddl_sent:
        state.ddl_sent = False
        for statement in state.statements.values():
            statement.description = None
    if state.unsure and state.status != b"E":
        values = _show(frontend)
        yield Wait.DRAIN
        if len(values) != len(SHOWN):
            return  # an error came first: the transaction has failed, nothing runs before it has ended
        state.unsure = False
        frontend.told_in_cycle = frontend.cycle_open
        yield Settings(tuple(values))


def _show(frontend: Frontend) -> list[str]:
    """Asks for the settings inside the client's own transaction. SHOW takes no snapshot, so it disturbs nothing."""
    values: list[str] = []
    nonce = b"ostiary_" + secrets.token_hex(8).encode()
    for setting in SHOWN:
        text = f"SHOW {setting}".encode()
        frontend.owe(Awaited(Kind.PARSE, hidden=True, name=nonce), wire.parse_message(nonce, text))
        bound = Awaited(Kind.BIND, hidden=True, name=nonce, portal_kind=True)
        frontend.owe(bound, wire.bind_message(nonce, nonce))
        frontend.owe(Awaited(Kind.EXECUTE, hidden=True, values=values), wire.execute_message(nonce))
        closed = Awaited(Kind.CLOSE, hidden=True, name=nonce, portal_kind=True)
        frontend.owe(closed, wire.close_message(b"P", nonce))
        frontend.owe(Awaited(Kind.CLOSE, hidden=True, name=nonce), wire.close_message(b"S", nonce))
    if frontend.cycle_open:
        frontend.say(wire.FLUSH)
    else:
        frontend.hidden_sync()
    return values
