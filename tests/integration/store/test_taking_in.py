"""What stores take in: each batch once, whole or not at all, whoever brings it and however often."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from support.batches import ALLOW, DENY, NOON, Hand, names, record, start
from support.store import Open, everything

from ostiary_store.model import (
    ALL,
    MAX_TEXT,
    AnotherGateway,
    Moved,
    RequestQuery,
    SessionQuery,
    StoreError,
)
from ostiary_store.store import Store

DAY = 86_400.0


async def test_a_new_record_stands_at_its_beginning(store: Store) -> None:
    ref = record()
    assert await store.record(ref) == start(ref)
    assert await store.record(ref) == start(ref)
    [known] = await store.records()
    assert (known["uuid"], known["gateway"], known["instance"]) == (ref.uuid.hex(), "shop/app-db", "app-db-0")


async def test_a_batch_is_there_for_whoever_asks_next(store: Store, another: Open, hand: Hand) -> None:
    hand.open("s1")
    hand.whole("s1", 1, "select 1")
    hand.begin("s1", 2, "drop table x", DENY)
    await store.append(hand.batch())
    for one in (store, await another()):
        assert await one.session("s1", ALL) == hand.row("s1")
        found = await one.requests(RequestQuery(), ALL)
        assert [(row.id, row.text, row.action, row.outcome) for row in found.requests] == [
            ("s1-2", "drop table x", "Deny", ""),
            ("s1-1", "select 1", "Allow", "ok"),
        ]
    [known] = await store.records()
    assert (known["position"], known["number"], known["link"]) == (
        hand.place.position, hand.place.number, hand.place.link.hex(),
    )  # fmt: skip


async def test_a_request_that_ends_in_a_later_batch(store: Store, hand: Hand) -> None:
    hand.open("s1")
    hand.begin("s1", 1, "select pg_sleep(9)")
    await store.append(hand.batch())
    assert await store.open_requests(hand.ref) == [("s1", 1, NOON + 2)]
    hand.end("s1", 1, "error", rows=0, response=b"E")
    await store.append(hand.batch())
    assert list(await store.open_requests(hand.ref)) == []
    row = await store.request("s1-1", ALL)
    assert (row.begun, row.ended, row.outcome, row.rows, row.bytes) == (NOON + 2, NOON + 3, "error", 0, 1)
    assert await store.session("s1", ALL) == hand.row("s1")


async def test_a_batch_that_comes_twice_is_taken_in_once(store: Store, hand: Hand) -> None:
    hand.open("s1")
    hand.whole("s1", 1)
    first = hand.batch()
    await store.append(first)
    before = await everything(store)
    with pytest.raises(Moved) as moved:
        await store.append(first)
    assert moved.value.place == first.end
    assert await everything(store) == before


async def test_a_batch_that_comes_too_early_is_not_taken_in(store: Store, hand: Hand) -> None:
    hand.open("s1")
    hand.batch()
    hand.whole("s1", 1)
    with pytest.raises(Moved) as moved:
        await store.append(hand.batch())
    assert moved.value.place == start(hand.ref)
    assert not (await store.sessions(SessionQuery(), ALL)).sessions


async def test_another_chain_that_comes_as_far_is_not_taken_in(store: Store, hand: Hand) -> None:
    hand.open("s1")
    await store.append(hand.batch())
    hand.whole("s1", 1)
    batch = hand.batch()
    forged = batch.start._replace(link=bytes(32))
    with pytest.raises(Moved):
        await store.append(replace(batch, start=forged))
    await store.append(batch)


async def test_of_two_writers_one_is_told_where_the_other_came(store: Store, another: Open, hand: Hand) -> None:
    hand.open("s1")
    hand.whole("s1", 1)
    batch = hand.batch()
    told = await asyncio.gather(store.append(batch), (await another()).append(batch), return_exceptions=True)
    assert [type(each) for each in told if each is not None] == [Moved]
    assert len((await store.requests(RequestQuery(), ALL)).requests) == 1
    assert [tally.requests for tally in await store.tallies(0, 1e10, ALL)] == [1]


async def test_a_batch_that_fails_in_the_middle_leaves_nothing(store: Store, hand: Hand) -> None:
    hand.open("s1")
    await store.append(hand.batch())
    before = await everything(store)
    hand.open("s2")
    hand.whole("s2", 1, "select secret")
    hand.part("s2", 1, 0, b"x" * 1000)
    batch = hand.batch()
    batch.chunks.append(replace(batch.chunks[0], session="nobody's"))
    with pytest.raises((StoreError, LookupError)):
        await store.append(batch)
    assert await everything(store) == before
    assert not (await store.requests(RequestQuery(text="secret"), ALL)).requests
    batch.chunks.pop()
    await store.append(batch)
    assert names((await store.sessions(SessionQuery(), ALL)).sessions) == ["s2", "s1"]


async def test_a_wait_that_is_given_up_leaves_all_or_nothing(store: Store, hand: Hand) -> None:
    for number in range(20):
        hand.open(f"s{number}")
        for request in range(1, 50):
            hand.whole(f"s{number}", request, f"select {request}")
        batch = hand.batch()
        taking = asyncio.create_task(store.append(batch))
        await asyncio.sleep(0.0005 * number)
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)
        place = await store.record(hand.ref)
        while place == batch.start:  # it was not begun, or is under way still
            try:
                await store.append(batch)
            except Moved:
                pass
            place = await store.record(hand.ref)
        assert place == batch.end
        assert len((await store.requests(RequestQuery(session=f"s{number}", limit=100), ALL)).requests) == 49


async def test_records_of_several_gateways_beside_each_other(store: Store) -> None:
    hands = [Hand(record("shop/app-db", f"app-db-{number}")) for number in range(3)]
    for hand in hands:
        await store.record(hand.ref)

    async def work(hand: Hand) -> None:
        for step in range(5):
            name = f"{hand.ref.instance}-{step}"
            hand.open(name)
            hand.whole(name, 1)
            await store.append(hand.batch())

    await asyncio.gather(*map(work, hands))
    assert len((await store.sessions(SessionQuery(), ALL)).sessions) == 15
    assert sum(tally.requests for tally in await store.tallies(0, 1e10, ALL)) == 15
    for hand in hands:
        assert await store.record(hand.ref) == hand.place


async def test_whoever_learns_the_id_of_a_record_cannot_write_into_it(store: Store, hand: Hand) -> None:
    with pytest.raises(AnotherGateway):
        await store.record(replace(hand.ref, gateway="intruder/app-db"))
    assert await store.record(hand.ref) == start(hand.ref)


async def test_keys_of_a_record_are_added_and_never_removed(store: Store, hand: Hand) -> None:
    await store.record(replace(hand.ref, keys=("ed25519 k2 BBBB",), address="10.0.0.1:9911", instance="app-db-1"))
    [known] = await store.records()
    assert list(known["keys"]) == ["ed25519 k1 AAAA", "ed25519 k2 BBBB"]  # type: ignore[call-overload]
    assert (known["address"], known["instance"]) == ("10.0.0.1:9911", "app-db-1")


async def test_whoever_goes_on_with_a_record_finds_its_open_sessions(store: Store, hand: Hand) -> None:
    for name in ("s1", "s2", "s3"):
        hand.open(name)
    hand.begin("s2", 7)
    hand.close("s3")
    await store.append(hand.batch())
    other = Hand(record("shop/other"))
    await store.record(other.ref)
    other.open("o1")
    await store.append(other.batch())
    assert list(await store.open_sessions(hand.ref)) == [hand.row("s1"), hand.row("s2")]
    assert await store.session_of(hand.ref, 3) == hand.row("s3")
    assert await store.session_of(hand.ref, 4) is None
    assert [(name, number) for name, number, _ in await store.open_requests(hand.ref)] == [("s2", 7)]
    hand.close("s1", lost=True)
    await store.append(hand.batch())
    assert list(await store.open_sessions(hand.ref)) == [hand.row("s2")]


async def test_days_long_gone_and_days_to_come(store: Store, hand: Hand) -> None:
    """A gateway that was away for months ships what it has; clocks are wrong."""
    for name, at in (("old", NOON - 400 * DAY), ("now", NOON), ("new", NOON + 40 * DAY), ("first", 1.0)):
        hand.open(name, at=at)
        hand.whole(name, 1, f"select {name}", at=at + 1)
        hand.close(name, at=at + 2)
    await store.append(hand.batch())
    assert names((await store.sessions(SessionQuery(), ALL)).sessions) == ["new", "now", "old", "first"]
    found = await store.requests(RequestQuery(text="select"), ALL)
    assert [row.session for row in found.requests] == ["new", "now", "old", "first"]
    assert len(await store.days()) == 4


async def test_a_session_that_goes_on_over_midnight(store: Store, hand: Hand) -> None:
    hand.open("s1", at=NOON)
    hand.whole("s1", 1, "select today", at=NOON + 1)
    await store.append(hand.batch())
    hand.whole("s1", 2, "select tomorrow", at=NOON + DAY)
    hand.begin("s1", 3, "select later", at=NOON + DAY + 1)
    await store.append(hand.batch())
    hand.end("s1", 3, at=NOON + 2 * DAY)
    await store.append(hand.batch())
    found = await store.requests(RequestQuery(session="s1"), ALL)
    assert [row.number for row in found.requests] == [3, 2, 1]
    assert (await store.request("s1-3", ALL)).outcome == "ok"
    since = await store.requests(RequestQuery(since=NOON + DAY), ALL)
    assert [row.number for row in since.requests] == [3, 2]


async def test_texts_that_databases_do_not_like(store: Store, hand: Hand) -> None:
    texts = [
        "select '\N{REPLACEMENT CHARACTER}'", "select 'Ünïcödé \N{GRINNING FACE} \u202e'", "", "\\", "\t\r\n\x1b[31m",
        "'; drop table request; --", "x" * MAX_TEXT, "ü" * MAX_TEXT, " ".join(f"w{n}" for n in range(5000))[:MAX_TEXT],
        "\N{REPLACEMENT CHARACTER}" * 10, '"', "%_", "(((", "a'b\"c`d",
    ]  # fmt: skip
    hand.open("s1", username='o\'brien \\ "x"', connection="shop/app")
    for number, text in enumerate(texts, 1):
        hand.whole("s1", number, text)
    await store.append(hand.batch())
    found = (await store.requests(RequestQuery(session="s1"), ALL)).requests
    assert [row.text for row in reversed(found)] == texts
    assert await store.session("s1", ALL) == hand.row("s1")


async def test_a_number_that_comes_twice_does_not_stop_the_record(store: Store, hand: Hand) -> None:
    hand.open("s1")
    hand.whole("s1", 1, "select first")
    hand.whole("s1", 1, "select second")
    await store.append(hand.batch())
    hand.whole("s1", 1, "select third")
    await store.append(hand.batch())
    assert (await store.request("s1-1", ALL)).text in ("select first", "select second", "select third")


async def test_many_requests_of_the_same_moment(store: Store, hand: Hand) -> None:
    for name in ("a", "b"):
        hand.open(name)
        for number in range(1, 2501):
            hand.whole(name, number, f"select {name}{number}", at=NOON)
        await store.append(hand.batch())
    seen: list[str] = []
    query = RequestQuery(limit=500, deadline=10)
    while True:
        page = await store.requests(query, ALL)
        seen += [row.id for row in page.requests]
        if not page.next:
            break
        query = replace(query, after=page.next)
    assert len(seen) == len(set(seen)) == 5000


async def test_an_allowed_request_of_each_kind_is_counted_by_the_hour(store: Store, hand: Hand) -> None:
    hand.open("s1")
    hand.open("s2", connection="shop/other", username="executor")
    for number in range(1, 4):
        hand.whole("s1", number, "select 1", ALLOW, at=NOON + number)
    await store.append(hand.batch())
    hand.whole("s1", 4, "drop", DENY, outcome="denied", at=NOON + 3599)
    hand.whole("s1", 5, "select 1", ALLOW, at=NOON + 10)
    hand.whole("s2", 1, "select 1", ALLOW, at=NOON + 3600)
    await store.append(hand.batch())
    found = {
        (tally.hour, tally.connection, tally.username, tally.action, tally.rule): tally.requests
        for tally in await store.tallies(NOON, NOON + 7200, ALL)
    }
    assert found == {
        (int(NOON), "shop/app", "", "Allow", "reads"): 4,
        (int(NOON), "shop/app", "", "Deny", "no-drop"): 1,
        (int(NOON) + 3600, "shop/other", "", "Allow", "reads"): 1,
    }
