"""/state over real HTTP: a document with an ETag, and those who wait for the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp
import pytest

from ostiary_api.gateway_state import GatewayState
from ostiary_gateway.admin.server import AdminServer
from ostiary_gateway.admin.state import StateBoard
from ostiary_gateway.counters import Counters, Gauge


@dataclass
class Pod:
    url: str
    board: StateBoard
    state: GatewayState

    async def ask(self, path: str = "/state", etag: str = "") -> tuple[int, str, str]:
        """Status, ETag, revision."""
        headers = {"If-None-Match": etag} if etag else {}
        async with aiohttp.ClientSession() as session, session.get(self.url + path, headers=headers) as answer:
            body = await answer.read()
            revision = GatewayState.model_validate_json(body).revision if body else ""
            return answer.status, answer.headers["ETag"], revision


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    made = Pod("", None, GatewayState(instance="pod-0", revision="one"))  # type: ignore[arg-type]
    made.board = StateBoard(lambda: made.state)
    gauges = [Gauge("ostiary_one", "One.", 1.0), Gauge("ostiary_two", "Two.", 2.0, ("connection", "a/b"))]
    server = AdminServer(
        ("127.0.0.1", 0), Counters(), list, "1", more={("GET", "/state"): made.board}, patience=60.0, clients=300,
        gauges=lambda: gauges,
    )  # fmt: skip
    host, port = await server.start()
    made.url = f"http://{host}:{port}"
    yield made
    await server.stop()


async def test_the_document_has_an_etag_and_is_not_sent_twice(pod: Pod) -> None:
    status, etag, revision = await pod.ask()
    assert (status, revision) == (200, "one")
    assert await pod.ask(etag=etag) == (304, etag, "")
    pod.state = pod.state.model_copy(update={"revision": "two"})
    assert (await pod.ask(etag=etag))[2] == "two"


async def test_all_who_wait_are_woken_by_a_change(pod: Pod) -> None:
    _, etag, _ = await pod.ask()
    waiting = [asyncio.create_task(pod.ask("/state?wait=50", etag)) for _ in range(100)]
    await asyncio.sleep(0.3)
    assert not any(task.done() for task in waiting)
    pod.state = pod.state.model_copy(update={"revision": "two"})
    pod.board.touch()
    async with asyncio.timeout(20):
        assert {(await task)[2] for task in waiting} == {"two"}


async def test_a_touch_without_a_change_wakes_nobody(pod: Pod) -> None:
    _, etag, _ = await pod.ask()
    waiting = asyncio.create_task(pod.ask("/state?wait=1", etag))
    await asyncio.sleep(0.2)
    pod.board.touch()
    assert await waiting == (304, etag, "")


async def test_who_knows_an_older_state_does_not_wait(pod: Pod) -> None:
    _, etag, _ = await pod.ask()
    pod.state = pod.state.model_copy(update={"draining": True})
    assert (await asyncio.wait_for(pod.ask("/state?wait=50", etag), 20))[0] == 200
    assert (await asyncio.wait_for(pod.ask("/state?wait=50"), 20))[0] == 200


@pytest.mark.parametrize("wait", ["x", "-1", "1e9", "", "٣", "9" * 5000])
async def test_a_wait_that_is_no_number_is_none(pod: Pod, wait: str) -> None:
    _, etag, _ = await pod.ask()
    assert (await asyncio.wait_for(pod.ask(f"/state?wait={wait}", etag), 20))[0] == 304


async def test_liveness_and_the_pods_own_metrics_are_served(pod: Pod) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(pod.url + "/livez") as answer:
            assert await answer.text() == "ok\n"
        async with session.get(pod.url + "/metrics") as answer:
            text = await answer.text()
        async with session.get(pod.url + "/") as answer:
            assert await answer.text() == "Ostiary: /livez /readyz /metrics /state\n"
    assert "ostiary_one 1.0" in text
    assert 'ostiary_two{connection="a/b"} 2.0' in text
