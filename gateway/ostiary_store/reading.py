"""A session of the store as its events and requests, page by page: never more of it is read than a page needs."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from ostiary_gateway.audit import layout, unpacking
from ostiary_gateway.audit.event import request_id
from ostiary_gateway.audit.reader import Event, Raw, Request, Session, event_of
from ostiary_store.bodies import decompressed
from ostiary_store.model import ALL, ChunkRow, PartRow, SessionRow
from ostiary_store.store import Store

AT_ONCE: Final = 8
"""Chunks that are asked for together, after fewer of them at first: some hundred KiB each, decompressed."""
AHEAD: Final = 8
"""Chunks in which a page looks for the ends of its requests; those that end later are looked for one by one."""
MAX_PIECE: Final = 1024 * 1024
"""Bytes of a response that are given at once."""
KEPT: Final = 4
"""Decompressed bodies that are kept."""
DECISIONS: Final = 4096
MOST: Final = (1 << 64) - 1

_NUMBERED: Final = frozenset((layout.BEGIN, layout.END, layout.REQUEST, layout.PIECE))
"""Events of requests: their number stands behind their kind."""


@dataclass(frozen=True, slots=True)
class StoredRequest(Request):
    """A Request of a store. In `parts` a position is the seq of a chunk, or ~seq of a part.

    `expired`: parts of its response are gone, because their retention is over.
    """

    session: str = ""
    whole: bool = True
    """False: it ended far behind its begin, and `parts` may lack some in between; `SessionView.request` has all."""

    @property
    def size(self) -> int:
        """Bytes of its response that `parts` has."""
        return sum(size for _, _, size in self.parts)


class Requests(NamedTuple):
    """A page of them, by number."""

    requests: Sequence[StoredRequest]
    next: int
    """The number to go on from; 0: there are no more now."""


@dataclass(slots=True)
class Wanted:
    """Numbers of requests, the first and the last; with 0 also what belongs to none."""

    low: int = 0
    high: int = MOST


@dataclass(slots=True)
class _Open:
    """A request while its events pass by."""

    begun: Event | None = None
    ended: Event | None = None
    parts: list[tuple[int, int, int]] | None = None


class SessionView:
    """One session of a store. Errors: StoreError; ValueError or LookupError where something is damaged or gone."""

    def __init__(self, store: Store, session: SessionRow) -> None:
        self.store = store
        self.session = session
        self._decisions: dict[str, object] = {}
        self._bodies: OrderedDict[int, bytes] = OrderedDict()

    # Events

    async def events(self, first: int = 0, limit: int = 200, *, rare: bool = False) -> list[Event]:
        """From `seq` `first` on, as audit.reader.Reader.events gives them. rare: only those of no request."""
        found: list[Raw] = []
        async for raw in self.raw(first, rare=rare):
            found.append(raw)
            if len(found) >= limit:
                break
        await self.learn(found)
        return [event_of(seq, kind, read, self.decided) for seq, kind, read, _ in found]

    async def opened(self) -> Event | None:
        """How it began: `fields` has subject, client and detail."""
        return next(iter(await self.events(limit=1)), None)

    async def ending(self) -> list[Event]:
        """What its last events of no request say: how it closed, that something is missing, approvals."""
        seq = max(0, self.session.events - 1)
        return await self.events(seq, limit=1000, rare=True)

    async def raw(
        self, first: int = 0, *, number: int | None = None, rare: bool = False, wanted: Wanted | None = None
    ) -> AsyncIterator[Raw]:
        """Events as they were recorded, decisions by their ids. number: of all that may be of it; wanted: of these
        requests only, and it may change on the way."""
        wanted = wanted or (Wanted() if number is None else Wanted(number, number))
        async for row in self._rows(first, number):
            for each in await self._events_of(row, first, wanted, rare=rare):
                yield each

    async def in_rows(self, rows: Iterable[ChunkRow | PartRow]) -> list[Raw]:
        """The events in these rows of it, which came from a feed; what decisions they name is known then."""
        found: list[Raw] = []
        for row in sorted(rows, key=_seq):
            found += await self._events_of(row, 0, Wanted(), rare=False)
        await self.learn(found)
        return found

    async def _events_of(self, row: ChunkRow | PartRow, first: int, wanted: Wanted, *, rare: bool) -> list[Raw]:
        if isinstance(row, PartRow):
            if rare or row.seq < first or not wanted.low <= row.number <= wanted.high:
                return []
            fields = unpacking.frame(self.session.id, row.number, row.offset, row.size)
            return [(row.seq, "frame", (unpacking.Read(row.number, fields, 0, row.size),), ~row.seq)]
        try:
            body = await self._body(row)
        except ValueError:
            return []  # damaged: `ostiary verify` names it
        return await asyncio.to_thread(_read, self.session.id, row, body, first, wanted, rare)

    async def _rows(self, seq: int, number: int | None) -> AsyncIterator[ChunkRow | PartRow]:
        limit = 1
        while True:
            found = await self.store.slice(self.session, seq=seq, number=number, limit=limit)
            rows: list[ChunkRow | PartRow] = sorted([*found.chunks, *found.parts], key=_seq)
            for row in rows:
                yield row
            if len(found.chunks) < limit or not rows:
                return
            last = rows[-1]
            seq = last.seq + (last.events if isinstance(last, ChunkRow) else 1)
            limit = min(2 * limit, AT_ONCE)

    async def _body(self, row: ChunkRow) -> bytes:
        found = self._bodies.get(row.seq)
        if found is None:
            found = await asyncio.to_thread(decompressed, row.body, row.size)
            self._bodies[row.seq] = found
            while len(self._bodies) > KEPT:
                self._bodies.popitem(last=False)
        return found

    # Requests

    async def requests(self, first: int = 1, limit: int = 100) -> Requests:
        """Whole requests by number, from `first` on; what belongs to no request (number 0) is only in `events`."""
        seq = await self._seq_of(first) if first > 1 else 0
        found: dict[int, _Open] = {}
        raws: list[Raw] = []
        wanted = Wanted(max(first, 1))
        chunks = 0
        start, seq = seq, self.session.events
        async for row in self._rows(start, None):
            if isinstance(row, ChunkRow):
                if self._complete(found, limit) or chunks == AHEAD:
                    seq = row.seq
                    break
                chunks += 1
                if len(found) > limit and wanted.high == MOST:
                    # From here on only the ends of those on this page are looked for.
                    wanted.high = sorted(found)[limit]
            some = await self._events_of(row, start, wanted, rare=False)
            raws += some
            for raw in some:
                _gather(found, raw)
        numbers = sorted(number for number, one in found.items() if one.begun is not None or one.ended is not None)
        page = numbers[:limit]
        late = [number for number in page if found[number].ended is None]
        for number in late:
            raws += await self._end_of(found[number], number, seq)
        await self.learn(raws)
        requests = [self._request(number, found[number], number not in late) for number in page]
        more = len(numbers) > limit or (seq < self.session.events and self._more(numbers))
        return Requests(requests, (page[-1] if page else first) + 1 if more else 0)

    def _complete(self, found: dict[int, _Open], limit: int) -> bool:
        """Whether a page has all that it wants."""
        begun = sorted(number for number, one in found.items() if one.begun is not None)
        if len(begun) < limit and not (begun and begun[-1] >= self.session.requests):
            return False
        return all(found[number].ended is not None for number in begun[:limit])

    def _more(self, numbers: Sequence[int]) -> bool:
        return not numbers or numbers[-1] < self.session.requests

    async def _seq_of(self, number: int) -> int:
        """Where to begin to look for the requests from this number on."""
        found = await self.store.slice(self.session, number=number, limit=1)
        seqs = [*(chunk.seq for chunk in found.chunks), *(part.seq for part in found.parts)]
        if seqs:
            return min(seqs)
        # There is none of this number: it was not recorded. Requests begin in the order of their numbers.
        low, high = 0, self.session.events
        while low < high:
            middle = (low + high) // 2
            here = await self.store.slice(self.session, seq=middle, limit=1)
            chunk = next((chunk for chunk in here.chunks if chunk.high), None)
            if chunk is None or chunk.high >= number:
                high = middle
            else:
                low = max(middle, chunk.seq + chunk.events - 1) + 1
        return low

    async def _end_of(self, one: _Open, number: int, seq: int) -> list[Raw]:
        """Where a request ended that was still running where the page ends."""
        try:
            row = await self.store.request(request_id(self.session.id, number), ALL)
        except LookupError:
            return []
        if row.ended is None:
            return []
        raws: list[Raw] = []
        last = await self._last_of(number, seq)
        if last is not None:
            async for raw in self.raw(last, number=number):
                raws.append(raw)
                _gather({number: one}, raw)
        if one.ended is None and row.outcome != "lost":
            # It is where only a longer search would find it. What lists show of it suffices.
            fields: dict[str, object] = {
                "kind": "end", "at": row.ended, "request": row.id, "outcome": row.outcome, "rows": row.rows,
                "bytes": row.bytes, "detail": {},
            }  # fmt: skip
            one.ended = Event(-1, "end", fields, 0)
        return raws

    async def _last_of(self, number: int, low: int) -> int | None:
        """The seq of the last chunk from `low` on that may have something of it."""
        high, last = self.session.events, None
        while low < high:
            middle = (low + high) // 2
            found = await self.store.slice(self.session, seq=middle, number=number, limit=1)
            if found.chunks:
                last = found.chunks[0].seq
                low = max(middle, last) + 1
            else:
                high = middle
        return last

    async def request(self, number: int) -> StoredRequest:
        """One request with all of its parts. LookupError."""
        one = _Open()
        raws: list[Raw] = []
        async for raw in self.raw(number=number):
            raws.append(raw)
            _gather({number: one}, raw)
            # What a client gets of a denial may come behind its end.
            if one.ended is not None and one.ended.fields["outcome"] != "denied":
                break
        if one.begun is None and one.ended is None and not one.parts:
            raise LookupError(f"session {self.session.id} has no request {number} in this store.")
        await self.learn(raws)
        return self._request(number, one, whole=True)

    def _request(self, number: int, one: _Open, whole: bool) -> StoredRequest:
        begun = one.begun
        if begun is not None:
            begun = replace(begun, fields=self.decided(dict(begun.fields)))
        name = request_id(self.session.id, number) if number else ""
        return StoredRequest(name, begun, one.ended, tuple(one.parts or ()), self.session.id, whole)

    # Responses

    async def response(self, request: Request, offset: int = 0, limit: int = MAX_PIECE) -> bytes:
        """What was recorded of a request's response, from byte `offset` on; less than `limit` bytes: there is no more.
        LookupError: it is not kept any more; ValueError: damaged."""
        found: list[bytes] = []
        for position, start, size in request.parts:
            if offset >= size:
                offset -= size
                continue
            if limit <= 0:
                break
            raw = await self._stored(position)
            if not 0 <= start <= start + size <= len(raw):
                raise ValueError(f"event {position} holds {len(raw)} bytes, not {start} to {start + size}")
            piece = raw[start + offset : start + min(size, offset + limit)]
            found.append(piece)
            limit -= len(piece)
            offset = 0
        return b"".join(found)

    def at_hand(self, request: Request) -> list[bytes] | None:
        """All of it, if what it lies in was read a moment ago."""
        found = []
        for position, start, size in request.parts:
            raw = self._bodies.get(position)
            if raw is None or not 0 <= start <= start + size <= len(raw):
                return None
            found.append(raw[start : start + size])
        return found

    async def pieces(self, request: Request) -> AsyncIterator[bytes]:
        """All of it, piece by piece."""
        for place in request.parts:
            only = replace(request, parts=(place,))
            at = 0
            while piece := await self.response(only, at):
                yield piece
                at += len(piece)

    async def _stored(self, position: int) -> bytes:
        found = self._bodies.get(position)
        if found is not None:
            return found
        if position < 0:
            found = await self.store.part(self.session, ~position)
            self._bodies[position] = found
            while len(self._bodies) > KEPT:
                self._bodies.popitem(last=False)
            return found
        chunks = (await self.store.slice(self.session, seq=position, limit=1)).chunks
        if not chunks or chunks[0].seq != position:
            raise LookupError(f"session {self.session.id} has no event {position} in this store.")
        return await self._body(chunks[0])

    # Decisions

    async def learn(self, raws: Iterable[Raw]) -> None:
        """Fetch the decisions that begins among these events name."""
        names = {
            str(one.fields["decision"])
            for _, _, read, _ in raws
            for one in read
            if one.fields.get("kind") == "begin" and isinstance(one.fields.get("decision"), str)
        }
        missing = sorted(names - self._decisions.keys())
        if missing:
            if len(self._decisions) + len(missing) > DECISIONS:
                self._decisions.clear()
                missing = sorted(names)
            found = await self.store.decisions(missing)
            for name in missing:
                self._decisions[name] = {"id": name, **found.get(name, {})}

    def decided(self, fields: unpacking.Fields) -> unpacking.Fields:
        """A begin with its decision in full, if it was learnt; else with its id."""
        if fields.get("kind") == "begin" and isinstance(name := fields.get("decision"), str):
            return {**fields, "decision": self._decisions.get(name, {"id": name})}
        return fields


def session_of(row: SessionRow) -> Session:
    """As a gateway's own record has it."""
    return Session(
        row.sid, row.id, row.opened, row.closed, row.state, row.connection, row.protocol, row.username, row.recording,
        row.requests, row.denied, row.asked, row.errors, row.rows, row.bytes,
    )  # fmt: skip


def _seq(row: ChunkRow | PartRow) -> int:
    return row.seq


def _read(session: str, row: ChunkRow, body: bytes, first: int, wanted: Wanted, rare: bool) -> list[Raw]:
    """The events of a chunk."""
    section = unpacking.Section(0, row.seq, row.events, len(body), 0, 0, row.low, row.high, 0, 0, 0, 0, 0, 0, 0)
    low, high = wanted.low, wanted.high
    found: list[Raw] = []
    try:
        for one in unpacking.events(body, section):
            if one.seq < first:
                continue
            if one.kind in _NUMBERED:
                if rare or not low <= int.from_bytes(body[one.start + 1 : one.start + 9], "little") <= high:
                    continue
            elif low:
                continue
            kind = layout.KINDS.get(one.kind, "?")
            found.append((one.seq, kind, unpacking.read(body, one, session), row.seq))
    except ValueError:
        pass  # damaged: `ostiary verify` names it
    return found


def _gather(found: dict[int, _Open], raw: Raw) -> None:
    """One event to the requests that it is of."""
    seq, kind, read, position = raw
    if kind not in ("begin", "end", "request", "frame"):
        return
    for part in read:
        if not part.number:
            continue
        one = found.setdefault(part.number, _Open())
        what = part.fields["kind"]
        if what == "begin":
            one.begun = Event(seq, "begin", part.fields, 0)
            continue
        if what == "end":
            one.ended = Event(seq, "end", part.fields, part.size)
        if part.size:
            one.parts = [*(one.parts or ()), (position, part.start, part.size)]
