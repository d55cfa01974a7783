"""The record as the data plane sees it: cheap calls on the event loop, the work in the writer's thread."""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import structlog

from ostiary_gateway.audit import encoding, index, layout
from ostiary_gateway.audit.blocks import log_file
from ostiary_gateway.audit.direct import Direct
from ostiary_gateway.audit.event import ApprovalStep, LoginRefused, RecordError, SessionOpened, SessionRecord
from ostiary_gateway.audit.intake import Intake, Item, Pending, Record
from ostiary_gateway.audit.keys import Signer
from ostiary_gateway.audit.logfile import LogFile
from ostiary_gateway.audit.recovery import recover
from ostiary_gateway.audit.writer import Batch, Stats, Writer

log = structlog.get_logger(__name__)

MAX_RECORDED_BYTES: Final = 1 << 30
SPACING: Final = 0.001
"""Seconds that a sync is put off at most, for the requests of other sessions to share it."""
LINGER: Final = 0.03
"""Seconds that events wait for company where nobody waits for them."""

Future = asyncio.Future[None]


class FileRecorder:
    """The Recorder on one file. Open it with `open`; all methods belong to the event loop that opened it.

    `audit.log` is the record; beside it are `audit.db` (its index), `audit.key` (signs), `audit.pub` (checks) and
    `audit.lock`. One process writes at a time.
    """

    def __init__(
        self,
        file: LogFile,
        connection: sqlite3.Connection,
        lock: int,
        signer: Signer,
        next_sid: int,
        last_seal: int,
        *,
        max_recorded_bytes: int,
        queue_bytes: int,
        seal_every: float,
    ) -> None:
        self._file = file
        self._connection = connection
        self._lock = lock
        self._next_sid = next_sid
        self._limit = max_recorded_bytes
        self._high = queue_bytes
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle | None = None
        self._closed = False
        self._intake = Intake(
            queue_bytes * 8, self._linger, self._soon, self._later, self._hand_over
        )  # fmt: skip
        self.stats = Stats(self._intake)
        self._writer = Writer(
            file, connection, signer, self._intake, self.stats, self._tell,
            low=queue_bytes // 4, fast_above=queue_bytes // 4, seal_every=seal_every, last_seal=last_seal,
        )  # fmt: skip
        self._direct = Direct(file, self._writer, self._intake, self.stats, self._durable)
        self._open_run()

    @classmethod
    async def open(
        cls,
        path: Path,
        *,
        max_recorded_bytes: int = MAX_RECORDED_BYTES,
        queue_bytes: int = 8 * 1024 * 1024,
        seal_every: float = 30.0,
    ) -> FileRecorder:
        """Open or make the record whose index is the file `path`; sessions that an earlier gateway left open are lost.

        max_recorded_bytes: of one response, in bytes; what comes after is counted, not kept.
        queue_bytes: `pressure` begins when this much waits to be written, and ends at a quarter of it.
        seal_every: seconds between the seals while sessions are open.
        RecordError if the record cannot be opened; it says why.
        """

        def prepare() -> tuple[LogFile, sqlite3.Connection, int, Signer, int, int]:
            path.parent.mkdir(parents=True, exist_ok=True)
            with ExitStack() as undo:
                lock = _lock(path.with_suffix(".lock"))
                undo.callback(os.close, lock)
                signer = Signer.load_or_create(path.with_suffix(".key"))
                # Made here, since SQLite gives its other files the mode of this one.
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                path.chmod(0o600)
                connection = index.connect(path)
                undo.callback(connection.close)
                file = LogFile.open(log_file(path))
                undo.callback(file.close)
                next_sid, last_seal = recover(file, log_file(path), connection, signer, time.time())
                undo.pop_all()
            return file, connection, lock, signer, next_sid, last_seal

        try:
            opened = await asyncio.to_thread(prepare)
        except (OSError, ValueError, sqlite3.Error) as error:
            raise RecordError(f"the audit record {path} cannot be opened: {error}") from error
        recorder = cls(
            *opened, max_recorded_bytes=max_recorded_bytes, queue_bytes=queue_bytes, seal_every=seal_every
        )  # fmt: skip
        recorder._writer.start()
        return recorder

    def _open_run(self) -> None:
        """The gateway's own session: logins that were refused and decisions belong to it."""
        name = f"gateway-{time.time_ns():x}-{os.getpid()}"
        told = {"host": platform.node(), "pid": os.getpid()}
        self._intake.run = self._open(SessionOpened(name, time.time(), "", "Gateway", {}, {}, told, "Metadata"), False)

    def _open(self, event: SessionOpened, lost: bool) -> Record:
        limit = self._limit if event.max_recorded is None else event.max_recorded
        record = Record(self._intake, event.session, self._next_sid, limit, event.recording, lost)
        self._next_sid += 1
        if not lost:
            username = str(event.subject.get("username", ""))
            row = (event.session, event.at, event.connection, event.protocol, username, event.recording)
            record.rare(layout.OPEN, encoding.session_opened(event))
            self._intake.news.append(("open", record.sid, row))
        return record

    # Recorder

    def session_opened(self, event: SessionOpened) -> SessionRecord:
        if event.session in self._intake.sessions or self._closed:
            raise RecordError(f"session {event.session} cannot be opened: its id is in use, or the record is closed")
        # Far more waits than may: the session's requests are refused, and what they are is only counted.
        lost = self.queued > self._high * 16
        self._intake.run.missing += lost
        record = self._intake.sessions[event.session] = self._open(event, lost)
        return record

    def login_refused(self, event: LoginRefused) -> None:
        self._intake.run.refused(encoding.login_refused(event))

    def approval(self, event: ApprovalStep) -> None:
        self._intake.run.rare(layout.APPROVAL, encoding.approval(event))

    # What a store takes over

    @property
    def path(self) -> Path:
        """Of the record's file."""
        return self._file.path

    @property
    def position(self) -> int:
        """Where the record ends just now; what is before it stays as it is. From any thread, also when it is closed."""
        return self._file.position

    @property
    def freed(self) -> int:
        """Bytes that the disk got back since the start."""
        return self._writer.freeing.freed

    @property
    def held(self) -> int:
        """Bytes of the record that are here."""
        return self._file.position - self._file.first

    def spool(self, keep: int | None, limit: int) -> None:
        """Before anything is recorded: `keep` bytes stay here when the store has them (None: all). No more than `limit`
        are held (0: what the disk takes); beyond it nothing can be recorded, as on a disk that is full."""
        self._file.limit = limit
        if keep is not None:
            self._writer.freeing.begin(keep)

    def handed_over(self, position: int) -> None:
        """The store has all before this byte. From any thread."""
        freeing = self._writer.freeing
        freeing.handed = position
        if freeing.worth() and not self._closed:
            try:
                self._loop.call_soon_threadsafe(self._look)
            except RuntimeError:
                return  # the loop has ended: so it stays here

    def _look(self) -> None:
        if not self._closed:
            self._writer.put(Batch([], 0, [], []))

    @property
    def queued(self) -> int:
        """Bytes that wait to be written."""
        return int(self._intake.accepted - self._intake.written)

    @property
    def failing(self) -> str:
        """Why the record cannot be written at the moment; empty while it can."""
        return self._writer.failing

    @property
    def pressure(self) -> bool:
        intake = self._intake
        return bool(intake.accepted - intake.written > self._high and not intake.failing)

    async def relieved(self) -> None:
        while self.pressure:
            future = self._loop.create_future()
            self._writer.relief.append(future)
            if not self.pressure:  # the writer may have looked just before
                return
            self._intake.flush()
            try:
                await future
            except RecordError:
                return  # nothing is written now; what is missing is marked

    async def close(self) -> None:
        if self._closed:
            return
        now, reason = time.time(), "the gateway was shut down"
        for record in list(self._intake.sessions.values()):
            if not record.over:
                record.finish(layout.LOST, encoding.session_lost(now, reason), now)
        self._intake.run.closed(now, reason, 0)
        self._closed = self._intake.closed = True
        self._intake.flush()
        self._writer.stop()
        # What is on its way past the writer ends meanwhile: the writer waits for it.
        await asyncio.to_thread(self._writer.join)
        self._direct.close()
        failing = self._writer.failing
        await asyncio.to_thread(self._connection.close)
        self._file.close()
        os.close(self._lock)
        if failing:
            raise RecordError(f"the last events are not in the record: {failing}")

    # Handing over

    def _linger(self) -> None:
        self._timer = self._loop.call_later(LINGER, self._intake.flush)

    def _soon(self) -> None:
        self._loop.call_soon(self._intake.flush)

    def _later(self) -> None:
        self._loop.call_later(SPACING, self._intake.late)

    def _hand_over(self, items: list[Item], size: int, waiting: list[Pending], news: list[object]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = Batch(items, size, waiting, news)
        if not self._direct.takes(batch):
            self._writer.put(batch)

    def _tell(self, waiting: list[Pending], relieved: list[Future], failure: str) -> None:
        """From the writer's thread."""
        self._loop.call_soon_threadsafe(self._told, waiting, relieved, failure)

    def _told(self, waiting: list[Pending], relieved: list[Future], failure: str) -> None:
        for future in relieved:
            if not future.done():
                if failure:
                    future.set_exception(RecordError(failure))
                else:
                    future.set_result(None)
        self._durable(waiting, failure)

    def _durable(self, waiting: list[Pending], failure: str = "") -> None:
        for pending in waiting:
            try:
                pending.tell(failure)
            except Exception:  # one session must not keep the others waiting
                log.exception("a request that waited for the record could not go on")
        if waiting:
            self._intake.synced(len(waiting))


def _lock(path: Path) -> int:
    """A second writer would take this one's sessions for lost."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise ValueError("another gateway writes to it. Stop that one, or name another data directory.") from error
    return descriptor
