"""Questions to the record."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ostiary_gateway.audit.event import SessionOpened
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.verify import verify

Playing = Callable[[FileRecorder], Any]


@pytest.fixture
async def record(path: Path, play: Playing) -> Path:
    """Sessions s0 to s3, opened at 100, 200 …; s1 was denied once, s2 asked for approval."""
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    for number in range(4):
        name = f"s{number}"
        acts.sessions[name] = recorder.session_opened(
            SessionOpened(
                name,
                100.0 * (number + 1),
                f"prod/app{number % 2}",
                "Postgres",
                {"username": f"agent{number // 2}"},
                {},
                {},
                "Full",
            )
        )
        decision = {1: acts.deny, 2: acts.ask}.get(number, acts.allow)
        acts.begin(name, 1, "select 1", decision)
        acts.end(name, 1)
        acts.close(name)
    await recorder.close()
    return path


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["s3", "s2", "s1", "s0"]),
        ({"newest_first": False, "limit": 2}, ["s0", "s1"]),
        ({"connection": "prod/app1"}, ["s3", "s1"]),
        ({"username": "agent0"}, ["s1", "s0"]),
        ({"since": 300.0}, ["s3", "s2"]),
        ({"since": 200.0, "until": 300.0}, ["s1"]),
        ({"decision": "Deny"}, ["s1"]),
        ({"decision": "RequireApproval"}, ["s2"]),
        ({"decision": "Allow"}, ["s3", "s0"]),
        ({"decision": "Deny", "username": "agent1"}, []),
        ({"state": "open"}, []),
    ],
)
def test_filters(record: Path, filters: dict[str, Any], expected: list[str]) -> None:
    with Reader.open(record) as reader:
        assert [session.id for session in reader.sessions(**filters)] == expected


def test_an_unknown_decision_is_refused(record: Path) -> None:
    with Reader.open(record) as reader, pytest.raises(ValueError, match="Choose one of"):
        list(reader.sessions(decision="Maybe"))


def test_a_session_is_found_by_the_beginning_of_its_id(record: Path) -> None:
    with Reader.open(record.parent) as reader:
        assert reader.session("s1").id == "s1"
        with pytest.raises(LookupError, match="several sessions"):
            reader.session("s")
        with pytest.raises(LookupError, match="no session"):
            reader.session("x")


def test_a_request_is_found_by_its_id(record: Path) -> None:
    with Reader.open(record) as reader:
        session, request = reader.request("s1-1")
        assert (session.id, request.id) == ("s1", "s1-1")
        assert request.ended is not None
        with pytest.raises(LookupError, match="no request 2"):
            reader.request("s1-2")
        with pytest.raises(LookupError, match="not the id of a request"):
            reader.request("s1-")


async def test_one_request_of_many_is_found_in_the_file_and_behind_the_index(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    for number in range(1, 2001):
        await acts.run("s1", number, f"select {number}", os.urandom(2000))
    with Reader.open(path) as reader:
        for number in (1, 777, 2000):
            _, request = reader.request(f"s1-{number}")
            assert request.begun is not None
            assert request.begun.fields["text"] == f"select {number}"
            assert sum(map(len, reader.response(request))) in ({2000} if number < 2000 else {0, 2000})
    await recorder.close()
    with Reader.open(path) as reader:
        _, request = reader.request("s1-1234")
        assert request.begun is not None
        assert request.begun.fields["text"] == "select 1234"


async def test_a_lost_index_is_made_anew(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    await acts.run("s1", 1, "select 1", b"row")
    acts.close("s1")
    await recorder.close()
    with Reader.open(path) as reader:
        before = list(reader.sessions(gateway=True))
    for name in ("audit.db", "audit.db-wal", "audit.db-shm"):
        path.with_name(name).unlink(missing_ok=True)
    await (await FileRecorder.open(path)).close()
    assert verify(path).ok
    with Reader.open(path) as reader:
        assert list(reader.sessions(gateway=True))[1:] == before


def test_counts(record: Path) -> None:
    with Reader.open(record) as reader:
        counts = reader.counts()
        assert (counts.sessions, counts.requests, counts.denied) == (4, 4, 1)


def test_a_missing_record_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="data directory"):
        Reader.open(tmp_path)


def test_a_file_that_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "audit.db").write_text("not a database, but long enough to be looked at " * 50)
    with pytest.raises(ValueError, match=r"audit\.db"):
        Reader.open(tmp_path)


async def test_the_error_of_a_denial_belongs_to_its_request(path: Path, play: Playing) -> None:
    """It is sent after the request's end was recorded."""
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1, "drop database app", acts.deny)
    acts.end("s1", 1, "denied")
    acts.respond("s1", 1, b"ERROR")
    await acts.run("s1", 2, "select 1", b"row")
    acts.close("s1")
    await recorder.close()
    with Reader.open(path) as reader:
        found = {r.id: b"".join(reader.response(r)) for r in reader.requests(reader.session("s1"))}
    assert found == {"s1-1": b"ERROR", "s1-2": b"row"}


def watch(path: str, expected: int) -> int:
    """In another process: read until all is there; every state seen on the way must make sense."""
    while True:
        with Reader.open(Path(path)) as reader:
            seen = 0
            for session in reader.sessions():
                numbers = [int(request.id.split("-")[1]) for request in reader.requests(session)]
                assert numbers == list(range(1, len(numbers) + 1))
                seqs = [event.seq for event in reader.events(session)]
                assert seqs == list(range(len(seqs)))
                seen += len(numbers)
        if seen == expected:
            return seen


async def test_two_readers_while_it_is_written(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)

    async def agent(name: str) -> None:
        acts.open(name)
        for number in range(100):
            await acts.run(name, number + 1, "select 1", os.urandom(50))
            if number % 20 == 0:
                await asyncio.sleep(0.2)  # let the index catch up in between

    loop = asyncio.get_running_loop()
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        readers = [loop.run_in_executor(pool, watch, str(path), 400) for _ in range(2)]
        await asyncio.gather(*(agent(f"s{number}") for number in range(4)))
        assert await asyncio.wait_for(asyncio.gather(*readers), 30) == [400, 400]
    await recorder.close()
