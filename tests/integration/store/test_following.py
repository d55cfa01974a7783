"""What gateways write, followed into a store: while they write, over restarts, and exactly as the record has it."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.batches import ALLOW, DENY
from support.store import Open

from ostiary_gateway.audit.event import SessionOpened, SessionRecord
from ostiary_gateway.audit.export import export
from ostiary_gateway.audit.holes import punch
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_store.blocking import StoreRecords
from ostiary_store.follow import Follower, Progress
from ostiary_store.ingest import Ingest
from ostiary_store.model import ALL, RequestQuery, SessionQuery, StoreError
from ostiary_store.opening import open_store
from ostiary_store.store import Store


class Gateway:
    """A gateway as far as its record is concerned."""

    def __init__(self, recorder: FileRecorder) -> None:
        self.recorder = recorder
        self.sessions: dict[str, SessionRecord] = {}

    @classmethod
    async def start(cls, data: Path, worker: int = 1) -> Gateway:
        name = "audit.db" if worker == 1 else f"audit-{worker}.db"
        return cls(await FileRecorder.open(data / name))

    def open(self, name: str, connection: str = "shop/app") -> None:
        self.sessions[name] = self.recorder.session_opened(
            SessionOpened(
                name, time.time(), connection, "Postgres", {"username": "planner", "groups": ["agents"]},
                {"address": "10.0.0.7"}, {"database": "app"}, "Full",
            )
        )  # fmt: skip

    async def run(self, name: str, number: int, text: str, response: bytes = b"", *, durable: bool = True) -> None:
        session = self.sessions[name]
        denied = text.startswith("drop")
        waiting = session.begin(number, time.time(), text, {}, DENY if denied else ALLOW, durable)
        if waiting is not None:
            await waiting
        if response:
            session.response(number, response)
        session.end(number, time.time(), "denied" if denied else "ok", {"tags": ["SELECT 1"]}, 1, len(response))

    def close(self, name: str) -> None:
        self.sessions.pop(name).closed(time.time(), "the client went away", 0)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    found = tmp_path / "data"
    found.mkdir()
    return found


@pytest.fixture
async def follower(store: Store, data: Path) -> AsyncIterator[Follower]:
    async with Follower(data, Ingest(store)) as follower:
        yield follower


async def busy(gateway: Gateway, name: str, requests: int = 30) -> None:
    """A session with short, long and denied requests."""
    gateway.open(name)
    for number in range(1, requests + 1):
        text = f"drop table t{number}" if number % 7 == 0 else f"select {number} from customers"
        response = b"long %d " % number * 20_000 if number % 10 == 0 else b"row %d" % number
        await gateway.run(name, number, text, response, durable=number % 3 == 0)


def same(data: Path, address: str, *records: str) -> None:
    """Whether the store says of every session what the record says: exported, they are the same bytes."""
    for name in records or ("audit.db",):
        with Reader.open(data / name) as reader, StoreRecords.open(open_store(address)) as store:
            for session in reader.sessions(gateway=True):
                there, kept = store.session(session.id)
                mine = sorted(export(reader, [session]))
                assert sorted(export(there, [kept])) == mine


async def test_a_record_that_was_there_before(store: Store, address: str, data: Path, follower: Follower) -> None:
    gateway = await Gateway.start(data)
    await busy(gateway, "s1", 60)
    await busy(gateway, "s2")
    gateway.close("s1")
    await gateway.recorder.close()
    told: list[Progress] = []
    await follower.catch_up(told.append)
    assert told[-1].taken == told[-1].there == (data / "audit.log").stat().st_size
    assert follower.behind == 0
    assert not follower.troubles
    await asyncio.to_thread(same, data, address)
    assert [row.state for row in (await store.sessions(SessionQuery(), ALL)).sessions] == ["lost", "closed"]
    found = await store.requests(RequestQuery(text='"drop table"', limit=100), ALL)
    assert {row.outcome for row in found.requests} == {"denied"}
    assert len(found.requests) == 12


async def test_what_a_gateway_writes_is_there_at_once(store: Store, data: Path, follower: Follower) -> None:
    gateway = await Gateway.start(data)
    following = asyncio.create_task(follower.run())
    gateway.open("s1")
    late = []
    for number in range(1, 11):
        await gateway.run("s1", number, f"select {number}")
        began = time.perf_counter()
        async with asyncio.timeout(10):
            while True:
                page = await store.requests(RequestQuery(session="s1", limit=1), ALL)
                if page.requests and page.requests[0].number == number:
                    break
                await asyncio.sleep(0.01)
        late.append(time.perf_counter() - began)
    assert sorted(late)[5] < 1, late  # about 0.1 s on a machine that does nothing else
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    await gateway.recorder.close()


async def test_over_restarts_of_the_gateway_and_of_the_follower(
    store: Store, another: Open, address: str, data: Path
) -> None:
    for turn in range(3):
        gateway = await Gateway.start(data)
        async with Follower(data, Ingest(await another())) as follower:
            following = asyncio.create_task(follower.run())
            await busy(gateway, f"s{turn}")
            await asyncio.sleep(0.15)
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await busy(gateway, f"t{turn}", 5)
        await gateway.recorder.close()
    async with Follower(data, Ingest(store)) as follower:
        await follower.catch_up()
    await asyncio.to_thread(same, data, address)
    assert len((await store.sessions(SessionQuery(gateway=True), ALL)).sessions) == 9


async def test_two_followers_take_in_everything_once(store: Store, another: Open, address: str, data: Path) -> None:
    gateway = await Gateway.start(data)
    followers = [Follower(data, Ingest(store)), Follower(data, Ingest(await another()))]
    following = [asyncio.create_task(each.run()) for each in followers]
    for number in range(5):
        await busy(gateway, f"s{number}", 20)
        await asyncio.sleep(0.1)
    await gateway.recorder.close()
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    async with Follower(data, Ingest(store)) as follower:
        await follower.catch_up()
    await asyncio.to_thread(same, data, address)
    assert sum(tally.requests for tally in await store.tallies(0, 1e10, ALL)) == 100


async def test_workers_whose_records_come_one_by_one(store: Store, address: str, data: Path) -> None:
    async with Follower(data, Ingest(store)) as follower:
        following = asyncio.create_task(follower.run())
        gateways = []
        for worker in (1, 2, 11):
            gateways.append(await Gateway.start(data, worker))
            await busy(gateways[-1], f"s{worker}", 5)
        (data / "audit-1.log").write_bytes(b"no record")
        (data / "audit-3.log").write_bytes(b"no record either")
        for gateway in gateways:
            await gateway.recorder.close()
        async with asyncio.timeout(20):
            while len(await store.records()) < 3 or follower.behind:
                await asyncio.sleep(0.05)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    await asyncio.to_thread(same, data, address, "audit.db", "audit-2.db", "audit-11.db")
    assert len({record["instance"] for record in await store.records()}) == 3


async def test_what_a_gateway_did_not_write_whole_waits(store: Store, address: str, data: Path) -> None:
    gateway = await Gateway.start(data)
    await busy(gateway, "s1")
    await gateway.recorder.close()
    path = data / "audit.log"
    whole = path.read_bytes()
    for torn in (b"OBLK", whole[64 : 64 + 70], whole[64:2000]):
        with path.open("ab") as file:
            file.write(torn)
        async with Follower(data, Ingest(store)) as follower:
            await follower.catch_up()
            assert not follower.troubles
    [record] = await store.records()
    assert record["position"] == len(whole)
    gateway = await Gateway.start(data)
    await busy(gateway, "s2")
    await gateway.recorder.close()
    async with Follower(data, Ingest(store)) as follower:
        await follower.catch_up()
    await asyncio.to_thread(same, data, address)


async def test_a_copy_of_the_record_alone(store: Store, data: Path, tmp_path: Path) -> None:
    gateway = await Gateway.start(data)
    await busy(gateway, "s1")
    await gateway.recorder.close()
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(data / "audit.log", copy)
    async with Follower(copy, Ingest(store)) as follower:
        await follower.catch_up()
    assert (await store.session("s1", ALL)).requests == 30


async def test_a_record_that_was_changed_is_not_taken_in(store: Store, data: Path, follower: Follower) -> None:
    gateway = await Gateway.start(data)
    await busy(gateway, "s1")
    await gateway.recorder.close()
    path = data / "audit.log"
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(StoreError, match="ostiary verify"):
        await follower.catch_up()
    assert list(follower.troubles) == ["audit.log"]


async def test_a_record_that_an_older_copy_took_the_place_of(store: Store, data: Path) -> None:
    gateway = await Gateway.start(data)
    await busy(gateway, "s1")
    await gateway.recorder.close()
    older = {path.name: path.read_bytes() for path in data.iterdir()}
    gateway = await Gateway.start(data)
    await busy(gateway, "s2")
    await gateway.recorder.close()
    async with Follower(data, Ingest(store)) as follower:
        await follower.catch_up()
    for name, content in older.items():
        (data / name).write_bytes(content)
    async with Follower(data, Ingest(store)) as follower:
        with pytest.raises(StoreError, match="older copy"):
            await follower.catch_up()


async def test_a_record_whose_beginning_went_to_another_store(
    store: Store, data: Path, address: str, tmp_path: Path
) -> None:
    gateway = await Gateway.start(data)
    await busy(gateway, "s1", 200)
    await gateway.recorder.close()
    async with Follower(data, Ingest(store)) as follower:
        await follower.catch_up()
    path = data / "audit.log"
    with path.open("r+b") as file:
        punch(file.fileno(), 64, path.stat().st_size // 2)
    gateway = await Gateway.start(data)
    await busy(gateway, "s2", 3)
    await gateway.recorder.close()
    # What the one store has of it, it does not need any more; the other one cannot begin in the middle.
    async with Follower(data, Ingest(store)) as follower:
        await follower.catch_up()
    assert (await store.session("s2", ALL)).requests == 3
    empty = await open_store(f"sqlite:{tmp_path / 'empty.db'}")
    async with Follower(data, Ingest(empty)) as follower:
        with pytest.raises(StoreError, match="another store"):
            await follower.catch_up()
    await empty.close()


async def test_another_name_of_the_machine(store: Store, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = await Gateway.start(data)
    await busy(gateway, "s1", 3)
    async with Follower(data, Ingest(store)) as follower:
        await follower.catch_up()
    await busy(gateway, "s2", 3)
    await gateway.recorder.close()
    monkeypatch.setattr("platform.node", lambda: "renamed")
    async with Follower(data, Ingest(store)) as follower:
        await follower.catch_up()
    assert (await store.session("s2", ALL)).requests == 3


async def test_a_directory_that_is_not_there_yet(store: Store, tmp_path: Path) -> None:
    data = tmp_path / "later"
    async with Follower(data, Ingest(store)) as follower:
        await follower.catch_up()
        following = asyncio.create_task(follower.run())
        data.mkdir()
        gateway = await Gateway.start(data)
        await busy(gateway, "s1", 3)
        await gateway.recorder.close()
        async with asyncio.timeout(20):
            while not (await store.sessions(SessionQuery(), ALL)).sessions or follower.behind:
                await asyncio.sleep(0.05)
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
