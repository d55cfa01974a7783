"""Where the record ends, told to other processes of this machine at once: a few bytes of shared memory in a file.

What is behind it may be a write that failed, and other blocks may come to stand there. What is before it stays, but is
not always on the disk yet. If there is no mark, or it is of another record, the index says the same a second later.
"""

from __future__ import annotations

import mmap
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

_MARK: Final = struct.Struct("<16sQQ")
"""The record's id, and the position twice: where the two differ it is just being written."""
_ENDS: Final = struct.Struct("<QQ")


class EndMark:
    """Open it with `create` to tell, with `find` to be told."""

    def __init__(self, memory: mmap.mmap, uuid: bytes) -> None:
        self._memory = memory
        self._uuid = uuid

    @classmethod
    def create(cls, log: Path, uuid: bytes, position: int) -> Self | None:
        """Beside the record. None if it cannot be made."""
        try:
            descriptor = os.open(path_of(log), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return None
        try:
            # Room is made here: a page that the disk has no room for would kill the process.
            if os.pwrite(descriptor, _MARK.pack(uuid, position, position), 0) < _MARK.size:
                return None
            mark = cls(mmap.mmap(descriptor, _MARK.size), uuid)
        except (OSError, ValueError):
            return None
        finally:
            os.close(descriptor)
        return mark

    @classmethod
    def find(cls, log: Path, uuid: bytes) -> Self | None:
        """Of this record, if there is one."""
        with suppress(OSError, ValueError):
            descriptor = os.open(path_of(log), os.O_RDONLY | os.O_CLOEXEC)
            try:
                mark = cls(mmap.mmap(descriptor, _MARK.size, access=mmap.ACCESS_READ), uuid)
            finally:
                os.close(descriptor)
            if mark.position is not None:
                return mark
            mark.close()
        return None

    def set(self, position: int) -> None:
        """The record ends there now."""
        _ENDS.pack_into(self._memory, 16, position, position)

    @property
    def position(self) -> int | None:
        """None: ask again, or it is of another record now."""
        uuid, one, other = _MARK.unpack_from(self._memory)
        return one if one == other and uuid == self._uuid else None

    def close(self) -> None:
        self._memory.close()


def path_of(log: Path) -> Path:
    """Of the mark of a record."""
    return log.with_suffix(".end")
