"""What a queue of keys promises to those who add, and to those who work."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from support import virtual_time

from ostiary_operator.workqueue import WorkQueue


def now() -> float:
    return asyncio.get_running_loop().time()


def test_a_key_that_waits_is_there_once() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for key in ("a", "b", "a", "a"):
            queue.add(key)
        assert [await queue.get(), await queue.get()] == ["a", "b"]
        assert len(queue) == 0
        assert queue.active == 2

    virtual_time.run(story())


def test_a_key_that_is_worked_on_is_not_given_to_another_worker_but_comes_again() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        queue.add("a")
        assert len(queue) == 0
        assert queue.done("a") == 0.0
        assert await queue.get() == "a"
        queue.done("a")
        assert queue.idle

    virtual_time.run(story())


def test_a_worker_waits_until_something_is_added() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        asyncio.get_running_loop().call_later(5.0, queue.add, "late")
        assert await queue.get() == "late"
        assert now() == 5.0

    virtual_time.run(story())


def test_pauses_after_failures_double_up_to_the_longest() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue(first_retry=1.0, longest_retry=8.0)
        queue.add("a")
        pauses = []
        for _ in range(6):
            await queue.get()
            pauses.append(queue.done("a", failed=True))
        # With jitter downwards, of a quarter at most.
        for pause, longest in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True):
            assert 0.75 * longest <= pause <= longest

    virtual_time.run(story())


def test_after_a_success_pauses_begin_anew() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue(first_retry=1.0, longest_retry=60.0)
        queue.add("a")
        for failed in (True, True, True, False):
            await queue.get()
            queue.done("a", failed=failed)
        queue.add("a")
        await queue.get()
        assert queue.done("a", failed=True) <= 1.0

    virtual_time.run(story())


def test_a_change_does_not_wait_for_the_pause_after_a_failure() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue(first_retry=30.0)
        queue.add("a")
        await queue.get()
        queue.done("a", failed=True)
        queue.add("a")
        assert await queue.get() == "a"
        assert now() < 1.0

    virtual_time.run(story())


def test_many_failures_at_once_are_not_all_tried_again_at_once() -> None:
    async def story() -> None:
        queue: WorkQueue[int] = WorkQueue(first_retry=0.1, longest_retry=0.1, retries_per_second=10.0)
        for key in range(50):
            queue.add(key)
        for _ in range(50):
            await queue.get()
        for key in range(50):
            queue.done(key, failed=True)
        for _ in range(50):
            await queue.get()
        assert now() >= 4.9

    virtual_time.run(story())


def test_of_two_times_the_earlier_holds() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 10.0)
        queue.add_after("a", 20.0)
        queue.add_after("b", 20.0)
        queue.add_after("b", 5.0)
        assert (await queue.get(), now()) == ("b", 5.0)
        assert (await queue.get(), now()) == ("a", 10.0)
        queue.done("a")
        queue.done("b")
        await asyncio.sleep(60)
        assert queue.idle

    virtual_time.run(story())


def test_what_is_cleared_does_not_come_back() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        queue.add_after("b", 1.0)
        queue.clear()
        await asyncio.sleep(10)
        assert queue.idle

    virtual_time.run(story())


def test_it_tells_how_long_keys_waited() -> None:
    async def story() -> None:
        waited: list[float] = []
        queue: WorkQueue[str] = WorkQueue(waited=waited.append)
        queue.add("a")
        await asyncio.sleep(3)
        await queue.get()
        assert waited == [3.0]

    virtual_time.run(story())


def test_what_is_urgent_overtakes_but_not_for_ever() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue(urgent=lambda key: key.startswith("urgent"))
        queue.add("calm")
        for number in range(20):
            queue.add(f"urgent-{number}")
        order = [await queue.get() for _ in range(21)]
        assert order.index("calm") == 10
        assert [key for key in order if key != "calm"] == [f"urgent-{number}" for number in range(20)]

    virtual_time.run(story())
