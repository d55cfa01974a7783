"""The event loop of a gateway: uvloop's, where there is one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, cast


def new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop, with one difference from asyncio mended; asyncio's own loop where there is no uvloop."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()

    class Loop(uvloop.Loop):
        """uvloop 0.23 gives its own SSLProtocol instead of the caller's protocol for an accepted socket with TLS."""

        async def connect_accepted_socket(  # type: ignore[override]  # the options are passed on as they are
            self, protocol_factory: Callable[[], asyncio.BaseProtocol], sock: socket.socket, **options: Any
        ) -> tuple[asyncio.BaseTransport, asyncio.BaseProtocol]:
            """As documented for asyncio: the transport, and what `protocol_factory` made."""
            protocol = protocol_factory()
            accepted = await super().connect_accepted_socket(lambda: protocol, sock, **options)
            # uvloop's stub has the two the wrong way round.
            return cast(asyncio.BaseTransport, accepted[0]), protocol

    return Loop()
