"""Questions to the record from any process, also while the gateway writes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import orjson
import zstandard

from ostiary_gateway.audit import schema

MAX_PACK = 64 * 1024 * 1024
"""No pack is larger than this, decompressed; a larger one was not written by a gateway."""


@dataclass(frozen=True, slots=True)
class Session:
    """One session. Times are seconds since the epoch; counts of an open session may be a second old."""

    sid: int
    id: str
    opened: float
    closed: float | None
    state: str
    """open, closed, or lost (the gateway stopped before the session did)."""
    connection: str
    protocol: str
    username: str
    recording: str
    requests: int
    denied: int
    asked: int
    """Requests that needed approval."""
    errors: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a session. `fields` is what was recorded; a begin's `decision` is given in full."""

    seq: int
    kind: str
    fields: Mapping[str, object]
    recorded: int
    """Bytes of a response that are stored with this event."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What the record holds."""

    sessions: int
    events: int
    requests: int
    denied: int
    response_bytes: int
    stored_bytes: int


_SESSION = (
    "select sid, id, opened, closed, state, connection, protocol, username, recording, requests, denied, asked, "
    "errors, rows, bytes from session "
)

# What `place` does not hold yet is found by its number: the newest few thousand events.
_EVENTS = """
select e.seq, e.kind, e.body, e.digest, e.pack, e.start, e.size from place p join event e on e.id = p.event
    where p.sid = :sid and p.seq >= :first
union all
select seq, kind, body, digest, pack, start, size from event
    where id > (select event from indexed) and sid = :sid and seq >= :first
order by 1
"""

_FRAMES = """
select e.body, e.pack, e.start, e.size, e.seq from place p join event e on e.id = p.event
    where p.sid = :sid and e.kind = 'frame'
union all
select body, pack, start, size, seq from event
    where id > (select event from indexed) and sid = :sid and kind = 'frame'
order by 5
"""


class Packs:
    """Decompresses packs, the last few kept."""

    def __init__(self, connection: sqlite3.Connection, keep: int = 4) -> None:
        self._connection = connection
        self._keep = keep
        self._cache: dict[int, tuple[bytes, bytes]] = {}
        self._decompressor = zstandard.ZstdDecompressor()

    def stored(self, pack: int) -> tuple[bytes, bytes]:
        """A pack as stored, and decompressed. LookupError if it is gone, ValueError if it is damaged."""
        found = self._cache.get(pack)
        if found is not None:
            return found
        row = self._connection.execute("select codec, size, data from pack where id = ?", (pack,)).fetchone()
        if row is None:
            raise LookupError(f"pack {pack} is not in the record")
        codec, size, data = row
        if not isinstance(data, bytes) or not isinstance(size, int) or not 0 <= size <= MAX_PACK:
            raise ValueError(f"pack {pack} is damaged: it has no plausible size")
        if codec == schema.RAW:
            raw = data
        elif codec == schema.ZSTD:
            try:
                raw = self._decompressor.decompress(data, max_output_size=size)
            except zstandard.ZstdError as error:
                raise ValueError(f"pack {pack} is damaged: {error}") from error
        else:
            raise ValueError(f"pack {pack} is damaged: codec {codec!r} is unknown")
        if len(raw) != size:
            raise ValueError(f"pack {pack} is damaged: {len(raw)} bytes instead of {size}")
        while len(self._cache) >= self._keep:
            del self._cache[next(iter(self._cache))]
        self._cache[pack] = data, raw
        return data, raw

    def slice(self, pack: int, start: int, size: int) -> bytes:
        raw = self.stored(pack)[1]
        if not 0 <= start <= start + size <= len(raw):
            raise ValueError(f"pack {pack} holds {len(raw)} bytes, not {start} to {start + size}")
        return raw[start : start + size]


class Reader:
    """A read-only view. Open it on the database file, or on the directory that holds `audit.db`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self.packs = Packs(connection)
        self._decisions: dict[str, object] = {}

    @classmethod
    def open(cls, path: Path) -> Self:
        """FileNotFoundError or ValueError with what is wrong."""
        return cls(schema.connect_readonly(database(path)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()

    def sessions(
        self,
        *,
        connection: str | None = None,
        username: str | None = None,
        since: float | None = None,
        until: float | None = None,
        decision: str | None = None,
        state: str | None = None,
        gateway: bool = False,
        limit: int = -1,
        newest_first: bool = True,
    ) -> Iterator[Session]:
        """Sessions that fit every filter given.

        connection: `namespace/name`. since, until: of opening, seconds since the epoch. decision: sessions with at
        least one request so decided: Allow, Deny or RequireApproval. gateway: also the gateway's own sessions, which
        hold refused logins.
        """
        where: list[str] = []
        values: list[object] = []
        for column, value in (("connection = ?", connection), ("username = ?", username), ("opened >= ?", since)):
            if value is not None:
                where.append(column)
                values.append(value)
        for column, value in (("opened < ?", until), ("state = ?", state)):
            if value is not None:
                where.append(column)
                values.append(value)
        if decision is not None:
            conditions = {"Allow": "requests > denied + asked", "Deny": "denied > 0", "RequireApproval": "asked > 0"}
            if decision not in conditions:
                raise ValueError(f"{decision!r} is no decision. Choose one of {', '.join(conditions)}.")
            where.append(conditions[decision])
        if not gateway:
            where.append("protocol <> 'Gateway'")
        condition = f"where {' and '.join(where)} " if where else ""
        order = "desc" if newest_first else "asc"
        statement = f"{_SESSION}{condition}order by opened {order}, sid {order} limit ?"
        for row in self.connection.execute(statement, (*values, limit)):
            yield Session(*row)

    def session(self, session: str) -> Session:
        """One session by its id, or by the beginning of its id if only one begins so. LookupError."""
        rows = self.connection.execute(f"{_SESSION}where id = ? limit 2", (session,)).fetchall()
        if not rows and session:
            end = session[:-1] + chr(ord(session[-1]) + 1)
            rows = self.connection.execute(f"{_SESSION}where id >= ? and id < ? limit 2", (session, end)).fetchall()
        if not rows:
            raise LookupError(f"there is no session {session!r} in this record. `ostiary sessions` lists them.")
        if len(rows) > 1:
            raise LookupError(f"several sessions begin with {session!r}. Give more of the id.")
        return Session(*rows[0])

    def events(self, session: Session, first: int = 0) -> Iterator[Event]:
        """The events of a session in order, from `seq` `first`. Frames of long responses are events too."""
        for seq, kind, body, _digest, _pack, _start, size in self._rows(session, first):
            fields = orjson.loads(body)
            if kind == "begin":
                fields["decision"] = self.decision(fields["decision"])
            yield Event(seq, kind, fields, size or 0)

    def requests(self, session: Session) -> Iterator[Request]:
        """The requests of a session as wholes, in the order in which they ended; those that never did come last."""
        frames, known = self._frames(session)
        begun: dict[str, Event] = {}
        for seq, kind, body, _digest, pack, start, size in self._rows(session, 0):
            if kind == "begin":
                fields = orjson.loads(body)
                fields["decision"] = self.decision(fields["decision"])
                begun[fields["request"]] = Event(seq, kind, fields, 0)
            elif kind == "frame" and seq > known and pack is not None and start is not None and size is not None:
                frames.setdefault(orjson.loads(body)["request"], []).append((pack, start, size))  # written meanwhile
            elif kind == "end":
                fields = orjson.loads(body)
                name = fields["request"]
                parts = frames.pop(name, [])
                if pack is not None and start is not None and size is not None:
                    parts.append((pack, start, size))
                yield Request(name, begun.pop(name, None), Event(seq, kind, fields, size or 0), tuple(parts))
        for name in (*begun, *(name for name in frames if name not in begun)):
            yield Request(name, begun.get(name), None, tuple(frames.get(name, ())))

    def _frames(self, session: Session) -> tuple[dict[str, list[Slice]], int]:
        """Where long responses are, by request, and those that came after their request's end (a denial's error).

        Also up to which `seq` that is known.
        """
        frames: dict[str, list[Slice]] = {}
        last = -1
        for body, pack, start, size, seq in self.connection.execute(_FRAMES, {"sid": session.sid}):
            last = seq
            frames.setdefault(orjson.loads(body)["request"], []).append((pack, start, size))
        return frames, last

    def response(self, request: Request) -> Iterator[bytes]:
        """What was recorded of the response, in pieces of at most 256 KiB."""
        for pack, start, size in request.parts:
            yield self.packs.slice(pack, start, size)

    def decision(self, name: object) -> object:
        """A decision by its id, with the id as `id`; only the id if the record lost it."""
        found = self._decisions.get(str(name))
        if found is None:
            row = self.connection.execute("select body from decision where id = ?", (name,)).fetchone()
            found = {"id": name, **(orjson.loads(row[0]) if row is not None else {})}
            if len(self._decisions) >= 4096:
                self._decisions.clear()
            self._decisions[str(name)] = found
        return found

    def counts(self) -> Counts:
        """Totals. Reads every pack's header, so it takes a moment on a large record."""
        sessions, requests, denied = self.connection.execute(
            "select count(*), coalesce(sum(requests), 0), coalesce(sum(denied), 0) from session "
            "where protocol <> 'Gateway'"
        ).fetchone()
        (events,) = self.connection.execute("select count(*) from event").fetchone()
        raw, stored = self.connection.execute(
            "select coalesce(sum(size), 0), coalesce(sum(length(data)), 0) from pack"
        ).fetchone()
        return Counts(sessions, events, requests, denied, raw, stored)

    def _rows(self, session: Session, first: int) -> Iterator[EventRow]:
        yield from self.connection.execute(_EVENTS, {"sid": session.sid, "first": first})


EventRow = tuple[int, str, bytes, "bytes | None", "int | None", "int | None", "int | None"]
Slice = tuple[int, int, int]
"""Pack, start and size in it, in bytes."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request from its begin to its end. `begun` is None where only the response was kept, `ended` while it runs."""

    id: str
    begun: Event | None
    ended: Event | None
    parts: Sequence[Slice]
    """Where its response is."""


def database(path: Path) -> Path:
    """The database file in a data directory, or the file itself."""
    return path / "audit.db" if path.is_dir() else path
