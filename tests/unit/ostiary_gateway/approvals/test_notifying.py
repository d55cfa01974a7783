"""People told of the questions of a gateway that keeps them itself: by one process, once, over restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from support.approvals import question
from support.receivers import SECRET, Receiver, receiver, verify

from ostiary_gateway.approvals import files
from ostiary_gateway.approvals import notifying as module
from ostiary_gateway.approvals.local import Answer, LocalApprovals
from ostiary_gateway.approvals.notifying import notifying
from ostiary_notify.settings import Notifications


def settings(bot: Receiver, **more: Any) -> Notifications:
    where = {"name": "bot", "type": "Webhook", "url": bot.url, "insecure": True, "secretEnvs": ["OSTIARY_TEST_SECRET"]}
    return Notifications.model_validate({"receivers": [{**where, **more}]})


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OSTIARY_TEST_SECRET", SECRET)
    monkeypatch.setattr(module, "LOOK", 0.05)
    monkeypatch.setattr(module, "_AGAIN", 0.1)


@asynccontextmanager
async def approvals(data: Path) -> AsyncIterator[LocalApprovals]:
    store = await LocalApprovals.open(data / files.FILE)
    yield store
    await store.close()


def now() -> datetime:
    return datetime.fromtimestamp(int(time.time()), UTC)


async def came(bot: Receiver, number: int) -> list[str]:
    await asyncio.to_thread(bot.wait, number)
    return [each.json["type"] for each in bot.taken]


def alice(verdict: str = "Approve") -> Answer:
    return Answer("alice", verdict, "as agreed")  # type: ignore[arg-type]


async def test_a_question_and_what_becomes_of_it(tmp_path: Path) -> None:
    with receiver() as bot:
        async with approvals(tmp_path) as store, notifying(tmp_path, settings(bot)):
            asked = await store.ask(question(now=now()))
            assert await came(bot, 1) == ["approval.asked"]
            await store.answer("default", "apr-1", alice())
            assert await came(bot, 2) == ["approval.asked", "approval.approved"]
            used = await store.take(asked, "s1")
            assert used is not None
        for each in bot.came:
            verify(each)
        data = bot.came[1].json["data"]
        assert (data["by"], data["state"], data["command"]) == ("alice", "Approved", "ostiary approval apr-1")


async def test_of_several_processes_one_tells_and_another_takes_over(tmp_path: Path) -> None:
    with receiver() as bot:
        async with approvals(tmp_path) as store, AsyncExitStack() as second, AsyncExitStack() as first:
            await first.enter_async_context(notifying(tmp_path, settings(bot)))
            await asyncio.sleep(0.2)
            await second.enter_async_context(notifying(tmp_path, settings(bot)))
            await store.ask(question(now=now()))
            await came(bot, 1)
            await asyncio.sleep(0.4)
            await first.aclose()
            await store.answer("default", "apr-1", alice("Deny"))
            assert await came(bot, 2) == ["approval.asked", "approval.denied"]
            await asyncio.sleep(0.3)
    assert len(bot.came) == 2


async def test_what_was_not_sent_is_sent_after_a_restart_and_nothing_twice(tmp_path: Path) -> None:
    with receiver(500) as bot:
        async with approvals(tmp_path) as store:
            async with notifying(tmp_path, settings(bot)):
                await store.ask(question(now=now()))
                while not bot.came:
                    await asyncio.sleep(0.02)
            bot.usual = 200
            for _ in range(2):
                async with notifying(tmp_path, settings(bot)):
                    assert await came(bot, 1) == ["approval.asked"]
                    await asyncio.sleep(0.3)
    assert len(bot.taken) == 1
    assert len({each.id for each in bot.came}) == 1


async def test_what_is_told_changes_nothing_else(tmp_path: Path) -> None:
    with receiver() as bot:
        async with approvals(tmp_path) as store, notifying(tmp_path, settings(bot)):
            before = await store.ask(question(now=now()))
            await came(bot, 1)
            await asyncio.sleep(0.3)
            after = await store.get("default", "apr-1")
    assert after is not None
    assert after.status is not None
    assert [(each.receiver, each.steps) for each in after.status.told] == [("bot", ("Asked",))]
    assert after.status.model_copy(update={"told": ()}) == before.status


async def test_trouble_with_the_file_is_survived(tmp_path: Path) -> None:
    path = tmp_path / files.FILE
    path.write_text("this is no database, whatever its name says" * 100)
    with receiver() as bot:
        async with notifying(tmp_path, settings(bot)):
            await asyncio.sleep(0.3)
            path.unlink()
            async with approvals(tmp_path) as store:
                await store.ask(question(now=now()))
                assert await came(bot, 1) == ["approval.asked"]
