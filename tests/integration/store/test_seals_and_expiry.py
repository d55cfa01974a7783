"""What keeps a store in order: seals, what is not sealed yet, leases over two connections, and what expires."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from support.batches import NOON, Hand, names
from support.store import Open, everything

from ostiary_store.model import ALL, Expiry, RequestQuery, SealRow, SessionQuery, SessionRow, StoreError
from ostiary_store.sealed import ExpiryDigest
from ostiary_store.store import Store

DAY = 86_400


def seal(number: int, at: float = NOON, heads: bytes = b"heads") -> SealRow:
    """One that nobody signed."""
    return SealRow(number, at, "k1", json.dumps({"seal": number}).encode(), bytes(64), heads)


async def sealed(store: Store, number: int, *rows: SessionRow, at: float = NOON) -> None:
    await store.put_seal(seal(number, at), {row.id: row.head for row in rows})


async def test_seals_follow_each_other(store: Store, another: Open) -> None:
    assert await store.last_seal() is None
    with pytest.raises(StoreError):
        await store.put_seal(seal(2), {})
    for number in range(1, 6):
        await store.put_seal(seal(number), {})
    for number in (5, 7, 1):
        with pytest.raises(StoreError):
            await store.put_seal(seal(number), {})
    other = await another()
    told = await asyncio.gather(
        store.put_seal(seal(6), {}), other.put_seal(seal(6, NOON + 1), {}), return_exceptions=True
    )
    assert sorted(isinstance(each, StoreError) for each in told) == [False, True]
    assert [each.number async for each in store.seals()] == [1, 2, 3, 4, 5, 6]
    assert [each async for each in store.seals(3)][:2] == [seal(3), seal(4)]
    await store.drop_heads(4)
    assert [each.heads async for each in store.seals()] == [b""] * 4 + [b"heads"] * 2
    last = await store.last_seal()
    assert last is not None
    assert last.number == 6


async def test_what_is_in_no_seal_waits_for_one(store: Store, hand: Hand) -> None:
    for name in ("s1", "s2", "s3"):
        hand.open(name)
    hand.close("s3")
    await store.append(hand.batch())
    assert sorted(names(await store.unsealed())) == ["s1", "s2", "s3"]
    assert len(await store.unsealed(2)) == 2
    await sealed(store, 1, hand.row("s1"), hand.row("s3"), at=NOON + 100)
    assert names(await store.unsealed()) == ["s2"]
    # It moved on meanwhile.
    stale = hand.row("s2")
    hand.whole("s2", 1)
    hand.whole("s1", 1)
    await store.append(hand.batch())
    await sealed(store, 2, stale, at=NOON + 200)
    assert sorted(names(await store.unsealed())) == ["s1", "s2"]
    # Live ones that were sealed a moment ago can wait.
    assert "s1" not in names(await store.unsealed(live_before=NOON + 50))
    assert "s1" in names(await store.unsealed(live_before=NOON + 150))
    hand.close("s1")
    await store.append(hand.batch())
    assert "s1" in names(await store.unsealed(live_before=NOON + 50))
    assert await store.unsealed() == [await store.session(name, ALL) for name in names(await store.unsealed())]


async def test_a_lease_is_held_by_one(store: Store, another: Open) -> None:
    other = await another()
    async with store.lease("sealer") as mine:
        assert mine
        async with other.lease("sealer") as theirs:
            assert not theirs
        async with other.lease("janitor") as theirs:
            assert theirs
        async with store.lease("sealer") as again:
            assert not again
    async with other.lease("sealer") as theirs:
        assert theirs
    with pytest.raises(RuntimeError):
        async with store.lease("sealer"):
            raise RuntimeError
    async with other.lease("sealer") as theirs:
        assert theirs


@pytest.fixture
async def aged(store: Store, hand: Hand) -> Store:
    """Sessions that ended on three days; all sealed but `new`, and `live` has not ended."""
    for day, name, retention in (
        (0, "a-plain", {}),
        (0, "b-long", {"record": 1000 * DAY}),
        (0, "c-short", {"responses": 1 * DAY}),
        (0, "live", {}),
        (1, "d-plain", {}),
        (5, "e-brief", {"record": 1 * DAY, "responses": 3600}),
        (5, "f-plain", {}),
        (0, "g-odd", {"record": "soon", "responses": None}),
    ):
        at = NOON + day * DAY
        hand.open(name, at=at, retention=retention)
        hand.whole(name, 1, f"select needle {name[0]}", at=at + 1)
        hand.part(name, 1, 0, b"body" * 100)
        if name != "live":
            hand.close(name, at=at + 2)
    await store.append(hand.batch())
    await sealed(store, 1, *await store.unsealed())
    hand.open("new", at=NOON)
    hand.close("new", at=NOON + 1)
    await store.append(hand.batch())
    return store


def digest(hand: Hand, *sessions: str) -> bytes:
    found = ExpiryDigest()
    for name in sorted(sessions):
        found.add(name, hand.row(name).head)
    return found.digest()


def shown(expiry: Expiry) -> tuple[str, int, int]:
    return expiry.kind, (expiry.day - int(NOON) // DAY * DAY) // DAY, expiry.sessions


async def test_what_is_due(aged: Store, hand: Hand) -> None:
    async def due(days: float, record: float, responses: float) -> list[tuple[str, int, int]]:
        at = NOON + days * DAY
        return sorted(shown(e) for e in await aged.expiring(at, record=record * DAY, responses=responses * DAY))

    assert await due(0.5, 10, 5) == []
    assert await due(2, 10, 5) == [("responses", 0, 1)]  # c-short
    assert await due(7, 30, 30) == [("record", 5, 1), ("responses", 0, 1)]  # c-short, e-brief
    assert await due(4, 3, 30) == [("record", 0, 3)]  # a, c, g; b is kept
    assert await due(4, 3, 2) == [("record", 0, 3), ("responses", 0, 1), ("responses", 1, 1)]
    first, *_ = await aged.expiring(NOON + 4 * DAY, record=3 * DAY, responses=30 * DAY)
    assert first.digest == digest(hand, "a-plain", "c-short", "g-odd")
    assert first.closed == NOON + 2
    assert len(await aged.expiring(NOON + 9 * DAY, record=DAY, responses=DAY, limit=1)) == 1


async def test_what_expires_is_gone_and_nothing_else(aged: Store) -> None:
    at = NOON + 4 * DAY
    plans = await aged.expiring(at, record=3 * DAY, responses=2 * DAY)
    kept = [row for row in await everything(aged) if not isinstance(row, int)]
    for each in plans:
        told = await aged.expire(each)
        assert any(told.values())
        with pytest.raises(StoreError):  # it is not what was signed any more
            await aged.expire(each)
    assert await aged.expiring(at, record=3 * DAY, responses=2 * DAY) == []
    left = sorted(names((await aged.sessions(SessionQuery(), ALL)).sessions))
    assert left == ["b-long", "d-plain", "e-brief", "f-plain", "live", "new"]
    found = await aged.requests(RequestQuery(text="needle"), ALL)
    assert sorted(row.session for row in found.requests) == ["b-long", "d-plain", "e-brief", "f-plain", "live"]
    for name, there in (("b-long", False), ("d-plain", False), ("f-plain", True), ("live", True)):
        session = await aged.session(name, ALL)
        [part] = (await aged.slice(session)).parts
        if there:
            assert await aged.part(session, part.seq) == b"body" * 100
        else:
            with pytest.raises(LookupError):
                await aged.part(session, part.seq)
    # What is left is as it was.
    now = await everything(aged)
    for row in kept:
        if isinstance(row, SessionRow) and row.id in left:
            assert row in now
    for name in ("a-plain", "c-short", "g-odd"):
        with pytest.raises(LookupError):
            await aged.session(name, ALL)


async def test_what_changed_after_it_was_signed_stays(aged: Store, hand: Hand) -> None:
    [plan] = await aged.expiring(NOON + 4 * DAY, record=3 * DAY, responses=30 * DAY)
    before = await everything(aged)
    for wrong in (replace(plan, digest=bytes(32)), replace(plan, at=NOON), replace(plan, record=2000.0 * DAY)):
        with pytest.raises(StoreError):
            await aged.expire(wrong)
    assert await everything(aged) == before
    assert (await aged.expire(plan))["sessions"] == 3


# Looking at everything


async def test_everything_in_a_fixed_order(store: Store, hand: Hand) -> None:
    order = ["B", "_", "a", "a-b", "aa", "ab", "z", "ä", "\N{GRINNING FACE}"]
    for name in reversed(order):
        hand.open(name, at=NOON)
        for number in range(1, 4):
            hand.whole(name, number, at=NOON)
        hand.part(name, 3, 0, name.encode() * 10)
        hand.close(name, at=NOON)
    await store.append(hand.batch())
    hand.open("tomorrow", at=NOON + DAY)
    await store.append(hand.batch())
    [today, tomorrow] = await store.days()
    assert (today, tomorrow) == (int(NOON) // DAY * DAY, int(NOON) // DAY * DAY + DAY)
    assert [row.id async for row in store.scan_sessions(today)] == order
    assert [row.id async for row in store.scan_sessions(tomorrow)] == ["tomorrow"]
    assert [row.id async for row in store.scan_sessions(today, "ab")] == ["ab"]
    assert [row.id async for row in store.scan_requests(today)] == [f"{n}-{r}" for n in order for r in (1, 2, 3)]
    assert [row.number async for row in store.scan_requests(today, "a")] == [1, 2, 3]
    rows = [row async for row in store.scan_rows(today, bodies=True)]
    assert [(row.session, row.seq) for row in rows] == [(name, seq) for name in order for seq in (0, 4, 5)]
    assert all(row.body for row in rows)
    bare = [row async for row in store.scan_rows(today, bodies=False)]
    assert not any(row.body for row in bare)
    assert [row.link for row in bare] == [row.link for row in rows]
    assert [row.seq async for row in store.scan_rows(today, "ab", bodies=False)] == [0, 4, 5]
    for row in [each async for each in store.scan_sessions(today)]:
        assert row == hand.row(row.id)


async def test_long_sessions_are_looked_at_whole(store: Store, hand: Hand) -> None:
    for name in ("one", "two"):
        hand.open(name, at=NOON)
        for number in range(1, 1300):
            hand.whole(name, number, at=NOON)
            if number % 20 == 0:
                hand.part(name, number, 0, b"x")
    await store.append(hand.batch())
    [day] = await store.days()
    assert [row.number async for row in store.scan_requests(day)] == [*range(1, 1300)] * 2
    rows = [row async for row in store.scan_rows(day, bodies=True)]
    assert [row.seq for row in rows] == [row.seq async for row in store.scan_rows(day, bodies=False)]
    assert len(rows) == 2 * (65 + 64)
