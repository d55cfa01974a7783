"""The recorder, on real files, read back through the reader."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.forgery import Forgery

from ostiary_gateway.audit.event import LoginRefused, RecordError
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.verify import verify

Playing = Callable[[FileRecorder], Any]


async def test_a_session_comes_back_as_it_went_in(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1, "select $1", detail={"parameters": ["7", None]})
    acts.respond("s1", 1, b"one ")
    acts.respond("s1", 1, memoryview(bytearray(b"two")))
    acts.end("s1", 1, rows=1, size=7)
    acts.begin("s1", 2, "drop database app", acts.deny)
    acts.end("s1", 2, "denied")
    acts.begin("s1", 3, "select 1/0")
    acts.end("s1", 3, "error")
    acts.close("s1")
    await recorder.close()

    with Reader.open(path) as reader:
        session = reader.session("s1")
        assert (session.state, session.connection, session.username) == ("closed", "prod/app", "planner")
        assert (session.requests, session.denied, session.errors, session.rows, session.bytes) == (3, 1, 1, 1, 7)
        first, second, third = reader.requests(session)
        assert first.begun is not None
        assert first.ended is not None
        assert second.begun is not None
        assert first.begun.fields["text"] == "select $1"
        assert first.begun.fields["detail"] == {"parameters": ["7", None]}
        assert b"".join(reader.response(first)) == b"one two"
        assert first.ended.fields["response"] == {"size": 7, "recorded": 7}
        decision = second.begun.fields["decision"]
        assert isinstance(decision, dict)
        assert (decision["action"], decision["rule"]["rule"]) == ("Deny", "no-drop")
        assert third.ended is not None
        assert third.ended.fields["outcome"] == "error"
    assert verify(path).ok


async def test_a_durable_begin_is_in_the_file_when_it_is_acknowledged(
    path: Path, recorder: FileRecorder, play: Playing
) -> None:
    acts = play(recorder)
    acts.open("s1")
    for number in range(5):
        await acts.begin("s1", number + 1, durable=True)
        with Reader.open(path) as reader:
            requests = [r.id for r in reader.requests(reader.session("s1"))]
        assert requests == [f"s1-{n + 1}" for n in range(number + 1)]


async def test_begins_that_wait_together_share_a_commit_and_keep_their_order(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    order: list[int] = []

    async def agent(number: int) -> None:
        acts.open(f"s{number}")
        for step in range(20):
            await acts.begin(f"s{number}", step + 1, durable=True)
            order.append(number)
            acts.end(f"s{number}", step + 1)
        acts.close(f"s{number}")

    await asyncio.gather(*(agent(number) for number in range(32)))
    await recorder.close()
    assert len(order) == 32 * 20
    assert recorder.stats.durable_batches < 32 * 20 / 4
    with Reader.open(path) as reader:
        for session in reader.sessions():
            expected = [f"{session.id}-{step + 1}" for step in range(20)]
            assert [request.id for request in reader.requests(session)] == expected
    assert verify(path).ok


async def test_a_begin_that_nobody_waits_for_returns_at_once(recorder: FileRecorder, play: Playing) -> None:
    acts = play(recorder)
    acts.open("s1")
    assert acts.begin("s1", 1, durable=False) is None


async def test_a_request_of_a_session_that_is_over_may_not_run(recorder: FileRecorder, play: Playing) -> None:
    acts = play(recorder)
    acts.open("s1")
    acts.close("s1")
    with pytest.raises(RecordError, match="not open"):
        acts.begin("s1", 1, durable=False)


async def test_events_after_a_sessions_end_are_counted_not_recorded(recorder: FileRecorder, play: Playing) -> None:
    acts = play(recorder)
    acts.open("s1")
    acts.close("s1")
    acts.respond("s1", 1, b"late")
    acts.end("s1", 1)
    acts.close("s1")
    assert recorder.stats.misplaced == 3


async def test_a_waiter_that_is_cancelled_does_not_hurt_the_others(recorder: FileRecorder, play: Playing) -> None:
    acts = play(recorder)
    acts.open("s1")
    first = asyncio.ensure_future(acts.begin("s1", 1, durable=True))
    second = asyncio.ensure_future(acts.begin("s1", 2, durable=True))
    first.cancel()
    await second
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_a_long_response_is_cut_at_the_limit_with_a_mark(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path, max_recorded_bytes=1_000_000)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1)
    for _ in range(30):
        acts.respond("s1", 1, os.urandom(100_000))
    acts.end("s1", 1, size=3_000_000)
    acts.close("s1")
    await recorder.close()
    assert recorder.stats.truncated == 1
    with Reader.open(path) as reader:
        (request,) = reader.requests(reader.session("s1"))
        assert request.ended is not None
        assert request.ended.fields["response"] == {"size": 3_000_000, "recorded": 1_000_000, "truncated": True}
        assert len(b"".join(reader.response(request))) == 1_000_000
    assert verify(path).ok


async def test_a_response_of_exactly_the_limit_is_whole(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path, max_recorded_bytes=10)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1)
    acts.respond("s1", 1, b"0123456789")
    acts.end("s1", 1)
    await recorder.close()
    with Reader.open(path) as reader:
        (request,) = reader.requests(reader.session("s1"))
        assert request.ended is not None
        assert request.ended.fields["response"] == {"size": 10, "recorded": 10}


@pytest.mark.parametrize("chunk", [1000, 100_000, 3_000_000])
async def test_responses_come_back_whole_whatever_their_chunks(path: Path, play: Playing, chunk: int) -> None:
    data = os.urandom(500_000) + bytes(2_500_000)
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    for session in ("a", "b"):
        acts.open(session)
        acts.begin(session, 1)
    for start in range(0, len(data), chunk):
        for session in ("a", "b"):
            acts.respond(session, 1, data[start : start + chunk])
            if recorder.pressure:
                await recorder.relieved()
    for session in ("a", "b"):
        acts.end(session, 1)
        acts.close(session)
    await recorder.close()
    with Reader.open(path) as reader:
        for session in reader.sessions():
            (request,) = reader.requests(session)
            assert b"".join(reader.response(request)) == data
    assert verify(path).ok


async def test_metadata_keeps_requests_without_their_responses(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1", "Metadata")
    await acts.run("s1", 1, "select secret", b"secret row")
    acts.close("s1")
    await recorder.close()
    with Reader.open(path) as reader:
        (request,) = reader.requests(reader.session("s1"))
        assert request.begun is not None
        assert request.begun.fields["text"] == "select secret"
        assert list(reader.response(request)) == []


async def test_recording_none_keeps_the_session_and_what_was_not_simply_allowed(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1", "None")
    assert acts.begin("s1", 1, "select 1", durable=True) is None
    acts.respond("s1", 1, b"row")
    acts.end("s1", 1, rows=1)
    await acts.begin("s1", 2, "drop database app", acts.deny, durable=True)
    acts.end("s1", 2, "denied")
    await acts.begin("s1", 3, "delete from t", acts.ask, durable=True)
    acts.end("s1", 3, "denied")
    acts.close("s1")
    await recorder.close()
    with Reader.open(path) as reader:
        session = reader.session("s1")
        assert (session.requests, session.denied, session.asked, session.rows) == (3, 1, 1, 1)
        assert [request.id for request in reader.requests(session)] == ["s1-2", "s1-3"]
    assert verify(path).ok


async def test_refused_logins_are_in_the_gateways_own_session(path: Path) -> None:
    recorder = await FileRecorder.open(path)
    recorder.login_refused(LoginRefused("l1", 1.0, "prod/app", {"address": "10.0.0.9"}, "the token is not known"))
    await recorder.close()
    with Reader.open(path) as reader:
        assert list(reader.sessions()) == []
        (gateway,) = reader.sessions(gateway=True)
        refused = [event.fields for event in reader.events(gateway) if event.kind == "refused"]
        assert [fields["reason"] for fields in refused] == ["the token is not known"]
    assert verify(path).ok


async def test_requests_still_open_when_their_session_ends_are_lost(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1)
    acts.respond("s1", 1, b"half a row")
    acts.close("s1")
    await recorder.close()
    with Reader.open(path) as reader:
        (request,) = reader.requests(reader.session("s1"))
        assert request.ended is not None
        assert request.ended.fields["outcome"] == "lost"
        assert b"".join(reader.response(request)) == b"half a row"


async def test_bytes_outside_any_request_are_kept(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.respond("s1", 0, b"a notification")
    acts.close("s1")
    await recorder.close()
    with Reader.open(path) as reader:
        (request,) = reader.requests(reader.session("s1"))
        assert request.begun is None
        assert b"".join(reader.response(request)) == b"a notification"
    assert verify(path).ok


async def test_sessions_open_at_shutdown_are_marked_lost(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    play(recorder).open("s1")
    await recorder.close()
    with Reader.open(path) as reader:
        assert reader.session("s1").state == "lost"
    report = verify(path)
    assert report.ok
    assert report.unsealed == 0


async def test_only_one_gateway_writes_to_a_record(path: Path, recorder: FileRecorder) -> None:
    with pytest.raises(RecordError, match="another gateway"):
        await FileRecorder.open(path)


def test_the_record_and_its_key_are_for_their_owner_only(path: Path, recorder: FileRecorder) -> None:
    for name in ("audit.key", "audit.db", "audit.db-wal", "audit.db-shm", "audit.lock"):
        assert path.with_name(name).stat().st_mode & 0o777 == 0o600, name


async def test_a_key_that_others_may_read_is_refused(path: Path) -> None:
    await (await FileRecorder.open(path)).close()
    path.with_suffix(".key").chmod(0o644)
    with pytest.raises(RecordError, match="chmod 600"):
        await FileRecorder.open(path)


async def test_a_file_that_is_no_record_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("create table mine (a)")
    other.close()
    with pytest.raises(RecordError, match="not a record"):
        await FileRecorder.open(path)


async def test_a_record_of_the_first_format_is_refused_with_what_to_do(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as older:
        older.execute("create table session (sid integer primary key)")
        older.execute("pragma application_id = 0x4F535459")
        older.execute("pragma user_version = 1")
    older.close()
    with pytest.raises(RecordError, match=r"earlier Ostiary.*Move audit\.db"):
        await FileRecorder.open(path)


async def test_a_record_of_a_newer_version_is_refused(path: Path) -> None:
    await (await FileRecorder.open(path)).close()
    with sqlite3.connect(path) as newer:
        newer.execute("pragma user_version = 99")
    newer.close()
    with pytest.raises(RecordError, match="newer"):
        await FileRecorder.open(path)


async def test_whatever_a_client_sends_as_text_is_recorded(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    for number, text in enumerate(["\x00", "\udcff lone", "a\u202eb", "é" * 1000]):
        acts.begin("s1", number + 1, text, detail={"n": 2**70, "b": b"\xff", "s": {"x"}})
    acts.close("s1")
    await recorder.close()
    with Reader.open(path) as reader:
        texts = [r.begun.fields["text"] for r in reader.requests(reader.session("s1")) if r.begun]
    assert texts == ["\x00", "\\udcff lone", "a\u202eb", "é" * 1000]
    assert verify(path).ok


async def test_a_masks_key_is_in_no_record(path: Path, play: Playing) -> None:
    from ostiary_policy.decision import Action, Decision
    from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

    masks = MaskPlan(detectors=(DetectorMask("Email", Strategy("Pseudonym", key=b"very-secret-key")),))
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1, "q", Decision(Action.ALLOW, None, "", masks=masks))
    await recorder.close()
    content = await asyncio.to_thread(path.read_bytes)
    content += b"".join(forged.raw for forged in Forgery(path).blocks)
    assert b"very-secret-key" not in content
    assert b'"detector":"Email"' in content


async def test_backpressure_begins_and_ends(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path, queue_bytes=1_000_000)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1)
    waits = 0
    for _ in range(20):
        acts.respond("s1", 1, os.urandom(2_000_000))
        if recorder.pressure:
            waits += 1
            await recorder.relieved()
        assert recorder.queued <= 1_000_000
    acts.end("s1", 1)
    await recorder.close()
    assert waits >= 1
    assert recorder.stats.dropped == 0


async def test_one_huge_piece_of_a_response_is_recorded_whole(path: Path, play: Playing) -> None:
    recorder = await FileRecorder.open(path, queue_bytes=100_000)
    acts = play(recorder)
    acts.open("s1")
    acts.begin("s1", 1)
    acts.respond("s1", 1, bytes(5_000_000))
    await recorder.relieved()
    acts.end("s1", 1)
    await recorder.close()
    with Reader.open(path) as reader:
        (request,) = reader.requests(reader.session("s1"))
        assert sum(len(piece) for piece in reader.response(request)) == 5_000_000
    assert recorder.stats.dropped == 0


async def test_a_record_that_was_removed_takes_no_durable_begin(path: Path, play: Playing) -> None:
    """The open file would still take it, and it would be gone with the process."""
    recorder = await FileRecorder.open(path)
    acts = play(recorder)
    acts.open("s1")
    await acts.begin("s1", 1, durable=True)
    record, away = path.with_suffix(".log"), path.with_suffix(".away")
    await asyncio.to_thread(record.rename, away)
    await asyncio.sleep(0.2)  # it looks ten times a second
    with pytest.raises(RecordError, match="cannot be written"):
        await acts.begin("s1", 2, durable=True)
    await asyncio.to_thread(away.rename, record)
    for _ in range(50):
        if not recorder.failing:
            break
        await asyncio.sleep(0.1)
    await acts.begin("s1", 3, durable=True)
    await recorder.close()
    assert verify(path).ok
