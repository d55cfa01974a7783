"""A CancelRequest that came to the wrong replica goes to the others, and no further."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from ostiary_api.gateway_state import PASSED_ON
from ostiary_gateway.admin.server import AdminServer
from ostiary_gateway.counters import Counters
from ostiary_gateway.peers import MOST, PeerPlace, receiver


class Replica:
    """The admin address of one, and what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bytes]] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def take(self, connection: str, message: bytes) -> None:
        await self.hold.wait()
        self.told.append((connection, message))


@asynccontextmanager
async def replicas(*hosts: str) -> AsyncIterator[tuple[int, list[Replica]]]:
    made, servers, port = [Replica() for _ in hosts], [], 0
    try:
        for host, replica in zip(hosts, made, strict=True):
            more = {("POST", PASSED_ON): receiver(replica.take)}
            server = AdminServer((host, port), Counters(), list, "1", more=more)
            _, port = await server.start()
            servers.append(server)
        yield port, made
    finally:
        for server in servers:
            await server.stop()


async def test_all_others_are_told_and_not_oneself() -> None:
    hosts = ("127.0.0.21", "127.0.0.22", "127.0.0.23")
    async with replicas(*hosts) as (port, (one, two, three)):
        place = PeerPlace(hosts=hosts, port=port, own=frozenset({"127.0.0.21"}))
        await place.pass_on("shop/app", 77, b"\x00cancel")
    assert (one.told, two.told, three.told) == ([], [("shop/app", b"\x00cancel")], [("shop/app", b"\x00cancel")])


async def test_one_that_is_gone_does_not_keep_the_others_from_it() -> None:
    async with replicas("127.0.0.22") as (port, (two,)):
        await PeerPlace(hosts=("127.0.0.21", "127.0.0.22"), port=port).pass_on("shop/app", 77, b"x")
    assert two.told == [("shop/app", b"x")]


async def test_a_name_that_nobody_knows_harms_nobody() -> None:
    await PeerPlace(hosts=("nobody.invalid",), port=1).pass_on("shop/app", 77, b"x")


async def test_made_up_keys_cannot_pile_up() -> None:
    async with replicas("127.0.0.22") as (port, (two,)):
        two.hold.clear()
        place = PeerPlace(hosts=("127.0.0.22",), port=port)
        flood = [asyncio.create_task(place.pass_on("shop/app", 77, b"x")) for _ in range(MOST + 20)]
        await asyncio.sleep(0.2)
        assert sum(task.done() for task in flood) == 20
        two.hold.set()
        await asyncio.gather(*flood)
    assert len(two.told) == MOST


async def test_what_is_no_message_is_refused() -> None:
    async with replicas("127.0.0.22") as (port, (two,)), aiohttp.ClientSession() as session:
        for body in (b"", b"{}", b"[]", b'{"connection": "a", "message": "zz"}', b'{"connection": "a", "message": 7}'):
            async with session.post(f"http://127.0.0.22:{port}{PASSED_ON}", data=body) as answer:
                assert answer.status == 400
    assert two.told == []


def test_a_replica_does_not_share_its_ports() -> None:
    assert not PeerPlace(hosts=("x",), port=1).shares_ports
