"""One small append at a time, made durable by a thread that never asks for the interpreter's lock.

The writer's thread needs that lock at each step, and each time it makes the loop wait, or waits for the loop: with many
sessions under Strict that costs more than the disk. Compiled where there is a C compiler; otherwise the thread needs
the lock for a moment before and after each append.
"""

from __future__ import annotations

import os
import threading
from errno import EIO, ENOSPC
from pathlib import Path

import cython

if cython.compiled:
    from cython.cimports.libc.errno import EINTR, errno
    from cython.cimports.posix.unistd import fdatasync as c_fdatasync
    from cython.cimports.posix.unistd import pwrite as c_pwrite
    from cython.cimports.posix.unistd import read as c_read
    from cython.cimports.posix.unistd import write as c_write


class Lane:
    """`append`, and call `taken` when the descriptor `ready` can be read. One append at a time, from one thread."""

    def __init__(self, path: Path) -> None:
        """OSError if the file cannot be opened."""
        # Each write to it is durable when it returns.
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DSYNC)
        self._go_read, self._go_write = os.pipe()
        self.ready, self._ready_write = os.pipe()
        self._data = b""
        self._size = self._position = 0
        self._whole = False
        self._error = 0
        self._thread = threading.Thread(target=self._serve, name="ostiary-audit-sync", daemon=True)
        self._thread.start()

    def append(self, data: bytes, position: int, *, whole: bool) -> None:
        """Begins to write it there; nobody else may write to the file until it has ended. `whole`: what was written
        before becomes durable as well."""
        self._data = data
        self._size = len(data)
        self._position = position
        self._whole = whole
        if cython.compiled:
            self._start = data
        os.write(self._go_write, b".")

    def taken(self) -> int:
        """How the append has ended: an errno, or 0. Waits for it if need be."""
        os.read(self.ready, 1)
        self._data = b""
        return int(self._error)

    def close(self) -> None:
        """Ends the thread. No append may be under way."""
        os.close(self._go_write)
        self._thread.join()
        for descriptor in (self._go_read, self.ready, self._ready_write, self._file):
            os.close(descriptor)

    def _serve(self) -> None:
        if cython.compiled:
            with cython.nogil:
                while self._told():
                    self._write()
        else:
            while os.read(self._go_read, 1):
                self._error = self._written()
                os.write(self._ready_write, b".")

    def _told(self) -> cython.bint:
        token: cython.char = 0
        count: cython.Py_ssize_t
        while True:
            count = c_read(self._go_read, cython.address(token), 1)
            if count >= 0 or errno != EINTR:
                return count > 0

    def _write(self) -> cython.void:
        """`_data` stays where it is until `taken`, which is called after the answer at the end of this."""
        done: cython.Py_ssize_t = 0
        count: cython.Py_ssize_t
        token: cython.char = 46
        self._error = 0
        while done < self._size and self._error == 0:
            count = c_pwrite(self._file, self._start + done, self._size - done, self._position + done)
            if count > 0:
                done += count
            elif count == 0:
                self._error = _NO_SPACE
            elif errno != EINTR:
                self._error = errno
        if self._whole and self._error == 0 and c_fdatasync(self._file) != 0:
            self._error = errno
        while c_write(self._ready_write, cython.address(token), 1) < 0 and errno == EINTR:
            pass

    def _written(self) -> int:
        rest = memoryview(self._data)
        position = self._position
        try:
            while rest:
                count = os.pwrite(self._file, rest, position)
                if count == 0:
                    return ENOSPC
                rest, position = rest[count:], position + count
            if self._whole:
                os.fdatasync(self._file)
        except OSError as problem:
            return problem.errno or EIO
        return 0


_NO_SPACE = ENOSPC
