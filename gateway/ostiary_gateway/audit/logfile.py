"""Appends blocks to the record's file. Used by one thread at a time, the one that holds `lock`."""

from __future__ import annotations

import errno
import os
import threading
import time
from pathlib import Path
from typing import Self

from ostiary_gateway.audit import chain, holes, layout
from ostiary_gateway.audit.blocks import FIRST
from ostiary_gateway.audit.endmark import EndMark

_MOST = 1000
"""Buffers of one write; the system takes 1024."""

_DURABLE = getattr(os, "RWF_DSYNC", 0)


class LogFile:
    """The file, and where its chain stands. `begin` and `block` prepare blocks, `write` appends them."""

    def __init__(self, descriptor: int, path: Path, position: int, number: int, link: bytes) -> None:
        self.path = path
        self.lock = threading.Lock()
        self.position = position
        self.number = number
        """Of the next block."""
        self.link = link
        """Of the last one."""
        self.unsynced = False
        self.first = FIRST
        """Where the first block stands that is still here."""
        self.limit = 0
        """Bytes that it may take up on the disk; 0: as many as there are."""
        self._descriptor = descriptor
        self._inode = os.fstat(descriptor).st_ino
        self._looked = 0.0
        self._next: tuple[int, int, bytes] = position, number, link
        self._buffers: list[bytes | memoryview] = []
        self._mark: EndMark | None = None

    @classmethod
    def open(cls, path: Path) -> Self:
        """Made if it is not there. OSError; ValueError if it is another's file."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            header = os.pread(descriptor, FIRST, 0)
            if len(header) < FIRST and layout.MAGIC.startswith(header[: len(layout.MAGIC)]):
                header = layout.FILE.pack(layout.MAGIC, os.urandom(16))
                os.pwrite(descriptor, header, 0)
                os.fsync(descriptor)
                _sync_directory(path.parent)
            elif not header.startswith(layout.MAGIC):
                raise ValueError(f"{path} is not a record of Ostiary. Name another data directory.")
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor, path, FIRST, 0, chain.genesis(header))

    def go_on(self, position: int, number: int, link: bytes, first: int = FIRST) -> None:
        """Append there; what stands behind it is cut off."""
        self.first = first
        os.ftruncate(self._descriptor, position)
        os.fdatasync(self._descriptor)
        self.position, self.number, self.link = position, number, link
        if self._mark is not None:
            self._mark.close()
        _, uuid = layout.FILE.unpack(os.pread(self._descriptor, FIRST, 0))
        self._mark = EndMark.create(self.path, uuid, position)

    def begin(self) -> None:
        """Forget what was prepared and not written."""
        self._next = self.position, self.number, self.link
        self._buffers = []

    def block(self, kind: int, codec: int, size: int, at: float, *body: bytes | memoryview) -> tuple[int, int]:
        """Prepare a block; where it begins and ends. size: of the body, decompressed."""
        position, number, previous = self._next
        stored = sum(map(len, body))
        header = layout.BLOCK.pack(layout.BLOCK_MAGIC, kind, codec, 0, size, stored, number, at, previous)
        link = chain.link(header, *body)
        self._buffers += (header, *body, link)
        end = position + len(header) + stored + len(link)
        self._next = end, number + 1, link
        return position, end

    @property
    def next_number(self) -> int:
        return self._next[1]

    @property
    def next_link(self) -> bytes:
        return self._next[2]

    def write(self, *, durable: bool, seal: bool = False) -> None:
        """Append what was prepared. durable: it is on the disk when this returns. seal: it may pass the limit, since
        nothing is freed without one. OSError: nothing was appended."""
        if durable:
            self.check()
        if not seal:
            self.room()
        # One call where it suffices; it makes nothing durable that was written before.
        flags = _DURABLE if durable and not self.unsynced else 0
        position = self.position
        buffers = self._buffers
        for start in range(0, len(buffers), _MOST):
            position += self._write(buffers[start : start + _MOST], position, flags)
        if durable and not flags:
            os.fdatasync(self._descriptor)
        self.appended(durable=durable)

    def room(self) -> None:
        """OSError if what was prepared does not fit into the limit."""
        if self.limit and self._next[0] - self.first > self.limit:
            message = f"{self.path} may take up {self.limit} bytes, and the store has not taken them over"
            raise OSError(errno.ENOSPC, message)

    def head(self, position: int) -> tuple[int, bytes]:
        """Of the block that stands there: its number, and the link before it. OSError; ValueError if none does."""
        header = os.pread(self._descriptor, layout.BLOCK.size, position)
        if len(header) < layout.BLOCK.size or not header.startswith(layout.BLOCK_MAGIC):
            raise ValueError(f"no block stands at byte {position} of {self.path}")
        fields = layout.BLOCK.unpack(header)
        return fields[6], fields[8]

    @property
    def can_free(self) -> bool:
        """Whether the disk takes back what a file has at its beginning."""
        return holes.possible(self._descriptor)

    def free(self, position: int) -> None:
        """Nothing before the block there is needed any more. The header stays, and the link before it. OSError."""
        holes.punch(self._descriptor, FIRST, position - layout.LINK)
        self.first = position

    def prepared(self) -> bytes:
        """What was prepared, for somebody else to append; `appended` says that it was."""
        return b"".join(self._buffers)

    def appended(self, *, durable: bool) -> None:
        """What was prepared is in the file."""
        self.unsynced = not durable
        self.position, self.number, self.link = self._next
        self._buffers = []
        if self._mark is not None:
            self._mark.set(self.position)

    def _write(self, buffers: list[bytes | memoryview], position: int, flags: int) -> int:
        size = sum(map(len, buffers))
        written = os.pwritev(self._descriptor, buffers, position, flags)
        if written < size:
            rest = memoryview(b"".join(buffers))
            while written < size:
                written += os.pwritev(self._descriptor, [rest[written:]], position + written, flags)
        return size

    def check(self) -> None:
        """A file that was removed or replaced still takes writes, and nobody would ever see them. Raises OSError."""
        now = time.monotonic()
        if now - self._looked > 0.1:
            if self.path.stat().st_ino != self._inode:
                raise OSError(f"{self.path} was replaced by another file; restart the gateway")
            self._looked = now

    def sync(self) -> None:
        if self.unsynced:
            os.fdatasync(self._descriptor)
            self.unsynced = False

    def close(self) -> None:
        os.close(self._descriptor)
        if self._mark is not None:
            self._mark.close()


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
