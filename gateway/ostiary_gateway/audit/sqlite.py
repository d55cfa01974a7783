"""The record on SQLite, as the data plane sees it: cheap calls on the event loop, the work in the writer's thread."""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import sqlite3
import time
from collections.abc import Awaitable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final, cast

import orjson

from ostiary_gateway.audit import chain, encoding, schema
from ostiary_gateway.audit.batch import FRAME
from ostiary_gateway.audit.encoding import RequestBegun, RequestEnded, SessionClosed
from ostiary_gateway.audit.event import (
    ApprovalStep,
    LoginRefused,
    RecordError,
    SessionOpened,
    request_id,
)
from ostiary_gateway.audit.keys import Signer
from ostiary_gateway.audit.recovery import recover
from ostiary_gateway.audit.state import Kind, Op, ResponseState, SessionRow, SessionState, Stats
from ostiary_gateway.audit.writer import Writer
from ostiary_policy.decision import Action, Decision

MAX_RECORDED_BYTES: Final = 1 << 30
LINGER: Final = 0.02
"""Seconds that events wait for company where nobody waits for them."""

HANDOVER: Final = 128 * 1024
"""Bytes of a response that are collected before they go to the writer."""

EVENT_COST: Final = 256
"""What an event weighs besides its bytes, in the bound on what is queued."""


class SqliteRecorder:
    """The Recorder on one SQLite file. Open it with `open`; all methods belong to the event loop that opened it.

    Beside `audit.db` are `audit.key` (signs), `audit.pub` (checks) and `audit.lock`. One process writes at a time.
    """

    def __init__(
        self,
        writer: Writer,
        connection: sqlite3.Connection,
        lock: int,
        run: SessionState,
        next_sid: int,
        stats: Stats,
        *,
        max_recorded_bytes: int,
        high: int,
        hard: int,
    ) -> None:
        self.stats = stats
        self._writer = writer
        self._connection = connection
        self._lock = lock
        self._run = run
        self._next_sid = next_sid
        self._limit = max_recorded_bytes
        self._high = high
        self._hard = hard
        self._loop = asyncio.get_running_loop()
        self._sessions: dict[str, SessionState] = {}
        self._decisions = encoding.Decisions()
        self._pending: list[Op] = []
        self._pending_size = 0
        self._timer: asyncio.Handle | None = None
        self._soon = False
        self._closed = False

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        max_recorded_bytes: int = MAX_RECORDED_BYTES,
        queue_bytes: int = 8 * 1024 * 1024,
        seal_every: float = 30.0,
    ) -> SqliteRecorder:
        """Open or make the record in the file `path`, and mark sessions that an earlier gateway left open as lost.

        max_recorded_bytes: of one response, in bytes; what comes after is counted, not kept.
        queue_bytes: `pressure` begins when this much waits to be written, and ends at a quarter of it.
        seal_every: seconds between the seals over open sessions.
        RecordError if the record cannot be opened; it says why.
        """
        stats = Stats()
        loop = asyncio.get_running_loop()

        def prepare() -> tuple[Writer, sqlite3.Connection, int, SessionState, int]:
            path.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as undo:
                lock = _lock(path.with_suffix(".lock"))
                undo.callback(os.close, lock)
                signer = Signer.load_or_create(path.with_suffix(".key"))
                # Made here, since SQLite gives its other files the mode of this one.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                path.chmod(0o600)
                connection = schema.connect(path)
                undo.callback(connection.close)
                next_sid = recover(connection, signer, time.time())
                writer = Writer(
                    connection,
                    path,
                    signer,
                    loop,
                    stats,
                    low=queue_bytes // 4,
                    fast_above=queue_bytes // 2,
                    seal_every=seal_every,
                )
                undo.pop_all()
            run = SessionState(f"gateway-{time.time_ns():x}-{os.getpid()}", next_sid)
            return writer, connection, lock, run, next_sid + 1

        try:
            writer, connection, lock, run, next_sid = await asyncio.to_thread(prepare)
        except (OSError, ValueError, sqlite3.Error) as error:
            raise RecordError(f"the audit record {path} cannot be opened: {error}") from error
        recorder = cls(
            writer,
            connection,
            lock,
            run,
            next_sid,
            stats,
            max_recorded_bytes=max_recorded_bytes,
            high=queue_bytes,
            hard=queue_bytes * 8,
        )
        writer.start()
        recorder._open_run()
        return recorder

    def _open_run(self) -> None:
        """The gateway's own session: logins that were refused belong to it."""
        now = time.time()
        body = encoding.session_opened(
            SessionOpened(
                self._run.id, now, "", "Gateway", {}, {}, {"host": platform.node(), "pid": os.getpid()}, "Metadata"
            )
        )
        self._run.head = chain.genesis(self._run.id)
        self._put("open", self._run, body, None, None, SessionRow(now, "", "Gateway", "", "Metadata"), 0)

    # Recorder

    def session_opened(self, event: SessionOpened) -> SqliteSession:
        if event.session in self._sessions or self._closed:
            raise RecordError(f"session {event.session} cannot be opened: its id is in use, or the record is closed")
        state = SessionState(
            event.session,
            self._next_sid,
            full=event.recording == "Full",
            metadata=event.recording != "None",
            limit=self._limit if event.max_recorded is None else event.max_recorded,
            head=chain.genesis(event.session),
        )
        self._next_sid += 1
        self._sessions[event.session] = state
        self.stats.sessions += 1
        username = event.subject.get("username", "")
        row = SessionRow(event.at, event.connection, event.protocol, str(username), event.recording)
        self._put("open", state, encoding.session_opened(event), None, None, row, 0)
        return SqliteSession(self, event.session)

    def begin(self, event: RequestBegun, *, durable: bool) -> Awaitable[None] | None:
        state = self._sessions.get(event.session)
        if state is None:
            self.stats.refused += durable
            raise RecordError(f"session {event.session} is not open in the audit record; its requests may not run")
        decision = event.decision
        state.requests += 1
        if decision.action is Action.DENY:
            state.denied += 1
        elif decision.action is not Action.ALLOW:
            state.asked += 1
        elif not state.metadata:
            return None
        known = self._decisions.encode(decision)
        state.open_requests[event.request] = None
        body = encoding.request_begun(event, known[0])
        if not durable:
            self._put("begin", state, body, None, None, known, 0)
            return None
        if self._writer.failing:
            self._put("begin", state, body, None, None, known, 0)
            raise self._refused(state, event, self._writer.failing)
        future = self._loop.create_future()
        if not self._put("begin", state, body, None, future, known, 0):
            raise self._refused(state, event, "the audit record cannot be written as fast as requests come; try again")
        if not self._soon:
            self._soon = True
            self._loop.call_soon(self._flush)
        return future

    def _refused(self, state: SessionState, event: RequestBegun, reason: str) -> RecordError:
        """The request may not run; if the record ever takes it, it also says so."""
        self.stats.refused += 1
        self._end(
            state,
            RequestEnded(event.request, state.id, event.at, "denied", {"reason": reason}, 0, 0),
            state.open_requests.pop(event.request, None),
        )
        return RecordError(reason)

    def response(self, session: str, request: str, data: bytes | bytearray | memoryview) -> None:
        state = self._sessions.get(session)
        if state is None:
            self.stats.misplaced += 1
            return
        if not state.full:
            return
        part = state.open_requests.get(request)
        if part is None:
            if request not in state.open_requests:
                self._loose(state, request, data)
                return
            part = state.open_requests[request] = ResponseState()
        size = part.size
        part.size = size + len(data)
        if part.size > state.limit:
            if size >= state.limit:
                return
            data = memoryview(data)[: state.limit - size]
        if part.missing or self._writer.failing:
            self._miss(part)  # what is kept is the beginning, without holes
            return
        part.parts.append(bytes(data))
        part.waiting += len(data)
        if part.waiting >= HANDOVER:
            self._hand_over(state, request, part)

    def end(self, event: RequestEnded) -> None:
        state = self._sessions.get(event.session)
        if state is None:
            self.stats.misplaced += 1
            return
        state.rows += event.rows
        state.size += event.bytes
        if event.outcome == "error":
            state.errors += 1
        if event.request not in state.open_requests and not state.metadata:
            return
        self._end(state, event, state.open_requests.pop(event.request, None))

    def session_closed(self, event: SessionClosed) -> None:
        state = self._sessions.pop(event.session, None)
        if state is None:
            self.stats.misplaced += 1
            return
        self.stats.sessions -= 1
        self._close_session(state, encoding.session_closed(event), "close", event.at)

    def login_refused(self, event: LoginRefused) -> None:
        self._run.denied += 1
        self._put("refused", self._run, encoding.login_refused(event), None, None, None, 0)

    def approval(self, event: ApprovalStep) -> None:
        self._put("approval", self._run, encoding.approval(event), None, None, None, 0)

    @property
    def queued(self) -> int:
        """Bytes that wait to be written."""
        return self._writer.accepted - self._writer.written

    @property
    def failing(self) -> str:
        """Why the record cannot be written at the moment; empty while it can."""
        return self._writer.failing

    @property
    def pressure(self) -> bool:
        writer = self._writer
        return writer.accepted - writer.written > self._high and not writer.failing

    async def relieved(self) -> None:
        while self.pressure:
            future = self._loop.create_future()
            self._writer.relief.append(future)
            if not self.pressure:  # the writer may have looked just before
                return
            try:
                await future
            except RecordError:
                return  # nothing is written now; what is missing is marked

    async def close(self) -> None:
        if self._closed:
            return
        now = time.time()
        for state in self._sessions.values():
            self._close_session(state, encoding.session_lost(now, "the gateway was shut down"), "lost", now)
        self.stats.sessions -= len(self._sessions)
        self._sessions.clear()
        body = encoding.session_closed(SessionClosed(self._run.id, now, "the gateway was shut down", 0))
        self._put("close", self._run, body, None, None, now, 0)
        self._closed = True
        self._flush()
        self._writer.stop()
        await asyncio.to_thread(self._writer.join)
        failing = self._writer.failing
        await asyncio.to_thread(self._connection.close)
        os.close(self._lock)
        if failing:
            raise RecordError(f"the last events are not in the record: {failing}")

    # Handing over

    def _put(
        self,
        kind: Kind,
        state: SessionState,
        body: bytes,
        response: list[bytes] | None,
        future: asyncio.Future[None] | None,
        extra: object,
        size: int,
    ) -> bool:
        """Queue one event; False if there is no room, which the session's next event will say."""
        op: Op = (kind, state, body, response, future, extra)
        size += len(body) + EVENT_COST
        writer = self._writer
        if writer.accepted - writer.written > self._hard or self._closed:
            self._drop(op)
            return False
        if state.missing or state.unopened is not None:
            self._say_missing(state)
        pending = self._pending
        pending.append(op)
        writer.accepted += size
        self._pending_size += size
        if self._pending_size > FRAME:
            self._flush()
        elif not self._soon and self._timer is None:
            self._timer = self._loop.call_later(LINGER, self._flush)
        return True

    def _flush(self) -> None:
        self._soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pending:
            ops, size = self._pending, self._pending_size
            self._pending, self._pending_size = [], 0
            self._writer.put(ops, size)

    def _drop(self, op: Op) -> None:
        self.stats.dropped += 1
        if op[0] == "open":
            op[1].unopened = op
        elif op[0] in ("close", "lost") and op[1].unopened is not None:
            self._run.missing += op[1].missing + 2  # the whole session
        else:
            op[1].missing += 1

    def _say_missing(self, state: SessionState) -> None:
        ops: list[Op] = []
        if state.unopened is not None:
            ops.append(state.unopened)
            state.unopened = None
        if state.missing:
            ops.append(("gap", state, encoding.gap(time.time(), state.missing), None, None, None))
            state.missing = 0
        size = sum(len(op[2]) + EVENT_COST for op in ops)
        self._pending += ops
        self._pending_size += size
        self._writer.accepted += size

    def _loose(self, state: SessionState, request: str, data: bytes | bytearray | memoryview) -> None:
        """Bytes of a request that has ended (the error of a denial) or of none (a notification)."""
        if self._writer.failing:
            self.stats.dropped += 1
            state.missing += 1
        else:
            self._put("frame", state, b"", [bytes(data)], None, (request, 0), len(data))

    def _miss(self, part: ResponseState) -> None:
        if not part.missing:
            part.missing = True
            self.stats.dropped += 1

    def _hand_over(self, state: SessionState, request: str, part: ResponseState) -> None:
        parts, size = part.parts, part.waiting
        part.parts, part.waiting = [], 0
        if self._put("frame", state, b"", parts, None, (request, part.handed), size):
            part.handed += size
        else:
            self._miss(part)

    def _end(self, state: SessionState, event: RequestEnded, part: ResponseState | None) -> None:
        if part is None:
            self._put("end", state, encoding.request_ended(event, 0, 0), None, None, None, 0)
            return
        if part.handed and part.parts:
            self._hand_over(state, event.request, part)
        recorded = part.handed + part.waiting
        truncated = part.size > state.limit
        self.stats.truncated += truncated
        body = encoding.request_ended(event, part.size, recorded, truncated=truncated, missing=part.missing)
        if not self._put("end", state, body, part.parts or None, None, None, part.waiting):
            self._miss(part)

    def _close_session(self, state: SessionState, body: bytes, kind: Kind, at: float) -> None:
        for request, part in state.open_requests.items():
            self._end(state, RequestEnded(request, state.id, at, "lost", {}, 0, 0), part)
        state.open_requests.clear()
        self._put(kind, state, body, None, None, at, 0)


class SqliteSession:
    """The SessionRecord of one session."""

    __slots__ = ("_id", "_recorder")

    def __init__(self, recorder: SqliteRecorder, session: str) -> None:
        self._recorder = recorder
        self._id = session

    def begin(
        self, number: int, at: float, text: str, detail: Mapping[str, object] | bytes, decision: Decision, durable: bool
    ) -> Awaitable[None] | None:
        event = RequestBegun(request_id(self._id, number), self._id, at, text, _fields(detail), decision)
        return self._recorder.begin(event, durable=durable)

    def response(self, number: int, data: bytes | bytearray | memoryview) -> None:
        self._recorder.response(self._id, request_id(self._id, number) if number else "", data)

    def end(
        self, number: int, at: float, outcome: str, detail: Mapping[str, object] | bytes, rows: int, size: int
    ) -> None:
        name = request_id(self._id, number)
        self._recorder.end(RequestEnded(name, self._id, at, outcome, _fields(detail), rows, size))

    def closed(self, at: float, reason: str, requests: int) -> None:
        self._recorder.session_closed(SessionClosed(self._id, at, reason, requests))


def _fields(detail: Mapping[str, object] | bytes) -> Mapping[str, object]:
    return cast("dict[str, object]", orjson.loads(detail)) if isinstance(detail, bytes) else detail


def _lock(path: Path) -> int:
    """A second writer would take this one's sessions for lost."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ValueError("another gateway writes to it. Stop that one, or name another data directory.") from error
    return descriptor
