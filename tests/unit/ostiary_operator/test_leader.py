"""Two replicas and one Lease, in virtual time: with requests that fail, hang, or are done and never answered."""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from support import virtual_time

from ostiary_operator.kube.client import ApiError, Client
from ostiary_operator.kube.kinds import Kind
from ostiary_operator.leader import Leader, NotLeading
from ostiary_operator.settings import LeaderElection

Manifest = dict[str, Any]


class Api:
    """The API server's Leases: writes must name the version that they change."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.version = 0

    def write(self, body: Manifest, *, create: bool) -> Manifest:
        if create and self.lease is not None:
            raise ApiError(409, "AlreadyExists", "it is there")
        if not create:
            if self.lease is None:
                raise ApiError(404, "NotFound", "it is gone")
            if body["metadata"].get("resourceVersion") != self.lease["metadata"]["resourceVersion"]:
                raise ApiError(409, "Conflict", "it has changed")
        self.version += 1
        self.lease = copy.deepcopy(body)
        self.lease["metadata"] |= {"resourceVersion": str(self.version), "uid": "lease"}
        return copy.deepcopy(self.lease)


class Line:
    """One replica's line to the API server. `fault`: what happens to its requests."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.fault = ""

    async def _trouble(self) -> None:
        await asyncio.sleep(0.01)
        if self.fault == "refused":
            raise OSError("connection refused")
        if self.fault == "silent":
            await asyncio.sleep(3600)

    async def get(self, kind: Kind, namespace: str, name: str) -> Manifest | None:
        await self._trouble()
        return copy.deepcopy(self.api.lease)

    async def request(self, method: str, path: str, *, body: Manifest) -> Manifest:
        await self._trouble()
        stored = self.api.write(body, create=method == "POST")
        if self.fault == "answer lost":
            await asyncio.sleep(3600)
        return stored


class Replica:
    """A replica whose work notes when it runs."""

    def __init__(self, api: Api, name: str, settings: LeaderElection | None = None) -> None:
        self.line = Line(api)
        self.leader = Leader(
            cast(Client, self.line), settings or LeaderElection(), namespace="system", identity=name,
            clock=lambda: asyncio.get_running_loop().time(),
        )  # fmt: skip
        self.working = False
        self.spells = 0

    async def work(self) -> None:
        self.working = True
        self.spells += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False

    async def run(self) -> None:
        await self.leader.run(self.work)


@asynccontextmanager
async def running(*replicas: Replica) -> Any:
    tasks = [asyncio.create_task(each.run()) for each in replicas]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def watched(seconds: float, *replicas: Replica) -> None:
    """Let time pass; at no moment do two of them lead, or work."""
    end = asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < end:
        assert sum(each.leader.leading for each in replicas) <= 1
        assert sum(each.working and each.leader.leading for each in replicas) <= 1
        await asyncio.sleep(0.05)


def story(tell: Callable[[Replica, Replica], Awaitable[None]]) -> None:
    async def play() -> None:
        api = Api()
        await tell(Replica(api, "a"), Replica(api, "b"))

    virtual_time.run(play())


def test_one_leads_and_goes_on_leading() -> None:
    async def tell(a: Replica, b: Replica) -> None:
        async with running(a):
            await watched(1, a)
            async with running(b):
                await watched(600, a, b)
                assert a.working
                assert (a.spells, b.spells) == (1, 0)
                assert b.leader.holder == "a"

    story(tell)


def test_a_leader_that_ends_gives_the_lead_away() -> None:
    async def tell(a: Replica, b: Replica) -> None:
        async with running(b):
            async with running(a):
                await watched(5, a, b)
            await watched(3, a, b)
            assert b.working

    story(tell)


@pytest.mark.parametrize("fault", ["refused", "silent", "answer lost"])
def test_a_leader_that_cannot_renew_stops_before_another_begins(fault: str) -> None:
    async def tell(a: Replica, b: Replica) -> None:
        async with running(a):
            await watched(5, a)
            async with running(b):
                await watched(5, a, b)
                a.line.fault = fault
                await watched(11, a, b)
                if fault != "answer lost":
                    assert not a.working
                with pytest.raises(NotLeading):
                    a.leader.require()
                await watched(120, a, b)
                if fault != "answer lost":  # its renewals do come through, and hold the others off
                    assert b.working
                a.line.fault = ""
                await watched(60, a, b)
                assert a.working != b.working

    story(tell)


def test_whatever_happens_to_their_lines_two_never_lead() -> None:
    async def tell(a: Replica, b: Replica) -> None:
        dice = random.Random(7)
        async with running(a, b):
            for _ in range(300):
                for each in (a, b):
                    each.line.fault = dice.choice(["", "", "", "refused", "silent", "answer lost"])
                await watched(dice.uniform(0.1, 20.0), a, b)
            a.line.fault = b.line.fault = ""
            await watched(60, a, b)
            assert a.working != b.working

    story(tell)


def test_a_process_that_slept_does_not_lead_when_it_wakes_up() -> None:
    async def tell(a: Replica, b: Replica) -> None:
        clock = asyncio.get_running_loop().time
        late = 0.0
        a.leader = Leader(
            cast(Client, a.line), LeaderElection(), namespace="system", identity="a", clock=lambda: clock() + late
        )
        async with running(a):
            await watched(5, a)
            assert a.leader.leading
            late = 11.0
            assert not a.leader.leading

    story(tell)


def test_without_election_there_is_one_and_it_leads() -> None:
    async def play() -> None:
        api = Api()
        alone = Replica(api, "a", LeaderElection(enabled=False))
        async with running(alone):
            await asyncio.sleep(1)
            assert alone.working
            alone.leader.require()
        assert api.lease is None

    virtual_time.run(play())
