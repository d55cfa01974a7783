"""Messages on their way to a real HTTP server that fails in every manner it can."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.receivers import OTHER_SECRET, SECRET, receiver, verify

from ostiary_notify import sender as module
from ostiary_notify.sender import Message, Sender, retry_after
from ostiary_notify.settings import Receiver

BODY = b'{"type":"approval.asked"}'


def to(url: str | None, **more: Any) -> Receiver:
    values = {"name": "bot", "type": "Webhook", "url": url, "secretEnvs": ["SECRET"], "insecure": True, "timeout": "1s"}
    return Receiver.model_validate({**values, **more})


class Sending:
    def __init__(self, where: Receiver, **more: Any) -> None:
        self.counted: list[tuple[str, str]] = []
        self.results: dict[str, str] = {}
        self.sender = Sender(
            [where], counted=lambda *what: self.counted.append(what),
            **{"environment": {"SECRET": SECRET}, "first_pause": 0.05, **more},
        )  # fmt: skip
        self._ended = asyncio.Event()

    def offer(self, id: str = "msg_1", body: bytes = BODY) -> bool:
        return self.sender.offer("bot", Message(id, body, "Asked shop/apr-1"), lambda result: self.done(id, result))

    def done(self, id: str, result: str) -> None:
        self.results[id] = result
        self._ended.set()

    async def result(self, id: str = "msg_1") -> str:
        async with asyncio.timeout(20):
            while id not in self.results:
                self._ended.clear()
                await self._ended.wait()
        return self.results[id]


@asynccontextmanager
async def sending(where: Receiver, **more: Any) -> AsyncIterator[Sending]:
    found = Sending(where, **more)
    task = asyncio.create_task(found.sender.run())
    yield found
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_message_is_signed_and_sent_once() -> None:
    with receiver() as bot:
        async with sending(to(bot.url)) as found:
            assert found.offer()
            assert await found.result() == "sent"
        [came] = bot.came
    verify(came)
    assert (came.id, came.body, came.path) == ("msg_1", BODY, "/hook")
    assert came.headers["content-type"] == "application/json"
    assert found.counted == [("bot", "sent")]


async def test_the_same_message_is_not_on_its_way_twice() -> None:
    with receiver() as bot:
        async with sending(to(bot.url)) as found:
            assert [found.offer(), found.offer(), found.offer("msg_2")] == [True, False, True]
            await found.result("msg_1")
            await found.result("msg_2")
    assert sorted(each.id for each in bot.came) == ["msg_1", "msg_2"]


@pytest.mark.parametrize("trouble", [500, 502, 503, 408, 429, "reset", "hang"])
async def test_trouble_that_passes_is_tried_again(trouble: object) -> None:
    with receiver(200, trouble, trouble) as bot:
        async with sending(to(bot.url)) as found:
            found.offer()
            assert await found.result() == "sent"
    assert [each.id for each in bot.came] == ["msg_1"] * 3
    for came in bot.came:
        verify(came)
    assert found.counted == [("bot", "tried again"), ("bot", "tried again"), ("bot", "sent")]


async def test_what_a_receiver_takes_while_it_ends_is_known_to_be_sent() -> None:
    with receiver(200, "slow") as bot:
        async with sending(to(bot.url)) as found:
            found.offer()
            while not bot.came:
                await asyncio.sleep(0.01)
        assert found.results == {"msg_1": "sent"}


async def test_what_waits_for_its_next_try_is_not_sent_any_more() -> None:
    with receiver(503) as bot:
        async with sending(to(bot.url), first_pause=60.0) as found:
            found.offer()
            while not found.counted:
                await asyncio.sleep(0.01)
    assert (found.counted, found.results) == ([("bot", "tried again")], {})


async def test_it_waits_as_long_as_the_receiver_asks() -> None:
    with receiver(200, (429, {"Retry-After": "2"}, b"")) as bot:
        async with sending(to(bot.url)) as found:
            found.offer()
            await found.result()
    assert bot.came[1].at - bot.came[0].at >= 1.9


@pytest.mark.parametrize("answer", [400, 401, 403, 404, 410, 413])
async def test_what_will_not_go_well_later_is_given_up_at_once(answer: int) -> None:
    with receiver(answer) as bot, capture_logs() as logs:
        async with sending(to(bot.url)) as found:
            found.offer()
            assert await found.result() == "given up"
    assert len(bot.came) == 1
    [said] = [each for each in logs if each["log_level"] == "error"]
    assert said["event"].startswith("a notification is given up: look at the question itself")
    assert (said["receiver"], said["about"], said["reason"]) == ("bot", "Asked shop/apr-1", f"it answered {answer}")


async def test_a_redirect_is_not_followed() -> None:
    with receiver() as elsewhere, receiver((307, {"Location": elsewhere.url}, b"")) as bot:
        async with sending(to(bot.url)) as found:
            found.offer()
            assert await found.result() == "given up"
        assert (len(bot.came), len(elsewhere.came)) == (1, 0)


async def test_after_a_time_it_is_given_up() -> None:
    with receiver(500) as bot, capture_logs() as logs:
        async with sending(to(bot.url), give_up_after=0.5) as found:
            found.offer()
            assert await found.result() == "given up"
    assert 2 <= len(bot.came) <= 6
    assert logs[-1]["tries"] == len(bot.came)


async def test_others_do_not_wait_for_one_that_fails() -> None:
    with receiver(200, "hang") as bot:
        async with sending(to(bot.url, timeout="5s")) as found:
            found.offer("msg_1")
            await asyncio.sleep(0.2)
            begun = time.monotonic()
            found.offer("msg_2")
            await found.result("msg_2")
            assert time.monotonic() - begun < 2


async def test_a_secret_is_read_anew_for_each_message(tmp_path: Path) -> None:
    """So it is changed without a restart: first both sign, then the new one only."""
    secret = tmp_path / "secret"
    with receiver() as bot:
        where = to(bot.url, secretEnvs=[], secretFiles=[str(secret)])
        async with sending(where) as found:
            found.offer("msg_0")  # the file is not there yet
            await asyncio.sleep(0.2)
            secret.write_text(SECRET + "\n")
            await found.result("msg_0")
            secret.write_text(OTHER_SECRET)
            found.offer("msg_1")
            await found.result("msg_1")
    verify(bot.came[0], SECRET)
    verify(bot.came[1], OTHER_SECRET)


async def test_neither_urls_nor_secrets_are_logged() -> None:
    where = to(None, urlEnv="URL")
    environment = {"SECRET": SECRET, "URL": "http://127.0.0.1:1/services/T0/B0/s3cret"}
    with capture_logs() as logs:
        async with sending(where, environment=environment, give_up_after=0.3) as found:
            found.offer()
            assert await found.result() == "given up"
    assert len(logs) >= 2
    assert "s3cret" not in str(logs)
    assert SECRET not in str(logs)


async def test_a_bad_secret_is_told_without_it() -> None:
    with receiver() as bot, capture_logs() as logs:
        async with sending(to(bot.url), environment={"SECRET": "hunter2"}, give_up_after=0.2) as found:
            found.offer()
            assert await found.result() == "given up"
    assert not bot.came
    assert "does not begin with whsec_" in str(logs)
    assert "hunter2" not in str(logs)


async def test_a_name_that_leads_to_a_clouds_metadata_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*_: object, **__: object) -> list[dict[str, object]]:
        return [{"hostname": "x", "host": "169.254.169.254", "port": 80, "family": 2, "proto": 0, "flags": 0}]

    monkeypatch.setattr(module.ThreadedResolver, "resolve", resolve)
    with capture_logs() as logs:
        async with sending(to("http://metadata.example/x"), give_up_after=0.2) as found:
            found.offer()
            assert await found.result() == "given up"
    assert "leads to an address that is no receiver's" in str(logs)


async def test_a_fault_of_ours_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> str:
        raise RuntimeError("a fault")

    with receiver() as bot, capture_logs() as logs:
        async with sending(to(bot.url)) as found:
            with monkeypatch.context() as patch:
                patch.setattr(module, "url_problem", fails)
                found.offer("msg_1")
                assert await found.result("msg_1") == "given up"
            found.offer("msg_2")
            assert await found.result("msg_2") == "sent"
    assert "a notification is given up" in {each["event"] for each in logs}


async def test_slack_says_what_is_wrong() -> None:
    with receiver((400, {}, b"invalid_blocks")) as bot, capture_logs() as logs:
        async with sending(to(bot.url, type="Slack", secretEnvs=[])) as found:
            found.offer()
            assert await found.result() == "given up"
    assert logs[-1]["reason"] == "it answered 400 (invalid_blocks)"
    assert "webhook-signature" not in bot.came[0].headers


async def test_the_queue_is_bounded() -> None:
    found = Sending(to("http://127.0.0.1:1/"))
    offered = [found.offer(f"msg_{number}") for number in range(module.MAX_WAITING + 1)]
    assert offered.count(True) == module.MAX_WAITING
    assert offered[-1] is False


def test_retry_after() -> None:
    assert retry_after("7") == 7
    assert retry_after("100000") == 900
    for nonsense in ("", "soon", "-3", "٣"):
        assert retry_after(nonsense) is None
    soon = retry_after(format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True))
    assert soon is not None
    assert 25 < soon <= 31
