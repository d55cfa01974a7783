"""The cache that follows the API server, through everything that API servers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from support.kube import (
    Answer,
    Drop,
    Say,
    ScriptedServer,
    Stream,
    bookmark,
    config_map,
    event,
    listed,
    scripted,
    status,
)

from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.reflector import Reflector
from ostiary_gateway.kube.resources import CONFIG_MAPS

LIST = "GET /api/v1/namespaces/shop/configmaps"


def watch(version: str) -> str:
    return f"{LIST} watch from {version}"


class Watched:
    """A reflector under a script, and what it said."""

    def __init__(self, server: ScriptedServer, reflector: Reflector, heard: list[str]) -> None:
        self.server = server
        self.reflector = reflector
        self.heard = heard

    async def until(self, *heard: str) -> None:
        async with asyncio.timeout(20):
            while self.heard != list(heard):
                await asyncio.sleep(0.005)


@asynccontextmanager
async def reflecting(*script: Answer, silence: float = 60.0) -> AsyncIterator[Watched]:
    heard: list[str] = []

    def on_change(change: str, item: dict[str, Any]) -> None:
        heard.append(f"{change} {item['metadata']['name']} {item['metadata']['resourceVersion']}")

    async with scripted(*script) as server, KubeClient(server.access, chance=lambda: 0.01) as kube:
        reflector = Reflector(
            kube, CONFIG_MAPS, "shop", on_change=on_change, silence=silence, chance=lambda: 0.0
        )  # fmt: skip
        running = asyncio.create_task(reflector.run())
        try:
            yield Watched(server, reflector, heard)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def quiet(*events: Any) -> Stream:
    return Stream(events, then="silence")


async def test_it_lists_then_watches_on() -> None:
    stream = quiet(event("MODIFIED", config_map("a", "6")), event("ADDED", config_map("b", "7")),
                   event("DELETED", config_map("a", "8")))  # fmt: skip
    async with reflecting(listed("5", config_map("a", "3")), stream) as it:
        await it.until("ADDED a 3", "MODIFIED a 6", "ADDED b 7", "DELETED a 8")
        assert it.reflector.synced.is_set()
        assert set(it.reflector.objects) == {("shop", "b")}
        assert it.server.told == [LIST, watch("5")]


async def test_a_watch_that_ends_goes_on_where_it_was_by_bookmarks_too() -> None:
    first = Stream((event("MODIFIED", config_map("a", "6")), bookmark("20")))
    async with reflecting(listed("5", config_map("a", "3")), first, quiet()) as it:
        await it.server.until_asked(3)
        assert it.server.told == [LIST, watch("5"), watch("20")]
        assert it.reflector.listed == 1


async def test_an_expired_version_is_listed_again_and_what_was_missed_is_told() -> None:
    gone = Stream((event("ERROR", status(410, "Expired", "too old")),))
    again = listed("50", config_map("b", "4"), config_map("c", "45"), config_map("d", "46", uid="new"))
    first = listed("5", config_map("a", "3"), config_map("b", "4"), config_map("c", "5"), config_map("d", "5"))
    async with reflecting(first, gone, again, quiet()) as it:
        await it.until(
            "ADDED a 3", "ADDED b 4", "ADDED c 5", "ADDED d 5",
            "DELETED a 3", "MODIFIED c 45", "DELETED d 5", "ADDED d 46",
        )  # fmt: skip
        await it.server.until_asked(4)
        assert it.server.told == [LIST, watch("5"), LIST, watch("50")]


async def test_a_restarting_server_is_waited_for_and_the_cache_stays() -> None:
    away = [Drop(), Say(status(503, "ServiceUnavailable", "starting"), 503)]
    back = quiet(event("MODIFIED", config_map("a", "9")))
    async with reflecting(listed("5", config_map("a", "3")), *away, back) as it:
        await it.until("ADDED a 3", "MODIFIED a 9")
        assert it.server.told == [LIST, watch("5"), watch("5"), watch("5")]
        assert it.reflector.problem == ""


async def test_a_version_that_nobody_takes_is_given_up_for_a_list() -> None:
    """A server that came back from a backup does not know the version, and may not say 410."""
    refused = Say(status(504, "Timeout", "Too large resource version"), 504)
    async with reflecting(listed("500", config_map("a", "3")), refused, refused, refused, listed("7"), quiet()) as it:
        await it.until("ADDED a 3", "DELETED a 3")
        await it.server.until_asked(6)
        assert it.server.told == [LIST, *[watch("500")] * 3, LIST, watch("7")]


async def test_a_silent_connection_is_given_up_and_the_watch_goes_on() -> None:
    back = quiet(event("MODIFIED", config_map("a", "9")))
    async with reflecting(listed("5", config_map("a", "3")), quiet(), back, silence=0.6) as it:
        await it.until("ADDED a 3", "MODIFIED a 9")
        assert it.server.told[:3] == [LIST, watch("5"), watch("5")]


async def test_it_says_what_is_wrong_and_how_old_what_it_has_is() -> None:
    forbidden = Say(status(403, "Forbidden", "configmaps is forbidden: no"), 403)
    async with reflecting(*[forbidden] * 3, listed("5"), quiet()) as it:
        async with asyncio.timeout(20):
            while not it.reflector.problem:
                await asyncio.sleep(0.005)
        assert it.reflector.problem == "configmaps is forbidden: no"
        before = it.reflector.age
        await asyncio.wait_for(it.reflector.synced.wait(), 20)
        assert it.reflector.problem == ""
        assert it.reflector.age < before + 1


async def test_a_listener_that_fails_does_not_end_it() -> None:
    taken: list[str] = []

    def on_change(change: str, item: dict[str, Any]) -> None:
        taken.append(change)
        raise RuntimeError("a bug")

    async with (
        scripted(listed("5", config_map("a", "3")), quiet(event("MODIFIED", config_map("a", "6")))) as server,
        KubeClient(server.access) as kube,
        asyncio.TaskGroup() as tasks,
    ):
        reflector = Reflector(kube, CONFIG_MAPS, "shop", on_change=on_change)
        running = tasks.create_task(reflector.run())
        async with asyncio.timeout(20):
            while taken != ["ADDED", "MODIFIED"]:
                await asyncio.sleep(0.005)
        running.cancel()
