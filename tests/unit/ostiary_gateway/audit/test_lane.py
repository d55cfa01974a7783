"""The lane: one append after the other, durable when it is taken; and what the recorder sends along it."""

from __future__ import annotations

import asyncio
import errno
import random
import select
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ostiary_gateway.audit import direct
from ostiary_gateway.audit.lane import Lane
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.verify import verify

Playing = Callable[[FileRecorder], Any]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"head")
    return path


@pytest.fixture
def lane(file: Path) -> Iterator[Lane]:
    lane = Lane(file)
    yield lane
    lane.close()


def ended(lane: Lane) -> int:
    assert select.select([lane.ready], [], [], 10)[0], "nothing came back"
    return lane.taken()


def test_appends_follow_each_other(lane: Lane, file: Path) -> None:
    for number, whole in enumerate((False, True, False)):
        lane.append(f"-{number}".encode(), 4 + 2 * number, whole=whole)
        assert ended(lane) == 0
    assert file.read_bytes() == b"head-0-1-2"


def test_what_was_not_acknowledged_may_be_written_over(lane: Lane, file: Path) -> None:
    lane.append(b"lost and long", 4, whole=False)
    ended(lane)
    lane.append(b"kept", 4, whole=True)
    assert ended(lane) == 0
    assert file.read_bytes() == b"headkept and long"


def test_an_error_is_told_and_the_next_append_goes_on() -> None:
    lane = Lane(Path("/dev/full"))
    try:
        for _ in range(2):
            lane.append(b"x", 0, whole=False)
            assert ended(lane) == errno.ENOSPC
    finally:
        lane.close()


def test_it_closes_without_a_word(file: Path) -> None:
    Lane(file).close()
    assert file.read_bytes() == b"head"


def test_there_is_no_lane_to_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Lane(tmp_path / "not" / "there")


# The recorder


class Sent:
    """What went along the lane: the real one, that counts, and fails when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.appends = 0
        self.fail = 0
        sent = self

        class Counting:
            def __init__(self, path: Path) -> None:
                self._lane = Lane(path)
                self.ready = self._lane.ready

            def append(self, data: bytes, position: int, *, whole: bool) -> None:
                sent.appends += 1
                self._lane.append(data, position, whole=whole)

            def taken(self) -> int:
                failed = self._lane.taken()
                if sent.fail:
                    sent.fail -= 1
                    return errno.EIO
                return failed

            def close(self) -> None:
                self._lane.close()

        monkeypatch.setattr(direct, "Lane", Counting)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


async def acknowledged(waiter: Awaitable[None] | None) -> None:
    assert waiter is not None
    async with asyncio.timeout(20):
        await waiter


async def test_a_durable_request_goes_along_it(tmp_path: Path, sent: Sent, play: Playing) -> None:
    recorder = await FileRecorder.open(tmp_path / "audit.db")
    acts = play(recorder)
    acts.open("s1")
    await acknowledged(acts.begin("s1", 1, durable=True))
    assert sent.appends == 1
    with Reader.open(tmp_path / "audit.db") as reader:
        assert [each.requests for each in reader.sessions()] == [1]
    await recorder.close()
    assert recorder.stats.durable_batches >= 1


async def test_one_that_fails_is_written_by_the_writer(tmp_path: Path, sent: Sent, play: Playing) -> None:
    recorder = await FileRecorder.open(tmp_path / "audit.db")
    acts = play(recorder)
    acts.open("s1")
    sent.fail = 2
    for number in range(1, 6):
        await acknowledged(acts.begin("s1", number, f"select {number}", durable=True))
    await recorder.close()
    assert sent.fail < 2  # not all of them need have gone along the lane
    assert texts(tmp_path) == {"s1": [f"select {number}" for number in range(1, 6)]}
    assert verify(tmp_path / "audit.db").ok


async def test_the_index_hears_of_it_though_nothing_else_happens(tmp_path: Path, sent: Sent, play: Playing) -> None:
    recorder = await FileRecorder.open(tmp_path / "audit.db")
    acts = play(recorder)
    acts.open("s1")
    for number in range(1, 4):
        await acknowledged(acts.begin("s1", number, durable=True))
        await asyncio.sleep(0.05)
    assert sent.appends
    async with asyncio.timeout(20):
        while True:
            with Reader.open(tmp_path / "audit.db") as reader:
                if [each.requests for each in reader.sessions()] == [3]:
                    break
            await asyncio.sleep(0.05)
    await recorder.close()


async def test_sessions_of_all_kinds_at_once_keep_their_order(tmp_path: Path, sent: Sent, play: Playing) -> None:
    """Some wait for the disk, some do not, some answers are large: the record is whole, and each session in order."""
    chance = random.Random(7)
    recorder = await FileRecorder.open(tmp_path / "audit.db")
    acts = play(recorder)

    async def agent(session: str, durable: bool) -> None:
        acts.open(session)
        for number in range(1, 60):
            waiter = acts.begin(session, number, f"select {number}", durable=durable)
            if waiter is not None:
                await waiter
            size = chance.choice((3, 3, 3, 2_000, 300_000))
            acts.respond(session, number, bytes(chance.randbytes(16)) * (size // 16 + 1))
            acts.end(session, number)
            if not durable or chance.random() < 0.1:
                await asyncio.sleep(chance.random() / 300)

    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        for index in range(12):
            tasks.create_task(agent(f"s{index}", durable=index % 3 > 0))
    await recorder.close()
    assert sent.appends > 10
    assert recorder.stats.batches > recorder.stats.durable_batches
    assert texts(tmp_path) == {f"s{index}": [f"select {n}" for n in range(1, 60)] for index in range(12)}
    assert verify(tmp_path / "audit.db").ok


async def test_closing_waits_for_what_is_on_its_way(tmp_path: Path, sent: Sent, play: Playing) -> None:
    recorder = await FileRecorder.open(tmp_path / "audit.db")
    acts = play(recorder)
    acts.open("s1")
    waiter = acts.begin("s1", 1, "select 'last'", durable=True)
    await recorder.close()
    await acknowledged(waiter)
    assert texts(tmp_path) == {"s1": ["select 'last'"]}
    assert verify(tmp_path / "audit.db").ok


async def test_a_record_that_was_replaced_refuses(tmp_path: Path, sent: Sent, play: Playing) -> None:
    recorder = await FileRecorder.open(tmp_path / "audit.db")
    acts = play(recorder)
    acts.open("s1")
    await acknowledged(acts.begin("s1", 1, durable=True))
    (tmp_path / "audit.log").rename(tmp_path / "elsewhere")
    (tmp_path / "audit.log").write_bytes(b"another")
    await asyncio.sleep(0.15)  # how often it looks
    with pytest.raises(Exception, match="replaced"):
        await acknowledged(acts.begin("s1", 2, durable=True))
    with pytest.raises(Exception, match="replaced"):
        await recorder.close()


def texts(folder: Path) -> dict[str, list[str]]:
    """Of every session's requests, in the order of the record."""
    with Reader.open(folder / "audit.db") as reader:
        return {
            session.id: [str(each.begun.fields["text"]) for each in reader.requests(session) if each.begun is not None]
            for session in reader.sessions()
        }
