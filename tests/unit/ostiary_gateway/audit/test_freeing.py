"""What the store has goes from the disk, and from nowhere else: the rest reads, verifies and goes on as it was."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ostiary_gateway.audit import freeing, holes, index
from ostiary_gateway.audit.blocks import FIRST, Log
from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.audit.export import export
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.verify import findings, verify

Playing = Callable[[FileRecorder], Any]


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(freeing, "STEPS", (64 * 1024, 64 * 1024))
    monkeypatch.setattr(index, "SPAN", 50_000)


@pytest.fixture
async def freed(path: Path, play: Playing) -> AsyncIterator[FileRecorder]:
    """Two sessions of some hundred KB each, the first of which is over; all but 100 KB of it handed over."""
    recorder = await FileRecorder.open(path)
    recorder.spool(100_000, 0)
    acts = play(recorder)
    for name in ("s1", "s2"):
        acts.open(name)
        await fill(acts, name, 1, 21)
        if name == "s1":
            acts.close(name)
    await hand_over(recorder)
    recorder.acts = acts  # type: ignore[attr-defined]
    yield recorder
    await recorder.close()


async def fill(acts: Any, name: str, first: int, behind: int) -> None:
    for number in range(first, behind):
        await acts.run(name, number, f"select {number}", os.urandom(20_000))


async def hand_over(recorder: FileRecorder) -> None:
    """As the shipper tells it, again and again; the index follows within a second."""
    before = recorder.freed
    for _ in range(60):
        recorder.handed_over(recorder.position)
        await asyncio.sleep(0.05)
        if recorder.freed > before:
            return
    raise AssertionError("nothing was freed")


def on_disk(path: Path) -> int:
    return path.with_suffix(".log").stat().st_blocks * 512


async def test_the_disk_gets_back_what_the_store_has(freed: FileRecorder, path: Path) -> None:
    assert freed.freed > 500_000
    assert freed.held < 400_000
    assert on_disk(path) < freed.held + 100_000
    assert path.with_suffix(".log").stat().st_size >= freed.position


async def test_the_rest_is_verified_and_says_where_it_begins(freed: FileRecorder, path: Path) -> None:
    await freed.close()
    report = verify(path)
    assert report.ok, report.findings
    assert report.begins > 0
    assert f"begins at block {report.begins}; what was before was handed over to the store" in list(findings(report))


async def test_what_nobody_said_was_handed_over_was_removed(freed: FileRecorder, path: Path) -> None:
    await freed.close()
    log = Log.open(path.with_suffix(".log"))
    first = log.first()
    blocks = list(log.walk(first, log.size))
    log.close()
    # A thief goes on where the gateway has stopped.
    descriptor = os.open(path.with_suffix(".log"), os.O_RDWR)
    holes.punch(descriptor, FIRST, blocks[3].position - 32)
    os.close(descriptor)
    report = verify(path)
    assert any("were removed: no seal says that a store has them" in str(each) for each in report.findings)


async def test_sessions_read_as_far_as_they_are_there(freed: FileRecorder, path: Path) -> None:
    with Reader.open(path) as reader:
        sessions = {session.id: session for session in reader.sessions()}
        assert "s1" not in sessions  # over, and gone as a whole
        events = list(reader.events(sessions["s2"]))
        assert events[0].seq > 0
        requests = list(reader.requests(sessions["s2"]))
        assert requests[-1].id == "s2-20"
        assert 0 < len(requests) < 20
        assert [len(b"".join(reader.response(each))) for each in requests] == [20_000] * len(requests)
        assert all(each.begun is None or each.begun.fields["decision"]["action"] for each in requests[1:])  # type: ignore[index]
        assert len(list(export(reader, [sessions["s2"]]))) > len(requests)


async def test_the_gateway_goes_on_after_it(freed: FileRecorder, path: Path, play: Playing) -> None:
    acts = freed.acts  # type: ignore[attr-defined]
    await fill(acts, "s2", 21, 30)
    acts.close("s2")
    await freed.close()
    again = await FileRecorder.open(path)
    assert again.held < 600_000
    acts = play(again)
    acts.open("s3")
    await fill(acts, "s3", 1, 3)
    acts.close("s3")
    await again.close()
    report = verify(path)
    assert report.ok, report.findings
    with Reader.open(path) as reader:
        assert [session.id for session in reader.sessions()] == ["s3", "s2"]


async def test_killed_at_any_moment_it_goes_on(freed: FileRecorder, path: Path, tmp_path: Path) -> None:
    """What a gateway leaves that was killed: its files, with and without the index."""
    for case in ("as it is", "no index"):
        copy = tmp_path / case / "audit.db"
        copy.parent.mkdir()
        for file in path.parent.iterdir():
            if case == "no index" and ".db" in file.name:
                continue
            subprocess.run(["cp", "--sparse=always", file, copy.parent / file.name], check=True)
        recorder = await FileRecorder.open(copy)
        assert recorder.position >= freed.position, case
        await recorder.close()
        assert verify(copy).ok, (case, verify(copy).findings)
        assert not list(copy.parent.glob("audit.cut-*")), case


@pytest.mark.parametrize("moment", ["before the hole", "in the middle of the hole", "before the index knows"])
async def test_killed_while_it_frees_it_goes_on(
    moment: str, path: Path, play: Playing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy" / "audit.db"
    punch = holes.punch

    def killed(*_: object) -> None:
        """From here on nothing of it reaches the disk."""
        if not copy.parent.exists():
            shutil.copytree(path.parent, copy.parent)

    def half(descriptor: int, start: int, stop: int) -> None:
        if moment == "in the middle of the hole":
            punch(descriptor, start, start + (stop - start) // 2)
        if moment != "before the index knows":
            killed()
        punch(descriptor, start, stop)

    forget = index.forget

    def forgotten(connection: sqlite3.Connection, first: int) -> None:
        killed()
        forget(connection, first)

    monkeypatch.setattr(holes, "punch", half)
    monkeypatch.setattr(index, "forget", forgotten)
    recorder = await FileRecorder.open(path)
    recorder.spool(100_000, 0)
    acts = play(recorder)
    for name in ("s1", "s2"):
        acts.open(name)
        await fill(acts, name, 1, 21)
        acts.close(name)
    await hand_over(recorder)
    await recorder.close()
    assert verify(copy).ok, verify(copy).findings
    monkeypatch.undo()
    again = await FileRecorder.open(copy)
    acts = play(again)
    acts.open("s3")
    await fill(acts, "s3", 1, 3)
    acts.close("s3")
    await again.close()
    report = verify(copy)
    assert report.ok, report.findings
    assert (report.begins > 0) == (moment != "before the hole")
    assert not list(copy.parent.glob("audit.cut-*"))
    with Reader.open(copy) as reader:
        assert next(len(list(reader.requests(session))) for session in reader.sessions()) == 2


async def test_numbers_of_sessions_are_never_used_again(freed: FileRecorder, path: Path, tmp_path: Path) -> None:
    """The store knows them: also where index and beginning are gone."""
    acts = freed.acts  # type: ignore[attr-defined]
    for number in range(3, 9):  # the highest numbers are of sessions that are soon gone
        acts.open(f"s{number}")
        await fill(acts, f"s{number}", 1, 3)
        acts.close(f"s{number}")
    await fill(acts, "s2", 21, 50)
    await asyncio.sleep(1.2)
    await hand_over(freed)
    with sqlite3.connect(path) as connection:
        (highest,) = connection.execute("select sid from highest").fetchone()
    assert highest == 9
    copy = tmp_path / "copy" / "audit.db"
    copy.parent.mkdir()
    for file in path.parent.iterdir():
        if ".db" not in file.name:
            shutil.copy(file, copy.parent)
    recorder = await FileRecorder.open(copy)
    assert recorder._next_sid > highest + 1
    await recorder.close()


async def test_a_copy_without_holes_is_the_same_record(freed: FileRecorder, path: Path, tmp_path: Path) -> None:
    await freed.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    for file in path.parent.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    assert verify(copy / "audit.db").ok


async def test_nothing_goes_that_is_to_stay(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    await fill(acts, "s1", 1, 21)
    recorder.handed_over(recorder.position)  # without --keep-local all stays
    await asyncio.sleep(0.2)
    assert recorder.freed == 0
    recorder.spool(10_000_000, 0)
    recorder.handed_over(recorder.position)
    await asyncio.sleep(0.2)
    assert recorder.freed == 0
    await recorder.close()


async def test_a_file_system_without_holes_keeps_all(
    path: Path, play: Playing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holes, "_fallocate", lambda: None)
    recorder = await FileRecorder.open(path)
    recorder.spool(10_000, 0)
    acts = play(recorder)
    acts.open("s1")
    await fill(acts, "s1", 1, 21)
    await asyncio.sleep(1.2)
    recorder.handed_over(recorder.position)
    await asyncio.sleep(0.3)
    assert recorder.freed == 0
    await recorder.close()
    assert verify(path).begins == 0


async def test_a_full_spool_refuses_until_the_store_has_some(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    recorder.spool(50_000, 600_000)
    acts = play(recorder)
    acts.open("s1")
    with pytest.raises(RecordError, match="the store has not taken them over"):
        await fill(acts, "s1", 1, 60)
    assert recorder.failing
    assert recorder.held <= 610_000
    await hand_over(recorder)
    for _ in range(60):
        await asyncio.sleep(0.05)
        if not recorder.failing:
            break
    assert not recorder.failing
    waiting = acts.begin("s1", 100, durable=True)
    if waiting is not None:
        await waiting
    acts.end("s1", 100)
    acts.close("s1")
    await recorder.close()
    assert verify(path).ok


async def test_a_reader_that_is_at_it_goes_on(freed: FileRecorder, path: Path) -> None:
    """It has the stretches of before; what is gone meanwhile is passed over, not taken for the end."""
    acts = freed.acts  # type: ignore[attr-defined]
    with Reader.open(path) as reader:
        session = reader.session("s2")
        events = reader.events(session)
        next(events)
        await fill(acts, "s2", 21, 50)
        await asyncio.sleep(1.2)
        await hand_over(freed)
        seen = [event.seq for event in events]
    assert seen == sorted(seen)


def test_a_hole_reads_as_zeros_and_takes_no_room(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 300_000)
    descriptor = os.open(file, os.O_RDWR)
    assert holes.possible(descriptor)
    holes.punch(descriptor, 64, 200_001)
    assert file.read_bytes() == b"x" * 64 + bytes(199_937) + b"x" * 99_999
    assert file.stat().st_blocks * 512 < 120_000
    assert 0 < holes.data_from(descriptor, 8192) <= 200_001
    assert holes.data_from(descriptor, 300_000) == 300_000
    os.close(descriptor)
