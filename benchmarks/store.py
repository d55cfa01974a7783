"""How fast the store on PostgreSQL takes requests in, finds them, and opens a long session.

    python benchmarks/store.py ingest [--seconds 20] [--rate 25000]
    python benchmarks/store.py search [--requests 10000000] [--days 7]
    python benchmarks/store.py opening [--events 100000]

ingest: two gateways' recorders write Strict records at a steady rate, an Ingest takes them into the store meanwhile,
and a whole gateway serves a small load beside. `lag` is how long after the last request was recorded the last one was
in the store. The database is durable and lies on a disk (--directory).
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import store_rows
import targets
from support import servers
from support.servers import Server

from ostiary_gateway.audit.event import SessionOpened
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_policy.decision import Action, Decision, Matched, RuleRef
from ostiary_store.ingest import Ingest
from ostiary_store.model import ALL, RecordRef, RequestQuery, Scope
from ostiary_store.opening import open_store
from ostiary_store.reading import SessionView
from ostiary_store.store import Store

RULE = RuleRef("prod", "agents", "reads", "sha256:0123456789abcdef")
DECISION = Decision(Action.ALLOW, RULE, "", matched=(Matched(RULE, "Allow", True, 0),))
RESPONSE = bytes.fromhex(
    "540000002100016162616c616e636500000040000003000000170004ffffffff0000"
    "440000000b00010000000130430000000d53454c4543542031005a0000000549"
)
Told = multiprocessing.Queue  # how many, when the last one was recorded, and seconds of the processor
AGENTS = 32
PIECE = 1 << 20
"""Bytes that are taken in at once."""


@contextmanager
def database(directory: Path) -> Iterator[Server]:
    """PostgreSQL 18, durable, on a disk."""
    scratch = servers.scratch

    def on_disk(name: str) -> Path:
        path = directory / name
        path.mkdir(mode=0o755)
        return path

    servers.scratch = on_disk
    directory.chmod(0o755)
    settings = {
        "log_statement": "none", "shared_buffers": "1GB", "max_wal_size": "8GB", "wal_level": "replica",
    }  # fmt: skip
    try:
        server = servers.embedded("store", durable=True, settings=settings)
    finally:
        servers.scratch = scratch
    try:
        yield server
    finally:
        servers.destroy(server)


def address(server: Server) -> str:
    return f"postgresql://{server.user}@/{server.database}?host={server.directory}&port={server.port}"


# Taking in


def write(path: Path, seconds: float, rate: float, told: Told) -> None:
    """In a process of its own: a gateway's recorder, and agents that ask at a steady rate."""
    uvloop.run(_write(path, seconds, rate, told))


async def _write(path: Path, seconds: float, rate: float, told: Told) -> None:
    recorder = await FileRecorder.open(path)
    making = store_rows.Making(1000, 1)
    protocols = {protocol for _, protocol in making.connections}
    # Made before, so that what is measured is recording.
    texts = {protocol: [making.text(protocol, at, 0.0) for at in range(20_000)] for protocol in protocols}
    count = 0
    until = time.perf_counter() + seconds

    async def agent(number: int) -> None:
        nonlocal count
        connection, protocol = making.connections[number % len(making.connections)]
        apart = AGENTS / rate
        subject = {"username": making.users[number], "groups": ["agents"]}
        done = 0
        following = time.perf_counter() + apart * random.random()
        while time.perf_counter() < until:
            session = recorder.session_opened(
                SessionOpened(
                    f"{path.parent.name}-{number}-{done}", time.time(), connection, protocol, subject, {}, {}, "Full"
                )
            )
            for request in range(1, 201):
                waiting = session.begin(
                    request, time.time(), texts[protocol][(done + number * 600) % 20_000], {}, DECISION, True
                )
                if waiting is not None:
                    await waiting
                session.response(request, RESPONSE)
                session.end(request, time.time(), "ok", {"tags": ["SELECT 1"]}, 1, len(RESPONSE))
                done += 1
                following += apart
                if following - time.perf_counter() > 0.002:
                    await asyncio.sleep(following - time.perf_counter())
                if time.perf_counter() > until:
                    break
            session.closed(time.time(), "done", done)
        count += done

    await asyncio.gather(*map(agent, range(AGENTS)))
    ended = time.time()
    await recorder.close()
    told.put((count, ended, time.process_time()))


async def follow(path: Path, ingest: Ingest, over: asyncio.Event) -> None:
    """Take the record in, up to its end."""
    log = path.with_suffix(".log")
    while not log.exists() or log.stat().st_size < 64:
        await asyncio.sleep(0.01)
    with log.open("rb", buffering=0) as file:
        header = file.read(64)
        record = RecordRef(header[16:32], header, "bench", path.stem)
        place = await ingest.place(record)
        while True:
            ended = over.is_set()
            data = os.pread(file.fileno(), PIECE, place.position)
            end = await ingest.take(record, place, data) if data else place
            if end == place:
                if ended:
                    return
                await asyncio.sleep(0.05)
            elif len(data) < PIECE // 8:
                # As gateways ship: many requests at once.
                await asyncio.sleep(0.2)
            place = end


async def ingest(directory: Path, seconds: float, rate: float) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(database(directory))
        upstream = stack.enter_context(targets.database(1))
        gateway = stack.enter_context(targets.ostiary(upstream, audit="Strict"))
        store = await open_store(address(server))
        taking = Ingest(store)
        load = subprocess.Popen(
            [str(upstream.bindir / "pgbench"), "-S", "-n", "-c", "2", "-R", "300", "-T", str(round(seconds))],
            env=gateway.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        spawn = multiprocessing.get_context("spawn")
        told = spawn.Queue()
        paths = [directory / f"gateway-{at}" / "audit.db" for at in range(2)]
        writers = [spawn.Process(target=write, args=(path, seconds, rate / 2, told)) for path in paths]
        before = resource.getrusage(resource.RUSAGE_SELF)
        database_cpu = _cpu_of(server)
        for writer in writers:
            writer.start()
        over = asyncio.Event()
        following = [asyncio.create_task(follow(path, taking, over)) for path in paths]
        results = [await asyncio.to_thread(told.get) for _ in writers]
        for writer in writers:
            await asyncio.to_thread(writer.join)
        over.set()
        await asyncio.gather(*following)
        lag = time.time() - max(ended for _, ended, _ in results)
        after = resource.getrusage(resource.RUSAGE_SELF)
        output = await asyncio.to_thread(load.communicate)
        count = sum(result[0] for result in results)
        mine = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        theirs = _cpu_of(server) - database_cpu
        found = await store.facets(RequestQuery(), ALL)
        assert found.counted == count, (found.counted, count)
        latency = next((line for line in output[0].splitlines() if line.startswith("latency average")), "?")
        console = Console(width=110)
        console.print(f"{count:,} requests recorded in {seconds:.0f} s, all of them in the store {lag:.1f} s later")
        console.print(f"taken in: {count / (seconds + max(0.0, lag)):,.0f} requests/s")
        console.print(
            f"CPU a request: ingest {mine / count * 1e6:.1f} µs, PostgreSQL {theirs / count * 1e6:.1f} µs, recorders"
            f" {sum(result[2] for result in results) / count * 1e6:.1f} µs"
        )
        console.print(f"the gateway beside it: {latency}")
        size = server.sql("select pg_database_size(current_database())")
        console.print(f"bytes a request in the database: {int(str(size).strip()) / count:.0f}")
        await store.close()


def _cpu_of(server: Server) -> float:
    """Seconds that all processes of a server have used; those that have ended count through the first one."""
    assert server.process is not None
    root = targets.Target("", 0, "", "", server.process.pid)
    total = root.cpu().total
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return float(total + (int(fields[13]) + int(fields[14])) * targets.TICK)


# Searching


async def fill(store: Store, requests: int, days: float) -> store_rows.Making:
    making = store_rows.Making(requests, days)
    await store.record(making.record)
    started = time.perf_counter()
    done = 0
    for batch in making.batches():
        await store.append(batch)
        done += len(batch.requests)
        if done % 1_000_000 == 0:
            print(f"{done:,} requests after {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return making


def queries(making: store_rows.Making, seed: int) -> dict[str, list[RequestQuery]]:
    """By what makes them hard or easy."""
    chance = random.Random(seed)
    words, columns = making.tables.words, making.columns.words
    user = making.users
    newest = store_rows.NEWEST
    some = [RequestQuery(since=newest - day * 86_400 - 86_400, until=newest - day * 86_400) for day in (1, 3, 5)]
    texts = {
        "nothing but the newest": [""],
        "a common word": ["select", "tenant", "journalctl", "log", "get"],
        "a medium word": [words[chance.randrange(50, 500)] for _ in range(12)],
        "a rare word": [words[chance.randrange(5_000, 20_000)] for _ in range(12)],
        "words that lie together": [store_rows.CLUSTERED, f"{store_rows.CLUSTERED} insert", "backfill*"],
        "a word that is nowhere": ["xyzzyplugh", "select plughxyzzy"],
        "a rare word with a common one": [f"{words[chance.randrange(5_000, 20_000)]} select" for _ in range(8)],
        "two medium words": [f"{words[chance.randrange(20, 80)]} {columns[chance.randrange(40)]}" for _ in range(8)],
        "a phrase": [f"\"tenant = 't-{chance.randrange(5000)}'\"" for _ in range(6)],
        "a beginning": [f"{words[chance.randrange(2_000)][:4]}*" for _ in range(8)],
        "common, without another": ["select -tenant", "head -systemctl", "list -pods"],
        "common words that never meet": ["select kubectl", "update pods", "journalctl where"],
    }
    found = {name: [RequestQuery(text=text) for text in each] for name, each in texts.items()}
    found["denied"] = [RequestQuery(action="Deny"), RequestQuery(action="Deny", text="update")]
    found["denied, with a medium word"] = [RequestQuery(action="Deny", text=text) for text in texts["a medium word"]]
    found["of a user"] = [RequestQuery(username=chance.choice(user)) for _ in range(8)]
    found["of a user, with a word"] = [
        RequestQuery(username=chance.choice(user), text=text) for text in texts["a medium word"]
    ]
    found["of a connection, with a rare word"] = [
        RequestQuery(connection="prod/db-03", text=text) for text in texts["a rare word"]
    ]
    found["of a day, with a word"] = [
        replace(day, text=text) for day in some for text in ("select", texts["a medium word"][0], "xyzzyplugh")
    ]
    found["failed"] = [RequestQuery(outcome="error"), RequestQuery(outcome="error", text="update")]
    return found


async def search(directory: Path, requests: int, days: float, url: str) -> None:
    with ExitStack() as stack:
        if not url:
            server = stack.enter_context(database(directory))
            url = address(server)
        store = await open_store(url)
        making = store_rows.Making(requests, days)
        if not (await store.requests(RequestQuery(limit=1), ALL)).requests:
            await fill(store, requests, days)
            if "schema=" not in url:
                server.sql("vacuum analyze")
        table = Table(title=f"Search in {requests:,} requests")
        for name in ("what is searched for", "searches", "p50 ms", "p99 ms", "most ms", "whole", "facets p99 ms"):
            table.add_column(name, justify="left" if name.startswith("what") else "right")
        everything: list[float] = []
        counted: list[float] = []
        scope = Scope(frozenset({"prod/*", "edge/host-03"}))
        by_kind: dict[str, tuple[list[float], list[float], int]] = {}
        for seed in range(3):
            for name, each in queries(making, seed).items():
                times, facets, whole = by_kind.get(name, ([], [], 0))
                for query in each:
                    for seen in (ALL, scope):
                        started = time.perf_counter()
                        page = await store.requests(query, seen)
                        times.append(time.perf_counter() - started)
                        whole += page.searched_to is None
                        started = time.perf_counter()
                        await store.facets(query, seen)
                        facets.append(time.perf_counter() - started)
                by_kind[name] = (times, facets, whole)
        for name, (times, facets, whole) in by_kind.items():
            everything += times
            counted += facets
            table.add_row(name, str(len(times)), *_times(times), f"{whole / len(times):.0%}", _times(facets)[1])
        table.add_row("all", str(len(everything)), *_times(everything), "", _times(counted)[1])
        Console(width=120).print(table)
        await store.close()


def _times(times: list[float]) -> tuple[str, str, str]:
    ordered = [time * 1e3 for time in sorted(times)]
    late = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"{statistics.median(ordered):.0f}", f"{late:.0f}", f"{ordered[-1]:.0f}"


# Opening


async def opening(directory: Path, events: int) -> None:
    with database(directory) as server:
        store = await open_store(address(server))
        path = directory / "long" / "audit.db"
        recorder = await FileRecorder.open(path)
        session = recorder.session_opened(
            SessionOpened("long-session", time.time(), "prod/app", "Postgres", {"username": "a"}, {}, {}, "Full")
        )
        taking = Ingest(store)
        over = asyncio.Event()
        following = asyncio.create_task(follow(path, taking, over))
        for request in range(1, events // 2 + 1):
            text = f"SELECT * FROM orders WHERE id = {request}"
            waiting = session.begin(request, time.time(), text, {}, DECISION, durable=request % 100 == 0)
            if waiting is not None:
                await waiting
            session.response(request, RESPONSE * (1 + request % 5))
            session.end(request, time.time(), "ok", {"tags": ["SELECT 1"]}, 1, len(RESPONSE))
            if recorder.pressure:
                await recorder.relieved()
        for request in range(events // 2 + 1, events + 1):
            session.begin(request, time.time(), "SELECT 1", {}, DECISION, durable=False)
            session.end(request, time.time(), "ok", {}, 1, 5)
        await recorder.close()
        over.set()
        await following
        times: dict[str, list[float]] = {"the first page": [], "a page in the middle": [], "one request": []}
        for _ in range(20):
            for name, times_ in times.items():
                started = time.perf_counter()
                row = await store.session("long-session", ALL)
                view = SessionView(store, row)
                if name == "the first page":
                    page = await view.requests()
                    assert page.requests
                elif name == "one request":
                    await view.request(events // 2)
                else:
                    await view.requests(events // 2)
                times_.append(time.perf_counter() - started)
        row = await store.session("long-session", ALL)
        table = Table(title=f"A session of {row.events:,} events")
        for name in ("what is opened", "p50 ms", "p99 ms", "most ms"):
            table.add_column(name, justify="left" if name.startswith("what") else "right")
        for name, each in times.items():
            table.add_row(name, *_times(each))
        Console(width=110).print(table)
        await store.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("ingest", "search", "opening"))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=25_000, help="requests/s that are recorded")
    parser.add_argument("--requests", type=int, default=10_000_000)
    parser.add_argument("--days", type=float, default=7.0)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--store", default="", help="search: this one, filled before if it is empty")
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="ostiary-store-") as name:
        directory = Path(name)
        if options.what == "ingest":
            uvloop.run(ingest(directory, options.seconds, options.rate))
        elif options.what == "search":
            uvloop.run(search(directory, options.requests, options.days, options.store))
        else:
            uvloop.run(opening(directory, options.events))


if __name__ == "__main__":
    main()
