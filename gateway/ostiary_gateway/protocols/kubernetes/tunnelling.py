"""The bytes of an upgraded connection: between the client and the API server, through a tunnel that looks at them."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol

from .streams import Tunnel
from .upstream import ServerConnection


class End(Protocol):
    """The client's end of it."""

    def write(self, parts: list[bytes]) -> None: ...

    def read(self, more: bool) -> None:
        """Whether more is to be read from the client."""

    def tunnel_ended(self, reason: str) -> None:
        """Both sides have been told what they have to know."""


class Tunnelling:
    """One tunnel, from the server's 101 to the end of either side."""

    def __init__(self, tunnel: Tunnel, server: ServerConnection, client: End) -> None:
        self.tunnel = tunnel
        self.sent = 0
        """Bytes that went to the server and were not counted."""
        self._server = server
        self._client = client
        self._timer: asyncio.TimerHandle | None = None
        self._over = False

    def from_client(self, data: bytes) -> None:
        if not self._over:
            self.tunnel.from_client(data)
            self._flush()

    def from_server(self, data: bytes) -> None:
        if not self._over:
            self.tunnel.from_server(data)
            self._flush()

    def hold(self) -> None:
        """The client is slow."""
        self._server.pause()

    def release(self) -> None:
        self._server.resume()

    def server_writable(self, writable: bool) -> None:
        self._client.read(writable)

    def end(self, by: Literal["client", "server", "gateway"], message: str) -> None:
        """It is over; who is still there is told why. May be called again."""
        if self._over:
            return
        self._over = True
        if self._timer is not None:
            self._timer.cancel()
        self.tunnel.ended(by, message)
        self._send()
        self._server.close()
        self._client.tunnel_ended(message)

    def _flush(self) -> None:
        self._send()
        if self.tunnel.over:
            self.end("gateway", self.tunnel.over)
            return
        due = self.tunnel.due
        if due is not None and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(due, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self._over:
            self.tunnel.tick()
            self._flush()

    def _send(self) -> None:
        tunnel = self.tunnel
        if tunnel.to_client:
            self._client.write(tunnel.to_client)
            tunnel.to_client.clear()
        if tunnel.to_server:
            self.sent += sum(map(len, tunnel.to_server))
            self._server.write_all(tunnel.to_server)
            tunnel.to_server.clear()
