"""Questions to the record from any process, also while the gateway writes."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import orjson

from ostiary_gateway.audit import index, layout, unpacking
from ostiary_gateway.audit.blocks import FIRST, Block, Log, log_file
from ostiary_gateway.audit.event import request_id
from ostiary_gateway.audit.tail import absorb


@dataclass(frozen=True, slots=True)
class Session:
    """One session. Times are seconds since the epoch."""

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
class Request:
    """A request from its begin to its end. `begun` is None where only the response was kept, `ended` while it runs."""

    id: str
    begun: Event | None
    ended: Event | None
    parts: Sequence[Slice]
    """Where its response is."""

    @property
    def number(self) -> int:
        """In its session; 0 of what belongs to no request."""
        return int(self.id.rpartition("-")[2] or 0)


@dataclass(frozen=True, slots=True)
class Counts:
    """What the record holds. Bytes: of all blocks, before compression and as stored."""

    sessions: int
    events: int
    requests: int
    denied: int
    raw_bytes: int
    stored_bytes: int


Slice = tuple[int, int, int]
"""Position of the block, start and size in it, in bytes."""

_SESSION = (
    "select sid, id, opened, closed, state, connection, protocol, username, recording, requests, denied, asked, "
    "errors, rows, bytes from session "
)

_DECISIONS: Mapping[str, tuple[str, Callable[[Session], bool]]] = {
    "Allow": ("requests > denied + asked", lambda s: s.requests > s.denied + s.asked),
    "Deny": ("denied > 0", lambda s: s.denied > 0),
    "RequireApproval": ("asked > 0", lambda s: s.asked > 0),
}


class ResponseReader(Protocol):
    """What shows one response asks of a reader."""

    def response(self, request: Request) -> Iterator[bytes]:
        """What was recorded of the response, in pieces of less than a MiB. LookupError or ValueError if damaged."""


class SessionReader(ResponseReader, Protocol):
    """What shows sessions, exports and replays them asks of a reader: of a gateway's record, or of a store."""

    def events(self, session: Session, first: int = 0, *, rare: bool = False) -> Iterator[Event]:
        """The events of a session in order, from `seq` `first`. rare: only other events than those of requests."""

    def requests(self, session: Session, number: int | None = None) -> Iterator[Request]:
        """The requests of a session as wholes, in the order in which they ended; those that never did come last."""


class Reader:
    """A read-only view. Open it on the index, `audit.db`, or on the directory that holds it."""

    def __init__(self, connection: sqlite3.Connection, log: Log) -> None:
        self.connection = connection
        self.log = log
        self._decisions: dict[str, object] = {}
        self._end = 0
        """Up to where the tail was read."""
        self._delta = index.Delta()
        self._newer: dict[int, Session] = {}

    @classmethod
    def open(cls, path: Path) -> Self:
        """FileNotFoundError or ValueError with what is wrong."""
        connection = index.connect_readonly(database(path))
        try:
            return cls(connection, Log.open(log_file(path)))
        except BaseException:
            connection.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.connection.close()
        self.log.close()

    @contextmanager
    def _snapshot(self) -> Iterator[index.Place]:
        """One state of the index, and what the record says behind it."""
        self.connection.execute("begin")
        try:
            place = index.indexed(self.connection)
            self._read_tail(place)
            yield place
        finally:
            self.connection.execute("rollback")

    def _read_tail(self, place: index.Place) -> None:
        delta = index.Delta()
        self._end = place.position
        try:
            for block in self.log.walk(place.position, self.log.size):
                absorb(self.log, (block,), delta)
                self._end = block.end
        except ValueError:
            pass  # a block that is being written; or damage, which `verify` names
        self._newer = {}
        for sid in {*delta.counts, *delta.opened, *delta.ended}:
            opened = delta.opened.get(sid)
            if opened is not None:
                name, at, connection, protocol, username, recording = opened
                session = Session(sid, name, at, None, "open", connection, protocol, username, recording, *[0] * 6)
            else:
                row = self.connection.execute(f"{_SESSION}where sid = ?", (sid,)).fetchone()
                if row is None:
                    continue
                session = Session(*row)
            state, closed = delta.ended.get(sid, (session.state, session.closed))
            session = replace(session, state=state, closed=closed)
            if counts := delta.counts.get(sid):
                requests, denied, asked, errors, rows, size = counts
                session = replace(
                    session, requests=requests, denied=denied, asked=asked, errors=errors, rows=rows, bytes=size
                )
            self._newer[sid] = session
        for ident, body in delta.decisions.items():
            self._decisions[ident.hex()] = {"id": ident.hex(), **orjson.loads(body)}

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
        if decision is not None and decision not in _DECISIONS:
            raise ValueError(f"{decision!r} is no decision. Choose one of {', '.join(_DECISIONS)}.")
        where: list[str] = []
        values: list[object] = []
        for column, value in (
            ("connection = ?", connection), ("username = ?", username), ("opened >= ?", since), ("opened < ?", until),
        ):  # fmt: skip
            if value is not None:
                where.append(column)
                values.append(value)
        if not gateway:
            where.append("protocol <> 'Gateway'")

        def fits(session: Session) -> bool:
            return (
                (connection is None or session.connection == connection)
                and (username is None or session.username == username)
                and (since is None or session.opened >= since)
                and (until is None or session.opened < until)
                and (decision is None or bool(_DECISIONS[decision][1](session)))
                and (state is None or session.state == state)
                and (gateway or session.protocol != "Gateway")
            )

        condition = f"where {' and '.join(where)} " if where else ""
        order = "desc" if newest_first else "asc"
        with self._snapshot():
            newer = [session for session in self._newer.values() if fits(session)]
            newer.sort(key=_by_time, reverse=newest_first)
            rows = self.connection.execute(f"{_SESSION}{condition}order by opened {order}, sid {order}", values)
            known = (session for session in (Session(*row) for row in rows) if session.sid not in self._newer)
            merged = heapq.merge(newer, filter(fits, known), key=_by_time, reverse=newest_first)
            found = list(merged if limit < 0 else islice(merged, limit))
        yield from found

    def session(self, session: str) -> Session:
        """One session by its id, or by the beginning of its id if only one begins so. LookupError."""
        with self._snapshot():
            return self._session(session)

    def _session(self, session: str) -> Session:
        found = self._by_id(session, session + "\0")
        if not found and session:
            found = self._by_id(session, session[:-1] + chr(ord(session[-1]) + 1))
        if not found:
            raise LookupError(f"there is no session {session!r} in this record.")
        if len(found) > 1:
            raise LookupError(f"several sessions begin with {session!r}. Give more of the id.")
        return found[0]

    def _by_id(self, first: str, behind: str) -> list[Session]:
        rows = self.connection.execute(f"{_SESSION}where id >= ? and id < ? limit 2", (first, behind)).fetchall()
        found = {row[0]: Session(*row) for row in rows}
        found |= {sid: session for sid, session in self._newer.items() if first <= session.id < behind}
        return list(found.values())

    def request(self, request: str) -> tuple[Session, Request]:
        """One request by its id, with its session. LookupError."""
        name, _, number = request.rpartition("-")
        if not name or not number.isdecimal():
            raise LookupError(f"{request!r} is not the id of a request: a session's id, '-' and a number.")
        session = self.session(name)
        for found in self.requests(session, int(number)):
            if found.id == request_id(session.id, int(number)):
                return session, found
        raise LookupError(f"session {session.id} has no request {number} in this record.")

    def events(self, session: Session, first: int = 0, *, rare: bool = False) -> Iterator[Event]:
        """The events of a session in order, from `seq` `first`. Pieces of long responses are events too.

        A request that was short is one event, `request`, with the fields of its begin and its end. rare: only other
        events than those of requests, which are found sooner.
        """
        for seq, kind, read, _ in self._read(session, rare=rare):
            if seq >= first:
                yield event_of(seq, kind, read, self._decided)

    def requests(self, session: Session, number: int | None = None) -> Iterator[Request]:
        """The requests of a session as wholes, in the order in which they ended; those that never did come last.

        number: only this one, if it is there.
        """
        cut = self.log.first() > FIRST
        return wholes(session.id, self._read(session, number), self._decided, number, cut=cut)

    def response(self, request: Request) -> Iterator[bytes]:
        """What was recorded of the response, in pieces of less than a MiB. LookupError or ValueError if damaged."""
        for position, start, size in request.parts:
            yield self.log.slice(position, start, size)

    def decision(self, name: object) -> object:
        """A decision by its id, with the id as `id`; only the id if the record lost it."""
        found = self._decisions.get(str(name))
        if found is None:
            row = self.connection.execute(
                "select body from decision where id = ?", (bytes.fromhex(str(name)),)
            ).fetchone()
            found = {"id": name, **(orjson.loads(row[0]) if row is not None else {})}
            if len(self._decisions) >= 4096:
                self._decisions.clear()
            self._decisions[str(name)] = found
        return found

    def counts(self) -> Counts:
        """Totals. Reads the head of every block, so it takes a moment on a large record."""
        raw = stored = 0
        for block in self.log.walk(FIRST, self.log.size):
            raw += block.size
            stored += block.end - block.position
        found = list(self.sessions(gateway=True))
        (events,) = self.connection.execute("select coalesce(sum(events), 0) from session").fetchone()
        agents = [session for session in found if session.protocol != "Gateway"]
        return Counts(
            len(agents), events, sum(s.requests for s in agents), sum(s.denied for s in agents), raw, stored
        )  # fmt: skip

    # The blocks

    def _decided(self, fields: unpacking.Fields) -> unpacking.Fields:
        if "decision" in fields and fields["kind"] == "begin":
            fields["decision"] = self.decision(fields["decision"])
        return fields

    def _read(self, session: Session, number: int | None = None, *, rare: bool = False) -> Iterator[Raw]:
        """Events, and where their blocks stand. number: of all that may be of it."""
        log = self.log
        for block in self._blocks(session.sid, number):
            try:
                if block.kind == layout.PART:
                    part = unpacking.part(log.body(block, layout.PART_HEAD.size))
                    if part.sid == session.sid and not rare:
                        fields = unpacking.frame(session.id, part.number, part.offset, block.size)
                        yield part.seq, "frame", (unpacking.Read(part.number, fields, 0, block.size),), block.position
                elif block.kind == layout.EVENTS:
                    raw = log.raw(block)
                    for section in unpacking.sections(raw):
                        if section.sid != session.sid or (rare and not section.flags & layout.RARE):
                            continue
                        if number is not None and not section.low <= number <= section.high:
                            continue
                        for found in unpacking.events(raw, section):
                            kind = layout.KINDS.get(found.kind, "?")
                            yield found.seq, kind, unpacking.read(raw, found, session.id), block.position
            except ValueError:
                continue  # damaged: `ostiary verify` names it

    def _blocks(self, sid: int, number: int | None) -> Iterator[Block]:
        with self._snapshot() as place:
            condition, values = "where sid = ?", [sid]
            if number is not None:
                condition += " and low <= ? and high >= ?"
                values += [number, number]
            spans = self.connection.execute(f"select start, stop from span {condition} order by start", values)
            stretches = [*spans.fetchall(), (place.position, self._end)]
        for start, stop in stretches:
            yield from self.log.walk(start, stop)


_OF_REQUESTS = frozenset({"begin", "end", "request", "frame"})

Raw = tuple[int, str, tuple[unpacking.Read, ...], int]
"""seq, kind, what it says, and where it stands, of each event."""

Decided = Callable[[unpacking.Fields], unpacking.Fields]
"""Gives a begin its decision in full."""


def event_of(seq: int, kind: str, read: tuple[unpacking.Read, ...], decided: Decided) -> Event:
    """One event, as a reader gives it."""
    if len(read) == 1:
        return Event(seq, kind, decided(read[0].fields), read[0].size)
    return Event(seq, kind, {**decided(read[0].fields), **read[1].fields, "kind": kind}, read[1].size)


def wholes(
    session: str, events: Iterable[Raw], decided: Decided, number: int | None = None, *, cut: bool = False
) -> Iterator[Request]:
    """Events of a session, gathered to requests (see SessionReader.requests). cut: the beginning may not be there, and
    a response that began in it is left out: the rest of it cannot be understood."""
    headless: set[int] = set()
    begun: dict[int, Event] = {}
    pieces: dict[int, list[Slice]] = {}
    denied: dict[int, Request] = {}
    """Ended, and the error that the client got may still come."""
    for seq, kind, read, position in events:
        for one in read:
            if kind not in _OF_REQUESTS or (number is not None and one.number != number):
                continue
            if one.fields["kind"] == "begin":
                begun[one.number] = Event(seq, "begin", decided(one.fields), 0)
                continue
            place = (position, one.start, one.size)
            if one.fields["kind"] == "frame":
                if cut and one.fields["offset"] and one.number not in pieces and one.number not in denied:
                    headless.add(one.number)
                if one.number in headless:
                    continue
                late = denied.get(one.number)
                if late is not None:
                    denied[one.number] = replace(late, parts=(*late.parts, place))
                else:
                    pieces.setdefault(one.number, []).append(place)
                continue
            parts = pieces.pop(one.number, [])
            if one.size and one.number not in headless:
                parts.append(place)
            name = request_id(session, one.number)
            ended = Request(name, begun.pop(one.number, None), Event(seq, "end", one.fields, one.size), tuple(parts))
            if one.fields["outcome"] == "denied":
                denied[one.number] = ended
                continue
            for earlier in [each for each in denied if each < one.number]:
                yield denied.pop(earlier)
            yield ended
    yield from denied.values()
    for one_number in (*begun, *(each for each in pieces if each not in begun)):
        name = request_id(session, one_number) if one_number else ""
        yield Request(name, begun.get(one_number), None, tuple(pieces.get(one_number, ())))


def _by_time(session: Session) -> tuple[float, int]:
    return session.opened, session.sid


def database(path: Path) -> Path:
    """The index in a data directory, or the file itself."""
    return path / "audit.db" if path.is_dir() else path
