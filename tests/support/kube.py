"""An API server that says what the test has written down, for the client and the reflector."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

from ostiary_gateway.kube.access import Access


@dataclass(frozen=True, slots=True)
class Say:
    """One answer with a body."""

    body: Any = field(default_factory=dict)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stream:
    """A watch: these events, then the end, or silence, or a connection that breaks."""

    events: tuple[Any, ...] = ()
    then: str = "end"
    """end · silence · break"""


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer."""


@dataclass(frozen=True, slots=True)
class Drop:
    """The connection is closed without an answer."""


Answer = Say | Stream | Hang | Drop


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any

    def __str__(self) -> str:
        """`GET /path`, and for a watch where it begins."""
        watch = f" watch from {self.query['resourceVersion']}" if "watch" in self.query else ""
        return f"{self.method} {self.path}{watch}"


class ScriptedServer:
    """Answers requests in order from `script`; when that is empty it hangs."""

    def __init__(self, *script: Answer) -> None:
        self.script: deque[Answer] = deque(script)
        self.asked: list[Asked] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def access(self) -> Access:
        return Access(f"http://127.0.0.1:{self.port}", token="a-token")

    @property
    def told(self) -> list[str]:
        return [str(each) for each in self.asked]

    async def until_asked(self, count: int) -> None:
        """Waits until so many requests have come."""
        async with asyncio.timeout(20):
            while len(self.asked) < count:
                await asyncio.sleep(0.005)

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.asked.append(await _read(head, reader))
                answer = self.script.popleft() if self.script else Hang()
                if not await self._answer(writer, answer):
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, writer: asyncio.StreamWriter, answer: Answer) -> bool:
        match answer:
            case Hang():
                await asyncio.Event().wait()
            case Drop():
                writer.transport.abort()
                return False
            case Say(body, status, headers):
                packed = body if isinstance(body, bytes) else json.dumps(body).encode()
                lines = [f"HTTP/1.1 {status} OK", f"Content-Length: {len(packed)}"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + packed)
                await writer.drain()
            case Stream(events, then):
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for event in events:
                    line = event if isinstance(event, bytes) else json.dumps(event).encode() + b"\n"
                    # Cut in the middle: the pieces of a stream keep to no boundary.
                    for piece in (line[: len(line) // 2], line[len(line) // 2 :]):
                        writer.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                        await writer.drain()
                        await asyncio.sleep(0)
                if then == "silence":
                    await asyncio.Event().wait()
                if then == "break":
                    writer.transport.abort()
                    return False
                writer.write(b"0\r\n\r\n")
                await writer.drain()
        return True


async def _read(head: bytes, reader: asyncio.StreamReader) -> Asked:
    first, *lines = head[:-4].decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    path, _, query = target.partition("?")
    values = {name: found[-1] for name, found in parse_qs(query).items()}
    return Asked(method, path, values, headers, json.loads(body) if body else None)


@asynccontextmanager
async def scripted(*script: Answer) -> AsyncIterator[ScriptedServer]:
    """The server, listening on loopback."""
    made = ScriptedServer(*script)
    server = await asyncio.start_server(made.accept, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.close()


def status(code: int, reason: str, message: str = "", **more: Any) -> dict[str, Any]:
    """A Status object as the API server gives it."""
    return {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
            "message": message, **more}  # fmt: skip


def config_map(name: str, version: str, uid: str = "u1", **data: str) -> dict[str, Any]:
    """A ConfigMap of the namespace shop."""
    metadata = {"name": name, "namespace": "shop", "uid": uid, "resourceVersion": version}
    return {"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata, "data": data}


def listed(version: str, *items: dict[str, Any], more: str = "") -> Say:
    """A page of a list."""
    metadata = {"resourceVersion": version, **({"continue": more} if more else {})}
    return Say({"kind": "ConfigMapList", "apiVersion": "v1", "metadata": metadata, "items": list(items)})


def event(kind: str, item: dict[str, Any]) -> dict[str, Any]:
    """An event of a watch."""
    return {"type": kind, "object": item}


def bookmark(version: str) -> dict[str, Any]:
    return event("BOOKMARK", {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"resourceVersion": version}})
