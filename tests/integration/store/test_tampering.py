"""Somebody may write everything in the database. Whatever they change, `verify` names it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zstandard
from support.sealed_store import ALLOW, Site
from support.sealed_store import site as site_of

from ostiary_store import chain
from ostiary_store.model import ChunkRow
from ostiary_store.objects import open_bucket
from ostiary_store.opening import open_store
from ostiary_store.sealing import Sealer
from ostiary_store.settings import RecordingsSettings
from ostiary_store.signing import StoreKey
from ostiary_store.store import Store


@pytest.fixture
async def site(address: str, store: Store, tmp_path: Path) -> AsyncIterator[Site]:
    """s1: four requests and one denied, closed. s2: long responses, closed. s3: open. All sealed, in three seals."""
    site = await site_of(address, store, tmp_path)
    gateway = site.gateway
    gateway.session("s1", 3)
    await site.sealed()
    gateway.ask("s1", 5, "select 5", ALLOW)
    gateway.close("s1")
    await site.sealed()
    gateway.session("s2", 2, size=600_000)
    gateway.close("s2")
    gateway.session("s3", 2)
    await site.sealed()
    yield site
    await gateway.recorder.close()


async def one(site: Site, pattern: str, **wanted: object) -> list[str]:
    """What was found, all of which is about the same; the first fits the pattern."""
    found = await site.findings(**wanted)
    assert found, "nothing was found"
    assert any(re.search(pattern, finding) for finding in found), found
    return found


async def test_an_untouched_store_is_whole(site: Site) -> None:
    report = await site.verify()
    assert [str(finding) for finding in report.findings] == []
    assert (report.sessions, report.requests, report.waiting, report.seals) == (4, 11, 0, 3)
    assert (await site.verify(quick=True)).ok
    assert (await site.verify(session="s2")).sessions == 1
    assert (await site.verify(since=0.0)).ok


async def test_a_session_that_goes_on_is_whole_and_waits_for_its_next_seal(site: Site) -> None:
    site.gateway.ask("s3", 9, "select 9", ALLOW)
    await site.gateway.ship(site.ingest)
    report = await site.verify()
    assert report.ok, report.findings
    assert report.waiting == 1


# Chunks and responses


async def test_a_byte_of_a_chunk(site: Site) -> None:
    await site.sql("update chunk set body = ? where session = {s1} and seq = 0", None, zstandard.compress(b"x" * 99))
    assert await one(site, r"^s1, event 0: events 0 to \d+ were changed: their content is not what was written$")


async def test_a_chunk_with_its_digest(site: Site) -> None:
    body = zstandard.compress(b"x" * 99)
    await site.sql(
        "update chunk set body = ?, digest = ? where session = {s1} and seq = 0", None, body, chain.digest(body)
    )  # fmt: skip
    assert await one(site, r"^s1, event 0: events 0 to \d+: the row was changed")
    assert await one(site, r"^s1, event 0: events 0 to \d+: the row was changed", quick=True)


async def test_a_chunk_with_all_links_after_it(site: Site) -> None:
    """Whoever computes the whole chain anew, and writes it everywhere, lacks the signature of what came before."""
    day = (await site.store.days())[0]
    rows = [row async for row in site.store.scan_rows(day, "s1", bodies=True)]
    link = chain.GENESIS
    for row in rows:
        assert isinstance(row, ChunkRow)
        raw = zstandard.decompress(row.body).replace(b"select 2", b"select 7")
        body = zstandard.compress(raw)
        head = (row.seq, row.events, row.first_at, row.last_at, row.low, row.high, len(raw))
        link = chain.chunk_link(link, "s1", *head, chain.digest(body))
        await site.sql(
            "update chunk set body = ?, digest = ?, link = ?, size = ? where session = {s1} and seq = ?", None, body,
            chain.digest(body), link, len(raw), row.seq,
        )  # fmt: skip
    await site.sql("update session set head = ? where name = 's1'", "update session set head = ? where id = 's1'", link)
    assert await one(site, r"^s1: what stands before event \d+ was rewritten: it is not what seal 1 signed$")
    assert await one(
        site, r"^s1: what stands before event \d+ was rewritten: it is not what seal 1 signed$", quick=True
    )


async def test_two_chunks_change_places(site: Site) -> None:
    (first, last) = await site.sql("select seq, body from chunk where session = {s1} order by seq")
    await site.sql("update chunk set body = ? where session = {s1} and seq = ?", None, last[1], first[0])
    await site.sql("update chunk set body = ? where session = {s1} and seq = ?", None, first[1], last[0])
    found = await one(site, rf"^s1, event {first[0]}: .* were changed")
    assert any(finding.startswith(f"s1, event {last[0]}: ") for finding in found)


async def test_a_chunk_moves_to_another_session(site: Site) -> None:
    (last,) = await site.sql("select max(seq) from chunk where session = {s1}")
    await site.sql("update chunk set session = {s3} where session = {s1} and seq = ?", None, last[0])
    found = await site.findings()
    assert any(re.match(r"^s1, event \d+: its newest rows were removed", finding) for finding in found), found
    assert any(re.match(r"^s3, event \d+: ", finding) for finding in found), found


async def test_a_chunk_in_the_middle_is_gone(site: Site) -> None:
    await site.sql("delete from chunk where session = {s1} and seq = 0")
    assert await one(site, r"^s1, event 0: events 0 to \d+ removed, or moved$")
    assert await one(site, r"^s1, event 0: events 0 to \d+ removed, or moved$", quick=True)


async def test_the_newest_rows_of_a_session(site: Site) -> None:
    (last,) = await site.sql("select max(seq) from chunk where session = {s1}")
    await site.sql("delete from chunk where session = {s1} and seq = ?", None, last[0])
    assert await one(site, r"^s1, event \d+: its newest rows were removed: seal 2 has events up to \d+$")


async def test_a_byte_of_a_long_response(site: Site) -> None:
    await site.sql("update part set body = ? where session = {s2} and number = 1", None, zstandard.compress(b"other"))
    assert await one(site, r"^s2, event \d+: the response of request 1 was changed, from byte 0 on$")


async def test_a_long_response_is_gone(site: Site) -> None:
    await site.sql("update part set body = null where session = {s2} and number = 1")
    assert await one(site, r"^s2: the response of request 1 was removed, and no signed statement says so$")


async def test_a_part_is_gone(site: Site) -> None:
    await site.sql("delete from part where session = {s2} and number = 2")
    assert await one(site, r"^s2, event \d+: event.* removed, or moved$")


@pytest.fixture
async def in_bucket(address: str, tmp_path: Path) -> AsyncIterator[tuple[Site, Path]]:
    """s1 has a long response, which lies in a bucket."""
    folder = tmp_path / "bucket"
    bucket = open_bucket(RecordingsSettings(bucket=f"file://{folder}"))
    store = await open_store(address, bucket=bucket)
    site = await site_of(address, store, tmp_path, bucket)
    site.gateway.session("s1", 1, size=600_000)
    site.gateway.close("s1")
    await site.sealed()
    yield site, folder
    await site.gateway.recorder.close()
    await store.close()


async def test_what_lies_in_a_bucket(in_bucket: tuple[Site, Path]) -> None:
    site, folder = in_bucket
    assert (await site.verify()).ok
    path = next(path for path in folder.rglob("*") if path.is_file())
    body = path.read_bytes()
    path.write_bytes(zstandard.compress(b"another"))
    assert await one(site, r"^s1, event \d+: the response of request 1 was changed, from byte \d+ on$")
    path.unlink()
    assert await one(site, r"^s1, event \d+: a part of the response of request 1 is missing in the bucket \(20")
    path.write_bytes(body)
    assert (await site.verify()).ok
    site.bucket = None
    assert (await site.verify(quick=True)).ok


# Lists and searches


@pytest.mark.parametrize(
    ("column", "change", "says"),
    [
        (
            "text",
            "text = 'select 99'",
            r"the text of request 2 in the search was changed to 'select 99', from 'select 2'",
        ),
        ("outcome", "outcome = {denied}", r"the outcome of request 2 in the search was changed to 'denied', from 'ok'"),
        ("rows", "rows = 1000", r"the rows of request 2 in the search was changed to 1000, from 1"),
        ("begun", "begun = begun + 60", r"the begun of request 2 in the search was changed"),
    ],
)
async def test_a_request_in_the_search(site: Site, column: str, change: str, says: str) -> None:
    denied = "(select id from word where text = 'denied')" if site.sqlite else "'denied'"
    await site.sql(f"update request set {change.format(denied=denied)} where session = {{s1}} and number = 2")
    (found,) = await site.findings()
    assert re.match(rf"^s1: {says}", found)


async def test_who_asked_in_the_search(site: Site) -> None:
    await site.sql(
        "update word set text = 'mallory' where text = 'planner'", "update who set username = 'mallory'"
    )  # fmt: skip
    found = await one(site, r"^s1: its username in the list was changed to 'mallory', from 'planner'$")
    told = "the username of requests 1 to 5 in the search was changed to 'mallory'"
    assert any(told in each for each in found), found


async def test_what_was_decided_in_the_search(site: Site) -> None:
    await site.sql(
        "update request set action = (select id from word where text = 'Allow') where session = {s1} and number = 4",
        "update verdict set action = 'Allow' where action = 'Deny'",
    )  # fmt: skip
    await one(site, r"^s1: the action of request 4 in the search was changed to 'Allow', from 'Deny'$")


async def test_a_request_that_is_not_found_any_more(site: Site) -> None:
    await site.sql("delete from request where session = {s1} and number = 4")
    (found,) = await site.findings()
    assert found == "s1: request 4 was removed from what a search finds"


async def test_a_request_that_never_was(site: Site) -> None:
    await site.sql("update request set number = 17 where session = {s1} and number = 3")
    found = await site.findings()
    assert "s1: request 17 was inserted into what a search finds, and never was" in found
    assert "s1: request 3 was removed from what a search finds" in found


async def test_a_decision(site: Site) -> None:
    await site.sql(
        "update decision set body = cast(replace(cast(body as text), 'not allowed', 'all right') as blob)",
        "update decision set body = replace(convert_from(body, 'utf8'), 'not allowed', 'all right')::bytea",
    )  # fmt: skip
    assert await one(site, r"^s1: the decision [0-9a-f]{32} of request 4 was changed or removed$")


async def test_a_tally(site: Site) -> None:
    await site.sql("update tally set requests = requests + 1000")
    assert await one(
        site, r"^the record: the tally of .* for shop/app, planner, Allow of shop/agents/reads was changed to"
    )


async def test_a_tally_is_gone(site: Site) -> None:
    await site.sql("delete from tally")
    assert await one(site, r"^the record: the tally of .* was removed; \d+ requests were made$")


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("denied = 0", "denied|its row in the list"), ("rows = 0", "its row in the list was changed: it is not what"),
        ("opened = opened + 1", "its opened in the list"), ("closed = closed - 1", "its closed in the list"),
        ("state = 'lost'", "state|its row in the list"), ("recording = 'None'", "recording|its row in the list"),
        ("sid = 77", "its sid in the list was changed to 77, from 2"),
    ],
)  # fmt: skip
async def test_a_session_in_the_list(site: Site, change: str, says: str, quick: bool) -> None:
    await site.sql(f"update session set {change} where name = 's1'", f"update session set {change} where id = 's1'")
    await one(site, rf"^s1: .*({says})", quick=quick)


async def test_what_a_session_came_from(site: Site) -> None:
    told = 'client = \'{"address": "10.9.9.9"}\''
    await site.sql(f"update session set {told} where name = 's1'", f"update session set {told} where id = 's1'")
    assert await one(site, r"^s1: its client in the list was changed to \{'address': '10.9.9.9'\}")


# Whole sessions


async def delete(site: Site, name: str) -> None:
    """All that there is of a session."""
    for table in ("chunk", "part", "request"):
        await site.sql(f"delete from {table} where session = {{{name}}}")
    await site.sql(f"delete from session where name = '{name}'", f"delete from session where id = '{name}'")


async def test_a_whole_session(site: Site) -> None:
    await delete(site, "s1")
    for quick in (False, True):
        assert await one(site, r"^s1: the session was removed: no signed statement says so$", quick=quick)


async def test_a_session_is_gone_from_the_list_alone(site: Site) -> None:
    await site.sql("delete from session where name = 's1'", "delete from session where id = 's1'")
    assert await one(site, r"^s1: the session was removed: no signed statement says so$")


async def test_a_session_before_it_was_sealed(site: Site) -> None:
    """No seal has it. Its number is missing between those of its record."""
    site.gateway.session("s4", 1)
    site.gateway.close("s4")
    await site.gateway.ship(site.ingest)
    await delete(site, "s4")
    site.gateway.session("s5", 1)
    await site.sealed()
    assert await one(site, r"^the record: sessions of the record [0-9a-f]{32} are missing: number 5 is not there")


async def test_rows_that_were_added_are_signed_as_such(site: Site) -> None:
    """A session that nobody had, with a chain of its own, put there for the sealer to sign it."""
    await site.sql(
        "update session set rows = 7, waiting = 1 where name = 's2'",
        "update session set rows = 7, waits_since = 1 where id = 's2'",
    )  # fmt: skip
    await site.sealer.drain()
    assert await one(site, r"^s2: it was not written by the store service as it stood at seal 4$")


async def test_what_is_marked_as_sealed_and_is_not(site: Site) -> None:
    site.gateway.ask("s3", 9, "select 9", ALLOW)
    await site.gateway.ship(site.ingest)
    await site.sql(
        "update session set sealed = 1, waiting = null where name = 's3'",
        "update session set sealed_at = 1, waits_since = null where id = 's3'",
    )  # fmt: skip
    assert await one(site, r"^s3: it is marked as sealed, and no seal has it as it stands$")


# Records, seals and keys


async def test_a_record_is_set_back(site: Site) -> None:
    await site.sql("update record set position = 64")
    # How far a record was taken in is sealed now and then; here, at the first seal.
    assert await one(
        site, r"^the record: the record [0-9a-f]{32} of shop/app-db was set back to byte 64: seal 1 has it at"
    )


async def test_the_keys_of_a_gateway(site: Site) -> None:
    await site.sql("update record set keys = '[]'", "update record set keys = array[]::text[]")
    assert await one(site, r"^the record: the record [0-9a-f]{32} of shop/app-db has lost its key [0-9a-f]{16}")


async def test_a_seal_is_changed(site: Site) -> None:
    (row,) = await site.sql("select body from seal where number = 2")
    await site.sql("update seal set body = ? where number = 2", None, row[0].replace(b'"heads":', b'"heads": '))
    found = await one(site, r"^the record: seal 2 was changed: its signature is wrong$")
    assert any("seal 3 does not follow the seal before it" in finding for finding in found)


async def test_the_heads_of_a_seal(site: Site) -> None:
    (row,) = await site.sql("select heads from seal where number = 1")
    await site.sql("update seal set heads = ? where number = 2", None, row[0])
    assert await one(site, r"^the record: the heads of seal 2 were changed: they are not what it signed$")


async def test_the_heads_of_a_seal_are_gone(site: Site) -> None:
    await site.sql("update seal set heads = ? where number = 2", None, b"")
    assert await one(site, r"^the record: the heads of seal 2 were removed, and no seal says that they would be$")


async def test_a_seal_in_the_middle_is_gone(site: Site) -> None:
    await site.sql("delete from seal where number = 2")
    assert await one(site, r"^the record: seal 2 before seal 3 removed$")


async def test_the_first_seals_are_gone(site: Site) -> None:
    await site.sql("delete from seal where number < 3")
    assert await one(site, r"^the record: seals 1 to 2 before seal 3 removed$")


async def test_an_old_seal_is_replayed(site: Site) -> None:
    await site.sql(
        "insert into seal select 4, at, key, body, signature, heads from seal where number = 2"
    )  # fmt: skip
    assert await one(site, r"^the record: seal 4 was changed: it says that it is seal 2$")


async def test_the_last_seals_are_gone(site: Site) -> None:
    """Without an anchor it shows by what they had sealed, which is still marked so."""
    await site.sql("delete from seal where number = 3")
    assert await one(site, r"^s2: it is marked as sealed, and no seal has it as it stands$")


async def test_the_last_seals_are_gone_while_the_service_runs(site: Site) -> None:
    await site.sql("delete from seal where number = 3")
    site.gateway.session("s6", 1)
    await site.sealed()
    assert await one(site, r"^the record: seal 3 says: seal 3:[0-9a-f]{64} and what followed was removed$")


async def test_all_is_signed_anew_with_another_key(site: Site, tmp_path: Path) -> None:
    await site.sql("delete from seal")
    await site.sql(
        "update session set sealed = null, waiting = 1", "update session set sealed_at = null, waits_since = 1"
    )
    forger = StoreKey.load(tmp_path / "forged.key", create=True)
    await Sealer(site.store, forger).drain()
    assert await one(
        site, rf"^the record: seal 1 is signed with the key {forger.id}, which is not among the public keys"
    )


async def test_a_store_that_is_written_to_meanwhile_is_whole(site: Site) -> None:
    """Sessions go on, begin and end, and are sealed, while somebody verifies."""
    stop = asyncio.Event()

    async def work() -> None:
        number = 10
        while not stop.is_set():
            number += 1
            site.gateway.ask("s3", number, f"select {number}", ALLOW, size=100_000 if number % 5 == 0 else 40)
            site.gateway.session(f"t{number}", 2)
            if number % 3:
                site.gateway.close(f"t{number}")
            await site.sealed()

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        for _ in range(4):
            report = await site.verify()
            assert report.ok, [str(each) for each in report.findings]
            assert (await site.verify(quick=True)).ok
        stop.set()
    await site.sealed()
    assert (await site.verify()).ok
