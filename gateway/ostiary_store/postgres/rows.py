"""Rows of the database as those of the model, and a viewer's scope as a condition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from ostiary_store.model import ChunkRow, Link, PartRow, Scope, SessionRow

SESSION: Final = (
    "select s.key, s.id, s.opened, s.closed, s.state, w.connection, w.protocol, w.username, s.recording, s.requests,"
    " s.denied, s.asked, s.errors, s.rows, s.bytes, s.events, s.head, r.uuid, s.sid, s.subject, s.client, s.detail,"
    " s.retention, s.proof from session s join who w on w.id = s.who join record r on r.id = s.record "
)
"""Of a session, as `session` reads it; `s` is the session, `w` who it was, `r` its record."""

CHUNK: Final = "seq, events, first_at, last_at, low, high, size, digest, link"
PART: Final = "seq, number, start, size, key, digest, link"


def session(row: Any) -> SessionRow:
    """Of a row of SESSION."""
    (
        _, name, opened, closed, state, connection, protocol, username, recording, requests, denied, asked, errors,
        rows, size, events, head, uuid, sid, subject, client, detail, retention, proof,
    ) = row  # fmt: skip
    return SessionRow(
        name, opened, closed, state, connection, protocol, username, recording, requests, denied, asked, errors, rows,
        size, events, Link(head), Link(uuid), sid, _json(subject), _json(client), _json(detail), _json(retention),
        Link(proof),
    )  # fmt: skip


def chunk(row: Any, name: str, opened: float, body: bytes) -> ChunkRow:
    """Of a row that begins with CHUNK."""
    seq, events, first_at, last_at, low, high, size, digest, link = row[:9]
    return ChunkRow(name, opened, seq, events, first_at, last_at, low, high, size, body, digest, link)


def part(row: Any, name: str, opened: float, body: bytes | None) -> PartRow:
    """Of a row that begins with PART."""
    seq, number, start, size, key, digest, link = row[:7]
    return PartRow(name, opened, seq, number, start, size, body, key, digest, link)


def _json(text: str) -> Mapping[str, object]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


class Values(list[object]):
    """The values of a query, in the order of their places."""

    def place(self, value: object) -> str:
        self.append(storable(value) if isinstance(value, str) else value)
        return f"${len(self)}"


def storable(text: str) -> str:
    """A text that somebody asks for, as a database takes it. What is no text in UTF-8 is found nowhere."""
    if "\0" in text:
        text = text.replace("\0", "\N{REPLACEMENT CHARACTER}")
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def in_scope(scope: Scope, values: Values, column: str = "w.connection") -> str:
    """A condition on the Connection's name, `true` where everything may be seen."""
    if scope.connections is None:
        return "true"
    whole = [each for each in scope.connections if not each.endswith("/*")]
    spaces = [each.removesuffix("/*") for each in scope.connections if each.endswith("/*")]
    return (
        f"({column} = any({values.place(whole)}::text[])"
        f" or split_part({column}, '/', 1) = any({values.place(spaces)}::text[]))"
    )


def may_see(scope: Scope, connection: str) -> bool:
    """The same, of one."""
    if scope.connections is None:
        return True
    return connection in scope.connections or f"{connection.partition('/')[0]}/*" in scope.connections
