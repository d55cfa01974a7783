"""The events of sessions as a store gives them back: slices, parts, the feed, and whole requests page by page."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import cast

import orjson
import pytest
from support.batches import ALLOW, DENY, NOON, Hand, decision_name, record

from ostiary_gateway.audit import encoding
from ostiary_store.chain import GENESIS, chunk_link, digest, part_link
from ostiary_store.model import ALL, ChunkRow, PartRow, SessionRow, Slice
from ostiary_store.reading import SessionView
from ostiary_store.store import Store


def told(found: Slice) -> list[str]:
    """Chunks as C and parts as P, with their seqs, in order."""
    rows: list[ChunkRow | PartRow] = [*found.chunks, *found.parts]
    return [f"{'C' if isinstance(row, ChunkRow) else 'P'}{row.seq}" for row in sorted(rows, key=lambda row: row.seq)]


@pytest.fixture
async def layered(store: Store, hand: Hand) -> Store:
    """Events: C0 (0-3: open, 1, 2, begin of 3) P4 P5 C6 (6-7) P8 C9 (9: end of 3) C10 (10-11: 4, close)."""
    hand.open("s1")
    hand.whole("s1", 1, response=b"one")
    hand.whole("s1", 2, response=b"two")
    hand.begin("s1", 3, "select long")
    hand.part("s1", 3, 0, b"a" * 70_000)
    hand.part("s1", 3, 70_000, b"b" * 50_000)
    hand.gap("s1", 5)
    hand.piece("s1", 3, 120_000, b"ccc")
    await store.append(hand.batch())
    hand.part("s1", 3, 120_003, b"d" * 10)
    hand.end("s1", 3, size=120_017, response=b"end.")
    await store.append(hand.batch())
    hand.whole("s1", 4, "drop", DENY, outcome="denied")
    hand.close("s1")
    await store.append(hand.batch())
    return store


@pytest.mark.parametrize(
    ("seq", "number", "limit", "rows"),
    [
        (0, None, 64, "C0 P4 P5 C6 P8 C9 C10"),
        (3, None, 64, "C0 P4 P5 C6 P8 C9 C10"),
        (4, None, 64, "P4 P5 C6 P8 C9 C10"),
        (5, None, 64, "P5 C6 P8 C9 C10"),
        (7, None, 64, "C6 P8 C9 C10"),
        (8, None, 64, "P8 C9 C10"),
        (11, None, 64, "C10"),
        (12, None, 64, ""),
        (0, None, 1, "C0 P4 P5"),
        (0, None, 2, "C0 P4 P5 C6 P8"),
        (5, None, 1, "P5 C6 P8"),
        (9, None, 1, "C9"),
        (0, 3, 64, "C0 P4 P5 C6 P8 C9"),
        (0, 1, 64, "C0"),
        (0, 4, 64, "C10"),
        (6, 3, 1, "C6 P8"),
        (0, 5, 64, ""),
    ],
)
async def test_slices(layered: Store, seq: int, number: int | None, limit: int, rows: str) -> None:
    session = await layered.session("s1", ALL)
    found = await layered.slice(session, seq=seq, number=number, limit=limit)
    assert " ".join(told(found)) == rows
    assert found.session == session


async def test_the_chain_of_a_session_can_be_followed(layered: Store, hand: Hand) -> None:
    session = await layered.session("s1", ALL)
    whole = await layered.slice(session)
    link, seq = GENESIS, 0
    rows: list[ChunkRow | PartRow] = sorted([*whole.chunks, *whole.parts], key=lambda row: row.seq)
    for row in rows:
        assert row.seq == seq
        assert (row.session, row.opened) == ("s1", session.opened)
        if isinstance(row, ChunkRow):
            assert digest(row.body) == row.digest
            link = chunk_link(
                link, "s1", row.seq, row.events, row.first_at, row.last_at, row.low, row.high, row.size, row.digest
            )
            seq += row.events
        else:
            assert row.body is None
            link = part_link(link, "s1", row.seq, row.number, row.offset, row.size, row.digest)
            seq += 1
        assert row.link == link
    assert link == session.head == hand.row("s1").head
    assert seq == session.events


async def test_the_body_of_a_part(layered: Store) -> None:
    session = await layered.session("s1", ALL)
    assert await layered.part(session, 4) == b"a" * 70_000
    assert await layered.part(session, 8) == b"d" * 10
    for seq in (0, 6, 99):
        with pytest.raises(LookupError):
            await layered.part(session, seq)


async def test_decisions_by_their_ids(layered: Store) -> None:
    names = [decision_name(decision) for decision in (ALLOW, DENY)]
    found = await layered.decisions([*names, "00" * 16, "no hex", ""])
    assert set(found) == set(names)
    assert dict(found[names[1]]) == orjson.loads(encoding.encode(encoding.decision_fields(DENY)))
    assert await layered.decisions([]) == {}


async def test_the_feed_has_every_batch_once_and_in_order(layered: Store, hand: Hand) -> None:
    other = Hand(record("shop/other"))
    await layered.record(other.ref)
    other.open("o1")
    await layered.append(other.batch())
    found = [(uuid, number, part.session.id, told(part)) async for uuid, number, part in layered.feed({})]
    uuid = hand.ref.uuid.hex()
    mine = [each[1:] for each in found if each[0] == uuid]
    assert [rows for _, _, rows in mine] == [["C0", "P4", "P5", "C6"], ["P8", "C9"], ["C10"]]
    assert [number for number, _, _ in mine] == sorted({number for number, _, _ in mine})
    assert [each[2:] for each in found if each[0] != uuid] == [("o1", ["C0"])]
    cursor = {uuid: mine[1][0]}
    rest = [(each, told(part)) async for each, _, part in layered.feed(cursor)]
    assert sorted(rest) == sorted([(uuid, ["C10"]), (other.ref.uuid.hex(), ["C0"])])
    end = {each[0]: each[1] for each in found}
    assert [each async for each in layered.feed(end)] == []
    hand.open("s2")
    hand.open("s3")
    await layered.append(hand.batch())
    new = [(each, part.session.id) async for each, _, part in layered.feed(end)]
    assert sorted(new) == [(uuid, "s2"), (uuid, "s3")]


async def test_a_batch_without_events_is_no_news(store: Store, hand: Hand) -> None:
    await store.append(hand.batch())
    hand.open("s1")
    await store.append(hand.batch())
    assert len([each async for each in store.feed({})]) == 1


async def test_where_a_consumer_of_the_feed_stands(store: Store) -> None:
    assert await store.cursor("siem") == {}
    await store.set_cursor("siem", {"aa": 7})
    await store.set_cursor("other", {"aa": 1})
    await store.set_cursor("siem", {"aa": 8, "bb": 1})
    assert (dict(await store.cursor("siem")), dict(await store.cursor("other"))) == ({"aa": 8, "bb": 1}, {"aa": 1})


# Whole requests


class Counting:
    """A store that counts what it is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked = 0
        self.size = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    async def slice(self, session: SessionRow, *, seq: int = 0, number: int | None = None, limit: int = 64) -> Slice:
        found = await self._store.slice(session, seq=seq, number=number, limit=limit)
        self.asked += 1
        self.size += sum(chunk.size for chunk in found.chunks)
        return found


async def test_a_session_read_as_requests(layered: Store) -> None:
    view = SessionView(layered, await layered.session("s1", ALL))
    page = await view.requests()
    assert page.next == 0
    assert [(each.number, each.begun is not None, each.ended is not None) for each in page.requests] == [
        (1, True, True), (2, True, True), (3, True, True), (4, True, True),
    ]  # fmt: skip
    third = page.requests[2]
    assert third.begun is not None
    assert third.begun.fields["decision"] == {
        "id": decision_name(ALLOW), **orjson.loads(encoding.encode(encoding.decision_fields(ALLOW)))
    }  # fmt: skip
    whole = b"a" * 70_000 + b"b" * 50_000 + b"ccc" + b"d" * 10 + b"end."
    assert b"".join([piece async for piece in view.pieces(third)]) == whole
    for offset, limit in ((0, 10), (69_990, 20), (119_990, 30), (120_000, 1), (120_010, 100), (130_000, 5)):
        assert await view.response(third, offset, limit) == whole[offset : offset + limit]
    assert await view.response(await view.request(1)) == b"one"
    assert await view.response(await view.request(2)) == b"two"
    with pytest.raises(LookupError):
        await view.request(5)


async def test_a_session_read_as_events(layered: Store) -> None:
    view = SessionView(layered, await layered.session("s1", ALL))
    kinds = [
        "open",
        "request",
        "request",
        "begin",
        "frame",
        "frame",
        "gap",
        "frame",
        "frame",
        "end",
        "request",
        "close",
    ]
    events = await view.events()
    assert [event.kind for event in events] == kinds
    assert [event.seq for event in events] == list(range(12))
    for first in range(13):
        assert [event.kind for event in await view.events(first, 2)] == kinds[first : first + 2]
    assert [event.kind for event in await view.events(rare=True)] == ["open", "gap", "close"]
    opened = await view.opened()
    assert opened is not None
    assert opened.fields["detail"] == {"database": "app"}
    assert [event.kind for event in await view.ending()] == ["close"]


async def test_pages_of_requests_of_any_length(store: Store, hand: Hand) -> None:
    hand.open("s1")
    for number in range(1, 60):
        if number % 10 == 0:
            hand.begin("s1", number, f"select {number}")
        elif number % 7:  # the others were not recorded
            hand.whole("s1", number, f"select {number}")
        if number % 13 == 0:
            await store.append(hand.batch())
        if number % 20 == 5 and number > 10:
            hand.end("s1", number // 10 * 10)
    await store.append(hand.batch())
    there = [number for number in range(1, 60) if number % 7 or number % 10 == 0]
    ended = [number for number in there if number % 10 or number in (20, 40)]
    session = replace(await store.session("s1", ALL), requests=59)
    for limit in (1, 2, 7, 25, 100):
        seen: list[int] = []
        done: list[int] = []
        first = 1
        while first:
            page = await SessionView(store, session).requests(first, limit)
            assert len(page.requests) <= limit
            seen += [each.number for each in page.requests]
            done += [each.number for each in page.requests if each.ended is not None]
            assert page.next == 0 or page.next > first
            first = page.next
        assert (seen, done) == (there, ended)


async def test_one_page_of_a_long_session_reads_little_of_it(store: Store, hand: Hand) -> None:
    """A hundred thousand events, and a request that runs from the first to the last."""
    hand.open("s1")
    hand.begin("s1", 1, "select everything")
    number = 2
    for _ in range(25):
        for _ in range(4000):
            hand.whole("s1", number, f"select {number}", response=b"x" * 20)
            number += 1
        await store.append(hand.batch())
    hand.part("s1", 1, 0, b"x" * 1000)
    hand.end("s1", 1, size=1000)
    hand.close("s1")
    await store.append(hand.batch())
    whole = sum(chunk.size for chunk in (await store.slice(await store.session("s1", ALL), limit=1000)).chunks)
    for first, last in ((1, 100), (2, 101), (50_000, 50_099), (99_990, 100_001)):
        began = time.perf_counter()
        session = await store.session("s1", ALL)
        counting = Counting(store)
        view = SessionView(cast("Store", counting), session)
        await view.opened()
        page = await view.requests(first, 100)
        await view.ending()
        took = time.perf_counter() - began
        assert [page.requests[0].number, page.requests[-1].number] == [first, last]
        assert all(each.ended is not None for each in page.requests)
        assert counting.asked < 60
        # The first page looks for the end of the one that runs on; the others have all at hand.
        assert counting.size < whole * (0.9 if first == 1 else 0.3), f"{counting.size} of {whole} bytes from {first}"
        assert took < 10  # far less on a machine that does nothing else
    view = SessionView(store, session)
    assert len(await view.response(await view.request(1))) == 1000


async def test_a_request_that_still_runs(store: Store, hand: Hand) -> None:
    hand.open("s1")
    hand.begin("s1", 1, at=NOON)
    hand.whole("s1", 2)
    await store.append(hand.batch())
    view = SessionView(store, await store.session("s1", ALL))
    page = await view.requests()
    assert [each.ended is None for each in page.requests] == [True, False]
    assert (await view.request(1)).ended is None


async def test_what_is_damaged_is_left_out_and_does_no_harm(store: Store, hand: Hand) -> None:
    hand.open("s1")
    hand.whole("s1", 1, response=b"one")
    batch = hand.batch()
    batch.chunks[0] = replace(batch.chunks[0], body=b"no zstd")
    await store.append(batch)
    hand.whole("s1", 2, response=b"two")
    hand.part("s1", 2, 3, b"more")
    batch = hand.batch()
    batch.parts[0] = replace(batch.parts[0], body=b"no zstd")
    await store.append(batch)
    session = await store.session("s1", ALL)
    view = SessionView(store, session)
    page = await view.requests()
    assert [each.number for each in page.requests] == [2]
    with pytest.raises(ValueError, match="damaged"):
        await store.part(session, 3)
