"""Policies are judged for whom they concern; nobody waits for another namespace's, or for what never stops changing."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.world import ALLOW, EXTENSIONS, World

from ostiary_operator import judging
from ostiary_operator.judging import Busy, Judge
from ostiary_operator.observed import Observed
from ostiary_operator.reconcile import acceptance

SYSTEM = "ostiary-system"


class Known:
    """A world whose inputs are counted, as the operator's are."""

    def __init__(self) -> None:
        self.world = World()
        self.world.connection()
        self.world.connection("db", "other")
        self.inputs = 0

    def policy(self, name: str = "p", namespace: str = "shop", **spec: Any) -> None:
        self.world.policy(name, ALLOW, namespace=namespace, **spec)
        self.inputs += 1

    def observed(self) -> Observed:
        return self.world.observed()


class Slow:
    """Runs calls in threads; those that judge a policy of a namespace wait until they may go on."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.go_on = threading.Event()
        self.begun = asyncio.Event()

    async def __call__(self, call: Callable[..., object], *arguments: Any) -> object:
        if call is acceptance.accept and arguments[1].startswith(f"{self.namespace}/"):
            self.begun.set()
            await asyncio.to_thread(self.go_on.wait)
        return await asyncio.to_thread(call, *arguments)


async def in_thread(call: Callable[..., object], *arguments: Any) -> object:
    return await asyncio.to_thread(call, *arguments)


def judge(known: Known, run: Any = in_thread, at_once: int = 2) -> tuple[Judge, list[str]]:
    told: list[str] = []
    return Judge(known, EXTENSIONS, run, told.append, told.append, at_once=at_once), told


async def test_the_policies_of_the_namespaces_that_are_asked_for_are_judged() -> None:
    known = Known()
    known.policy()
    known.policy("q", "other")
    known.policy("guard", SYSTEM)
    judged, told = judge(known)
    observed, standings = await judged.current(SYSTEM, "shop")
    assert set(standings) == {f"{SYSTEM}/guard", "shop/p"}
    assert observed is not None
    assert told == [f"{SYSTEM}/guard", "shop/p"]
    _, standings = await judged.current("other")
    assert set(standings) == {f"{SYSTEM}/guard", "shop/p", "other/q"}


async def test_nobody_waits_for_the_policies_of_another_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "PATIENCE", 0.0)
    known, slow = Known(), Slow("other")
    known.policy("bomb", "other")
    known.policy()
    judged, _ = judge(known, slow)
    stuck = asyncio.create_task(judged.current(SYSTEM, "other"))
    await slow.begun.wait()
    known.policy("new")
    _, standings = await judged.current(SYSTEM, "shop")
    assert {"shop/p", "shop/new"} <= set(standings)
    with pytest.raises(Busy, match="the policies of other are being judged"):
        await judged.current(SYSTEM, "other")
    slow.go_on.set()
    _, standings = await stuck
    assert "other/bomb" in standings


async def test_what_changes_all_the_time_stops_nobody() -> None:
    known = Known()
    known.policy()

    async def while_something_changes(call: Callable[..., object], *arguments: Any) -> object:
        known.inputs += 1
        return await asyncio.to_thread(call, *arguments)

    judged, _ = judge(known, while_something_changes)
    async with asyncio.timeout(20):
        _, standings = await judged.current(SYSTEM, "shop")
    assert standings["shop/p"].accepted


async def test_a_policy_that_came_meanwhile_is_never_left_out() -> None:
    known = Known()
    known.policy()

    async def while_a_policy_comes(call: Callable[..., object], *arguments: Any) -> object:
        if call is acceptance.accept:
            known.policy("new")
        return await asyncio.to_thread(call, *arguments)

    judged, _ = judge(known, while_a_policy_comes)
    with pytest.raises(Busy, match="shop/new came just now"):
        await judged.current(SYSTEM, "shop")
    _, standings = await judged.current(SYSTEM, "shop")
    assert set(standings) == {"shop/p", "shop/new"}


async def test_one_that_cannot_be_judged_is_not_left_out_either() -> None:
    known = Known()
    known.policy()

    async def broken(call: Callable[..., object], *arguments: Any) -> object:
        if call is acceptance.accept:
            raise ZeroDivisionError
        return await asyncio.to_thread(call, *arguments)

    judged, _ = judge(known, broken)
    with pytest.raises(RuntimeError, match="policies could not be judged: shop/p"):
        await judged.current(SYSTEM, "shop")


async def test_what_an_earlier_run_accepted_is_judged_behind() -> None:
    known = Known()
    known.policy()
    known.world.policy_status("p")
    plan = known.world.plan()
    bundles = [each for each in plan.objects if each["kind"] == "ConfigMap"]
    judged, told = judge(known)
    judged.recovered = acceptance.recovered(bundles)
    _, standings = await judged.current("shop")
    assert standings["shop/p"].accepted
    assert judged.taken_as_it_was("shop/p")
    assert told == []
    behind = asyncio.create_task(judged.look_again())
    async with asyncio.timeout(20):
        while judged.taken_as_it_was("shop/p") or not told:
            await asyncio.sleep(0.01)
    behind.cancel()
    assert told == ["shop/p"], "its status is looked at; its bundle is as it was"
