"""A sink that is down, comes back, and is difficult: nothing is missing, and the order holds."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from support.batches import ASK, DENY, Hand, record
from support.receivers import Came, Receiver, receiver

from ostiary_store.exports.exporter import Exporter
from ostiary_store.settings import ExportSettings
from ostiary_store.sqlite.store import SqliteStore
from ostiary_store.store import Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    found = await SqliteStore.open(tmp_path / "store.db")
    yield found
    await found.close()


@pytest.fixture
async def hand(store: SqliteStore) -> Hand:
    found = Hand()
    await store.record(found.ref)
    return found


def settings(siem: Receiver, **more: Any) -> ExportSettings:
    values = {"name": "siem", "type": "JSONLines", "url": siem.url, "insecure": True, "every": "100ms", "timeout": "1s"}
    return ExportSettings.model_validate({**values, **more}, context="manifest")


@asynccontextmanager
async def exporting(store: Store, wanted: ExportSettings) -> AsyncIterator[Exporter]:
    exporter = Exporter(store, wanted, pauses=(0.05, 0.2))
    task = asyncio.create_task(exporter.run())
    try:
        yield exporter
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def lines(came: list[Came]) -> list[dict[str, Any]]:
    found = []
    for each in came:
        body = gzip.decompress(each.body) if each.headers.get("content-encoding") == "gzip" else each.body
        found += [json.loads(line) for line in body.splitlines()]
    return found


def requests(came: list[Came]) -> list[str]:
    return [line["request"] for line in lines(came) if line["type"] == "request"]


async def until(holds: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.02)


async def play(store: SqliteStore, hand: Hand, name: str, numbers: range) -> None:
    """Requests of a session, each in a batch of its own."""
    for number in numbers:
        hand.whole(name, number, f"select {number}")
        await store.append(hand.batch())


async def test_a_session_as_it_happens(store: SqliteStore, hand: Hand) -> None:
    with receiver() as siem:
        async with exporting(store, settings(siem)) as exporter:
            hand.open("s1")
            hand.begin("s1", 1, "select 1")
            await store.append(hand.batch())
            await until(lambda: exporter.counts.lines >= 2)
            hand.end("s1", 1)
            hand.whole("s1", 2, "drop table t", DENY, outcome="denied")
            hand.close("s1")
            await store.append(hand.batch())
            await until(lambda: exporter.counts.lines >= 6)
        found = lines(siem.taken)
        assert [(line["type"], line.get("state"), line.get("request")) for line in found] == [
            ("session", "open", None), ("open", None, None), ("request", None, "s1-1"), ("request", None, "s1-2"),
            ("close", None, None), ("session", "closed", None),
        ]  # fmt: skip
        first, second = found[2:4]
        assert (first["text"], first["outcome"], first["decision"]["action"]) == ("select 1", "ok", "Allow")
        assert (second["outcome"], second["decision"]["rule"]["rule"]) == ("denied", "no-drop")
        assert (found[-1]["requests"], found[-1]["denied"]) == (2, 1)
        headers = siem.taken[0].headers
        assert (headers["content-type"], headers["content-encoding"]) == ("application/x-ndjson", "gzip")


async def test_a_sink_that_is_down_misses_nothing_and_the_order_holds(store: SqliteStore, hand: Hand) -> None:
    hand.open("s1")
    with receiver() as siem:
        wanted = settings(siem)
        async with exporting(store, wanted) as exporter:
            await play(store, hand, "s1", range(1, 6))
            await until(lambda: len(requests(siem.taken)) == 5)
            siem.usual = 503
            await play(store, hand, "s1", range(6, 30))
            await until(lambda: exporter.counts.failures >= 2)
            assert exporter.counts.problem == "it answered 503"
            assert exporter.counts.lag(exporter.counts.behind + 7) == 7
        # Down for longer than this process lives.
        await play(store, hand, "s1", range(30, 40))
        siem.answers = ["reset", "hang", 500, (429, {"Retry-After": "1"}, b""), 302]
        siem.usual = 200
        async with exporting(store, wanted) as exporter:
            await until(lambda: f"s1-{39}" in requests(siem.taken))
            await until(lambda: exporter.counts.problem == "")
            assert exporter.counts.lag(1e12) == 0
        got = requests(siem.taken)
        assert list(dict.fromkeys(got)) == [f"s1-{number}" for number in range(1, 40)]
        assert got == list(dict.fromkeys(got)), "what was taken is not sent again"
        assert await store.cursor("export-siem") == {hand.ref.uuid.hex(): 39}


async def test_what_was_sent_and_not_noted_comes_again_in_order(store: SqliteStore, hand: Hand) -> None:
    """At least once: the receiver knows each line by its session and seq, or its request."""
    hand.open("s1")
    await play(store, hand, "s1", range(1, 4))
    with receiver() as siem:
        async with exporting(store, settings(siem)):
            await until(lambda: len(requests(siem.taken)) == 3)
        await store.set_cursor("export-siem", {hand.ref.uuid.hex(): 1})
        async with exporting(store, settings(siem)):
            await until(lambda: len(requests(siem.taken)) == 5)
    assert requests(siem.taken) == ["s1-1", "s1-2", "s1-3", "s1-2", "s1-3"]


async def test_of_two_processes_one_sends_and_the_other_takes_over(
    store: SqliteStore, hand: Hand, tmp_path: Path
) -> None:
    hand.open("s1")
    other = await SqliteStore.open(tmp_path / "store.db")
    try:
        with receiver() as siem:
            async with exporting(other, settings(siem)) as second:
                async with exporting(store, settings(siem)) as first:
                    await play(store, hand, "s1", range(1, 4))
                    await until(lambda: len(requests(siem.taken)) == 3)
                    assert [first.counts.leads, second.counts.leads].count(True) == 1
                if not second.counts.leads:
                    await until(lambda: second.counts.leads)
                await play(store, hand, "s1", range(4, 6))
                await until(lambda: len(requests(siem.taken)) >= 5)
            assert list(dict.fromkeys(requests(siem.taken))) == [f"s1-{number}" for number in range(1, 6)]
    finally:
        await other.close()


async def test_batches_are_bounded_and_halved_when_they_are_too_large(store: SqliteStore, hand: Hand) -> None:
    hand.open("s1")
    for number in range(1, 200):
        hand.whole("s1", number, f"select '{'x' * 200}', {number}")
    await store.append(hand.batch())
    with receiver(200, 413, 413) as siem:
        async with exporting(store, settings(siem, batch="16Ki", compression="none")):
            await until(lambda: "s1-199" in requests(siem.taken))
        assert requests(siem.taken) == [f"s1-{number}" for number in range(1, 200)]
        assert max(len(each.body) for each in siem.came) < 32 * 1024
        assert len(siem.taken) > 3


async def test_several_sinks_and_records_each_at_its_own_pace(store: SqliteStore, hand: Hand) -> None:
    other = Hand(record("shop/files"))
    await store.record(other.ref)
    hand.open("s1")
    other.open("s2", connection="shop/files")
    await play(store, hand, "s1", range(1, 4))
    await play(store, other, "s2", range(1, 4))
    with receiver() as siem, receiver(500) as down:
        async with (
            exporting(store, settings(siem)),
            exporting(store, settings(down, name="down")) as broken,
            exporting(store, settings(siem, name="files", connections=["shop/files"], url=siem.url + "/files")),
        ):
            await until(lambda: broken.counts.failures >= 2)
            await until(lambda: len(requests(siem.taken)) == 9)
        mine = [each for each in siem.taken if each.path == "/hook/files"]
        assert requests(mine) == ["s2-1", "s2-2", "s2-3"]
        rest = requests([each for each in siem.taken if each.path == "/hook"])
        for name in ("s1", "s2"):
            assert [each for each in rest if each.startswith(name)] == [f"{name}-{number}" for number in (1, 2, 3)]
        assert await store.cursor("export-down") == {}


async def test_what_a_filter_leaves_out_moves_the_cursor_too(store: SqliteStore, hand: Hand) -> None:
    hand.open("s1")
    await play(store, hand, "s1", range(1, 4))
    with receiver() as siem:
        async with exporting(store, settings(siem, only=["Deny"])):
            async with asyncio.timeout(10):
                while await store.cursor("export-siem") != {hand.ref.uuid.hex(): 3}:
                    await asyncio.sleep(0.02)
    assert siem.came == []


async def test_a_request_that_never_ended_is_told_when_its_session_is_over(store: SqliteStore, hand: Hand) -> None:
    hand.open("s1")
    hand.begin("s1", 1, "select pg_sleep(60)")
    await store.append(hand.batch())
    hand.close("s1", lost=True)
    batch = hand.batch()
    from ostiary_store.model import EndedRow

    batch.ended.append(EndedRow("s1", 1, hand.at - 1, hand.at, "lost", 0, 0))
    await store.append(batch)
    with receiver() as siem:
        async with exporting(store, settings(siem)):
            await until(lambda: len(lines(siem.taken)) >= 5)
    found = lines(siem.taken)
    assert [line["type"] for line in found] == ["session", "open", "lost", "request", "session"]
    assert (found[3]["outcome"], found[3]["text"], "ended" in found[3]) == ("lost", "select pg_sleep(60)", False)


async def test_begins_too_if_they_are_wanted(store: SqliteStore, hand: Hand) -> None:
    hand.open("s1")
    hand.begin("s1", 1, "update t set a = 1", ASK)
    await store.append(hand.batch())
    with receiver() as siem:
        async with exporting(store, settings(siem, begun=True)):
            await until(lambda: len(requests(siem.taken)) == 1)
            hand.end("s1", 1)
            await store.append(hand.batch())
            await until(lambda: len(requests(siem.taken)) == 2)
    assert [line.get("outcome") for line in lines(siem.taken) if line["type"] == "request"] == [None, "ok"]


async def test_responses_only_if_they_are_asked_for(store: SqliteStore, hand: Hand) -> None:
    hand.open("s1", protocol="Other")
    hand.whole("s1", 1, "what", response=b"the answer")
    hand.begin("s1", 2, "more")
    hand.part("s1", 2, 0, b"a long ")
    await store.append(hand.batch())
    hand.part("s1", 2, 7, b"answer")
    hand.end("s1", 2, size=13)
    await store.append(hand.batch())
    with receiver() as siem:
        async with exporting(store, settings(siem, responses="base64")):
            await until(lambda: len(requests(siem.taken)) == 2)
            await until(lambda: len(lines(siem.taken)) >= 6)
        got = [(line["request"], line["base64"]) for line in lines(siem.taken) if line["type"] == "response"]
        assert got == [("s1-1", "dGhlIGFuc3dlcg=="), ("s1-2", "YSBsb25nIGFuc3dlcg==")]
    with receiver() as siem:
        async with exporting(store, settings(siem, name="second")):
            await until(lambda: len(requests(siem.taken)) == 2)
    assert not any(line["type"] == "response" for line in lines(siem.taken))


async def test_otlp_records_that_the_receiver_threw_away_are_not_sent_again(store: SqliteStore, hand: Hand) -> None:
    hand.open("s1")
    await play(store, hand, "s1", range(1, 3))
    partial = b'{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too old"}}'
    with receiver(200, (200, {}, partial)) as siem, capture_logs() as logs:
        async with exporting(store, settings(siem, type="OTLP")) as exporter:
            await until(lambda: exporter.counts.rejected == 2)
            await asyncio.sleep(0.3)
    assert len(siem.came) == 1
    assert next(each for each in logs if each["log_level"] == "error")["reason"] == "too old"
    body = json.loads(gzip.decompress(siem.came[0].body))
    events = [each["eventName"] for each in body["resourceLogs"][0]["scopeLogs"][0]["logRecords"]]
    assert events == ["ostiary.session", "ostiary.open", "ostiary.request", "ostiary.request"]
    assert siem.came[0].headers["content-type"] == "application/json"


async def test_secrets_of_headers_are_read_anew_and_never_logged(
    store: SqliteStore, hand: Hand, tmp_path: Path
) -> None:
    hand.open("s1")
    await play(store, hand, "s1", range(1, 2))
    token = tmp_path / "token"
    headers = {"Authorization": {"file": str(token)}}
    with receiver(401) as siem, capture_logs() as logs:
        async with exporting(store, settings(siem, secretHeaders=headers)) as exporter:
            await until(lambda: exporter.counts.failures >= 1)  # there is no file yet
            token.write_text("Bearer s3cret-one")
            await until(lambda: len(siem.came) >= 1)
            siem.usual = 200
            token.write_text("Bearer s3cret-two")
            await until(lambda: siem.taken)
    assert siem.came[0].headers["authorization"] == "Bearer s3cret-one"
    assert siem.taken[-1].headers["authorization"] == "Bearer s3cret-two"
    assert "s3cret" not in str(logs)
    assert [each["event"] for each in logs if each["log_level"] == "error"]
