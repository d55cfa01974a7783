"""Between a leg and its neighbours: what it gives packets to, whom it asks for host keys, what its socket calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

import asyncssh

SHARED: Final = bytearray(256 * 1024)
"""All legs read into this: what a read brings is used up before the next read, and what is left of it kept aside."""
VIEW: Final = memoryview(SHARED)


class Receiver(Protocol):
    """What a leg talks to."""

    def packet(self, payload: bytes) -> None:
        """One packet after the login, message number (80 to 100) first."""

    def batch_done(self) -> None:
        """All packets of this read were given."""

    def pause(self) -> None:
        """The leg's socket has enough: produce nothing more for it."""

    def resume(self) -> None:
        """It takes data again."""

    def lost(self, problem: str) -> None:
        """The leg is gone; `problem` is empty if the peer has said goodbye, or we have. Nothing comes after it."""


class DataReceiver(Receiver, Protocol):
    """One that takes the bulk of what comes without a copy."""

    def data(self, channel: int, data: memoryview) -> None:
        """CHANNEL_DATA for this channel; in the place of `packet`, where the cipher is a quick one. `data` never
        changes."""


class Trust(Protocol):
    """Which host keys a target may show."""

    @property
    def algorithms(self) -> Sequence[bytes]:
        """To be asked for, and no others."""

    def check(self, key_data: bytes) -> asyncssh.SSHKey:
        """The key of a host key or host certificate (blob) that may be believed. Raises ValueError, in words."""

    def refuse_types(self, offered: Sequence[bytes]) -> str:
        """Why none of the host keys that a target has can be believed, by their types; empty if one can."""


class Reads(Protocol):
    """A leg, as its socket sees it after the login."""

    left: bytes
    appetite: int

    def took(self, count: int) -> None:
        """So many bytes more are in the shared buffer, after what was left."""

    def eof_received(self) -> None: ...

    def connection_lost(self, exc: Exception | None = None) -> None: ...

    def pause_writing(self) -> None: ...

    def resume_writing(self) -> None: ...


class Inlet(asyncio.BufferedProtocol):
    """A leg, as its transport sees it after the login."""

    def __init__(self, leg: Reads) -> None:
        self._leg = leg

    def get_buffer(self, sizehint: int) -> memoryview:
        leg = self._leg
        left, size = leg.left, len(leg.left)
        if size:
            VIEW[:size] = left
        return VIEW[size : size + leg.appetite]

    def buffer_updated(self, count: int) -> None:
        self._leg.took(count)

    def eof_received(self) -> None:
        self._leg.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leg.connection_lost(exc)

    def pause_writing(self) -> None:
        self._leg.pause_writing()

    def resume_writing(self) -> None:
        self._leg.resume_writing()


class Farewell(asyncio.Protocol):
    """Lets a peer read the last words: what it still sends is dropped, as an unread socket would be reset."""

    def __init__(self, transport: asyncio.Transport, over: asyncio.Future[None]) -> None:
        self._transport = transport
        self._over = over

    def eof_received(self) -> None:
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_result(None)
