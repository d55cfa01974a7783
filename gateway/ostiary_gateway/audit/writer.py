"""The thread that writes the record: one transaction for everything that waits (group commit).

The event loop hands over lists of `Op`. The thread must ask for the interpreter's lock as rarely as it can, since each
time it may make the loop wait: so rows are inserted many at a time, by one call, and compression, hashing of long
responses and every write happen without the lock.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import structlog
import zstandard

from ostiary_gateway.audit import chain
from ostiary_gateway.audit.batch import Batch, insert_events
from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.audit.keys import Signer
from ostiary_gateway.audit.state import Op, SessionRow, SessionState, Stats

BATCH = 4 * 1024 * 1024
"""Bytes after which a transaction takes nothing more in."""

INDEX_AFTER = 8192
"""Events that `place` may lag behind, at most."""

TICK = 1.0
"""Seconds between the housekeeping rounds, and between attempts to write while the disk refuses."""

log = structlog.get_logger(__name__)


class Writer:
    """The thread. `failing` says why nothing can be written, and is empty while all is well."""

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        signer: Signer,
        loop: asyncio.AbstractEventLoop,
        stats: Stats,
        *,
        low: int,
        fast_above: int,
        seal_every: float,
    ) -> None:
        self.failing = ""
        self.accepted = 0
        """Bytes handed over so far; the loop counts."""
        self.written = 0
        """Bytes written so far; the thread counts."""
        self.relief: list[asyncio.Future[None]] = []
        self._connection = connection
        self._path = path
        self._inode = path.stat().st_ino
        self._signer = signer
        self._loop = loop
        self._stats = stats
        self._low = low
        self._fast_above = fast_above
        self._seal_every = seal_every
        self._queue: queue.SimpleQueue[tuple[list[Op], int] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="ostiary-audit", daemon=True)
        self._held: list[tuple[list[Op], int]] = []
        self._stopping = False
        self._sync_full = True
        self._dense = zstandard.ZstdCompressor(level=1)
        self._fast = zstandard.ZstdCompressor(level=-3)
        self._decisions: set[str] = set()
        self._unindexed = INDEX_AFTER
        self._uncheckpointed = False
        self._changed: set[SessionState] = set()
        self._unsealed: dict[SessionState, None] = {}
        (self._next_pack,) = connection.execute("select coalesce(max(id), 0) + 1 from pack").fetchone()
        self._last_seal, self._seal_hash = last_seal(connection)
        self._next_seal_at = time.monotonic() + seal_every
        self._next_tick_at = time.monotonic() + TICK

    def start(self) -> None:
        self._thread.start()

    def put(self, ops: list[Op], size: int) -> None:
        """From the loop. `size` was added to `accepted` before."""
        self._queue.put((ops, size))

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
            self._finish()
        except Exception as error:
            log.exception("audit writer failed at its end")
            self._fail(error)

    def _round(self) -> None:
        now = time.monotonic()
        idle = not self._take(self._patience(now))
        if self.failing:
            self._refuse_waiters()
            if time.monotonic() < self._next_tick_at and not self._stopping:
                return
            self._next_tick_at = time.monotonic() + TICK
        while self._held:
            ops, size = self._next_batch()
            self._commit(ops, size)
            if self.failing:
                return
        if self.failing:
            self._try_again()
            return
        if self._unindexed >= INDEX_AFTER:
            self._index()
        if time.monotonic() >= self._next_tick_at:
            self._tick(idle)

    def _patience(self, now: float) -> float | None:
        """Seconds to wait for the next event: none while there is work, for ever if there is no housekeeping either."""
        if self._stopping or (self._held and not self.failing):
            return 0.0
        if self._unindexed or self._unsealed or self._uncheckpointed or self.failing:
            return max(0.0, self._next_tick_at - now)
        return None

    def _take(self, timeout: float | None) -> bool:
        """Wait for something, then take all there is up to a batch. False if nothing came."""
        taken = 0
        try:
            item = self._queue.get_nowait() if timeout == 0 else self._queue.get(timeout=timeout)
            while True:
                if item is None:
                    self._stopping = True
                else:
                    self._held.append(item)
                    taken += item[1]
                    if taken >= BATCH:
                        break
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        return taken > 0

    def _next_batch(self) -> tuple[list[Op], int]:
        """As much of what is held as one transaction takes; it stays held until it is written."""
        ops: list[Op] = []
        total = 0
        for more, size in self._held:
            ops += more
            total += size
            if total >= BATCH:
                break
        return ops, total

    def _commit(self, ops: list[Op], size: int) -> None:
        waiting = [op[4] for op in ops if op[4] is not None]
        try:
            if waiting:
                self._check_file()
            self._synchronous(full=bool(waiting))
            heads = self._transaction(ops)
        except Exception as error:
            if not isinstance(error, (sqlite3.Error, OSError)):
                log.exception("audit transaction failed")
            self._fail(error)
            return
        for state, (seq, head) in heads.items():
            state.seq, state.head = seq, head
        left = size
        while left > 0:
            left -= self._held.pop(0)[1]
        self.written += size
        self._uncheckpointed = True
        self._stats.batches += 1
        self._stats.durable_batches += bool(waiting)
        if self.failing:
            self._recovered()
        relieved: list[asyncio.Future[None]] = []
        if self.relief and self.accepted - self.written <= self._low:
            while self.relief:
                relieved.append(self.relief.pop())
        if waiting or relieved:
            self._call_loop(waiting + relieved, "")

    def _check_file(self) -> None:
        """A file that was removed or replaced still takes writes, and nobody would ever see them."""
        if self._path.stat().st_ino != self._inode:
            raise OSError(f"{self._path} was replaced by another file; restart the gateway")

    def _transaction(self, ops: list[Op]) -> dict[SessionState, tuple[int, bytes]]:
        execute = self._connection.execute
        execute("begin immediate")
        batch = Batch(self._next_pack, self._dense, self._fast if self._behind() else self._dense)
        closed: list[tuple[SessionState, str, float]] = []
        decisions: dict[str, bytes] = {}
        for op in ops:
            kind = op[0]
            if kind == "begin":
                name, body = cast("tuple[str, bytes]", op[5])
                if name not in self._decisions:
                    decisions[name] = body
            elif kind == "open":
                self._insert_session(op)
            elif kind == "close" or kind == "lost":
                closed.append((op[1], "closed" if kind == "close" else "lost", cast("float", op[5])))
            batch.add(op)
        batch.seal_pack()
        if decisions:
            self._connection.executemany("insert or ignore into decision values (?, ?)", decisions.items())
        if batch.packs:
            self._connection.executemany("insert into pack values (?, ?, ?, ?)", batch.packs)
        insert_events(self._connection, batch.rows)
        for state, name, at in closed:
            execute(
                "update session set state = ?, closed = ?, requests = ?, denied = ?, asked = ?, errors = ?, rows = ?, "
                "bytes = ? where sid = ?",
                (name, at, *_counts(state), state.sid),
            )
        sealed = None
        if closed:
            states = {state: name for state, name, _ in closed}
            sealed = self._write_seal(
                [chain.Head(s.sid, s.id, batch.heads[s][0] - 1, batch.heads[s][1], n) for s, n in states.items()]
            )
        execute("commit")
        self._next_pack = batch.next_pack
        self._unindexed += batch.events
        self._stats.events += batch.events
        self._stats.response_bytes += batch.raw_bytes
        self._stats.stored_bytes += batch.stored_bytes
        if len(self._decisions) > 65536:
            self._decisions.clear()
        self._decisions.update(decisions)
        self._changed.update(batch.heads)
        self._unsealed.update(dict.fromkeys(batch.heads))
        for state, _, _ in closed:
            self._changed.discard(state)
            self._unsealed.pop(state, None)
        if sealed is not None:
            self._sealed(sealed)
        return batch.heads

    def _insert_session(self, op: Op) -> None:
        state, row = op[1], op[5]
        assert isinstance(row, SessionRow)
        self._connection.execute(
            "insert into session (sid, id, opened, state, connection, protocol, username, recording) "
            "values (?, ?, ?, 'open', ?, ?, ?, ?)",
            (state.sid, state.id, row.opened, row.connection, row.protocol, row.username, row.recording),
        )

    def _write_seal(self, heads: Sequence[chain.Head]) -> chain.Seal:
        """Inside a transaction; `_sealed` follows once it is committed."""
        seal = chain.seal(self._last_seal + 1, time.time(), self._seal_hash, self._signer.id, heads)
        self._connection.execute(
            "insert into seal values (?, ?, ?)", (seal.number, seal.body, self._signer.sign(seal.hash))
        )
        return seal

    def _sealed(self, seal: chain.Seal) -> None:
        self._last_seal, self._seal_hash = seal.number, seal.hash
        self._stats.seals += 1

    def _behind(self) -> bool:
        """Compress less: what comes is faster than what is written."""
        return self.accepted - self.written > self._fast_above

    def _synchronous(self, *, full: bool) -> None:
        """Wait for the disk only where somebody waits: a later full commit makes everything before it durable too."""
        if full != self._sync_full:
            self._connection.execute(f"pragma synchronous = {'full' if full else 'normal'}")
            self._sync_full = full

    # Housekeeping

    def _tick(self, idle: bool) -> None:
        self._next_tick_at = time.monotonic() + TICK
        try:
            if self._unindexed:
                self._index()
            if self._unsealed and time.monotonic() >= self._next_seal_at:
                self._seal_open()
            if idle and self._uncheckpointed:
                self._connection.execute("pragma wal_checkpoint(passive)").fetchone()
                self._uncheckpointed = False
        except sqlite3.Error as error:
            self._fail(error)

    def _index(self) -> None:
        """Let `place` and the counts of open sessions catch up."""
        self._synchronous(full=False)
        self._connection.execute("begin immediate")
        self._connection.executemany(
            "update session set requests = ?, denied = ?, asked = ?, errors = ?, rows = ?, bytes = ? where sid = ?",
            [(*_counts(state), state.sid) for state in self._changed],
        )
        index_events(self._connection)
        self._connection.execute("commit")
        self._changed.clear()
        self._unindexed = 0

    def _seal_open(self) -> None:
        self._next_seal_at = time.monotonic() + self._seal_every
        self._synchronous(full=True)
        self._connection.execute("begin immediate")
        seal = self._write_seal([chain.Head(s.sid, s.id, s.seq - 1, s.head, "open") for s in self._unsealed])
        self._connection.execute("commit")
        self._sealed(seal)
        self._unsealed.clear()

    def _finish(self) -> None:
        if self.failing:
            return
        self._index()
        if self._unsealed:
            self._seal_open()
        self._synchronous(full=True)
        self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()

    # Failure

    def _fail(self, error: Exception) -> None:
        if self._connection.in_transaction:
            try:
                self._connection.execute("rollback")
            except sqlite3.Error as again:
                log.warning("audit rollback failed", error=str(again))
        self._stats.failures += 1
        if not self.failing:
            log.error("audit record cannot be written", error=str(error))
        self._decisions.clear()
        self._next_tick_at = time.monotonic() + TICK
        self.failing = f"the audit record cannot be written: {error}"
        self._refuse_waiters()

    def _try_again(self) -> None:
        """Nothing waits to be written, so housekeeping shows whether the disk takes something again."""
        try:
            self._index()
        except sqlite3.Error as error:
            self._fail(error)
        else:
            self._recovered()

    def _recovered(self) -> None:
        log.info("audit record can be written again")
        self.failing = ""

    def _refuse_waiters(self) -> None:
        waiting = [op[4] for ops, _ in self._held for op in ops if op[4] is not None and not op[4].done()]
        while self.relief:
            waiting.append(self.relief.pop())
        if waiting:
            self._call_loop(waiting, self.failing)

    def _call_loop(self, futures: list[asyncio.Future[None]], failure: str) -> None:
        try:
            self._loop.call_soon_threadsafe(_resolve, futures, failure)
        except RuntimeError:
            log.warning("audit: the event loop has ended before its waiters were told", waiters=len(futures))


def _counts(state: SessionState) -> tuple[int, int, int, int, int, int]:
    return state.requests, state.denied, state.asked, state.errors, state.rows, state.size


def _resolve(futures: list[asyncio.Future[None]], failure: str) -> None:
    """On the loop."""
    for future in futures:
        if not future.done():
            if failure:
                future.set_exception(RecordError(failure))
            else:
                future.set_result(None)


def index_events(connection: sqlite3.Connection) -> None:
    """Inside a transaction: enter the newest events into `place`."""
    connection.execute(
        "insert or ignore into place select sid, seq, id from event where id > (select event from indexed)"
    )
    connection.execute("update indexed set event = (select coalesce(max(id), 0) from event)")


def last_seal(connection: sqlite3.Connection) -> tuple[int, bytes]:
    """Number and hash of the newest seal."""
    row = connection.execute("select number, body from seal order by number desc limit 1").fetchone()
    return (0, chain.FIRST_SEAL) if row is None else (row[0], chain.seal_hash(row[1]))
