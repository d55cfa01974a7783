"""The store on one file: durable, shared by processes, and a grant is used once whatever happens."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[3]))

from support.approvals import NOON, question
from support.policies import connection, subject

from ostiary_api.counting import approvers, state_of
from ostiary_gateway.approvals.local import MAX_OPEN, Answer, LocalApprovals, Refused
from ostiary_gateway.approvals.store import ApprovalsError, TooManyQuestions, Transition

TESTS = Path(__file__).parents[3]


class Clock:
    def __init__(self) -> None:
        self.now = NOON.timestamp()

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def told() -> list[Transition]:
    return []


@pytest.fixture
async def store(tmp_path: Path, clock: Clock, told: list[Transition]) -> AsyncIterator[LocalApprovals]:
    opened = await LocalApprovals.open(tmp_path / "approvals.db", tell=told.append, clock=clock)
    yield opened
    await opened.close()


def by(approver: str, verdict: str = "Approve", **more: object) -> Answer:
    return Answer(approver, verdict, str(more.pop("reason", "")), **more)  # type: ignore[arg-type]


async def test_asked_approved_used(store: LocalApprovals, told: list[Transition]) -> None:
    asked = await store.ask(question())
    assert await store.find(connection(), asked.spec.request.hash) == asked
    assert await store.take(asked, "s1") is None
    approved = await store.answer("default", asked.metadata.name, by("alice", reason="fine"))
    assert (state_of(approved.status), approvers(approved)) == ("Approved", ("alice",))
    used = await store.take(asked, "s2")
    assert used is not None
    assert state_of(used.status) == "Consumed"
    assert await store.take(asked, "s2") is None
    assert await store.find(connection(), asked.spec.request.hash) is None
    assert [(each.step, each.by) for each in told] == [
        ("Asked", "agent"), ("Answered", "alice"), ("Approved", "alice"), ("Consumed", "s2"),
    ]  # fmt: skip


async def test_one_question_is_open_for_a_request(store: LocalApprovals) -> None:
    first, again = await store.ask(question("apr-1")), await store.ask(question("apr-2"))
    assert again.metadata.name == first.metadata.name
    await store.answer("default", "apr-1", by("alice", "Deny"))
    assert (await store.ask(question("apr-2"))).metadata.name == "apr-2"
    assert (await store.ask(question("apr-2", "another"))).metadata.name not in ("apr-1", "apr-2")


@pytest.mark.parametrize(
    ("before", "answer", "code"),
    [
        ([], by("agent"), "own"),
        ([by("alice")], by("alice"), "answered"),
        ([by("alice"), by("bob")], by("carol"), "closed"),
        ([by("alice", "Deny")], by("bob"), "closed"),
        ([by("root", operator=True)], by("alice", operator=True), "answered"),
    ],
)
async def test_answers_that_do_not_count(
    store: LocalApprovals, before: list[Answer], answer: Answer, code: str
) -> None:
    await store.ask(question(min_approvals=2))
    for each in before:
        await store.answer("default", "apr-1", each)
    with pytest.raises(Refused) as refused:
        await store.answer("default", "apr-1", answer)
    assert refused.value.code == code


async def test_questions_and_grants_expire(store: LocalApprovals, clock: Clock, told: list[Transition]) -> None:
    await store.ask(question("apr-1"))
    await store.ask(question("apr-2", "another"))
    await store.answer("default", "apr-2", by("alice"))
    clock.now += 601
    assert await store.take(question("apr-2", "another"), "s") is None
    clock.now += 300
    await store.sweep()
    assert [each.request.metadata.name for each in told if each.step == "Expired"] == ["apr-2", "apr-1"]
    assert store.pending == 0


async def test_what_was_closed_long_ago_is_forgotten(store: LocalApprovals, clock: Clock) -> None:
    await store.ask(question())
    clock.now += 40 * 86400
    await store.sweep()
    await store.sweep()
    assert await store.listed(closed=True) == []


async def test_a_subject_has_so_many_open_questions_and_no_more(store: LocalApprovals) -> None:
    for number in range(MAX_OPEN):
        await store.ask(question(f"apr-{number}", f"update {number}"))
    with pytest.raises(TooManyQuestions):
        await store.ask(question("apr-x", "one more"))
    await store.ask(question("apr-y", "one more", subject("other")))


async def test_who_waits_is_told_at_once(store: LocalApprovals) -> None:
    asked = await store.ask(question())
    waiting = [asyncio.create_task(store.wait(asked, 60)) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await store.answer("default", "apr-1", by("alice"))
    for task in waiting[1:]:
        assert state_of((await asyncio.wait_for(task, 5)).status) == "Approved"
    assert (await asyncio.gather(waiting[0], return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_a_wait_has_an_end(store: LocalApprovals) -> None:
    asked = await store.ask(question())
    assert state_of((await store.wait(asked, 0.01)).status) == "Pending"


async def test_another_process_s_answer_wakes_too(store: LocalApprovals, tmp_path: Path, clock: Clock) -> None:
    asked = await store.ask(question())
    other = await LocalApprovals.open(tmp_path / "approvals.db", clock=clock)
    waiting = asyncio.create_task(store.wait(asked, 60))
    await asyncio.sleep(0.05)
    await other.answer("default", "apr-1", by("alice", "Deny"))
    assert state_of((await asyncio.wait_for(waiting, 10)).status) == "Denied"
    await other.close()


async def test_closing_ends_the_waiting(tmp_path: Path) -> None:
    store = await LocalApprovals.open(tmp_path / "approvals.db")
    asked = await store.ask(question())
    waiting = asyncio.create_task(store.wait(asked, 60))
    await asyncio.sleep(0.05)
    await store.close()
    assert (await asyncio.wait_for(waiting, 5)).metadata.name == "apr-1"
    with pytest.raises(ApprovalsError, match="shutting down"):
        await store.find(connection(), "x")


async def test_a_file_that_is_no_store_is_refused(tmp_path: Path) -> None:
    (tmp_path / "approvals.db").write_text("this is no database, whatever its name says" * 100)
    with pytest.raises(ApprovalsError, match=r"approvals\.db"):
        await LocalApprovals.open(tmp_path / "approvals.db")


async def test_nobody_else_may_read_it(store: LocalApprovals, tmp_path: Path) -> None:
    assert (tmp_path / "approvals.db").stat().st_mode & 0o077 == 0


steps = st.lists(st.sampled_from(["ask", "approve", "deny", "take", "take", "restart", "both", "later"]), max_size=14)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps)
def test_a_grant_is_used_at_most_once_in_any_order_of_things(order: list[str]) -> None:
    """Two processes' worth of stores on one file; restarts in between; takes at the same time."""

    async def play(path: Path) -> None:
        clock, granted, used = Clock(), 0, 0
        stores = [await LocalApprovals.open(path, clock=clock) for _ in range(2)]
        for number, step in enumerate(order):
            store = stores[number % 2]
            if step == "ask":
                await store.ask(question(f"apr-{number}"))
            elif step in ("approve", "deny"):
                for kept in await store.listed():
                    verdict = "Approve" if step == "approve" else "Deny"
                    try:
                        answered = await store.answer("default", kept.request.metadata.name, by("alice", verdict))
                    except Refused:
                        continue
                    granted += state_of(answered.status) == "Approved"
            elif step in ("take", "both"):
                found = await store.find(connection(), question().spec.request.hash)
                if found is not None:
                    takers = stores if step == "both" else [store]
                    taken = await asyncio.gather(*(each.take(found, f"s{number}") for each in takers))
                    used += sum(each is not None for each in taken)
            elif step == "restart":
                await store.close()
                stores[number % 2] = await LocalApprovals.open(path, clock=clock)
            else:
                clock.now += 400
            assert used <= granted
        for store in stores:
            await store.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory) / "approvals.db"))


PROGRAM = """
import asyncio, os, signal, sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from support.approvals import question
from ostiary_gateway.approvals.local import LocalApprovals
from support.approvals import NOON

async def main():
    store = await LocalApprovals.open(Path(sys.argv[1]), clock=lambda: NOON.timestamp())
    sys.stdin.readline()
    taken = await store.take(question(), "s")
    print("took" if taken else "none", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_of_several_processes_one_takes_it_and_a_killed_one_leaves_nothing_to_take(
    store: LocalApprovals, tmp_path: Path
) -> None:
    """Each is killed (SIGKILL) between taking the grant and running anything."""
    await store.ask(question())
    await store.answer("default", "apr-1", by("alice"))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "approvals.db"), str(TESTS)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ)
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert sorted(said) == ["none", "none", "took"]
    assert {process.returncode for process in processes} == {-signal.SIGKILL}
    assert await store.take(question(), "s") is None
    (kept,) = await store.listed(closed=True)
    assert state_of(kept.request.status) == "Consumed"
