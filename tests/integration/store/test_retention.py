"""What is past its time goes, signed for before; `verify` tells it from what was taken."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.batches import DENY, Hand
from support.sealed_store import Site, proven
from support.sealed_store import site as site_of

from ostiary_store.model import ALL, SessionQuery, StoreError
from ostiary_store.retention import Janitor
from ostiary_store.store import Store

DAY = 86_400.0
NOW = 1_800_000_000.0


@pytest.fixture
async def site(address: str, store: Store, tmp_path: Path) -> AsyncIterator[Site]:
    """Sessions of 100, 50, 40 and 2 days ago, and one that is still open after 100 days. All sealed."""
    site = await site_of(address, store, tmp_path)
    hand = Hand(at=NOW - 100 * DAY)
    await store.record(hand.ref)
    for name, age in (("old", 100), ("middle", 50), ("younger", 40), ("new", 2)):
        at = NOW - age * DAY
        hand.open(name, at=at)
        hand.begin(name, 1, at=at + 1)
        hand.part(name, 1, 0, b"long " * 10_000)
        hand.end(name, 1, size=50_000, at=at + 2)
        hand.whole(name, 2, "drop table customers", DENY, outcome="denied", at=at + 3)
        hand.close(name, at=at + 4)
    hand.open("open", at=NOW - 100 * DAY)
    await store.append(proven(hand.batch(), site.key))
    await site.sealer.drain()
    yield site
    await site.gateway.recorder.close()


def janitor(site: Site, **kept: Any) -> Janitor:
    return Janitor(site.store, clock=lambda: NOW, **kept)


async def names(site: Site) -> set[str]:
    return {row.id for row in (await site.store.sessions(SessionQuery(), ALL)).sessions}


async def test_what_expired_is_gone_and_signed_for(site: Site) -> None:
    assert (await site.verify()).ok
    await janitor(site, record=45 * DAY).work(site.sealer)
    assert await names(site) == {"younger", "new", "open"}
    report = await site.verify()
    assert report.ok, [str(each) for each in report.findings]
    assert report.expired == 2
    assert (await site.verify(quick=True)).ok
    # Again, with what became due meanwhile.
    await Janitor(site.store, record=45 * DAY, clock=lambda: NOW + 10 * DAY).work(site.sealer)
    report = await site.verify()
    assert report.ok, [str(each) for each in report.findings]
    assert report.expired == 3


async def test_a_connection_may_say_how_long(address: str, store: Store, tmp_path: Path) -> None:
    site = await site_of(address, store, tmp_path)
    hand = Hand(at=NOW - 20 * DAY)
    await store.record(hand.ref)
    for name, retention in (("short", {"record": 10 * DAY}), ("long", {"record": 1000 * DAY}), ("usual", {})):
        hand.open(name, at=NOW - 20 * DAY, retention=retention)
        hand.close(name, at=NOW - 20 * DAY + 1)
    await store.append(proven(hand.batch(), site.key))
    await site.sealer.drain()
    await janitor(site, record=90 * DAY).work(site.sealer)
    assert await names(site) == {"long", "usual"}
    found = [each for each in await site.findings() if "retention" not in each]
    assert found == []
    await site.gateway.recorder.close()


async def test_responses_go_before_their_records(site: Site) -> None:
    await janitor(site, record=90 * DAY, responses=45 * DAY).work(site.sealer)
    assert await names(site) == {"middle", "younger", "new", "open"}
    row = await site.store.session("middle", ALL)
    slice_ = await site.store.slice(row)
    with pytest.raises(LookupError):
        await site.store.part(row, slice_.parts[0].seq)
    report = await site.verify()
    assert report.ok, [str(each) for each in report.findings]


async def test_a_session_that_was_not_due_is_missed(site: Site) -> None:
    await janitor(site, record=45 * DAY).work(site.sealer)
    for table in ("chunk", "part", "request"):
        key = (
            "(select id from session where name = 'new')"
            if site.sqlite
            else "(select key from session where id = 'new')"
        )
        await site.sql(f"delete from {table} where session = {key}")
    await site.sql("delete from session where name = 'new'", "delete from session where id = 'new'")
    found = await site.findings()
    assert any(each.startswith("new: the session was removed: ") for each in found), found


async def test_making_a_session_look_old_does_not_help(site: Site) -> None:
    """The janitor removes nothing of a day on which somebody has edited a row, and says so."""
    change = "closed = closed - 86400 * 60"
    await site.sql(f"update session set {change} where name = 'new'", f"update session set {change} where id = 'new'")
    await janitor(site, record=45 * DAY, prover=site.key.prover()).work(site.sealer)
    assert await names(site) == {"younger", "new", "open"}
    found = await site.findings()
    assert any("session new was edited, so that its day is not removed" in each for each in found), found
    assert any(each.startswith("new: its closed in the list was changed to") for each in found), found


async def test_making_a_session_look_old_shows_also_when_it_is_gone(site: Site) -> None:
    """A janitor without a prover believes the row; whoever verifies believes what was sealed before."""
    change = "closed = closed - 86400 * 60"
    await site.sql(f"update session set {change} where name = 'new'", f"update session set {change} where id = 'new'")
    await janitor(site, record=45 * DAY).work(site.sealer)
    found = await site.findings()
    assert any(each.startswith("new: the session was removed: its time was not over before") for each in found), found


async def test_a_response_that_was_not_due_is_missed(site: Site) -> None:
    await janitor(site, record=90 * DAY, responses=45 * DAY).work(site.sealer)
    key = "(select id from session where name = 'new')" if site.sqlite else "(select key from session where id = 'new')"
    await site.sql(f"update part set body = null where session = {key}")
    assert await site.findings() == ["new: the response of request 1 was removed, and no signed statement says so"]


async def test_a_statement_cannot_be_forged(site: Site) -> None:
    """It stands in a seal; whoever adds one to it breaks the signature."""
    (row,) = await site.sql("select body from seal where number = 1")
    more = b'{"kind":"record","day":0,"sessions":1,"digest":"00","at":1e10,"record":0,"responses":0,"closed":0}'
    forged = row[0][:-1] + b',"expired":[' + more + b"]}"
    await site.sql("update seal set body = ? where number = 1", None, forged)
    assert "the record: seal 1 was changed: its signature is wrong" in await site.findings()


async def test_what_was_stated_and_not_done_is_done_after_a_crash(site: Site) -> None:
    due = await janitor(site, record=45 * DAY).due()
    await site.sealer.seal(expired=due)
    report = await site.verify()
    assert report.ok, [str(each) for each in report.findings]
    await Janitor(site.store, clock=lambda: NOW + 30 * DAY, record=45 * DAY).work(site.sealer)
    assert await names(site) == {"new", "open"}
    report = await site.verify()
    assert report.ok, [str(each) for each in report.findings]


async def test_only_what_was_stated_goes(site: Site) -> None:
    due = await janitor(site, record=45 * DAY).due()
    change = "closed = 1, head = x'00'" if site.sqlite else "closed = 1, head = '\\x00'"
    await site.sql(f"update session set {change} where name = 'old'", f"update session set {change} where id = 'old'")
    with pytest.raises(StoreError):
        await site.store.expire(due[0])
    assert "old" in await names(site)


async def test_heads_of_days_of_which_nothing_is_left_are_dropped(address: str, store: Store, tmp_path: Path) -> None:
    site = await site_of(address, store, tmp_path)
    hand = Hand(at=NOW - 100 * DAY)
    await store.record(hand.ref)
    for name, age in (("old", 100), ("new", 1)):
        hand.open(name, at=NOW - age * DAY)
        hand.close(name, at=NOW - age * DAY + 1)
        await store.append(proven(hand.batch(), site.key))
        await site.sealer.drain()
    await janitor(site, record=45 * DAY).work(site.sealer)
    assert all([seal.heads async for seal in store.seals()][:2])
    # Long enough for whoever wants to look into it.
    await Janitor(store, record=45 * DAY, clock=lambda: NOW + 2 * DAY, heads=DAY).work(site.sealer)
    seals = [seal async for seal in store.seals()]
    assert [bool(seal.heads) for seal in seals][:2] == [False, True]
    report = await site.verify()
    assert report.ok, [str(each) for each in report.findings]
    await site.gateway.recorder.close()


async def test_a_day_of_many_sessions_is_one_statement(address: str, store: Store, tmp_path: Path) -> None:
    site = await site_of(address, store, tmp_path)
    hand = Hand(at=NOW - 100 * DAY)
    await store.record(hand.ref)
    for number in range(3000):
        hand.open(f"s{number:05}", at=NOW - 100 * DAY + number)
        hand.close(f"s{number:05}", at=NOW - 100 * DAY + number + 1)
    await store.append(proven(hand.batch(), site.key))
    await site.sealer.drain()
    began = time.monotonic()
    await janitor(site, record=DAY).work(site.sealer)
    assert time.monotonic() - began < 20
    assert not await names(site)
    report = await site.verify()
    assert report.ok, [str(each) for each in report.findings]
    assert report.expired == 3000
    await site.gateway.recorder.close()
