"""Which sessions of the store on SQLite may go: they have ended, are sealed, and their time is over. Synchronous."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

from ostiary_store.model import Expiry
from ostiary_store.sealed import ExpiryDigest

Kind = Literal["record", "responses"]

_KEPT: Final = """coalesce(case when json_type(retention, '$.{0}') in ('integer', 'real', 'true', 'false')
    then json_extract(retention, '$.{0}') end, :{0})"""
_ENDED: Final = "closed is not null and sealed is not null and waiting is null"
_RECORD: Final = f"{_ENDED} and closed + {_KEPT.format('record')} <= :at"
# What goes altogether is not emptied first.
_RESPONSES: Final = f"""{_ENDED} and closed + {_KEPT.format("responses")} <= :at and not ({_RECORD}) and exists (
    select 1 from part where part.session = session.id and (part.body is not null or part.key <> ''))"""
_CONDITIONS: Final[dict[Kind, str]] = {"record": _RECORD, "responses": _RESPONSES}


class Due(NamedTuple):
    """A session that may go."""

    number: int
    name: str
    head: bytes
    closed: float


def due(
    connection: sqlite3.Connection, kind: Kind, day: int, at: float, record: float, responses: float
) -> Iterator[Due]:
    """Of one day, in the order of their ids."""
    rows = connection.execute(
        f"select id, name, head, closed from session where day = :day and {_CONDITIONS[kind]} order by name",
        {"day": day, "at": at, "record": record, "responses": responses},
    )
    return map(Due._make, rows)


def digest_of(sessions: Iterable[Due]) -> bytes:
    """As Expiry.digest has it."""
    digest = ExpiryDigest()
    for each in sessions:
        digest.add(each.name, each.head)
    return digest.digest()


def plan(connection: sqlite3.Connection, at: float, record: float, responses: float, limit: int) -> list[Expiry]:
    """What may go, the oldest days first."""
    found: list[Expiry] = []
    for (day,) in connection.execute("select distinct day from session where day <= ? order by day", (at,)).fetchall():
        for kind in _CONDITIONS:
            if len(found) >= limit:
                return found
            sessions = list(due(connection, kind, day, at, record, responses))
            if sessions:
                newest = max(each.closed for each in sessions)
                digest = digest_of(sessions)
                found.append(Expiry(kind, day, len(sessions), digest, at, record, responses, newest))
    return found
