"""Hands the record over to the store as it grows: a thread of its own, which the data plane does not feel.

The store's word on how far it has come is the truth: it is asked at the start and after every trouble, and takes in
nothing twice. Only what is on this disk for good goes there, so that a machine without power knows no less than the
store. While the store is away the record waits here, and is the spool.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import structlog

from ostiary_gateway.audit.blocks import FIRST, Log
from ostiary_gateway.audit.index import Place, connect_readonly, indexed
from ostiary_gateway.audit.shipping import BATCH, Announcement, first_size, uuid_of, whole_blocks
from ostiary_gateway.audit.store_client import Elsewhere, ShipTo, StoreAway, StoreClient, Unannounced

PAUSE: Final = 0.1
"""Seconds between looks at a record that grows slowly."""
ENOUGH: Final = 256 * 1024
"""Bytes that go at once, without waiting for more."""
BACKOFF: Final = (0.25, 15.0)
LAST_BACKOFF: Final = 0.5
"""Seconds between attempts when the gateway stops."""
BEHIND: Final = 10.0
"""Seconds after which what waits is told."""

log = structlog.get_logger(__name__)


class Source(Protocol):
    """A record that grows: what `FileRecorder` shows."""

    @property
    def path(self) -> Path: ...

    @property
    def position(self) -> int:
        """Where it ends; what is before it stays as it is."""

    def handed_over(self, position: int) -> None: ...


class Left:
    """A record that nobody writes any more, as an earlier worker left it."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_suffix(".log")
        connection = connect_readonly(path)
        try:
            self.position = indexed(connection).position
        finally:
            connection.close()

    def handed_over(self, position: int) -> None:
        """It stays here."""


@dataclass(frozen=True, slots=True)
class Who:
    """As whose the records are announced. `address`: where live sessions can be asked for."""

    gateway: str
    instance: str
    address: str = ""


@dataclass(slots=True)
class Shipped:
    """How it goes: plain values, set by the thread, read by anybody."""

    batches: int = 0
    bytes: int = 0
    failures: int = 0
    trouble: str = ""
    """Why nothing is handed over just now."""
    since: float = 0.0
    """Since when there is trouble, seconds since the epoch."""
    even: float = field(default_factory=time.monotonic)
    """When the store last had everything."""


class Stuck(Exception):
    """This record cannot be handed over until somebody has looked at it. The text says why and what to do."""


class _Tail:
    """One record, and how far the store has it."""

    def __init__(self, source: Source, who: Who) -> None:
        self.source = source
        self.place = Place(FIRST, 0, b"", 0)
        """As the store said last."""
        self.asked = False
        """The store has said where the record stands, and nothing has gone wrong since."""
        self.uuid = b""
        self.synced = 0
        self._who = who
        self._log: Log | None = None
        self._descriptor = -1

    @property
    def waiting(self) -> int:
        """Bytes that the store does not have; all of them before it was asked."""
        return self.source.position - self.place.position

    def announcement(self) -> Announcement:
        path = self.source.path
        if self._log is None:
            self._log = Log.open(path)
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        keys = path.with_suffix(".pub")
        known = tuple(keys.read_text().splitlines()) if keys.is_file() else ()
        who, self.uuid = self._who, uuid_of(self._log.header)
        return Announcement(self._log.header, who.gateway, who.instance, who.address, known)

    def stands(self, place: Place) -> None:
        """The store has it up to there. Raises Stuck if that is not this record's past."""
        assert self._log is not None
        end, first = self.source.position, self._log.first()
        name = self.source.path.name
        if place.position > end:
            raise Stuck(
                f"the store has {name} up to byte {place.position}, and here it ends at {end}: an older copy was put "
                "back. Stop the gateway, move the record away, and start it again"
            )
        if place.position < first:
            raise Stuck(
                f"the store has {name} only up to byte {place.position}, and here it begins at {first}: the store "
                "has lost what it had. Restore it, or move the record away and start the gateway again"
            )
        if place.position > FIRST and self._log.link_before(place.position) != place.link:
            raise Stuck(f"{name} and what the store has of it differ before byte {place.position}: run ostiary verify")
        self.place, self.asked = place, True
        self.source.handed_over(place.position)

    def batch(self) -> bytes | memoryview:
        """The next whole blocks, safe on this disk; empty if there are none. OSError or Stuck."""
        start, end = self.place.position, self.source.position
        if start >= end:
            return b""
        if end > self.synced:
            os.fdatasync(self._descriptor)
            self.synced = end
        data = os.pread(self._descriptor, min(BATCH, end - start), start)
        size = whole_blocks(data)
        if size == 0 and first_size(data) > len(data) and first_size(data) <= end - start:
            data = os.pread(self._descriptor, first_size(data), start)
            size = whole_blocks(data)
        if size <= 0:
            raise Stuck(f"{self.source.path.name} is damaged at byte {start}: run ostiary verify")
        return memoryview(data)[:size]

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            os.close(self._descriptor)
            self._log = None


class Shipper:
    """`start` it, and `stop` it after the record is closed: what is left then goes within the grace."""

    def __init__(self, to: ShipTo, sources: Sequence[Source], who: Who) -> None:
        self.shipped = Shipped()
        self.url = to.url
        self._client = StoreClient(to)
        self._tails = [_Tail(source, who) for source in sources]
        self._stopping = threading.Event()
        self._until = 0.0
        self._pause = BACKOFF[0]
        self._thread = threading.Thread(target=self._run, name="ostiary-shipper", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace: float) -> bool:
        """Blocks until the rest was handed over, for `grace` seconds at most. Whether nothing is left."""
        self._until = time.monotonic() + grace
        self._stopping.set()
        self._thread.join(grace)
        if self._thread.is_alive():
            self._client.stop()
            self._thread.join(1.0)
        left = self.waiting
        if left > 0:
            log.warning("the store does not have all of the record; it stays here", bytes=left, store=self.url)
        return left <= 0

    @property
    def waiting(self) -> int:
        """Bytes that the store does not have."""
        return sum(tail.waiting for tail in self._tails)

    @property
    def lag(self) -> float:
        """Seconds since the store had everything."""
        return time.monotonic() - self.shipped.even if self.waiting > 0 else 0.0

    def message(self) -> str:
        """What there is to say at /readyz; empty if all goes well."""
        if trouble := self.shipped.trouble:
            return f"{self.waiting} bytes wait here: {trouble}"
        return f"{self.waiting} bytes wait for the store" if self.lag > BEHIND else ""

    # The thread

    def _run(self) -> None:
        try:
            while True:
                try:
                    busy = self._round()
                    pause = 0.0 if busy else PAUSE
                except (StoreAway, Stuck, OSError, ValueError) as problem:
                    pause = self._failed(problem)
                except Exception as problem:
                    log.exception("handing over the record failed")
                    pause = self._failed(problem)
                if self._stopping.is_set():
                    if self.waiting <= 0 or time.monotonic() >= self._until:
                        return
                    time.sleep(min(pause, LAST_BACKOFF))
                elif pause:
                    self._stopping.wait(pause)
        finally:
            self._client.close()
            for tail in self._tails:
                tail.close()

    def _round(self) -> bool:
        """Whether there is more to do at once."""
        busy = False
        stuck: Stuck | None = None
        for tail in self._tails:
            try:
                busy |= self._step(tail)
            except Stuck as problem:  # the others go on
                tail.asked = False
                stuck = problem
        if stuck is not None:
            raise stuck
        if self.waiting <= 0:
            self.shipped.even = time.monotonic()
        self._well()
        return busy

    def _step(self, tail: _Tail) -> bool:
        if not tail.asked:
            tail.stands(self._client.announce(tail.announcement()))
        blocks = tail.batch()
        if not blocks:
            return False
        try:
            tail.stands(self._client.hand_over(tail.uuid, tail.place.position, blocks))
        except Elsewhere as elsewhere:
            tail.stands(elsewhere.place)
            return True
        except Unannounced:
            tail.asked = False
            return True
        shipped = self.shipped
        shipped.batches += 1
        shipped.bytes += len(blocks)
        return tail.waiting >= ENOUGH or self._stopping.is_set()

    def _failed(self, problem: Exception) -> float:
        """Seconds until the next attempt."""
        shipped = self.shipped
        shipped.failures += 1
        text = str(problem) or type(problem).__name__
        if not shipped.trouble:
            shipped.since = time.time()
        if text != shipped.trouble and not self._stopping.is_set():
            log.warning("the record is not handed over to the store; it waits here", problem=text, bytes=self.waiting)
        shipped.trouble = text
        for tail in self._tails:
            # It may have been taken in, though nobody heard: the store is asked again.
            tail.asked = tail.asked and not isinstance(problem, StoreAway)
        pause, self._pause = self._pause, min(self._pause * 2, BACKOFF[1])
        asked = problem.after if isinstance(problem, StoreAway) else 0.0
        return max(min(asked, BACKOFF[1]), pause * random.uniform(0.5, 1.0))

    def _well(self) -> None:
        self._pause = BACKOFF[0]
        if self.shipped.trouble:
            log.info("the record is handed over to the store again", store=self.url)
            self.shipped.trouble, self.shipped.since = "", 0.0
