"""Recorded exec and attach streams: frames of when, which stream and what, written and read back. Pure.

A recording is a header, eight bytes, then frames until it ends:

    header  "OSTR" · version 1 · flags (1: with a terminal) · two zero bytes
    frame   microseconds since the frame before it, varint · kind, one byte · length, varint · so many bytes

Varints are those of Protocol Buffers: seven bits a byte, the lowest first. A recording may end anywhere: what came
after limits.maxRecordedBytes is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAGIC: Final = b"OSTR"
VERSION: Final = 1
_TTY: Final = 1
_HEADER: Final = 8
_LONGEST_VARINT: Final = 10

_SIZE = re.compile(rb'"(Width|Height)"\s*:\s*(\d{1,5})\b')


class Kind(IntEnum):
    """Which stream a frame belongs to."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    """The server's last word: a v1.Status, or text in the oldest protocols."""
    RESIZE = 4
    """The terminal's new size: two bytes columns, two bytes rows, big-endian."""
    CLOSED = 5
    """The agent sends no more stdin. Empty."""
    NOTE = 6
    """What the gateway said of its own: why it ended the stream."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One frame. `at`: seconds since the stream began."""

    at: float
    kind: Kind
    data: bytes

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows of a RESIZE; (0, 0) of anything else."""
        if self.kind is not Kind.RESIZE or len(self.data) != 4:
            return 0, 0
        return int.from_bytes(self.data[:2], "big"), int.from_bytes(self.data[2:], "big")


@dataclass(frozen=True, slots=True)
class Broken:
    """The recording ends inside a frame, or is none."""

    what: str


class Writer:
    """Makes the frames of one stream. Times are in seconds, of any clock that only grows."""

    def __init__(self, started: float, *, tty: bool) -> None:
        self._last = started
        self.header = MAGIC + bytes((VERSION, _TTY if tty else 0, 0, 0))

    def frame(self, at: float, kind: Kind, data: bytes) -> bytes:
        return self.head(at, kind, len(data)) + data

    def head(self, at: float, kind: Kind, size: int) -> bytes:
        """The beginning of a frame, which so many bytes of data must follow."""
        passed = max(0, round((at - self._last) * 1_000_000))
        self._last += passed / 1_000_000
        return _varint(passed) + bytes((kind,)) + _varint(size)


def size_data(columns: int, rows: int) -> bytes:
    """The bytes of a RESIZE."""
    return min(columns, 0xFFFF).to_bytes(2, "big") + min(rows, 0xFFFF).to_bytes(2, "big")


def terminal_size(message: bytes) -> tuple[int, int] | None:
    """Columns and rows of a resize message, remotecommand.TerminalSize as JSON; None if it is none."""
    found = {name: int(value) for name, value in _SIZE.findall(message)}
    return (found[b"Width"], found[b"Height"]) if len(found) == 2 else None


def is_recording(beginning: bytes) -> bool:
    """True if these first bytes are those of a recorded stream."""
    return beginning[:5] == MAGIC + bytes((VERSION,))


class Recording:
    """A recorded stream, read from its pieces. `tty` is known from the beginning; `chunks` can be gone over once."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._buffer = bytearray()
        self._fill(_HEADER)
        self.known = is_recording(bytes(self._buffer[:_HEADER])) and len(self._buffer) >= _HEADER
        """False if this is no recorded stream, or one of a newer version."""
        self.tty = self.known and bool(self._buffer[5] & _TTY)

    def _fill(self, size: int) -> bool:
        while len(self._buffer) < size:
            piece = next(self._pieces, None)
            if piece is None:
                return False
            self._buffer += piece
        return True

    def chunks(self) -> Iterator[Chunk | Broken]:
        """Every frame in its order; what is wrong comes last."""
        if not self.known:
            yield Broken("this is no recorded stream")
            return
        del self._buffer[:_HEADER]
        clock = 0
        while self._fill(1):
            passed = self._varint()
            kind = self._byte() if passed is not None else None
            length = self._varint() if kind is not None else None
            if passed is None or kind is None or length is None or not self._fill(length):
                yield Broken("the recording ends inside a frame")
                return
            data = bytes(self._buffer[:length])
            del self._buffer[:length]
            clock += passed
            try:
                named = Kind(kind)
            except ValueError:
                continue  # of a later gateway
            yield Chunk(clock / 1_000_000, named, data)

    def _byte(self) -> int | None:
        if not self._fill(1):
            return None
        byte = self._buffer[0]
        del self._buffer[:1]
        return byte

    def _varint(self) -> int | None:
        value = 0
        for index in range(_LONGEST_VARINT):
            byte = self._byte()
            if byte is None:
                return None
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value
        return None


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
