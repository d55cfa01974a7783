"""What the gateway's requests cost on the event loop: their events as bytes, collected until the writer takes them.

Compiled where there is a C compiler. Nothing here waits, and nothing is written here.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Awaitable, Callable, Mapping
from time import time
from zlib import crc32

import cython

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.encoding import Decisions, encode
from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.audit.pace import Pace
from ostiary_policy.decision import Action, Decision

COST: cython.Py_ssize_t = 128
"""What an event weighs besides its bytes, in the bound on what is queued."""

FRAME: cython.Py_ssize_t = 256 * 1024
"""Bytes that are handed over at once, without waiting for company."""

HANDOVER: cython.Py_ssize_t = 128 * 1024
"""Bytes of a response that are collected before they go to the writer."""

SMALL: cython.Py_ssize_t = layout.SMALL

KEPT: cython.Py_ssize_t = 64 * 1024
"""Bytes from which a view of received bytes is kept as it is: a smaller one would hold more memory than it counts."""

_EVENT = layout.EVENT.pack
_BEGUN = layout.BEGUN.pack
_ENDED = layout.ENDED.pack
_WHOLE = layout.WHOLE.pack
_SECTION = layout.SECTION.pack
_ALLOW = Action.ALLOW
_DENY = Action.DENY
_OUTCOMES: dict[str, bytes] = {name: name.encode() for name in ("ok", "error", "denied", "skipped", "lost")}

Item = tuple[int, bytes, list[bytes], int]
"""What becomes one block: its kind, its table or head, its parts, and their size in bytes."""


@cython.cclass
class _Request:
    """A request that has begun and not ended. `parts` are not handed over yet; `handed` bytes are."""

    at: cython.double
    text: str
    detail: bytes
    decision: bytes
    written: cython.bint
    weight: cython.longlong
    parts: list[bytes | memoryview] | None
    waiting: cython.longlong
    handed: cython.longlong
    size: cython.longlong
    missing: cython.bint

    def __init__(self, at: float, text: str, detail: bytes, decision: bytes) -> None:
        self.at = at
        self.text = text
        self.detail = detail
        self.decision = decision
        self.written = False
        self.weight = 0
        self.parts = None
        self.waiting = 0
        self.handed = 0
        self.size = 0
        self.missing = False


@cython.cclass
class Intake:
    """What all sessions have collected. `accepted` and `written` count bytes; the writer's thread sets the second.

    linger: called when the first event of a batch waits. soon: called when enough wait for a sync. later: called when
    some wait, and more are to come in a moment. They see to it that `flush` is called, or `late`; `hand_over` gets the
    batch: its items, bytes, futures, and what the index must know.
    """

    accepted = cython.declare(cython.longlong, visibility="public")
    written = cython.declare(cython.longlong, visibility="public")
    failing = cython.declare(str, visibility="public")
    syncing = cython.declare(cython.int, visibility="public")
    closed = cython.declare(cython.bint, visibility="public")
    hard = cython.declare(cython.longlong, visibility="public")
    dropped = cython.declare(cython.longlong, visibility="public")
    refused = cython.declare(cython.longlong, visibility="public")
    truncated = cython.declare(cython.longlong, visibility="public")
    misplaced = cython.declare(cython.longlong, visibility="public")
    run = cython.declare(object, visibility="public")
    waiting = cython.declare(list, visibility="public")
    news = cython.declare(list, visibility="public")
    sessions = cython.declare(dict, visibility="public")
    items = cython.declare(list)
    dirty = cython.declare(list)
    pending = cython.declare(cython.longlong)
    scheduled = cython.declare(cython.bint)
    urgent = cython.declare(cython.bint)
    decisions = cython.declare(object)
    known = cython.declare(set)
    linger = cython.declare(object)
    soon = cython.declare(object)
    later = cython.declare(object)
    pace = cython.declare(object)
    put_off = cython.declare(cython.bint)
    future = cython.declare(object)
    hand_over = cython.declare(object)

    def __init__(
        self,
        hard: int,
        linger: Callable[[], None],
        soon: Callable[[], None],
        later: Callable[[], None],
        future: Callable[[], Future[None]],
        hand_over: Callable[[list[Item], int, list[Future[None]], list[object]], None],
    ) -> None:
        self.accepted = self.written = 0
        self.failing = ""
        self.syncing = 0
        self.closed = False
        self.hard = hard
        self.dropped = self.refused = self.truncated = self.misplaced = 0
        self.waiting = []
        self.news = []
        self.sessions = {}
        self.items = []
        self.dirty = []
        self.pending = 0
        self.scheduled = self.urgent = False
        self.decisions = Decisions()
        self.known = set()
        self.linger = linger
        self.soon = soon
        self.later = later
        self.pace = Pace()
        self.put_off = False
        self.future = future
        self.hand_over = hand_over

    @cython.ccall
    def full(self) -> cython.bint:
        return self.accepted - self.written > self.hard or self.closed

    @cython.ccall
    def decision(self, decision: object) -> bytes:
        """Its id. A decision is recorded once, with the first request that it decides."""
        ident, body = self.decisions.encode(decision)
        if ident not in self.known:
            if len(self.known) > 65536:
                self.known.clear()
            self.known.add(ident)
            self.run.rare(layout.DECISION, ident + body)
            self.news.append(("decision", ident, body))
        return ident  # type: ignore[no-any-return]

    @cython.ccall
    def waiter(self) -> object:
        future = self.future()
        self.waiting.append(future)
        if not self.urgent and not self.syncing:
            self._sync_when_enough()
        return future

    @cython.ccall
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

    @cython.ccall
    def touched(self, size: cython.Py_ssize_t) -> None:
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

    @cython.ccall
    def gather(self) -> None:
        """Make one block of what the sessions have."""
        dirty: list[Record] = self.dirty
        if not dirty:
            return
        self.dirty = []
        if len(dirty) > 1 and self.run.waits:
            dirty.remove(self.run)  # first, since decisions are in it
            dirty.insert(0, self.run)
        heads: list[bytes] = []
        parts: list[bytes] = []
        size: cython.Py_ssize_t = 0
        record: Record
        for record in dirty:
            record.settle()
            if record.count:
                heads.append(record.head())
                parts += record.events
                size += record.weight
            record.begin_section()
        if heads:
            self.items.append((layout.EVENTS, layout.COUNT.pack(len(heads)) + b"".join(heads), parts, size))


@cython.cclass
class Record:
    """The SessionRecord of one session."""

    id = cython.declare(str, visibility="public")
    sid = cython.declare(cython.longlong, visibility="public")
    seq = cython.declare(cython.longlong, visibility="public")
    intake: Intake
    allowed: cython.bint
    full: cython.bint
    limit: cython.longlong
    over = cython.declare(cython.bint, visibility="public")
    requests: dict[int, _Request]
    missing = cython.declare(cython.longlong, visibility="public")
    begun: cython.longlong
    denied: cython.longlong
    asked: cython.longlong
    errors: cython.longlong
    rows: cython.longlong
    size: cython.longlong
    events: list[bytes]
    weight: cython.Py_ssize_t
    count: cython.Py_ssize_t
    flags: cython.int
    lowest: cython.longlong
    highest: cython.longlong
    waits = cython.declare(cython.bint, visibility="public")
    window = cython.declare(cython.longlong, visibility="public")
    last: object
    last_id: bytes

    def __init__(self, intake: Intake, session: str, sid: int, limit: int, recording: str, lost: bool) -> None:
        self.id = session
        self.sid = sid
        self.seq = 0
        self.intake = intake
        self.full = recording == "Full"
        self.allowed = recording != "None"
        self.limit = limit
        self.over = lost
        self.requests = {}
        self.missing = 0
        self.begun = self.denied = self.asked = self.errors = self.rows = self.size = 0
        self.waits = False
        self.window = 0
        self.last = None
        self.last_id = b""
        self.begin_section()

    @cython.ccall
    def begin_section(self) -> None:
        self.events = []
        self.weight = 0
        self.count = 0
        self.flags = 0
        self.lowest = 0
        self.highest = 0
        self.waits = False

    @cython.ccall
    def settle(self) -> None:
        """Requests that have not ended by now have a begin of their own."""
        request: _Request
        for number, request in self.requests.items():
            if not request.written:
                self._begin(number, request)

    @cython.ccall
    def head(self) -> bytes:
        first: cython.longlong = self.seq - self.count
        result: bytes = _SECTION(
            self.sid, first, self.count, self.weight, self.flags, 0, self.lowest, self.highest,
            self.begun, self.denied, self.asked, self.errors, self.rows, self.size,
        )  # fmt: skip
        return result

    @cython.ccall
    def _add(self, body: bytes, number: cython.longlong) -> None:
        size: cython.Py_ssize_t = len(body)
        events: list[bytes] = self.events
        events.append(_EVENT(size, crc32(body)))
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

    @cython.ccall
    def _room(self) -> cython.bint:
        """False if nothing more is taken in, which the session's next event will say."""
        if self.intake.full():
            self.intake.dropped += 1
            self.missing += 1
            return False
        if self.missing:
            missing, self.missing = self.missing, 0
            self.rare(layout.GAP, encode({"kind": "gap", "at": time(), "events": missing}))
        return True

    @cython.ccall
    def rare(self, kind: cython.int, body: bytes) -> None:
        """An event that is neither a request nor a response. There is always room for it."""
        self.flags |= layout.RARE
        self._add(bytes((kind,)) + body, 0)

    @cython.ccall
    def _begin(self, number: cython.longlong, request: _Request) -> None:
        text = request.text.encode("utf-8", "backslashreplace")
        request.written = True
        self._unweigh(request)
        head = _BEGUN(layout.BEGIN, number, request.at, request.decision, len(text))
        self._add(b"".join((head, text, request.detail)), number)

    @cython.ccall
    def _unweigh(self, request: _Request) -> None:
        """Its event weighs from now on."""
        if request.weight:
            self.intake.accepted -= request.weight + COST
            self.intake.pending -= request.weight + COST
            request.weight = 0

    def begin(
        self, number: int, at: float, text: str, detail: Mapping[str, object] | bytes, decision: Decision, durable: bool
    ) -> Awaitable[None] | None:
        intake: Intake = self.intake
        if self.over:
            intake.refused += durable
            raise RecordError(f"session {self.id} is not open in the audit record; its requests may not run")
        self.begun += 1
        action = decision.action
        if action is not _ALLOW:
            if action is _DENY:
                self.denied += 1
            else:
                self.asked += 1
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
            self.last = decision
        request = _Request(at, text, _detail(detail), self.last_id)
        self.requests[number] = request
        if not durable:
            request.weight = len(text) + len(request.detail)
            intake.touched(request.weight)
            if not self.waits:
                self.waits = True
                intake.dirty.append(self)
            return None
        self._begin(number, request)
        if intake.failing:
            # The request may not run; if the record ever takes it, it also says so.
            intake.refused += 1
            self.end(number, at, "denied", {"reason": intake.failing}, 0, 0)
            raise RecordError(intake.failing)
        self.window = intake.pace.seen(self.window, at)
        waiter: Awaitable[None] = intake.waiter()
        return waiter

    def response(self, number: int, data: bytes | bytearray | memoryview) -> None:
        if not self.full or self.over:
            if self.over:
                self.intake.misplaced += 1
            return
        request: _Request | None = self.requests.get(number)
        length: cython.longlong = len(data)
        if request is None:
            self._loose(number, bytes(data))
            return
        size: cython.longlong = request.size
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
            self._hand_over(number, request)

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
        request: _Request | None = self.requests.pop(number, None)
        if request is None:
            if self.allowed and self._room():
                self._end(number, at, outcome, _detail(detail), rows, size, None)
            return
        if request.waiting > SMALL:
            self._hand_over(number, request)
        if self._room():
            self._end(number, at, outcome, _detail(detail), rows, size, request)
        else:
            self._unweigh(request)

    @cython.ccall
    def _end(
        self,
        number: cython.longlong,
        at: cython.double,
        outcome: str,
        detail: bytes,
        rows: cython.longlong,
        size: cython.longlong,
        request: _Request | None,
    ) -> None:
        told: bytes | None = _OUTCOMES.get(outcome)
        if told is None:
            told = outcome.encode("utf-8", "replace")[:255]
        if request is None:
            head = _ENDED(layout.END, number, at, len(told), rows, size, 0, 0, 0, len(detail))
            self._add(b"".join((head, told, detail)), number)
            return
        flags: cython.int = 0
        if request.size > self.limit:
            flags |= layout.TRUNCATED
            self.intake.truncated += 1
        if request.missing:
            flags |= layout.MISSING
        kept: cython.longlong = request.handed + request.waiting
        parts: list[bytes | memoryview] = [] if request.parts is None else request.parts
        if request.written:
            head = _ENDED(layout.END, number, at, len(told), rows, size, request.size, kept, flags, len(detail))
            self._add(b"".join((head, told, detail, *parts)), number)
            return
        self._unweigh(request)
        text = request.text.encode("utf-8", "backslashreplace")
        head = _WHOLE(
            layout.REQUEST, number, request.at, at, request.decision, len(told), rows, size, request.size, kept, flags,
            len(text), len(request.detail), len(detail),
        )  # fmt: skip
        self._add(b"".join((head, told, text, request.detail, detail, *parts)), number)

    @cython.ccall
    def _loose(self, number: cython.longlong, data: bytes) -> None:
        """Bytes of a request that has ended (the error of a denial) or of none (a notification)."""
        if self.intake.failing:
            self.intake.dropped += 1
            self.missing += 1
        elif self._room():
            if len(data) > SMALL:
                self._part(number, 0, [data], len(data))
            else:
                self._add(layout.PIECE_HEAD.pack(layout.PIECE, number, 0) + data, number)

    @cython.ccall
    def _miss(self, request: _Request) -> None:
        if not request.missing:
            request.missing = True
            self.intake.dropped += 1

    @cython.ccall
    def _hand_over(self, number: cython.longlong, request: _Request) -> None:
        parts, size = request.parts, request.waiting
        request.parts = None
        request.waiting = 0
        if self.intake.failing or not self._room():
            self._miss(request)
            return
        if not request.written:
            self._begin(number, request)
        self._part(number, request.handed, parts, size)
        request.handed += size

    @cython.ccall
    def _part(
        self, number: cython.longlong, offset: cython.longlong, parts: list[bytes], size: cython.longlong
    ) -> None:
        """A block of its own, behind what its session has so far."""
        intake: Intake = self.intake
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
        for number in list(self.requests):
            self.end(number, at, "lost", {}, 0, 0)
        if self.missing:
            missing, self.missing = self.missing, 0
            self.rare(layout.GAP, encode({"kind": "gap", "at": at, "events": missing}))
        self.rare(kind, body)
        self.over = True
        self.intake.sessions.pop(self.id, None)
        self.intake.news.append(("closed" if kind == layout.CLOSE else "lost", self.sid, at))


@cython.cfunc
def _detail(detail: object) -> bytes:
    if isinstance(detail, bytes):
        return detail
    return encode(detail) if detail else b"{}"  # type: ignore[arg-type]
