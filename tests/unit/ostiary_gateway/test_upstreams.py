"""Which targets answer: tried soon, then now and then, and told when it changes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.feeds import connection

from ostiary_gateway.protocols import Lobby, Site, TargetAway
from ostiary_gateway.protocols.postgres.probe import probe
from ostiary_gateway.upstreams import AWAY, EVERY, Upstreams

Key = tuple[str, str]
KEY = "shop", "app"


class Target:
    """A lobby whose target does what the test says."""

    def __init__(self, **spec: object) -> None:
        unused: Any = None
        self.site = Site(connection(**spec), None, unused, {})  # type: ignore[arg-type]
        self.problem: Exception | None = None
        self.tried = 0

    async def probe(self) -> None:
        self.tried += 1
        if self.problem is not None:
            raise self.problem


class Watched:
    """Upstreams with a clock that the test turns."""

    def __init__(self, **targets: Target) -> None:
        self.targets = {("shop", name): target for name, target in targets.items()}
        self.now = 0.0
        self.changes = 0
        lobbies: Callable[[], dict[Key, Lobby]] = lambda: dict(self.targets)  # type: ignore[arg-type]  # noqa: E731
        self.upstreams = Upstreams(lobbies, self._changed, clock=lambda: self.now, chance=lambda: 0.5)

    def _changed(self) -> None:
        self.changes += 1

    async def after(self, seconds: float, changes: int) -> None:
        """What there is has been seen; time passes, and so many tries have ended since the beginning."""
        self.upstreams.poke()
        await asyncio.sleep(0.02)
        self.now += seconds
        self.upstreams.poke()
        async with asyncio.timeout(20):
            while self.changes < changes:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def watched(**targets: Target) -> AsyncIterator[Watched]:
    made = Watched(**targets)
    running = asyncio.create_task(made.upstreams.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_a_new_target_is_tried_soon_and_then_every_half_minute() -> None:
    target = Target()
    async with watched(app=target) as it:
        assert it.upstreams.state(KEY).state == "Unknown"
        await it.after(1, 1)
        assert it.upstreams.state(KEY).state == "Reachable"
        assert it.upstreams.state(KEY).at is not None
        await it.after(EVERY / 2, 1)
        assert target.tried == 1
        await it.after(EVERY / 2, 2)
        assert target.tried == 2


async def test_a_target_that_is_away_is_told_with_the_reason_and_again_when_it_is_back() -> None:
    target = Target()
    async with watched(app=target) as it:
        target.problem = TargetAway("no answer from db:5432 within 5 s")
        await it.after(1, 1)
        assert it.upstreams.state(KEY).state == "Unreachable"
        assert it.upstreams.state(KEY).message == "no answer from db:5432 within 5 s"
        target.problem = None
        await it.after(AWAY, 2)
        assert (it.upstreams.state(KEY).state, it.upstreams.state(KEY).message) == ("Reachable", "")


async def test_a_changed_target_is_tried_at_once_and_its_old_answer_counts_no_more() -> None:
    async with watched(app=Target()) as it:
        await it.after(1, 1)
        it.targets[KEY] = Target(upstream={"host": "other.example"})
        it.targets[KEY].problem = TargetAway("nobody there")
        it.upstreams.poke()
        await it.after(1, 2)
        assert it.upstreams.state(KEY).message == "nobody there"


async def test_a_mistake_in_one_try_does_not_end_those_of_the_others() -> None:
    bad, good = Target(), Target()
    bad.problem = RuntimeError("a bug")
    async with watched(app=bad, other=good) as it:
        await it.after(1, 2)
        assert it.upstreams.state(KEY).state == "Unreachable"
        assert it.upstreams.state(("shop", "other")).state == "Reachable"


async def test_a_connection_that_is_gone_is_forgotten() -> None:
    async with watched(app=Target()) as it:
        await it.after(1, 1)
        it.targets.clear()
        it.upstreams.poke()
        async with asyncio.timeout(20):
            while it.upstreams.state(KEY).state != "Unknown":
                await asyncio.sleep(0.005)


# PostgreSQL's probe


Server = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def probed(server: Server | None, **tls: str) -> str:
    """What the probe says of a server on loopback; empty if it answers."""
    sock = socket.create_server(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    listening, left = None, asyncio.Event()
    if server is None:
        sock.close()
    else:

        async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await server(reader, writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            left.set()

        listening = await asyncio.start_server(served, sock=sock)
    unused: Any = None
    upstream = {"host": "127.0.0.1", "port": port, "tls": tls or {"mode": "Disable"}}
    try:
        await probe(Site(connection(upstream=upstream), None, unused, {}))
    except TargetAway as problem:
        return str(problem).replace(str(port), "PORT")
    finally:
        if listening is not None:
            await asyncio.wait_for(left.wait(), 20)
            listening.close()
    return ""


def answering(answer: bytes) -> Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readexactly(8) == b"\0\0\0\x08\x04\xd2\x16\x2f"
        writer.write(answer)
        if answer:
            with contextlib.suppress(ConnectionError):
                await reader.read()

    return serve


@pytest.mark.parametrize(
    ("answer", "mode", "says"),
    [
        (b"N", "Disable", ""),
        (b"S", "Disable", ""),
        (b"N", "Require", "the server at 127.0.0.1:PORT does not offer TLS"),
        (b"H", "Disable", "127.0.0.1:PORT does not speak PostgreSQL's protocol"),
        (b"", "Disable", "cannot connect to 127.0.0.1:PORT: the connection was closed"),
    ],
)
async def test_a_server_is_asked_for_tls_and_left(answer: bytes, mode: str, says: str) -> None:
    assert await probed(answering(answer), mode=mode) == says


async def test_nobody_at_the_port_is_told() -> None:
    assert (await probed(None)).startswith("cannot connect to 127.0.0.1:PORT: ")


async def test_an_authority_that_is_not_there_is_told() -> None:
    unused: Any = None
    upstream = {"host": "127.0.0.1", "tls": {"caRef": {"name": "ca"}}}
    with pytest.raises(TargetAway, match=r"Secret ca with key ca\.crt does not exist"):
        await probe(Site(connection(upstream=upstream), None, unused, {}))
