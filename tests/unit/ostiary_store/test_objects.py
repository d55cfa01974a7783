"""Bodies of responses in a bucket: S3 as moto speaks it, and a directory."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from moto.server import ThreadedMotoServer
from support.batches import Hand

from ostiary_store import objects
from ostiary_store.chain import digest
from ostiary_store.model import ALL, Batch, PartRow, Place, RecordRef, StoreError
from ostiary_store.objects import Bucket, key_of, open_bucket, put_parts, sweep_day
from ostiary_store.settings import RecordingsSettings
from ostiary_store.sqlite.store import SqliteStore

OPENED = 1_700_000_000.0
DAY = datetime.fromtimestamp(OPENED, UTC).strftime("%Y-%m-%d")


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(params=["s3", "file"])
def bucket(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    if request.param == "file":
        return open_bucket(RecordingsSettings(bucket=f"file://{tmp_path}/objects"))
    endpoint = cast("str", request.getfixturevalue("s3"))
    return at_s3(endpoint, tmp_path, monkeypatch)


def at_s3(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str = "recordings") -> Bucket:
    client = cast("Any", importlib.import_module("boto3")).client(
        "s3", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b", region_name="us-east-1"
    )
    client.create_bucket(Bucket="recordings")
    (tmp_path / "access").write_text("a\n")
    monkeypatch.setenv("SECRET", "b")
    return open_bucket(
        RecordingsSettings(
            bucket=f"s3://{name}/{tmp_path.name}", endpoint=endpoint, access_key_file=tmp_path / "access",
            secret_key_env="SECRET",
        )
    )  # fmt: skip


def part(body: bytes, session: str = "s1", seq: int = 1) -> PartRow:
    return PartRow(session, OPENED, seq, 1, 0, len(body), body, "", digest(body), b"")


async def listed(bucket: Bucket) -> list[str]:
    return [key async for key, _ in bucket.of_day(DAY)]


async def test_what_is_put_comes_back_as_a_whole_and_in_part(bucket: Bucket) -> None:
    body = os.urandom(300_000)
    await bucket.put("2026-11-23/s1/aa", body)
    await bucket.put("2026-11-23/s1/aa", body)
    assert await bucket.get("2026-11-23/s1/aa") == body
    assert await bucket.read("2026-11-23/s1/aa", 1000, 50) == body[1000:1050]
    assert await bucket.days() == ["2026-11-23"]
    await bucket.delete(["2026-11-23/s1/aa", "2026-11-23/s1/none"])
    with pytest.raises(LookupError):
        await bucket.get("2026-11-23/s1/aa")


async def test_parts_lie_in_the_bucket_before_their_rows_do(bucket: Bucket) -> None:
    one, two = part(b"one"), part(b"two", seq=2)
    gone = replace(part(b"gone", seq=3), body=None)
    record = RecordRef(bytes(16), bytes(64), "prod/app", "pod")
    batch = Batch(record, Place(64, 0, bytes(32), 0), Place(65, 1, bytes(32), 0), parts=[one, two, gone])
    await put_parts(bucket, batch)
    assert [(row.body, row.key) for row in batch.parts] == [(None, key_of(one)), (None, key_of(two)), (None, "")]
    assert await bucket.get(key_of(one)) == b"one"
    assert key_of(one) == f"{DAY}/s1/{digest(b'one').hex()}"


def test_a_key_never_leaves_its_day() -> None:
    for session in ("../../etc", "a/b", "", "x" * 500, "a\0b"):
        key = key_of(part(b"x", session))
        day, name, _ = key.split("/")
        assert day == DAY
        assert name.isalnum()


async def test_what_no_row_names_is_swept(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    class Rows:
        async def scan_rows(self, day: int, session: str = "", *, bodies: bool) -> AsyncIterator[PartRow]:
            assert datetime.fromtimestamp(day, UTC).strftime("%Y-%m-%d") == DAY
            yield replace(part(b"kept"), body=None, key=key_of(part(b"kept")))
            yield replace(part(b"expired"), body=None, key="")

    store = cast("Any", Rows())
    for body in (b"kept", b"expired", b"never committed"):
        await bucket.put(key_of(part(body)), body)
    assert await sweep_day(bucket, store, DAY, time.time()) == 0  # they are young
    assert len(await listed(bucket)) == 3
    monkeypatch.setattr(objects, "SETTLED", -60.0)
    assert await sweep_day(bucket, store, DAY, time.time()) == 2
    assert await listed(bucket) == [key_of(part(b"kept"))]


async def test_a_store_reads_its_parts_from_the_bucket(bucket: Bucket, tmp_path: Path) -> None:
    hand = Hand()
    hand.open("s1")
    hand.begin("s1", 1, "select 1")
    hand.part("s1", 1, 0, b"a long response")
    batch = hand.batch()
    await put_parts(bucket, batch)
    store = await SqliteStore.open(tmp_path / "store.db", bucket=bucket)
    await store.record(batch.record)
    await store.append(batch)
    session = await store.session("s1", ALL)
    assert await store.part(session, batch.parts[0].seq) == b"a long response"
    await bucket.delete([batch.parts[0].key])
    with pytest.raises(LookupError):
        await store.part(session, batch.parts[0].seq)
    await store.close()


async def test_a_bucket_that_is_not_there_is_named_without_its_keys(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = at_s3(s3, tmp_path, monkeypatch, "nowhere")
    with pytest.raises((StoreError, LookupError)) as caught:
        await bucket.put("2026-11-23/s1/aa", b"x")
    assert "nowhere" in str(caught.value)
    monkeypatch.setattr(objects, "TIMEOUT", 1.0)
    away = open_bucket(RecordingsSettings(bucket="s3://x", endpoint="http://127.0.0.1:1"))
    with pytest.raises(StoreError):
        await away.get("2026-11-23/s1/aa")
