"""HTTP for the admin addresses: one small request a connection, bounded in size, in time and in number.

A web framework would do, and takes 10 MB of a process that has nothing else to do with HTTP.
Source: RFC 9112; only what a probe, a scraper and our own command line send is taken: no chunked body, no upgrade.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import struct
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Final

from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

MAX_HEAD: Final = 16_384
"""Bytes of request line and headers."""
MAX_BODY: Final = 1_048_576
MAX_DIGITS: Final = 12
"""Of a number in a request: Python refuses to read thousands of them."""
TIMEOUT: Final = 10.0
"""Seconds for a request to come, and for its answer to be taken."""
LINGER: Final = 1.0
"""Seconds that a client that is refused gets to read why."""
MAX_CLIENTS: Final = 64
"""Connections at one time; one more is turned away."""
PLAIN: Final = "text/plain; charset=utf-8"
MAX_PATH: Final = 100
"""Bytes that the path of a Unix socket may have; the system's limit is 104 to 108."""
_CREDENTIALS: Final = struct.Struct("3i")
"""struct ucred of Linux: pid, uid, gid."""


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. `path` is without its query; header names are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    uid: int | None = None
    """Whose process is at the other end of a Unix socket, by the kernel's word; None where it does not say."""


@dataclass(frozen=True, slots=True)
class Response:
    """The answer."""

    body: str | bytes = b""
    status: int = 200
    content_type: str = PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[Request], Awaitable[Response]]


class _Refused(Exception):
    """A request that is answered with its status, and not handled."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


class HttpServer:
    """Serves `routes`, by method and path; HEAD is GET without the body. `patience`: seconds that a handler may take;
    `clients`: connections at one time, `from_one` those of one address: else who holds all of them open would have
    probes turned away, and the kubelet would end the pod."""

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Handler],
        *,
        patience: float = 0.0,
        clients: int | None = None,
        from_one: int | None = None,
    ) -> None:
        self._routes = dict(routes)
        self._patience = patience
        self._most = clients
        self._from_one = from_one
        self._from: Counter[str] = Counter()
        """Connections by the address that they come from."""
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Task[None]] = set()
        self._sockets: list[Path] = []

    async def listen(self, host: str, port: int) -> tuple[str, int]:
        """Also take requests there; returns the address and the port (which may have been 0). Raises OSError."""
        server = await asyncio.start_server(self._accept, host, port, limit=MAX_HEAD)
        self._servers.append(server)
        bound: tuple[str, int] = server.sockets[0].getsockname()[:2]
        return bound

    async def listen_unix(self, path: Path, mode: int = 0o600) -> None:
        """Also take requests on a socket in the file system; by default only this user may open it. Raises OSError."""
        made = _unix_socket(path, mode)
        try:
            self._servers.append(await asyncio.start_unix_server(self._accept, sock=made, limit=MAX_HEAD))
        except BaseException:
            made.close()
            raise
        self._sockets.append(path)

    async def close(self) -> None:
        """Stop, whatever is under way. May be called again."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for path in self._sockets:
            await asyncio.to_thread(path.unlink, missing_ok=True)
        self._sockets.clear()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    @property
    def clients(self) -> int:
        """Connections that are open now."""
        return len(self._clients)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")
        address = str(peer[0]) if isinstance(peer, tuple) else ""
        if self._from_one is not None and self._from[address] >= self._from_one:
            # Without a word: to tell each why would be work, and room that others need.
            writer.transport.abort()
            return
        self._from[address] += 1
        task = asyncio.get_running_loop().create_task(self._guarded(reader, writer))
        self._clients.add(task)
        task.add_done_callback(functools.partial(self._gone, address))

    def _gone(self, address: str, task: asyncio.Task[None]) -> None:
        self._clients.discard(task)
        self._from[address] -= 1
        if not self._from[address]:
            del self._from[address]

    async def _guarded(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, TimeoutError, asyncio.IncompleteReadError):
                async with asyncio.timeout(TIMEOUT) as limit:
                    await self._serve(reader, writer, limit)
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: asyncio.Timeout) -> None:
        head_only = refusing = False
        try:
            if len(self._clients) > (self._most or MAX_CLIENTS):
                raise _Refused(HTTPStatus.SERVICE_UNAVAILABLE)
            request = await _read(reader, _uid(writer))
            head_only = request.method == "HEAD"
            limit.reschedule(asyncio.get_running_loop().time() + self._patience + TIMEOUT)
            response = await self._answer(request)
        except _Refused as refused:
            refusing = True
            response = Response(refused.status.phrase + "\n", refused.status)
        body = response.body.encode() if isinstance(response.body, str) else response.body
        more = "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
        if response.status != HTTPStatus.NOT_MODIFIED:
            more += f"Content-Type: {response.content_type}\r\nContent-Length: {len(body)}\r\n"
        writer.write(
            f"HTTP/1.1 {int(response.status)} {HTTPStatus(response.status).phrase}\r\n{more}"
            "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n".encode("latin-1")
            + (b"" if head_only else body)
        )
        await writer.drain()
        if refusing:
            # A socket that is closed with something unread in it is reset, and the answer is lost.
            writer.write_eof()
            async with asyncio.timeout(LINGER):
                for _ in range(MAX_BODY // MAX_HEAD):
                    if not await reader.read(MAX_HEAD):
                        break

    async def _answer(self, request: Request) -> Response:
        method = "GET" if request.method == "HEAD" else request.method
        handler = self._routes.get((method, request.path))
        if handler is None:
            known = any(path == request.path for _, path in self._routes)
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND)
        try:
            return await handler(request)
        except Exception:
            log.exception("admin request failed", path=request.path)
            raise _Refused(HTTPStatus.INTERNAL_SERVER_ERROR) from None


def _unix_socket(path: Path, mode: int) -> socket.socket:
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        with short_path(path) as short:
            made.bind(short)
        path.chmod(mode)  # before anybody can connect: it does not listen yet
    except BaseException:
        made.close()
        raise
    return made


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """The path of a Unix socket, short enough for the system: through its directory's descriptor (Linux)."""
    if len(os.fsencode(path)) <= MAX_PATH or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def can_tell_people_apart() -> bool:
    """Whether this system says who is at the other end of a Unix socket."""
    return hasattr(socket, "SO_PEERCRED")


def _uid(writer: asyncio.StreamWriter) -> int | None:
    held = writer.get_extra_info("socket")
    if held is None or held.family != socket.AF_UNIX or not can_tell_people_apart():
        return None
    # A copy of the descriptor: what an event loop calls its socket may not have getsockopt.
    with socket.socket(fileno=os.dup(held.fileno())) as sock:
        _, uid, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(uid)


async def _read(reader: asyncio.StreamReader, uid: int | None) -> Request:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise _Refused(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE) from None
    first, *lines = head[:-4].decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise _Refused(HTTPStatus.BAD_REQUEST)
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or (name.lower() in headers and name.lower() in _SINGLE):
            raise _Refused(HTTPStatus.BAD_REQUEST)
        headers[name.lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise _Refused(HTTPStatus.NOT_IMPLEMENTED)
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdecimal():
        raise _Refused(HTTPStatus.BAD_REQUEST)
    if len(length) > MAX_DIGITS or int(length) > MAX_BODY:
        raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    path, _, query = parts[1].partition("?")
    return Request(parts[0], path, query, headers, await reader.readexactly(int(length)), uid)


_SINGLE: Final = ("content-length", "host", "transfer-encoding")
