"""One direction of one channel: what its receiver still takes, what its sender may still send, and what waits between.

Where nothing changes the bytes the receiver's window is the sender's, and nothing ever waits. Where the gateway adds to
them or takes from them, it keeps both accounts: neither is ever overdrawn, and the sender is given no more than what
the receiver has room for.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from . import wire
from .wire import CHANNEL_DATA, CHANNEL_EXTENDED_DATA, Sink, WireError

QUANTUM: Final = 32_768
"""Bytes of window below which it is not worth a packet to give them, as long as the sender has as many."""
MAX_WAITING: Final = 1 << 20
"""Bytes waiting for the client beyond which the client itself may send nothing more: they may be answers to that."""
MAX_WAITING_PACKETS: Final = 1024
"""Requests that may wait behind data."""

_PACKET: Final = 0

Piece = bytes | memoryview


class Flow:
    """From one peer, the sender, to the other, the receiver.

    `receiver` and `sender` are the peers' own numbers of the channel. `grants`: whether the sender is given window; it
    is not before it is decided what the channel is for.
    """

    __slots__ = (
        "_back", "_pending", "_to", "credit", "granted", "grants", "limit", "receiver", "sender", "waiting",
    )  # fmt: skip

    def __init__(
        self, to: Sink, back: Sink, *, receiver: int, sender: int, limit: int, credit: int, granted: int
    ) -> None:
        self._to = to
        self._back = back
        self.receiver = receiver
        self.sender = sender
        self.limit = limit
        """Bytes of data that the receiver takes in one packet."""
        self.credit = credit
        """Bytes that the receiver still takes."""
        self.granted = granted
        """Bytes that the sender may still send."""
        self.grants = granted > 0
        self.waiting = 0
        """Bytes that wait for the receiver's window."""
        self._pending: deque[tuple[int, int, Piece]] = deque()

    @property
    def clear(self) -> bool:
        """Whether nothing waits."""
        return not self._pending

    def took(self, size: int) -> None:
        """The sender has sent so much. Raises WireError if it may not."""
        self.granted -= size
        if self.granted < 0:
            raise WireError("more data came than the window of its channel allows")

    def data(self, content: Piece) -> None:
        size = len(content)
        if size <= self.credit and size <= self.limit and not self._pending:
            if size:
                self.credit -= size
                self._to.send_data(self.receiver, content)
        else:
            self._wait(CHANNEL_DATA, 0, content)

    def extended(self, code: int, content: Piece) -> None:
        """CHANNEL_EXTENDED_DATA of that type."""
        size = len(content)
        if size <= self.credit and size <= self.limit and not self._pending:
            if size:
                self.credit -= size
                self._to.send(wire.extended(self.receiver, code, content))
        else:
            self._wait(CHANNEL_EXTENDED_DATA, code, content)

    def packet(self, payload: bytes) -> None:
        """Anything else, behind the data that came before it."""
        if not self._pending:
            self._to.send(payload)
            return
        if len(self._pending) > MAX_WAITING_PACKETS + self.waiting:
            raise WireError("too many packets wait for a window")
        self._pending.append((_PACKET, 0, payload))

    def _wait(self, kind: int, code: int, content: Piece) -> None:
        if not content:
            return
        self._pending.append((kind, code, content))
        self.waiting += len(content)
        self._drain()

    def _drain(self) -> None:
        pending = self._pending
        while pending:
            kind, code, content = pending[0]
            if kind == _PACKET:
                self._to.send(bytes(content))
                pending.popleft()
                continue
            size = min(len(content), self.credit, self.limit)
            if not size:
                return
            if kind == CHANNEL_DATA:
                self._to.send_data(self.receiver, content[:size])
            else:
                self._to.send(wire.extended(self.receiver, code, content[:size]))
            self.credit -= size
            self.waiting -= size
            if size == len(content):
                pending.popleft()
            else:
                pending[0] = (kind, code, memoryview(content)[size:])

    def adjusted(self, count: int, reserve: int = 0) -> None:
        """The receiver takes so much more. `reserve`: bytes of the sender's that wait elsewhere."""
        if self.credit + count > wire.MAX_WINDOW:
            raise WireError("a window was opened beyond 2^32 - 1 bytes")
        self.credit += count
        if self._pending:
            self._drain()
        self.grant(reserve, force=True)

    def grant(self, reserve: int = 0, *, force: bool = False) -> None:
        """Gives the sender what the receiver has room for. `force`: however little that is."""
        if not self.grants:
            return
        more = self.credit - self.waiting - reserve - self.granted
        if more > 0 and (force or more >= QUANTUM or self.granted < QUANTUM):
            self.granted += more
            self._back.send(wire.adjust(self.sender, more))

    def drop(self) -> None:
        """What waits is for nobody any more, and nothing more is granted."""
        self._pending.clear()
        self.waiting = 0
        self.grants = False
