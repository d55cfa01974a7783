# cython: annotation_typing=False
"""What the gateway's requests cost on the event loop: their events as bytes, collected until the writer takes them.

Compiled where there is a C compiler. Nothing here waits, and nothing is written here.
"""

from __future__ import annotations

import functools
from asyncio import Future, get_running_loop
from collections.abc import Awaitable, Callable, Generator, Mapping
from time import time
from zlib import crc32

import cython

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.encoding import Decisions, encode
from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.audit.pace import Pace
from ostiary_policy.decision import Action, Decision

COST = 128
"""What an event weighs besides its bytes, in the bound on what is queued."""

FRAME = 256 * 1024
"""Bytes that are handed over at once, without waiting for company."""

HANDOVER = 128 * 1024
"""Bytes of a response that are collected before they go to the writer."""

SMALL = layout.SMALL

KEPT = 64 * 1024
"""Bytes from which a view of received bytes is kept as it is: a smaller one would hold more memory than it counts."""

if cython.compiled:
    from cython.cimports.ostiary_gateway.audit.packed import begun_head, ended_head, event_head, whole_head
else:
    begun_head = functools.partial(layout.BEGUN.pack, layout.BEGIN)
    ended_head = functools.partial(layout.ENDED.pack, layout.END)
    event_head = layout.EVENT.pack
    whole_head = functools.partial(layout.WHOLE.pack, layout.REQUEST)

_SECTION = layout.SECTION.pack
_ALLOW = Action.ALLOW
_DENY = Action.DENY
_OUTCOMES: dict[str, bytes] = {name: name.encode() for name in ("ok", "error", "denied", "skipped", "lost")}
_NO_DETAIL = b"{}"

Item = tuple[int, bytes, list[bytes | memoryview], int]
"""What becomes one block: its kind, its table or head, its parts, and their size in bytes."""


class Pending:
    """A request that waits until its record is on the disk. Await it, or let it call what `then` was given: not both.

    A future would do, but costs as much as all else that is done for the request.
    """

    __slots__ = ("_call", "_failure", "_told")

    def __init__(self) -> None:
        self._call: Callable[[str], object] | None = None
        self._failure = ""
        self._told = False

    def then(self, call: Callable[[str], object]) -> None:
        """`call` gets why the record is not on the disk; an empty text if it is."""
        if self._told:
            call(self._failure)
        else:
            self._call = call

    def tell(self, failure: str) -> None:
        """It is on the disk, or will not be."""
        if self._told:
            return
        self._told = True
        self._failure = failure
        call, self._call = self._call, None
        if call is not None:
            call(failure)

    def __await__(self) -> Generator[object, None, None]:
        if not self._told:
            future = get_running_loop().create_future()
            self._call = functools.partial(_wake, future)
            yield from future
        if self._failure:
            raise RecordError(self._failure)


def _wake(future: Future[None], _failure: str) -> None:
    if not future.done():
        future.set_result(None)


class _Request:
    """A request that has begun and not ended. `parts` are not handed over yet; `handed` bytes are."""

    __slots__ = (
        "at", "decision", "detail", "handed", "missing", "number", "parts", "size", "text", "waiting", "weight",
        "written",
    )  # fmt: skip

    def __init__(self, number: int, at: float, text: str, detail: bytes, decision: bytes) -> None:
        self.number = number
        self.at = at
        self.text = text
        self.detail = detail
        self.decision = decision
        self.written = False
        self.weight = 0
        self.parts: list[bytes | memoryview] | None = None
        self.waiting = 0
        self.handed = 0
        self.size = 0
        self.missing = False


class Intake:
    """What all sessions have collected. `accepted` and `written` count bytes; the writer's thread sets the second.

    linger: called when the first event of a batch waits. soon: called when enough wait for a sync. later: called when
    some wait, and more are to come in a moment. They see to it that `flush` is called, or `late`; `hand_over` gets the
    batch: its items, bytes, what waits for it, and what the index must know.
    """

    def __init__(
        self,
        hard: int,
        linger: Callable[[], None],
        soon: Callable[[], None],
        later: Callable[[], None],
        hand_over: Callable[[list[Item], int, list[Pending], list[object]], None],
    ) -> None:
        self.accepted = self.written = 0
        self.failing = ""
        self.syncing = 0
        self.closed = False
        self.hard = hard
        self.dropped = self.refused = self.truncated = self.misplaced = 0
        self.waiting: list[Pending] = []
        self.news: list[object] = []
        self.sessions: dict[str, Record] = {}
        self.run: Record
        self.items: list[Item] = []
        self.dirty: list[Record] = []
        self.pending = 0
        self.scheduled = self.urgent = False
        self.decisions = Decisions()
        self.known: set[bytes] = set()
        self.linger = linger
        self.soon = soon
        self.later = later
        self.pace = Pace()
        self.put_off = False
        self.hand_over = hand_over

    def full(self) -> bool:
        return self.accepted - self.written > self.hard or self.closed

    def decision(self, decision: Decision) -> bytes:
        """Its id. A decision is recorded once, with the first request that it decides."""
        ident, body = self.decisions.encode(decision)
        if ident not in self.known:
            if len(self.known) > 65536:
                self.known.clear()
            self.known.add(ident)
            self.run.rare(layout.DECISION, ident + body)
            self.news.append(("decision", ident, body))
        return ident

    def waiter(self) -> Pending:
        pending = Pending()
        self.waiting.append(pending)
        if not self.urgent and not self.syncing:
            self._sync_when_enough()
        return pending

    def _sync_when_enough(self) -> None:
        if self.pace.enough(len(self.waiting)):
            self.urgent = True
            self.soon()
        elif not self.put_off:
            self.put_off = True
            self.later()

    def late(self) -> None:
        """No more came in time."""
        self.put_off = False
        if self.waiting and not self.syncing and not self.urgent:
            self.flush()

    def touched(self, size: int) -> None:
        size += COST
        self.accepted += size
        self.pending += size
        if not self.scheduled:
            self.scheduled = True
            self.linger()
        if self.pending > FRAME and not self.urgent:
            self.urgent = True
            self.soon()

    def flush(self) -> None:
        """Hand over all that is collected."""
        self.scheduled = self.urgent = False
        self.gather()
        items, size, waiting, news = self.items, self.pending, self.waiting, self.news
        if not items and not waiting and not news:
            return
        self.items, self.pending, self.waiting, self.news = [], 0, [], []
        self.syncing += len(waiting)
        self.hand_over(items, size, waiting, news)

    def synced(self, count: int) -> None:
        """So many that waited have been told. The next batch collected meanwhile."""
        self.syncing -= count
        if self.waiting and not self.syncing and not self.urgent:
            self._sync_when_enough()

    def gather(self) -> None:
        """Make one block of what the sessions have."""
        dirty = self.dirty
        if not dirty:
            return
        self.dirty = []
        if len(dirty) > 1 and self.run.waits:
            dirty.remove(self.run)  # first, since decisions are in it
            dirty.insert(0, self.run)
        heads: list[bytes] = []
        parts: list[bytes | memoryview] = []
        size = 0
        for record in dirty:
            record.settle()
            if record.count:
                heads.append(record.head())
                parts += record.events
                size += record.weight
            record.begin_section()
        if heads:
            self.items.append((layout.EVENTS, layout.COUNT.pack(len(heads)) + b"".join(heads), parts, size))


class Record:
    """The SessionRecord of one session."""

    def __init__(self, intake: Intake, session: str, sid: int, limit: int, recording: str, lost: bool) -> None:
        self.id = session
        self.sid = sid
        self.seq = 0
        self.intake = intake
        self.full = recording == "Full"
        self.allowed = recording != "None"
        self.limit = limit
        self.over = lost
        self.current: _Request | None = None
        """The request that began when no other was open: mostly the only one."""
        self.requests: dict[int, _Request] = {}
        """The others that are open."""
        self.missing = 0
        self.begun = self.denied = self.asked = self.errors = self.rows = self.size = 0
        self.waits = False
        self.window = 0
        self.last: Decision | None = None
        self.last_allows = False
        self.last_id = b""
        self.begin_section()

    def begin_section(self) -> None:
        self.events: list[bytes] = []
        self.weight = 0
        self.count = 0
        self.flags = 0
        self.lowest = 0
        self.highest = 0
        self.waits = False

    def settle(self) -> None:
        """Requests that have not ended by now have a begin of their own."""
        current = self.current
        if current is not None and not current.written:
            self._begin(current)
        if self.requests:
            for request in self.requests.values():
                if not request.written:
                    self._begin(request)

    def head(self) -> bytes:
        first = self.seq - self.count
        result: bytes = _SECTION(
            self.sid, first, self.count, self.weight, self.flags, 0, self.lowest, self.highest,
            self.begun, self.denied, self.asked, self.errors, self.rows, self.size,
        )  # fmt: skip
        return result

    def _add(self, body: bytes, number: int) -> None:
        size = len(body)
        events = self.events
        events.append(event_head(size, crc32(body)))
        events.append(body)
        self.count += 1
        self.seq += 1
        self.weight += size + 8
        if number:
            if not self.lowest or number < self.lowest:
                self.lowest = number
            if number > self.highest:
                self.highest = number
        if not self.waits:
            self.waits = True
            self.intake.dirty.append(self)
        self.intake.touched(size)

    def _room(self) -> bool:
        """False if nothing more is taken in, which the session's next event will say."""
        if self.intake.full():
            self.intake.dropped += 1
            self.missing += 1
            return False
        if self.missing:
            missing, self.missing = self.missing, 0
            self.rare(layout.GAP, encode({"kind": "gap", "at": time(), "events": missing}))
        return True

    def rare(self, kind: int, body: bytes) -> None:
        """An event that is neither a request nor a response. There is always room for it."""
        self.flags |= layout.RARE
        self._add(bytes((kind,)) + body, 0)

    def _begin(self, request: _Request) -> None:
        text = request.text.encode("utf-8", "backslashreplace")
        request.written = True
        self._unweigh(request)
        head = begun_head(request.number, request.at, request.decision, len(text))
        self._add(b"".join((head, text, request.detail)), request.number)

    def _unweigh(self, request: _Request) -> None:
        """Its event weighs from now on."""
        if request.weight:
            self.intake.accepted -= request.weight + COST
            self.intake.pending -= request.weight + COST
            request.weight = 0

    def begin(
        self, number: int, at: float, text: str, detail: Mapping[str, object] | bytes, decision: Decision, durable: bool
    ) -> Awaitable[None] | None:
        intake = self.intake
        if self.over:
            intake.refused += durable
            raise RecordError(f"session {self.id} is not open in the audit record; its requests may not run")
        self.begun += 1
        if decision is not self.last or not self.last_allows:
            action = decision.action
            if action is _DENY:
                self.denied += 1
            elif action is not _ALLOW:
                self.asked += 1
            elif not self.allowed:
                return None
        elif not self.allowed:
            return None
        if not self._room():
            if durable:
                intake.refused += 1
                raise RecordError("the audit record cannot be written as fast as requests come; try again")
            return None
        if intake.pending > FRAME:
            intake.flush()
        if decision is not self.last:
            self.last_id = intake.decision(decision)
            self.last, self.last_allows = decision, decision.action is _ALLOW
        request = _Request(number, at, text, _detail(detail), self.last_id)
        if self.current is None:
            self.current = request
        else:
            self.requests[number] = request
        if not durable:
            request.weight = len(text) + len(request.detail)
            intake.touched(request.weight)
            if not self.waits:
                self.waits = True
                intake.dirty.append(self)
            return None
        self._begin(request)
        if intake.failing:
            # The request may not run; if the record ever takes it, it also says so.
            intake.refused += 1
            self.end(number, at, "denied", {"reason": intake.failing}, 0, 0)
            raise RecordError(intake.failing)
        self.window = intake.pace.seen(self.window, at)
        return intake.waiter()

    def _find(self, number: int) -> _Request | None:
        """The request of this number, if it is open."""
        current = self.current
        if current is not None and current.number == number:
            return current
        return self.requests.get(number) if self.requests else None

    def response(self, number: int, data: bytes | bytearray | memoryview) -> None:
        if not self.full or self.over:
            if self.over:
                self.intake.misplaced += 1
            return
        request = self._find(number)
        if request is None:
            self._loose(number, bytes(data))
            return
        length = len(data)
        size = request.size
        request.size = size + length
        if size + length > self.limit:
            if size >= self.limit:
                return
            data = memoryview(data)[: self.limit - size]
            length = self.limit - size
        if request.missing or (length > SMALL and self.intake.failing):
            self._miss(request)  # what is kept is the beginning, without holes
            return
        if not isinstance(data, bytes) and (
            length < KEPT or not isinstance(data, memoryview) or not isinstance(data.obj, bytes)
        ):
            data = bytes(data)
        if request.parts is None:
            request.parts = [data]
        else:
            request.parts.append(data)
        request.waiting += length
        if request.waiting >= HANDOVER:
            self._hand_over(request)

    def end(
        self, number: int, at: float, outcome: str, detail: Mapping[str, object] | bytes, rows: int, size: int
    ) -> None:
        if self.over:
            self.intake.misplaced += 1
            return
        self.rows += rows
        self.size += size
        if outcome == "error":
            self.errors += 1
        request = self._find(number)
        if request is None:
            if self.allowed and self._room():
                self._end(number, at, outcome, _detail(detail), rows, size, None)
            return
        if request is self.current:
            self.current = None
        else:
            del self.requests[number]
        if request.waiting > SMALL:
            self._hand_over(request)
        if self._room():
            self._end(number, at, outcome, _detail(detail), rows, size, request)
        else:
            self._unweigh(request)

    def _end(
        self,
        number: int,
        at: float,
        outcome: str,
        detail: bytes,
        rows: int,
        size: int,
        request: _Request | None,
    ) -> None:
        told = _OUTCOMES.get(outcome)
        if told is None:
            told = outcome.encode("utf-8", "replace")[:255]
        if request is None:
            head = ended_head(number, at, len(told), rows, size, 0, 0, 0, len(detail))
            self._add(b"".join((head, told, detail)), number)
            return
        flags = 0
        if request.size > self.limit:
            flags |= layout.TRUNCATED
            self.intake.truncated += 1
        if request.missing:
            flags |= layout.MISSING
        kept = request.handed + request.waiting
        parts = request.parts
        if parts is None:
            parts = []
        if request.written:
            head = ended_head(number, at, len(told), rows, size, request.size, kept, flags, len(detail))
            self._add(b"".join((head, told, detail, *parts)), number)
            return
        self._unweigh(request)
        text = request.text.encode("utf-8", "backslashreplace")
        head = whole_head(
            number,
            request.at,
            at,
            request.decision,
            len(told),
            rows,
            size,
            request.size,
            kept,
            flags,
            len(text),
            len(request.detail),
            len(detail),
        )
        self._add(b"".join((head, told, text, request.detail, detail, *parts)), number)

    def _loose(self, number: int, data: bytes) -> None:
        """Bytes of a request that has ended (the error of a denial) or of none (a notification)."""
        if self.intake.failing:
            self.intake.dropped += 1
            self.missing += 1
        elif self._room():
            if len(data) > SMALL:
                self._part(number, 0, [data], len(data))
            else:
                self._add(layout.PIECE_HEAD.pack(layout.PIECE, number, 0) + data, number)

    def _miss(self, request: _Request) -> None:
        if not request.missing:
            request.missing = True
            self.intake.dropped += 1

    def _hand_over(self, request: _Request) -> None:
        parts, size = request.parts, request.waiting
        request.parts = None
        request.waiting = 0
        if self.intake.failing or not self._room():
            self._miss(request)
            return
        if not request.written:
            self._begin(request)
        self._part(request.number, request.handed, parts or [], size)
        request.handed += size

    def _part(self, number: int, offset: int, parts: list[bytes | memoryview], size: int) -> None:
        """A block of its own, behind what its session has so far."""
        intake = self.intake
        if self.waits:
            intake.gather()
        head = layout.PART_HEAD.pack(self.sid, self.seq, number, offset)
        self.seq += 1
        intake.items.append((layout.PART, head, parts, size))
        intake.touched(size)
        if intake.pending > FRAME:
            intake.flush()

    def refused(self, body: bytes) -> None:
        """A login, in the gateway's own session."""
        self.denied += 1
        self.rare(layout.REFUSED, body)

    def closed(self, at: float, reason: str, requests: int) -> None:
        if self.over:
            self.intake.misplaced += 1
            self.intake.sessions.pop(self.id, None)
            return
        body = encode({"kind": "close", "at": at, "reason": reason, "requests": requests})
        self.finish(layout.CLOSE, body, at)

    def finish(self, kind: int, body: bytes, at: float) -> None:
        """End the session with this event; requests still open are lost with it."""
        if self.current is not None:
            self.end(self.current.number, at, "lost", {}, 0, 0)
        for number in list(self.requests):
            self.end(number, at, "lost", {}, 0, 0)
        if self.missing:
            missing, self.missing = self.missing, 0
            self.rare(layout.GAP, encode({"kind": "gap", "at": at, "events": missing}))
        self.rare(kind, body)
        self.over = True
        self.intake.sessions.pop(self.id, None)
        self.intake.news.append(("closed" if kind == layout.CLOSE else "lost", self.sid, at))


def _detail(detail: Mapping[str, object] | bytes) -> bytes:
    if isinstance(detail, bytes):
        return detail
    return encode(detail) if detail else _NO_DETAIL
