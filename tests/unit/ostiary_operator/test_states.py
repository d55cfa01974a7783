"""Pods tell their state; each is a real HTTP server here."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from ostiary_api.gateway_state import GatewayState
from ostiary_operator.states import Pace, StatePolls


class Gateway:
    """A pod's /state, which holds an answer until the state changes."""

    def __init__(self) -> None:
        self.state = GatewayState(instance="p", revision="a1")
        self.changed = asyncio.Event()
        self.asked = 0

    def tell(self, revision: str) -> None:
        self.state = GatewayState(instance="p", revision=revision)
        self.changed.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.asked += 1
        if request.headers.get("If-None-Match") == self.state.etag():
            self.changed.clear()
            try:
                async with asyncio.timeout(float(request.query["wait"])):
                    await self.changed.wait()
            except TimeoutError:
                return web.Response(status=304)
        return web.Response(
            text=self.state.to_json(), headers={"ETag": self.state.etag()}, content_type="application/json"
        )


@asynccontextmanager
async def serving(handler: Any) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/state", handler)
    runner = web.AppRunner(app, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def pod(uid: str = "u1", phase: str = "Running", address: str = "127.0.0.1") -> dict[str, Any]:
    return {"metadata": {"name": "p", "uid": uid}, "status": {"phase": phase, "podIP": address}}


class News:
    def __init__(self) -> None:
        self.heard = asyncio.Event()

    def __call__(self, key: str) -> None:
        assert key == "shop/p"
        self.heard.set()

    async def wait(self) -> None:
        async with asyncio.timeout(20):
            await self.heard.wait()
        self.heard.clear()


async def test_a_change_is_known_when_it_happens() -> None:
    gateway, news = Gateway(), News()
    async with serving(gateway.answer) as port:
        polls = StatePolls(news, port=port)
        polls.pod("shop/p", pod())
        await news.wait()
        told = polls.told["shop/p"].state
        assert told is not None
        assert told.revision == "a1"
        gateway.tell("a2")
        await news.wait()
        told = polls.told["shop/p"].state
        assert told is not None
        assert told.revision == "a2"
        assert polls.counts() == {"ok": 1, "failing": 0}
        assert gateway.asked <= 4
        await polls.close()


async def test_a_pod_without_address_or_on_its_way_out_is_not_asked() -> None:
    polls = StatePolls(News(), port=1)
    polls.pod("shop/p", pod(phase="Pending"))
    polls.pod("shop/p", pod(address=""))
    leaving = pod()
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    polls.pod("shop/p", leaving)
    assert polls.told == {}
    await polls.close()


async def test_a_pod_that_does_not_answer_is_told_as_such_and_forgotten_when_it_is_gone() -> None:
    async def broken(request: web.Request) -> web.Response:
        return web.Response(text='{"revision": 7}')

    news = News()
    async with serving(broken) as port:
        polls = StatePolls(news, port=port)
        polls.pod("shop/p", pod())
        await news.wait()
        told = polls.told["shop/p"]
        assert told.state is None
        assert "no state" in told.problem
        polls.pod("shop/p", None)
        assert polls.told == {}
        await polls.close()


async def test_another_pod_of_the_name_begins_with_nothing_known() -> None:
    gateway, news = Gateway(), News()
    async with serving(gateway.answer) as port:
        polls = StatePolls(news, port=port)
        polls.pod("shop/p", pod("first"))
        await news.wait()
        polls.pod("shop/p", pod("second"))
        assert polls.told["shop/p"].state is None
        await news.wait()
        assert polls.told["shop/p"].state is not None
        await polls.close()


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (web.Response(body=b"x" * (2**20 + 1)), "longer than"),
        (web.Response(body=gzip.compress(b"0" * 2**28), headers={"Content-Encoding": "gzip"}), "no state"),
        (web.Response(text='{"revision": "<not one>"}'), "no state"),
        (web.Response(text='{"revision": "' + "a" * 65 + '"}'), "no state"),
        (web.Response(text="[" * 100_000), "no state"),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), "HTTP 302"),
    ],
)
async def test_what_a_forged_pod_answers_is_not_taken(answer: web.Response, said: str) -> None:
    body, status, headers = answer.body, answer.status, dict(answer.headers)

    async def forged(request: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers=headers)

    news = News()
    async with serving(forged) as port:
        polls = StatePolls(news, port=port)
        polls.pod("shop/p", pod())
        await news.wait()
        told = polls.told["shop/p"]
        assert told.state is None
        assert said in told.problem
        await polls.close()


async def test_a_tag_that_is_none_is_not_sent_back() -> None:
    sent: list[str | None] = []

    async def odd(request: web.Request) -> web.Response:
        sent.append(request.headers.get("If-None-Match"))
        return web.Response(text=GatewayState(revision="7").to_json(), headers={"ETag": '"\u00e9' + "x" * 4000})

    async with serving(odd) as port:
        polls = StatePolls(lambda _: None, port=port)
        polls.pod("shop/p", pod())
        async with asyncio.timeout(20):
            while len(sent) < 2:
                await asyncio.sleep(0.01)
        assert set(sent) == {None}
        await polls.close()


def test_a_pod_that_says_something_else_all_the_time_is_heard_now_and_then() -> None:
    now = 0.0
    pace = Pace(lambda: now)
    answers = 0
    while now < 60.0:
        now += pace.spent(800) + 0.001
        answers += 1
    assert answers < 64 + 60 * 4 + 1
    assert pace.spent(2**20) > 10.0, "a large answer counts for many"
    now += 120.0
    assert pace.spent(800) == 0.02, "who was quiet is heard at once"
