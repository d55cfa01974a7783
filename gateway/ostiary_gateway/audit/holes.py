"""Gives the disk back what a file has before a place, and leaves every byte behind it where it stands (Linux)."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Final

_KEEP_SIZE: Final = 1
_PUNCH_HOLE: Final = 2
STEP: Final = 8 << 20
"""Bytes of one call: who appends to the file meanwhile waits for it."""


@cache
def _fallocate() -> Callable[[int, int, int, int], int] | None:
    # A size_t of 64 bits says that off_t is one, too.
    if sys.platform != "linux" or ctypes.sizeof(ctypes.c_size_t) != 8:
        return None
    try:
        found = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    found.restype = ctypes.c_int
    return found


def possible(descriptor: int) -> bool:
    """Whether the file's system makes holes. Asks for one behind the end, where there is nothing."""
    try:
        _punch(descriptor, os.fstat(descriptor).st_size + STEP, 4096)
    except OSError:
        return False
    return True


def punch(descriptor: int, start: int, stop: int) -> None:
    """Bytes from `start` to `stop` read as zeros from now on, and take no room but at the edges. OSError."""
    # From the front to the back: whatever ends this early leaves one hole at the beginning.
    while start < stop:
        end = min(start + STEP, stop)
        _punch(descriptor, start, end - start)
        start = end


def _punch(descriptor: int, start: int, size: int) -> None:
    call = _fallocate()
    if call is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    while call(descriptor, _PUNCH_HOLE | _KEEP_SIZE, start, size):
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def data_from(descriptor: int, position: int) -> int:
    """Where something else than a hole stands, at `position` or behind it; the file's end if there is nothing."""
    seek_data = getattr(os, "SEEK_DATA", None)
    if seek_data is None:
        return position
    try:
        return os.lseek(descriptor, position, seek_data)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return os.fstat(descriptor).st_size
        return position  # a file system that does not tell
