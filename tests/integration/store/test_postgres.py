"""What is PostgreSQL's own: who makes the schema, partitions by day, roles, and texts for people who write SQL."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
from support.batches import DENY, NOON, Hand, record
from support.servers import Server

from ostiary_gateway.audit.event import SessionOpened
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_policy.decision import Action, Decision, RuleRef
from ostiary_store.ingest import Ingest
from ostiary_store.model import ALL, Moved, RecordRef, RequestQuery, Scope, SealRow, SessionQuery, StoreError
from ostiary_store.opening import open_store
from ostiary_store.postgres import days
from ostiary_store.postgres.pages import Mark
from ostiary_store.store import Store

DAY = 86_400
_COUNT = itertools.count()


@pytest.fixture
def schema() -> str:
    return f"team_{next(_COUNT)}"


@pytest.fixture
def address(pg18: Server, schema: str) -> str:
    return _address(pg18, pg18.user, pg18.password, schema)


def _address(server: Server, user: str, password: str, schema: str) -> str:
    return (
        f"postgresql://{user}:{quote(password, safe='')}@{server.host}:{server.port}/{server.database}?schema={schema}"
    )


@pytest.fixture
async def store(address: str) -> AsyncIterator[Store]:
    store = await open_store(address)
    yield store
    await store.close()


async def test_who_only_asks_makes_no_store(address: str, schema: str, database: asyncpg.Connection) -> None:
    with pytest.raises(StoreError, match=f"there is no store in this database .schema '{schema}'."):
        await open_store(address, make=False)
    assert not await database.fetchval("select exists (select from pg_namespace where nspname = $1)", schema)
    await (await open_store(address)).close()
    await (await open_store(address, make=False)).close()


@pytest.fixture
async def database(pg18: Server) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(
        host=pg18.host, port=pg18.port, user=pg18.user, password=pg18.password, database=pg18.database
    )
    yield connection
    await connection.close()


async def test_whichever_process_starts_first_makes_the_schema(address: str, schema: str, database: object) -> None:
    stores = await asyncio.gather(*(open_store(address) for _ in range(6)))
    assert isinstance(database, asyncpg.Connection)
    assert await database.fetchval(f"select count(*) from {schema}.schema_version") == 1
    await asyncio.gather(*(store.close() for store in stores))


async def test_a_newer_schema_is_left_alone(
    address: str, schema: str, store: Store, database: asyncpg.Connection
) -> None:
    await database.execute(f"update {schema}.schema_version set version = 99")
    with pytest.raises(StoreError, match="made by a newer Ostiary"):
        await open_store(address)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://owner@127.0.0.1:1/app", "cannot be reached"),
        ("postgresql://owner@127.0.0.1:99999/app", "cannot be reached: .*port"),
        ("postgresql://owner@127.0.0.1/app?schema=a.b", "cannot be the name of a schema"),
        ("mysql://x/y", "is no kind of store"),
        ("sqlite:", "is no kind of store"),
    ],
)
async def test_an_address_that_is_none_says_so(url: str, words: str) -> None:
    with pytest.raises(StoreError, match=words):
        await open_store(url)


async def test_a_wrong_password_is_told_and_not_repeated(pg18: Server) -> None:
    with pytest.raises(StoreError) as refused:
        await open_store(_address(pg18, pg18.user, "wrong-secret", "ostiary"))
    assert "password authentication failed" in str(refused.value)
    assert "wrong-secret" not in str(refused.value)


async def test_clocks_that_are_wrong_do_not_make_tables_without_end(
    store: Store, schema: str, database: asyncpg.Connection
) -> None:
    """Also of a gateway that lies about the time of its sessions: others are taken in as before."""
    hand = Hand(record("evil/gw"))
    await store.record(hand.ref)
    for day in range(days.FAR + 5):
        hand.open(f"s{day}", at=float(day * DAY))
    with pytest.raises(StoreError, match="the clock of the gateway is wrong"):
        await store.append(hand.batch())
    tables = await database.fetchval(f"select count(*) from pg_inherits where inhparent = '{schema}.request'::regclass")
    assert tables <= days.FAR
    other = Hand(record("shop/app-db"), at=time.time())
    await store.record(other.ref)
    other.open("today")
    other.open("last year", at=time.time() - 365 * DAY)
    await store.append(other.batch())
    assert (await store.session("today", ALL)).connection == "shop/app"


async def test_an_id_that_another_gateway_claimed_first_is_found_by_who_may_see_it(store: Store) -> None:
    for gateway, connection in (("evil/gw", "evil/app"), ("shop/app-db", "shop/app")):
        hand = Hand(record(gateway))
        await store.record(hand.ref)
        hand.open("01same", connection=connection)
        hand.whole("01same", 1, f"select '{connection}'")
        await store.append(hand.batch())
    for connection in ("evil/app", "shop/app"):
        scope = Scope(frozenset({connection}))
        assert (await store.session("01same", scope)).connection == connection
        assert (await store.request("01same-1", scope)).connection == connection
        found = await store.requests(RequestQuery(session="01same"), scope)
        assert [row.text for row in found.requests] == [f"select '{connection}'"]


CONSOLE = """
create role {role} login password 'reads-only';
grant connect on database app to {role};
grant usage on schema {schema} to {role};
grant select on all tables in schema {schema} to {role};
alter default privileges in schema {schema} grant select on tables to {role};
"""
"""As docs/store.md tells it."""


async def test_the_consoles_role_reads_all_and_changes_nothing(
    pg18: Server, schema: str, store: Store, database: asyncpg.Connection
) -> None:
    role = f"reader_{schema}"
    await database.execute(CONSOLE.format(role=role, schema=schema))
    hand = Hand()
    await store.record(hand.ref)
    hand.open("s1")
    hand.whole("s1", 1, "select 'today'")
    await store.append(hand.batch())
    # A day that comes after the grants.
    hand.open("s2", at=NOON + 3 * DAY)
    hand.whole("s2", 1, "drop table x", DENY, at=NOON + 3 * DAY)
    await store.append(hand.batch())
    reader = await open_store(_address(pg18, role, "reads-only", schema))
    try:
        found = await reader.requests(RequestQuery(text="drop"), ALL)
        assert [row.id for row in found.requests] == ["s2-1"]
        session = await reader.session("s2", ALL)
        assert (await reader.slice(session)).chunks
        assert (await reader.facets(RequestQuery(), ALL)).counted == 2
        assert [row async for row in reader.scan_requests(int(NOON // DAY) * DAY)]
        async with reader.lease("nothing") as held:
            assert held
        for attempt in (
            reader.append(hand.batch()),
            reader.record(hand.ref),
            reader.set_cursor("x", {}),
            reader.put_seal(SealRow(1, 1.0, "k", b"", b""), {}),
        ):
            with pytest.raises(StoreError, match="permission denied"):
                await attempt
    finally:
        await reader.close()
        await database.execute(f"drop owned by {role}; drop role {role}")


async def test_people_ask_the_views(schema: str, store: Store, database: asyncpg.Connection) -> None:
    hand = Hand()
    await store.record(hand.ref)
    hand.open("s1")
    hand.whole("s1", 1, "drop table Ünïcödé", DENY)
    hand.whole("s1", 2, "select 1")
    await store.append(hand.batch())
    [row] = await database.fetch(
        f"select id, username, rule, text, extract(epoch from begun) as at from {schema}.requests"
        " where words @@ to_tsquery('simple', 'drop & ünïcödé')"
    )
    assert (row["id"], row["username"], row["rule"]) == ("s1-1", "planner", "no-drop")
    assert float(row["at"]) == pytest.approx((await store.request("s1-1", ALL)).begun)
    [session] = await database.fetch(f"select id, requests, denied from {schema}.sessions")
    assert tuple(session) == ("s1", 2, 1)
    await database.execute("set enable_seqscan = off")
    plan = await database.fetch(f"explain select id from {schema}.requests where words @@ to_tsquery('simple', 'drop')")
    assert "Bitmap Index Scan" in "\n".join(row[0] for row in plan)


async def test_a_day_that_is_over_goes_with_its_partitions(
    address: str, schema: str, store: Store, database: asyncpg.Connection
) -> None:
    hand = Hand()
    await store.record(hand.ref)
    for name, at in (("old", NOON), ("new", NOON + DAY)):
        hand.open(name, at=at)
        hand.whole(name, 1, at=at + 1)
        hand.close(name, at=at + 2)
    await store.append(hand.batch())
    await store.put_seal(SealRow(1, 1.0, "k", b"", b""), {row.id: row.head for row in await store.unsealed()})

    async def partitions() -> set[str]:
        rows = await database.fetch(
            "select relname from pg_class c join pg_namespace n on n.oid = c.relnamespace where nspname = $1"
            " and relispartition and relkind = 'r'",
            schema,
        )
        return {row[0] for row in rows}

    before = await partitions()
    [expiry] = await store.expiring(NOON + 2 + 3600, record=3600, responses=3600)
    assert (expiry.day, expiry.sessions) == (int(NOON // DAY) * DAY, 1)
    other = await open_store(address)
    assert (await other.expire(expiry))["sessions"] == 1
    await other.close()
    assert len(before - await partitions()) == 3
    # The same day comes again: a gateway was away for long. This process does not know yet that the day was removed.
    hand.open("late", at=NOON)
    hand.whole("late", 1, at=NOON + 1)
    batch = hand.batch()
    with pytest.raises(StoreError, match="does not exist"):
        await store.append(batch)
    await store.append(batch)
    assert {row.id for row in (await store.sessions(SessionQuery(), ALL)).sessions} == {"new", "late"}


RULE = RuleRef("prod", "agents", "reads", "sha256:1")
DECISION = Decision(Action.ALLOW, RULE, "")


async def test_two_services_take_in_one_record_by_turns(tmp_path: Path, address: str, store: Store) -> None:
    """Each hears Moved when the other was there, and goes on; nothing is lost, nothing comes twice."""
    recorder = await FileRecorder.open(tmp_path / "audit.db")
    log = tmp_path / "audit.log"
    header = log.read_bytes()[:64]
    record = RecordRef(header[16:32], header, "prod/app", "app-0")
    other = await open_store(address)
    services = [Ingest(store), Ingest(other)]
    sessions = [
        recorder.session_opened(
            SessionOpened(f"s{at}", time.time(), "prod/app", "Postgres", {"username": "a"}, {}, {}, "Full")
        )
        for at in range(3)
    ]
    moved = 0
    for step in range(30):
        for session in sessions:
            session.begin(step + 1, time.time(), f"select {step}", {}, DECISION, durable=False)
            if step:
                session.end(step, time.time(), "ok", {}, 1, 1)
        waiting = sessions[0].begin(1000 + step, time.time(), "select now()", {}, DECISION, durable=True)
        assert waiting is not None
        await waiting
        ingest = services[step % 2]
        place = await services[(step // 2) % 2].place(record)
        while (data := log.read_bytes()[place.position :]) and step % 3:
            try:
                end = await ingest.take(record, place, data)
            except Moved as told:
                moved += 1
                end = told.place
            if end == place:
                break
            place = end
            ingest = services[(services.index(ingest) + step) % 2]
    await recorder.close()
    data = log.read_bytes()
    place = await services[0].place(record)
    while place.position < len(data):
        place = await services[0].take(record, place, data[place.position :])
    for at in range(3):
        found = (await store.requests(RequestQuery(session=f"s{at}", limit=1000), ALL)).requests
        assert len(found) == len({row.number for row in found}) == (60 if at == 0 else 30)
        row = await store.session(f"s{at}", ALL)
        assert (row.requests, row.state) == (len(found), "lost")
        assert {each.outcome for each in found if each.number < 30} == {"ok"}
        chunks = (await store.slice(row, limit=1000)).chunks
        assert [chunk.seq for chunk in chunks] == [
            sum(each.events for each in chunks[:at]) for at in range(len(chunks))
        ]
        assert chunks[-1].link == row.head
    assert sum(tally.requests for tally in await store.tallies(0, 1e11, ALL)) == 120
    await other.close()


async def test_a_store_that_went_away_comes_back(tmp_path: Path, pg18: Server, address: str) -> None:
    store = await open_store(address)
    hand = Hand()
    await store.record(hand.ref)
    hand.open("s1")
    hand.whole("s1", 1)
    batch = hand.batch()
    pg18.stop()
    with pytest.raises(StoreError):
        await store.append(batch)
    with pytest.raises(StoreError):
        await store.sessions(SessionQuery(), ALL)
    pg18.start()
    await store.append(batch)
    assert len((await store.sessions(SessionQuery(), ALL)).sessions) == 1
    await store.close()


async def test_a_search_that_takes_too_long_says_how_far_it_came(store: Store) -> None:
    hand = Hand()
    await store.record(hand.ref)
    for at in range(12):
        name = f"s{at}"
        hand.open(name, at=NOON + at * 2000)
        for number in range(1, 1001):
            hand.whole(name, number, f"select {number} from t{at}", at=NOON + at * 2000 + number)
        await store.append(hand.batch())
    seen: list[str] = []
    # As where no index helped.
    after, pages, told = str(Mark(NOON + DAY, 0, 0, slowly=True)), 0, 0
    while True:
        page = await store.requests(RequestQuery(text='"77 from"', deadline=0.0, after=after), ALL)
        assert (page.searched_to is None) or page.next
        told += page.searched_to is not None
        seen += [row.id for row in page.requests]
        pages += 1
        after = page.next
        if not after:
            break
    assert told
    assert 2 < pages < 20
    assert seen == [f"s{at}-77" for at in reversed(range(12))]
