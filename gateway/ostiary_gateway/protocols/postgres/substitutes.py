"""What is sent to the server in the place of what was refused: something that it must reject. No I/O."""

from __future__ import annotations

import secrets

from . import wire
from .state import Awaited, Denial, Kind, SessionState


def stand_in(state: SessionState, kind: Kind, denial: Denial, name: bytes) -> tuple[Awaited, bytes]:
    """The reply that will be owed, and the message. `name`: of the statement or portal that would have been made."""
    nonce = b"ostiary_refused_" + secrets.token_hex(8).encode()
    if kind == Kind.PARSE:
        entry = Awaited(Kind.PARSE, denial=denial, name=name, previous=state.statements.pop(name, None))
        state.change(False, name)
        return entry, wire.parse_message(name, nonce)
    if kind == Kind.BIND:
        previous = state.portals.pop(name, None)
        entry = Awaited(Kind.BIND, denial=denial, name=name, portal_kind=True, previous=previous)
        state.change(True, name)
        return entry, wire.bind_message(name, nonce)
    if kind == Kind.EXECUTE:
        return Awaited(Kind.EXECUTE, denial=denial), wire.execute_message(nonce)
    return Awaited(kind, denial=denial), wire.query_message(nonce)
