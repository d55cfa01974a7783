"""The sockets by which the processes of one gateway talk: one for each worker, in the data directory, for its owner."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

TIMEOUT: Final = 3.0
"""Seconds for an answer of another process."""
MAX_ANSWER: Final = 64 * 1024 * 1024
_MAX_PATH: Final = 100
"""Bytes that the path of a Unix socket may have; systems allow 104 or 108."""


def socket_of(data: Path, worker: int) -> Path:
    """Where a worker (from 1) is asked."""
    return data / f"worker-{worker}.sock"


@contextmanager
def reachable(path: Path) -> Iterator[Path]:
    """The path of a socket, short enough for the system: through its directory's descriptor if need be (Linux)."""
    if len(os.fsencode(path)) <= _MAX_PATH:
        yield path
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{descriptor}") / path.name
    finally:
        os.close(descriptor)


def listens(path: Path) -> bool:
    """True if a process listens there; the socket of one that was killed stays behind, and nobody does."""
    try:
        with reachable(path) as short, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(short))
    except OSError:
        return False
    return True


async def ask(path: Path, method: str, target: str, body: bytes = b"") -> bytes:
    """The body of the answer to one request. OSError, TimeoutError or ValueError (another status than 200)."""
    async with asyncio.timeout(TIMEOUT):
        with reachable(path) as short:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                sock.setblocking(False)
                await asyncio.get_running_loop().sock_connect(sock, str(short))
            except BaseException:
                sock.close()
                raise
        return await _exchange(*await asyncio.open_unix_connection(sock=sock), method, target, body)


async def ask_at(host: str, port: int, method: str, target: str, body: bytes = b"") -> bytes:
    """The same of a process elsewhere."""
    async with asyncio.timeout(TIMEOUT):
        return await _exchange(*await asyncio.open_connection(host, port), method, target, body)


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, method: str, target: str, body: bytes
) -> bytes:
    try:
        writer.write(f"{method} {target} HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode("ascii") + body)
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        answer = await reader.read(MAX_ANSWER)
        while more := await reader.read(MAX_ANSWER):
            answer += more
    except asyncio.IncompleteReadError as problem:
        raise OSError("the other process went away") from problem
    finally:
        writer.close()
    if b" 200 " not in head[0]:
        raise ValueError(f"{method} {target}: {head[0].decode('latin-1')}")
    return answer
