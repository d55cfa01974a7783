# cython: annotation_typing=False
"""One TCP leg of a relay: read exactly while logging in, then bytes go straight to a sink. With backpressure.

asyncio streams cost 60 % more a message than a Protocol; this is a Protocol that can be read like a stream until the
session begins.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from typing import Final, cast

MAX_BUFFERED: Final = 65536
"""Bytes that may wait before the session begins; then reading stops."""


class LegClosed(Exception):
    """The peer is gone."""


class Leg(asyncio.Protocol):
    """`read_exactly` until `attach`; afterwards every chunk goes to the sink, and `lost` ends with the connection."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.writable = True
        self._buffer = bytearray()
        self._waiter: asyncio.Future[None] | None = None
        self._sink: Callable[[bytes], None] | None = None
        self._on_writable: Callable[[bool], None] | None = None
        self._pauses: set[str] = set()
        self._eof = False

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._sink is not None:
            self._sink(data)
            return
        self._buffer += data
        if len(self._buffer) > MAX_BUFFERED:
            self.pause("buffer")
        self._wake()

    def eof_received(self) -> bool:
        self._eof = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._eof = True
        if not self.lost.done():
            self.lost.set_result(None)
        self._wake()

    def pause_writing(self) -> None:
        self.writable = False
        if self._on_writable is not None:
            self._on_writable(False)

    def resume_writing(self) -> None:
        self.writable = True
        if self._on_writable is not None:
            self._on_writable(True)

    # -- while logging in

    async def read_exactly(self, count: int) -> bytes:
        """Raises LegClosed if the peer ends before."""
        while len(self._buffer) < count:
            if self._eof:
                raise LegClosed("the connection was closed")
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        if len(self._buffer) <= MAX_BUFFERED:
            self.resume("buffer")
        return data

    @property
    def buffered(self) -> int:
        """Bytes that came and were not read."""
        return len(self._buffer)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def attach(self, sink: Callable[[bytes], None], on_writable: Callable[[bool], None]) -> None:
        """From now on chunks go to `sink`, first what is waiting; `on_writable` tells when the peer is slow."""
        self._sink, self._on_writable = sink, on_writable
        waiting = bytes(self._buffer)
        self._buffer.clear()
        self.resume("buffer")
        if waiting:
            sink(waiting)

    # -- writing and pausing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def write_all(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.writelines(parts)

    def pause(self, reason: str) -> None:
        """Stops reading; it goes on when every reason is resumed."""
        if not self._pauses and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()
        self._pauses.add(reason)

    def resume(self, reason: str) -> None:
        if reason not in self._pauses:
            return
        self._pauses.discard(reason)
        if not self._pauses and self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def close(self) -> None:
        """Sends what is buffered, then closes."""
        if self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        """Closes at once; what is buffered is lost."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def peer(self) -> str:
        """The peer's IP address; empty if it is not known."""
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        return str(name[0]) if isinstance(name, tuple) and name else ""

    @property
    def tls(self) -> ssl.SSLObject | None:
        found = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        return cast("ssl.SSLObject | None", found)
