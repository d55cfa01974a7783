"""HTTP of the admin addresses, byte by byte: what is answered, and what is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ostiary_gateway.admin import http
from ostiary_gateway.admin.http import HttpServer, Request, Response


async def echo(request: Request) -> Response:
    return Response(
        f"{request.method} {request.path}?{request.query} {request.headers.get('x', '')}|".encode() + request.body
    )


async def broken(_: Request) -> Response:
    raise RuntimeError("the secret is hunter2")


ROUTES = {("GET", "/echo"): echo, ("POST", "/echo"): echo, ("GET", "/broken"): broken}


@pytest.fixture
async def address() -> AsyncIterator[tuple[str, int]]:
    server = HttpServer(ROUTES)
    yield await server.listen("127.0.0.1", 0)
    await server.close()


async def said(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sent: bytes) -> tuple[str, bytes]:
    """Status line and body of the answer to these bytes."""
    writer.write(sent)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0].decode(), body


async def ask(address: tuple[str, int], sent: bytes) -> tuple[str, bytes]:
    return await said(*await asyncio.open_connection(*address), sent)


async def test_a_get_has_path_query_and_headers(address: tuple[str, int]) -> None:
    assert await ask(address, b"GET /echo?a=1 HTTP/1.1\r\nX: y\r\n\r\n") == ("HTTP/1.1 200 OK", b"GET /echo?a=1 y|")


async def test_head_is_a_get_without_its_body(address: tuple[str, int]) -> None:
    assert await ask(address, b"HEAD /echo HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", b"")


async def test_a_post_has_its_body(address: tuple[str, int]) -> None:
    sent = b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
    assert await ask(address, sent) == ("HTTP/1.1 200 OK", b"POST /echo? |hello")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"DELETE /echo HTTP/1.1\r\n\r\n", 405),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /echo SSH-2.0\r\n\r\n", 400),
        (b"GET /echo HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (b"POST /echo HTTP/1.1\r\nContent-Length: " + b"9" * 10_000 + b"\r\n\r\n", 413),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (b"GET /echo HTTP/1.1\r\nX: " + b"y" * http.MAX_HEAD + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_no_request_of_ours_is_refused(address: tuple[str, int], sent: bytes, status: int) -> None:
    line, _ = await ask(address, sent)
    assert line.startswith(f"HTTP/1.1 {status} ")


async def test_an_error_of_a_handler_is_not_told(address: tuple[str, int]) -> None:
    line, body = await ask(address, b"GET /broken HTTP/1.1\r\n\r\n")
    assert line == "HTTP/1.1 500 Internal Server Error"
    assert b"hunter2" not in body
    assert await ask(address, b"GET /echo HTTP/1.1\r\n\r\n") == ("HTTP/1.1 200 OK", b"GET /echo? |")


async def test_who_says_nothing_is_let_go(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TIMEOUT", 0.05)
    reader, writer = await asyncio.open_connection(*address)
    assert await reader.read() == b""
    writer.close()


async def test_too_many_at_once_are_turned_away(address: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CLIENTS", 1)
    _, silent = await asyncio.open_connection(*address)
    silent.write(b"GET")
    await asyncio.sleep(0.05)
    line, _ = await ask(address, b"GET /echo HTTP/1.1\r\n\r\n")
    assert line.startswith("HTTP/1.1 503 ")
    silent.close()


async def test_who_holds_connections_open_does_not_turn_others_away() -> None:
    server = HttpServer(ROUTES, clients=16, from_one=3)
    host, port = await server.listen("127.0.0.1", 0)
    held = []
    for _ in range(3):
        held.append(await asyncio.open_connection(host, port, local_addr=("127.0.0.9", 0)))
        await asyncio.sleep(0)
    for _ in range(24):
        reader, writer = await asyncio.open_connection(host, port, local_addr=("127.0.0.9", 0))
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 20) == b""
        writer.close()
    assert (await ask((host, port), b"GET /echo HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"
    for _, writer in held:
        writer.close()
    for _, writer in held:
        await writer.wait_closed()
    async with asyncio.timeout(20):
        while server.clients:
            await asyncio.sleep(0.01)
    again = await asyncio.open_connection(host, port, local_addr=("127.0.0.9", 0))
    assert (await said(*again, b"GET /echo HTTP/1.1\r\n\r\n"))[0] == "HTTP/1.1 200 OK"
    await server.close()


async def test_a_socket_in_the_file_system_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    server = HttpServer(ROUTES)
    await server.listen_unix(path)
    assert path.stat().st_mode & 0o777 == 0o600
    found = await said(*await asyncio.open_unix_connection(path), b"GET /echo HTTP/1.1\r\n\r\n")
    assert found == ("HTTP/1.1 200 OK", b"GET /echo? |")
    await server.close()
    assert not path.exists()


async def test_a_socket_that_a_crash_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.touch()
    server = HttpServer(ROUTES)
    await server.listen_unix(path)
    await server.close()
