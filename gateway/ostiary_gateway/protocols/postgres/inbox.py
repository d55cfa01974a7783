"""The client's bytes, cut into messages. What is over the limit is thrown away as it comes; COPY data streams."""

from __future__ import annotations

from typing import Final

from .wire import MAX_MESSAGE, MAX_SMALL, UINT32, ProtocolViolation

DISCARDED: Final = b"\0(discarded)"
"""Stands for the body of a message over the limit. Compared by identity."""

_STATEMENTS: Final = frozenset(b"QPBF")
_COPY_DATA: Final = ord("d")


class Inbox:
    """`take()` gives (type, body) of the next whole message, or None. CopyData comes raw, in pieces."""

    __slots__ = ("_buffer", "_discarding", "_kind", "_passing", "_position", "discarded", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.discarded = 0
        self._buffer = bytearray()
        self._position = 0
        self._discarding = 0
        self._passing = 0
        self._kind = 0

    def __len__(self) -> int:
        return len(self._buffer) - self._position

    @property
    def in_copy_data(self) -> bool:
        """True while more of the CopyData message is to come that `take` gave a piece of."""
        return self._passing > 0

    def feed(self, data: bytes) -> None:
        if self._position and self._position == len(self._buffer):
            self._buffer.clear()
            self._position = 0
        elif self._position > 65536:
            del self._buffer[: self._position]
            self._position = 0
        self._buffer += data

    def take(self) -> tuple[int, bytes] | None:
        buffer, position = self._buffer, self._position
        available = len(buffer) - position
        if self._passing:
            return self._pass_on(available)
        if self._discarding:
            step = min(available, self._discarding)
            self._position += step
            self._discarding -= step
            return None if self._discarding else (self._kind, DISCARDED)
        if available < 5:
            if available and buffer[position] not in _KNOWN:
                raise ProtocolViolation(f"invalid frontend message type {buffer[position]}")
            return None
        kind = buffer[position]
        if kind not in _KNOWN:
            raise ProtocolViolation(f"invalid frontend message type {kind}")
        length: int = UINT32.unpack_from(buffer, position + 1)[0]
        if not 4 <= length <= MAX_MESSAGE:
            raise ProtocolViolation(f"message {chr(kind)!r} with an invalid length of {length} bytes")
        if kind == _COPY_DATA:
            self._passing = length + 1
            return self._pass_on(available)
        if length > (self.limit + 4 if kind in _STATEMENTS else MAX_SMALL):
            if kind not in _STATEMENTS:
                raise ProtocolViolation(f"message {chr(kind)!r} of {length} bytes")
            self._kind, self.discarded = kind, length
            self._discarding = length + 1
            return self.take()
        if available <= length:
            return None
        body = bytes(memoryview(buffer)[position + 5 : position + 1 + length])
        self._position = position + 1 + length
        return kind, body

    def _pass_on(self, available: int) -> tuple[int, bytes] | None:
        step = min(available, self._passing)
        if not step:
            return None
        piece = bytes(memoryview(self._buffer)[self._position : self._position + step])
        self._position += step
        self._passing -= step
        return _COPY_DATA, piece


_KNOWN: Final = frozenset(b"QPBDECSHFXdcfp")
