"""Which blocks of the record the disk may have back, once the store has them; and room for the seal that says so.

Nothing goes that the store has not confirmed, or that the index does not hold yet, and `keep` bytes always stay. Before
the disk gets anything back a signed seal says what was handed over, so that who checks the record can tell it from
theft.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path
from typing import Final

import structlog

from ostiary_gateway.audit import index
from ostiary_gateway.audit.chain import Handed
from ostiary_gateway.audit.logfile import LogFile

STEPS: Final = (1 << 20, 64 << 20)
"""Bytes that are worth a seal: an eighth of what is kept, within these."""
SPARE: Final = 1 << 20
"""Bytes set aside for the seal and the index on a disk that is full."""

log = structlog.get_logger(__name__)


class Freeing:
    """Of one record. `handed` is set from any thread; all else belongs to the writer's."""

    def __init__(self, file: LogFile, connection: sqlite3.Connection) -> None:
        self.handed = 0
        """The store has all before this byte."""
        self.keep: int | None = None
        """Bytes at the end that stay in any case; None: all."""
        self.freed = 0
        """Bytes that the disk got back since the start."""
        self._file = file
        self._connection = connection
        self._spare: Path = file.path.with_suffix(".spare")
        self._possible: bool | None = None

    def begin(self, keep: int) -> None:
        """From now on all but `keep` bytes may go. There is room for the seal that frees a full disk."""
        self.keep = keep
        self._fill_spare()

    def worth(self) -> bool:
        """Whether it is worth a look. From any thread."""
        return self._target() > 0

    def due(self, indexed: int) -> Handed | None:
        """What may go now; `indexed` is where the index ends."""
        target = min(self._target(), indexed)
        if target <= 0 or not self._can():
            return None
        position = index.boundary(self._connection, target)
        if position - self._file.first < self._step():
            return None
        number, link = self._file.head(position)
        return Handed(number, position, link, index.highest(self._connection))

    def make_room(self) -> None:
        """For the seal, on a disk that is full."""
        self._spare.unlink(missing_ok=True)

    def free(self, position: int) -> None:
        """A durable seal says that all before the block there was handed over. OSError or sqlite3.Error."""
        file, connection = self._file, self._connection
        before = file.first
        file.free(position)
        self.freed += position - before
        self._fill_spare()
        connection.execute("begin immediate")
        index.forget(connection, position)
        connection.execute("commit")

    def _target(self) -> int:
        if self.keep is None or self._possible is False:
            return 0
        target = min(self.handed, self._file.position - self.keep)
        return target if target - self._file.first >= self._step() else 0

    def _step(self) -> int:
        least, most = STEPS
        return max(least, min(most, (self.keep or 0) // 8))

    def _can(self) -> bool:
        if self._possible is None:
            self._possible = self._file.can_free
            if not self._possible:
                log.warning(
                    "this file system makes no holes in files: all of the record stays here, though the store has it",
                    record=str(self._file.path),
                )
        return self._possible

    def _fill_spare(self) -> None:
        try:
            descriptor = os.open(self._spare, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if os.fstat(descriptor).st_blocks * 512 < SPARE:
                    os.pwrite(descriptor, bytes(SPARE), 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            log.warning("no room is set aside for the seal that frees the disk", problem=str(error))
