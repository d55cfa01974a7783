"""Sockets of the console: bounded in number, in time until a request has come, and in the size of its head."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from aiohttp import web

from ostiary_console.counts import Counts
from ostiary_gateway.logging import get_logger
from ostiary_store.reach import Health

log = get_logger(__name__)

MAX_CLIENTS: Final = 1024
"""Connections at one time; one more is closed at once."""
FIRST: Final = 15.0
"""Seconds in which the first request of a connection must have come, TLS included."""
KEEPALIVE: Final = 75.0
MAX_LINE: Final = 8_190
MAX_FIELD: Final = 20_000
"""Bytes of a header: the cookies of somebody with long tokens."""
GRACE: Final = 3.0
"""Seconds that requests under way get when it stops."""
RELOAD: Final = 10.0
"""Seconds between looks at the files of the certificate."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class CannotServe(Exception):
    """What was given cannot be used. The text says what."""


class Certificate:
    """The server's certificate, read again when its files change. Raises CannotServe."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._files = cert, key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._stamps = self._look()
            self.context.load_cert_chain(cert, key)
        except (OSError, ssl.SSLError) as problem:
            raise CannotServe(f"{cert} and {key} cannot be used as certificate and key: {problem}") from problem

    def _look(self) -> list[tuple[int, int]]:
        return [((status := file.stat()).st_mtime_ns, status.st_ino) for file in self._files]

    async def follow(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(RELOAD)
            try:
                stamps = await asyncio.to_thread(self._look)
                if stamps == self._stamps:
                    continue
                # Both files must fit each other; where they do not yet, the next look finds them.
                self.context.load_cert_chain(*self._files)
                self._stamps = stamps
            except (OSError, ssl.SSLError) as problem:
                log.warning("the certificate cannot be read again; the last one is used", problem=str(problem))
            else:
                log.info("the certificate was read again")


class _Bounded:
    """Makes a handler for each connection, as long as there is room."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self.silent: set[object] = set()
        """Connections on which nothing was asked yet."""

    def __call__(self) -> asyncio.BaseProtocol:
        handler = self._server()
        if len(self._server.connections) >= MAX_CLIENTS:
            return _Refused()
        self.silent.add(handler)
        asyncio.get_running_loop().call_later(FIRST, self._look, handler)
        return handler

    def _look(self, handler: web.RequestHandler) -> None:
        if handler in self.silent and handler.transport is not None:
            handler.transport.abort()
        self.silent.discard(handler)


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()


async def listen(
    stack: AsyncExitStack, application: web.Application, host: str, port: int, tls: ssl.SSLContext | None = None
) -> int:
    """Serves until the stack is unwound; the port (which may have been 0). Raises OSError."""
    runner = web.AppRunner(
        application, access_log=None, shutdown_timeout=GRACE, keepalive_timeout=KEEPALIVE, max_line_size=MAX_LINE,
        max_field_size=MAX_FIELD, handler_cancellation=True,
    )  # fmt: skip
    silent: set[object] = set()

    @web.middleware
    async def noted(request: web.Request, handler: Handler) -> web.StreamResponse:
        silent.discard(request.protocol)
        return await handler(request)

    application.middlewares.insert(0, noted)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    assert runner.server is not None
    bounded = _Bounded(runner.server)
    bounded.silent = silent
    server = await asyncio.get_running_loop().create_server(
        bounded, host, port, ssl=tls, backlog=128, ssl_handshake_timeout=FIRST if tls is not None else None
    )

    async def close() -> None:
        server.close()

    stack.push_async_callback(close)
    bound: int = server.sockets[0].getsockname()[1]
    return bound


def admin_application(health: Health, counts: Counts) -> web.Application:
    """/livez, /readyz and /metrics. They hold no secret and change nothing."""

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        line = f"[{'-' if health.trouble else '+'}] store{f': {health.trouble}' if health.trouble else ''}\n"
        return web.Response(text=line, status=503 if health.trouble else 200)

    async def scraped(request: web.Request) -> web.Response:
        body, kind = await asyncio.to_thread(counts.render, request.headers.get("Accept", ""), not health.trouble)
        return web.Response(body=body, headers={"Content-Type": kind})

    made = web.Application(client_max_size=1024)
    for path in ("/healthz", "/livez"):
        made.router.add_get(path, alive)
    made.router.add_get("/readyz", ready)
    made.router.add_get("/metrics", scraped)
    return made
