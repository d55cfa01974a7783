# cython: annotation_typing=False
"""The client's bytes, cut into messages. What is over the limit is thrown away as it comes; COPY data streams."""

from __future__ import annotations

from typing import Final

from .wire import MAX_MESSAGE, MAX_SMALL, ProtocolViolation

_STATEMENTS: Final = b"QPBF"
_KNOWN: Final = bytes(kind in b"QPBDECSHFXdcfp" for kind in range(256))
"""1 for each type of message that a client may send."""
_COPY_DATA: Final = 100  # d


class Inbox:
    """`next()` moves to the next whole message; then `kind` is its type and `data[start:stop]` its body.

    CopyData comes raw, header and all, in pieces. `oversized`: the message was over the limit; its body is gone.
    """

    __slots__ = (
        "_discarding", "_more", "_passing", "_position", "data", "discarded", "kind", "limit", "oversized", "start",
        "stop",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.discarded = 0
        """Length of the message that was over the limit."""
        self.data = b""
        self.kind = 0
        self.start = 0
        self.stop = 0
        self.oversized = False
        self._position = 0
        self._more = bytearray()
        """What came while `data` was not used up."""
        self._discarding = 0
        self._passing = 0

    def __len__(self) -> int:
        return len(self.data) - self._position + len(self._more)

    @property
    def in_copy_data(self) -> bool:
        """True while more of the CopyData message is to come that `next` moved to a piece of."""
        return self._passing > 0

    def feed(self, data: bytes) -> None:
        if self._position < len(self.data) or self._more:
            self._more += data
        else:
            self.data = data
            self._position = 0

    def next(self) -> bool:
        """False if more bytes are needed. Raises ProtocolViolation."""
        if self._passing:
            return self._pass_on()
        if self._discarding:
            return self._discard()
        if len(self.data) - self._position < 5 and not self._join(5):
            if self._position < len(self.data):
                self._check(self.data[self._position])
            return False
        p = self.data
        position = self._position
        kind = p[position]
        self._check(kind)
        length = p[position + 1]
        length = (length << 8) | p[position + 2]
        length = (length << 8) | p[position + 3]
        length = (length << 8) | p[position + 4]
        if not 4 <= length <= MAX_MESSAGE:
            raise ProtocolViolation(f"message {chr(kind)!r} with an invalid length of {length} bytes")
        self.kind = kind
        if kind == _COPY_DATA:
            self._passing = length + 1
            return self._pass_on()
        if length > MAX_SMALL and (kind not in _STATEMENTS or length > self.limit + 4):
            return self._over(kind, length)
        if length > self.limit + 4 and kind in _STATEMENTS:
            return self._over(kind, length)
        if len(self.data) - position <= length:
            if not self._join(length + 1):
                return False
            position = 0
        self.start = position + 5
        self.stop = self._position = position + 1 + length
        self.oversized = False
        return True

    def _check(self, kind: int) -> None:
        if not _KNOWN[kind]:
            raise ProtocolViolation(f"invalid frontend message type {kind}")

    def _join(self, need: int) -> bool:
        """Makes one piece of what is there, if it has so many bytes."""
        left = len(self.data) - self._position
        if left + len(self._more) < need:
            if not left and not self._more:
                self.data, self._position = b"", 0
            return False
        self.data = self.data[self._position :] + bytes(self._more)
        self._position = 0
        self._more.clear()
        return True

    def _available(self) -> int:
        """Bytes of `data` that are left, after what came later was taken in where it was used up."""
        if self._position == len(self.data):
            self.data, self._position = bytes(self._more), 0
            self._more.clear()
        return len(self.data) - self._position

    def _pass_on(self) -> bool:
        step = min(self._available(), self._passing)
        if not step:
            return False
        self.start = self._position
        self.stop = self._position = self._position + step
        self._passing -= step
        return True

    def _over(self, kind: int, length: int) -> bool:
        if kind not in _STATEMENTS:
            raise ProtocolViolation(f"message {chr(kind)!r} of {length} bytes")
        self.discarded = length
        self._discarding = length + 1
        return self._discard()

    def _discard(self) -> bool:
        while step := min(self._available(), self._discarding):
            self._position += step
            self._discarding -= step
        if self._discarding:
            return False
        self.start = self.stop = self._position
        self.oversized = True
        return True
