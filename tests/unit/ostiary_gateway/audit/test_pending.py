"""What waits for its record on the disk: awaited or called back, told once, and never left waiting by a neighbour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.audit.intake import Pending
from ostiary_gateway.audit.recorder import FileRecorder

Playing = Callable[[FileRecorder], Any]


def test_it_is_called_back_once_with_what_went_wrong() -> None:
    told: list[str] = []
    pending = Pending()
    pending.then(told.append)
    pending.tell("the disk is full")
    pending.tell("")
    assert told == ["the disk is full"]


def test_who_comes_late_is_told_at_once() -> None:
    told: list[str] = []
    pending = Pending()
    pending.tell("")
    pending.then(told.append)
    assert told == [""]


async def test_it_can_be_awaited() -> None:
    pending = Pending()
    task = asyncio.ensure_future(pending)
    await asyncio.sleep(0)
    pending.tell("")
    await task
    await pending


async def test_who_awaits_it_is_told_why_it_may_not_go_on() -> None:
    pending = Pending()
    task = asyncio.ensure_future(pending)
    await asyncio.sleep(0)
    pending.tell("the disk is full")
    with pytest.raises(RecordError, match="the disk is full"):
        await task


async def test_who_stopped_waiting_disturbs_nobody() -> None:
    pending = Pending()
    task = asyncio.ensure_future(pending)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    pending.tell("")
    assert task.cancelled()


async def test_one_that_cannot_go_on_does_not_keep_the_others_waiting(
    recorder: FileRecorder, play: Playing
) -> None:
    acts = play(recorder)
    acts.open("s1")
    acts.open("s2")
    first, second = acts.begin("s1", 1, durable=True), acts.begin("s2", 1, durable=True)
    assert isinstance(first, Pending)
    assert isinstance(second, Pending)
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def fails(_failure: str) -> None:
        raise ValueError("a session that broke")

    first.then(fails)
    second.then(told.set_result)
    async with asyncio.timeout(20):
        assert await told == ""
