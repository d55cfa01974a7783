"""The thread that writes the record: all that waits goes to the file at once (group commit).

The thread must ask for the interpreter's lock as rarely as it can, since each time it may make the loop wait: it joins,
compresses, hashes and writes large pieces, most of it without the lock, and reads no event.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import structlog
import zstandard

from ostiary_gateway.audit import chain, index, layout
from ostiary_gateway.audit.freeing import Freeing
from ostiary_gateway.audit.intake import Intake, Item, Pending
from ostiary_gateway.audit.keys import Signer
from ostiary_gateway.audit.logfile import LogFile

BATCH = 4 * 1024 * 1024
"""Bytes after which one write takes nothing more in."""

INDEX_AFTER = 2048
"""Blocks that the index may lag behind, at most."""

TICK = 1.0
"""Seconds between the housekeeping rounds, and between attempts to write while the disk refuses."""

PLAIN = 200
"""Bytes below which compressing gains nothing."""

log = structlog.get_logger(__name__)

Future = asyncio.Future[None]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """What the loop handed over at one moment. `news` is what the index must know: sessions, their ends, decisions."""

    items: list[Item]
    size: int
    waiting: list[Pending]
    news: list[object]


@dataclass(slots=True)
class Stats:
    """Counters since the start. Plain integers, to be read at any time."""

    _intake: Intake
    blocks: int = 0
    batches: int = 0
    durable_batches: int = 0
    raw_bytes: int = 0
    """Bytes of events and responses written, before compression."""
    stored_bytes: int = 0
    """The same, as stored."""
    failures: int = 0
    """Writes that failed."""
    seals: int = 0

    @property
    def dropped(self) -> int:
        """Events and parts of responses that are missing in the record, since it could not be written."""
        return int(self._intake.dropped)

    @property
    def refused(self) -> int:
        """Durable begins that raised RecordError at once."""
        return int(self._intake.refused)

    @property
    def truncated(self) -> int:
        """Responses cut at the limit."""
        return int(self._intake.truncated)

    @property
    def misplaced(self) -> int:
        """Events of sessions that are over."""
        return int(self._intake.misplaced)

    @property
    def sessions(self) -> int:
        """Open now."""
        return len(self._intake.sessions)


class Writer:
    """The thread. `failing` says why nothing can be written, and is empty while all is well."""

    def __init__(
        self,
        file: LogFile,
        connection: sqlite3.Connection,
        signer: Signer,
        intake: Intake,
        stats: Stats,
        done: Callable[[list[Pending], list[Future], str], None],
        *,
        low: int,
        fast_above: int,
        seal_every: float,
        last_seal: int,
    ) -> None:
        self.failing = ""
        self.relief: list[Future] = []
        self._file = file
        self._connection = connection
        self._signer = signer
        self._intake = intake
        self._stats = stats
        self._done = done
        self._low = low
        self._fast_above = fast_above
        self._seal_every = seal_every
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._given = self._done_with = 0
        self._thread = threading.Thread(target=self._run, name="ostiary-audit", daemon=True)
        self._held: list[Batch] = []
        self._stopping = False
        self._dense = zstandard.ZstdCompressor(level=1)
        self._fast = zstandard.ZstdCompressor(level=-5)
        self._entries: list[index.Entry] = []
        self._news: list[object] = []
        self.freeing = Freeing(file, connection)
        self._indexed = file.position
        self._goes = 0
        """Up to where a seal says that the record was handed over, and it is still here."""
        self._last_seal = last_seal
        self._unsealed = self._ended = False
        self._unchecked = False
        self._next_seal_at = time.monotonic() + seal_every
        self._next_tick_at = time.monotonic() + TICK

    def start(self) -> None:
        self._thread.start()

    def put(self, batch: Batch) -> None:
        """From the loop. The size was added to `accepted` before."""
        self._given += 1
        self._queue.put(batch)

    def lend(self) -> bool:
        """From the loop: whether it may append to the file, until `give_back`. Only while nothing waits here."""
        if self._given != self._done_with or self.failing or self.relief:
            return False
        return self._file.lock.acquire(blocking=False)

    def give_back(self, entry: index.Entry | None = None, news: Sequence[object] = ()) -> None:
        """From the loop: with what was appended and is durable, if anything was."""
        wake = False
        if entry is not None:
            self._entries.append(entry)
            self._news += news
            self._unsealed = True
            # The housekeeping may wait for ever, not knowing that there is something to do.
            wake = len(self._entries) in (1, INDEX_AFTER)
        self._file.lock.release()
        if wake:
            self.put(Batch([], 0, [], []))

    def stop(self) -> None:
        """From the loop: write what is queued, then end."""
        self._queue.put(None)

    def join(self) -> None:
        self._thread.join()

    # The thread

    def _run(self) -> None:
        while not (self._stopping and not self._held and self._queue.empty()):
            try:
                self._round()
            except Exception as error:  # a waiter must never be left waiting
                log.exception("audit writer failed")
                self._fail(error)
            if self._stopping and self.failing:
                break
        try:
            with self._file.lock:
                self._finish()
        except Exception as error:
            log.exception("audit writer failed at its end")
            self._fail(error)

    def _round(self) -> None:
        now = time.monotonic()
        self._take(self._patience(now))
        if self.failing:
            self._refuse_waiters()
            if time.monotonic() < self._next_tick_at and not self._stopping:
                return
            self._next_tick_at = time.monotonic() + TICK
        with self._file.lock:
            self._work()
        if self._goes:
            self._free()

    def _work(self) -> None:
        if self.failing:
            self._hand_over()
        while self._held:
            self._commit()
            if self.failing:
                return
        if self.failing:
            self._try_again()
            return
        if len(self._entries) >= INDEX_AFTER:
            self._index()
        if time.monotonic() >= self._next_tick_at:
            self._tick()

    def _patience(self, now: float) -> float | None:
        """Seconds to wait for the next batch: none while there is work, for ever if there is no housekeeping either."""
        if self._stopping or (self._held and not self.failing):
            return 0.0
        if self._entries or self._unsealed or self._unchecked or self.failing:
            return max(0.0, self._next_tick_at - now)
        return None

    def _take(self, timeout: float | None) -> None:
        """Wait for something, then take all there is up to `BATCH`."""
        taken = 0
        try:
            batch = self._queue.get_nowait() if timeout == 0 else self._queue.get(timeout=timeout)
            while True:
                if batch is None:
                    self._stopping = True
                else:
                    self._held.append(batch)
                    taken += batch.size
                    if taken >= BATCH:
                        break
                batch = self._queue.get_nowait()
        except queue.Empty:
            pass

    def _commit(self) -> None:
        """Write as much of what is held as one write takes; it stays held until it is written."""
        count = total = 0
        waiting: list[Pending] = []
        for batch in self._held:
            count += 1
            total += batch.size
            waiting += batch.waiting
            if total >= BATCH:
                break
        try:
            entries = self._append(self._held[:count], durable=bool(waiting))
        except Exception as error:
            if not isinstance(error, OSError):
                log.exception("audit write failed")
            self._fail(error)
            return
        for batch in self._held[:count]:
            self._news += batch.news
        del self._held[:count]
        self._done_with += count
        intake = self._intake
        intake.written += total
        self._entries += entries
        self._unsealed = True
        self._stats.batches += 1
        self._stats.durable_batches += bool(waiting)
        if self.failing:
            self._recovered()
        relieved: list[Future] = []
        if self.relief and intake.accepted - intake.written <= self._low:
            while self.relief:
                relieved.append(self.relief.pop())
        if waiting or relieved:
            self._tell(waiting, relieved, "")

    def _append(self, batches: list[Batch], *, durable: bool) -> list[index.Entry]:
        file, stats = self._file, self._stats
        file.begin()
        now = time.time()
        entries: list[index.Entry] = []
        for batch in batches:
            for kind, head, parts, size in batch.items:
                codec = layout.RAW
                body: list[bytes | memoryview]
                if kind == layout.PART:
                    raw = parts[0] if len(parts) == 1 else b"".join(parts)
                    behind = self._intake.accepted - self._intake.written > self._fast_above
                    data = (self._fast if behind else self._dense).compress(raw)
                    if len(data) < size:
                        codec = layout.ZSTD
                        body = [head, data]
                    else:
                        body = [head, raw]
                else:
                    raw = b"".join((head, *parts))
                    size = len(raw)
                    body = [raw]
                    if size > PLAIN:
                        data = self._dense.compress(raw)
                        if len(data) < size:
                            codec = layout.ZSTD
                            body = [data]
                start, end = file.block(kind, codec, size, now, *body)
                entries.append((start, end, kind, head))
                stats.raw_bytes += size
                stats.stored_bytes += end - start
        if entries or durable:
            file.write(durable=durable)
        stats.blocks += len(entries)
        return entries

    def _write_seal(self, *, durable: bool, handed: chain.Handed | None = None) -> None:
        file = self._file
        file.begin()
        seal = chain.seal(self._last_seal + 1, time.time(), file.number, file.link, self._signer.id, handed)
        body = self._signer.sign(seal.hash) + seal.body
        start, end = file.block(layout.SEAL, layout.RAW, len(body), seal.at, body)
        file.write(durable=durable, seal=True)
        self._entries.append((start, end, layout.SEAL, b""))
        self._last_seal = seal.number
        self._next_seal_at = time.monotonic() + self._seal_every
        self._unsealed = self._ended = False
        self._stats.seals += 1

    # Housekeeping

    def _tick(self) -> None:
        now = time.monotonic()
        self._next_tick_at = now + TICK
        busy = bool(self._entries)
        try:
            ended = any(cast("tuple[str, object]", each)[0] in ("closed", "lost") for each in self._news)
            if self._unsealed and (ended or now >= self._next_seal_at):
                self._write_seal(durable=False)
            if self._entries:
                self._index()
            self._hand_over()
            if self._unchecked and not busy:
                self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
                self._unchecked = False
        except (sqlite3.Error, OSError) as error:
            self._fail(error)

    def _index(self) -> None:
        """Let the index catch up. What it says is on the disk before it says so."""
        if not self._entries:
            return
        self._file.sync()
        delta = index.Delta()
        for each in self._news:
            name, subject, value = cast("tuple[str, object, object]", each)
            if name == "open":
                delta.opened[cast("int", subject)] = cast("index.Opened", value)
            elif name == "decision":
                delta.decisions[cast("bytes", subject)] = cast("bytes", value)
            else:
                delta.ended[cast("int", subject)] = name, cast("float", value)
        delta.add(self._entries)
        connection, file = self._connection, self._file
        connection.execute("begin immediate")
        index.write(connection, delta, index.Place(file.position, file.number, file.link, self._last_seal))
        connection.execute("commit")
        self._indexed = file.position
        self._entries.clear()
        self._news.clear()
        self._unchecked = True

    def _hand_over(self) -> None:
        """Say, signed, what the store has and need not be here any more; `_free` follows when the file is not lent."""
        if not self.freeing.worth() or self._goes:
            return
        try:
            if self.failing:
                self._in_spare_room(self._index)
            handed = self.freeing.due(self._indexed)
            if handed is None:
                return
            self._in_spare_room(lambda: self._write_seal(durable=True, handed=handed))
            self._goes = handed.position
        except (sqlite3.Error, OSError, ValueError) as error:
            self._rollback()
            log.warning("the record stays here though the store has it; it is tried again", problem=str(error))

    def _in_spare_room(self, write: Callable[[], None]) -> None:
        """Where the disk is full, there is some room that was set aside for this."""
        try:
            write()
        except (sqlite3.Error, OSError):
            self._rollback()
            self.freeing.make_room()
            write()

    def _free(self) -> None:
        position, self._goes = self._goes, 0
        try:
            self.freeing.free(position)
        except (sqlite3.Error, OSError) as error:
            self._rollback()
            log.warning("the disk does not take back what the store has; it is tried again", problem=str(error))

    def _finish(self) -> None:
        if self.failing:
            return
        if self._unsealed:
            self._write_seal(durable=True)
        self._file.sync()
        self._index()
        self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()

    # Failure

    def _fail(self, error: Exception) -> None:
        self._rollback()
        self._stats.failures += 1
        if not self.failing:
            log.error("audit record cannot be written", error=str(error))
        self._next_tick_at = time.monotonic() + TICK
        self.failing = self._intake.failing = f"the audit record cannot be written: {error}"
        self._refuse_waiters()

    def _rollback(self) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("rollback")
            except sqlite3.Error as again:
                log.warning("audit rollback failed", error=str(again))

    def _try_again(self) -> None:
        """Nothing waits to be written, so housekeeping shows whether the disk takes something again."""
        try:
            self._file.begin()
            self._file.room()
            self._write_seal(durable=True)
            self._index()
        except (sqlite3.Error, OSError) as error:
            self._fail(error)
        else:
            self._recovered()

    def _recovered(self) -> None:
        log.info("audit record can be written again")
        self.failing = self._intake.failing = ""

    def _refuse_waiters(self) -> None:
        waiting = [pending for batch in self._held for pending in batch.waiting]
        for batch in self._held:
            batch.waiting.clear()
        relieved: list[Future] = []
        while self.relief:
            relieved.append(self.relief.pop())
        if waiting or relieved:
            self._tell(waiting, relieved, self.failing)

    def _tell(self, waiting: list[Pending], relieved: list[Future], failure: str) -> None:
        try:
            self._done(waiting, relieved, failure)
        except RuntimeError:
            log.warning("audit: the event loop has ended before its waiters were told", waiters=len(waiting))
