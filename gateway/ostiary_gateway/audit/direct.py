"""Small batches that somebody waits for go from the event loop straight to the disk, past the writer's thread.

Only while the writer has nothing to do, so that the order stays; what fails here is given to the writer, which tries
again and says so. The writer learns later what was written, and tells the index.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog
import zstandard

from ostiary_gateway.audit import index, layout
from ostiary_gateway.audit.intake import Intake, Pending
from ostiary_gateway.audit.lane import Lane
from ostiary_gateway.audit.logfile import LogFile
from ostiary_gateway.audit.writer import PLAIN, Batch, Stats, Writer

LARGEST: Final = 64 * 1024
"""Bytes of a batch; what is larger costs the loop too much to join and compress."""

log = structlog.get_logger(__name__)


class Direct:
    """Of one recorder. `tell` gets those whose record is on the disk. Belongs to the event loop that made it."""

    def __init__(
        self, file: LogFile, writer: Writer, intake: Intake, stats: Stats, tell: Callable[[list[Pending]], None]
    ) -> None:
        self._file = file
        self._writer = writer
        self._intake = intake
        self._stats = stats
        self._tell = tell
        self._lane: Lane | None = None
        self._batch: Batch | None = None
        self._entry: index.Entry = (0, 0, 0, b"")
        self._raw = 0
        self._compressor = zstandard.ZstdCompressor(level=-1)
        self._loop = asyncio.get_running_loop()

    def takes(self, batch: Batch) -> bool:
        """True if it is on its way to the disk; False if the writer must have it."""
        if not batch.waiting or batch.size > LARGEST or len(batch.items) != 1 or batch.items[0][0] != layout.EVENTS:
            return False
        if not self._writer.lend():
            return False
        lane = self._lane or self._opened()
        file = self._file
        kind, head, parts, _ = batch.items[0]
        try:
            file.check()
        except OSError:
            self._writer.give_back()
            return False  # the writer finds the same, and says so
        raw = b"".join((head, *parts))
        codec, body = layout.RAW, raw
        if len(raw) > PLAIN:
            data = self._compressor.compress(raw)
            if len(data) < len(raw):
                codec, body = layout.ZSTD, data
        file.begin()
        start, end = file.block(kind, codec, len(raw), time.time(), body)
        try:
            file.room()
        except OSError:
            self._writer.give_back()
            return False
        self._batch, self._entry, self._raw = batch, (start, end, kind, head), len(raw)
        lane.append(file.prepared(), start, whole=file.unsynced)
        return True

    def _opened(self) -> Lane:
        self._lane = lane = Lane(self._file.path)
        self._loop.add_reader(lane.ready, self._ready)
        return lane

    def _ready(self) -> None:
        batch, lane = self._batch, self._lane
        if batch is None or lane is None:
            return
        self._batch = None
        if failed := lane.taken():
            log.warning("audit: a durable write failed, and is tried again", errno=failed)
            self._writer.put(batch)  # first: who waits for the file may have been told to stop
            self._writer.give_back()
            return
        self._file.appended(durable=True)
        start, end = self._entry[:2]
        stats = self._stats
        stats.blocks += 1
        stats.batches += 1
        stats.durable_batches += 1
        stats.raw_bytes += self._raw
        stats.stored_bytes += end - start
        self._intake.written += batch.size
        self._writer.give_back(self._entry, batch.news)
        self._tell(batch.waiting)

    @property
    def busy(self) -> bool:
        """True while something is on its way."""
        return self._batch is not None

    def close(self) -> None:
        """Nothing may be on its way."""
        if self._lane is not None:
            self._loop.remove_reader(self._lane.ready)
            self._lane.close()
            self._lane = None
