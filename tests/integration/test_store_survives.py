"""What a gateway acknowledged is in the store, once, whoever is killed meanwhile. Real servers, real kills."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from support import gateway as gateways
from support import servers, store_service
from support.gateway import ALLOW_ALL, Gateway, run_ostiary
from support.presence import missing
from support.servers import Server, Unavailable
from support.store_service import StoreService

from ostiary_gateway.audit.verify import verify
from ostiary_store.model import ALL, RequestQuery, SessionQuery
from ostiary_store.objects import open_bucket
from ostiary_store.opening import open_store
from ostiary_store.settings import RecordingsSettings

CLIENTS = 6
LONG = ", (select string_agg(md5(random()::text), '') from generate_series(1, 5000))"
MARK = re.compile(r"ran \w+/\d+/\d+")


@pytest.fixture(scope="module")
def target() -> Iterator[Server]:
    """A server that logs every statement before it runs it."""
    try:
        server = servers.embedded("target", settings={"log_statement": "all"})
    except Unavailable as failure:
        missing(str(failure))
    yield server
    servers.destroy(server)


@pytest.fixture
def service() -> Iterator[StoreService]:
    made = store_service.prepare("store")
    try:
        made.start()
        yield made
    finally:
        made.destroy()


@contextmanager
def shipping(target: Server, service: StoreService, *more: str, data: Path | None = None) -> Iterator[Gateway]:
    """A gateway, Strict, whose record goes to the store."""
    gateway = gateways.prepare(servers.scratch(f"shipping-{servers.free_port()}"), target)
    gateway.arguments = (*service.arguments, *more)
    if data is not None:
        gateway.data.symlink_to(data)
    gateway.write(gateways.connection(target, gateway.port), *gateways.secrets_for(target), ALLOW_ALL)
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.destroy()


class Load:
    """Clients whose statements no other is like. `acknowledged`: those whose result they got."""

    def __init__(self, gateway: Gateway, name: str, more: str = "") -> None:
        self._more = more
        self.acknowledged: list[str] = []
        self._gateway = gateway
        self._name = name
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(CLIENTS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        count = 0
        while not self._stop.is_set():
            try:
                with psycopg.connect(self._gateway.dsn(), autocommit=True, connect_timeout=5) as session:
                    while not self._stop.is_set():
                        count += 1
                        mark = f"ran {self._name}/{number}/{count}"
                        session.execute(f"select '{mark}'{self._more}".encode())
                        self.acknowledged.append(mark)
            except psycopg.Error:
                time.sleep(0.05)

    def run(self, at_least: int) -> None:
        """Until so many more were acknowledged."""
        wanted = len(self.acknowledged) + at_least
        until(lambda: len(self.acknowledged) >= wanted, "there was no load")


def until(true: Callable[[], object], otherwise: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, otherwise
        time.sleep(0.05)


def in_the_store(service: StoreService, name: str) -> Counter[str]:
    """How often each mark is there."""

    async def ask() -> Counter[str]:
        store = await open_store(service.store)
        try:
            found: Counter[str] = Counter()
            query = RequestQuery(limit=1000, deadline=30.0)
            while True:
                page = await store.requests(query, ALL)
                found.update(mark for row in page.requests for mark in MARK.findall(row.text) if f"ran {name}/" in mark)
                if not page.next:
                    return found
                query = RequestQuery(limit=1000, deadline=30.0, after=page.next)
        finally:
            await store.close()

    return asyncio.run(ask())


def all_shipped(gateway: Gateway) -> bool:
    text = gateway.admin("/metrics")[1]
    return "ostiary_ship_waiting_bytes 0.0" in text and "ostiary_record_queue_bytes 0.0" in text


def nothing_is_missing_or_twice(service: StoreService, target: Server, load: Load, name: str, since: int) -> None:
    stored = in_the_store(service, name)
    ran = {mark for mark in MARK.findall(target.log_text(since)) if f"ran {name}/" in mark}
    assert ran, "nothing ran"
    assert not ran - set(stored), "the target ran what is not in the store"
    assert not set(load.acknowledged) - set(stored), "what was acknowledged is not in the store"
    assert [mark for mark, count in stored.items() if count > 1] == [], "in the store twice"


def the_store_is_whole(service: StoreService) -> None:
    service.stop()  # what it has not sealed yet, it seals at its end
    run_ostiary("verify", "--store", service.store, "--keys", str(service.directory / "seal.pub"))


def test_what_runs_is_soon_in_the_store(target: Server, service: StoreService) -> None:
    with shipping(target, service) as gateway, psycopg.connect(gateway.dsn(), autocommit=True) as session:
        session.execute("select 'ran soon/0/1'")
        begun = time.monotonic()
        until(lambda: in_the_store(service, "soon"), "it did not come", 10)
        assert time.monotonic() - begun < 5
        assert "[+] store" in gateway.admin("/readyz")[1]


@pytest.mark.slow
def test_the_database_of_the_store_is_killed_under_load(target: Server, service: StoreService) -> None:
    since = target.log_size()
    with shipping(target, service) as gateway:
        with Load(gateway, "database") as load:
            for _ in range(4):
                load.run(300)
                store_service.kill_database(service.database)
                load.run(200)  # nobody who asks something has to wait for the store
                service.database.start()
        until(lambda: all_shipped(gateway), "the rest did not come")
        nothing_is_missing_or_twice(service, target, load, "database", since)
    service.wait_ready()
    the_store_is_whole(service)


@pytest.mark.slow
def test_the_service_is_killed_under_load(target: Server, service: StoreService) -> None:
    since = target.log_size()
    with shipping(target, service) as gateway:
        with Load(gateway, "service") as load:
            for _ in range(6):
                load.run(300)
                service.kill()
                load.run(100)
                service.start()
        until(lambda: all_shipped(gateway), "the rest did not come")
        nothing_is_missing_or_twice(service, target, load, "service", since)
    the_store_is_whole(service)


@pytest.mark.slow
def test_long_responses_are_in_the_bucket_whoever_is_killed(target: Server, service: StoreService) -> None:
    bucket = RecordingsSettings(bucket=f"file://{service.directory}/bucket")
    service.stop()
    service.more = f"recordings: {{bucket: '{bucket.bucket}'}}\n"
    service.start()
    since = target.log_size()
    with shipping(target, service) as gateway:
        with Load(gateway, "bucket", LONG) as load:
            for _ in range(3):
                load.run(30)
                service.kill()
                load.run(10)
                store_service.kill_database(service.database)
                service.database.start()
                service.start()
        until(lambda: all_shipped(gateway), "the rest did not come")
        nothing_is_missing_or_twice(service, target, load, "bucket", since)

    async def parts() -> int:
        store = await open_store(service.store, bucket=open_bucket(bucket))
        count = 0
        for session in (await store.sessions(SessionQuery(limit=1000), ALL)).sessions:
            seq = 0
            while (found := await store.slice(session, seq=seq)).chunks or found.parts:
                for part in found.parts:
                    assert len(await store.part(session, part.seq)) == part.size
                    count += 1
                ends = [each.seq + each.events for each in found.chunks] + [each.seq + 1 for each in found.parts]
                seq = max(ends)
        await store.close()
        return count

    assert asyncio.run(parts()) >= len(load.acknowledged)
    service.stop()
    settings = str(service.directory / "store.yaml")
    run_ostiary("verify", "--store", settings, "--keys", str(service.directory / "seal.pub"))


@pytest.mark.slow
def test_the_gateway_is_killed_under_load(target: Server, service: StoreService) -> None:
    since = target.log_size()
    with shipping(target, service) as gateway:
        with Load(gateway, "gateway") as load:
            for _ in range(6):
                load.run(300)
                os.kill(gateway.pid, signal.SIGKILL)
                assert gateway.process is not None
                gateway.process.wait()
                gateway.start()
            load.run(50)
        gateway.stop()  # what is left goes at the end
        nothing_is_missing_or_twice(service, target, load, "gateway", since)
        assert verify(gateway.data).ok
    the_store_is_whole(service)


@pytest.mark.slow
def test_several_workers_hand_over_their_records(target: Server, service: StoreService) -> None:
    since = target.log_size()
    with shipping(target, service, "--workers", "2") as gateway:
        with Load(gateway, "workers") as load:
            load.run(500)
        gateway.stop()
        gateway.arguments = service.arguments  # one process now: the other's record is still brought home
        gateway.start()
        gateway.stop()
    nothing_is_missing_or_twice(service, target, load, "workers", since)


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A file system of its own, in memory."""
    place = servers.scratch("small-disk")
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place], capture_output=True)
    if made.returncode:
        missing("no file system can be mounted here; run the tests as root in a container that may")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)
        place.rmdir()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["disk", "limit"])
def test_a_full_spool_refuses_and_the_store_makes_room(target: Server, service: StoreService, how: str) -> None:
    since = target.log_size()
    limit = ("--spool-limit", "12Mi") if how == "limit" else ()
    with (
        small_disk(24 if how == "disk" else 64) as disk,
        shipping(target, service, "--keep-local", "2Mi", *limit, data=disk) as gateway,
        psycopg.connect(gateway.dsn(), autocommit=True) as session,
    ):
        service.kill()
        load = Load(gateway, how)
        count = 0
        with pytest.raises(psycopg.errors.IoError, match="the audit record cannot be written"):
            for _ in range(1000):
                count += 1
                session.execute(f"select 'ran {how}/0/{count}', '{os.urandom(50_000).hex()}'".encode())
                load.acknowledged.append(f"ran {how}/0/{count}")
        assert count > 50
        assert f"ran {how}/0/{count}'" not in target.log_text(since), "it ran without a record"
        service.start()

        def runs_again() -> bool:
            nonlocal count
            count += 1
            try:
                session.execute(f"select 'ran {how}/0/{count}'".encode())
            except psycopg.errors.IoError:
                return False
            load.acknowledged.append(f"ran {how}/0/{count}")
            return True

        until(runs_again, "it did not recover")
        until(lambda: all_shipped(gateway), "the rest did not come")
        assert "ostiary_record_freed_bytes_total 0.0" not in gateway.admin("/metrics")[1]
        gateway.stop()
        nothing_is_missing_or_twice(service, target, load, how, since)
        report = verify(gateway.data)
        assert report.ok, report.findings
        assert report.begins > 0
    the_store_is_whole(service)
