"""How fast the audit store takes requests in, and what that costs the event loop.

    python benchmarks/audit_ingest.py [--seconds 3] [--directory DIR]

Every agent begins a request, records a response of one pgbench row and ends it. Strict agents wait until the begin is
durable. `loop µs` is the CPU time of the event loop's thread for a request, agents and wake-ups included; `calls µs` is
what the three calls to the recorder take of it; `writer µs` is the CPU time of the writer's thread.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import uvloop
from rich.console import Console
from rich.table import Table

from ostiary_gateway.audit.event import SessionOpened
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_policy.decision import Action, Decision, Matched, RuleRef

RULE = RuleRef("prod", "agents", "reads", "sha256:0123456789abcdef")
DECISION = Decision(Action.ALLOW, RULE, "", matched=(Matched(RULE, "Allow", True, 0),))
RESPONSE = bytes.fromhex(
    "540000002100016162616c616e636500000040000003000000170004ffffffff0000"
    "440000000b00010000000130430000000d53454c4543542031005a0000000549"
)


class Load:
    """Some agents on one recorder for some seconds."""

    def __init__(self, recorder: FileRecorder, durable: bool, seconds: float) -> None:
        self.recorder = recorder
        self.durable = durable
        self.until = time.perf_counter() + seconds
        self.count = 0
        self.waits: list[float] = []

    async def agent(self, number: int) -> None:
        recorder, session = self.recorder, f"session-{number:08d}"
        subject = {"username": "planner", "groups": ["agents"]}
        record = recorder.session_opened(
            SessionOpened(session, time.time(), "prod/app", "Postgres", subject, {"address": "::1"}, {}, "Full")
        )
        done = 0
        while time.perf_counter() < self.until:
            done += 1
            text = f"SELECT abalance FROM pgbench_accounts WHERE aid = {done};"
            started = time.perf_counter()
            waiting = record.begin(done, time.time(), text, {"statement": "SELECT"}, DECISION, self.durable)
            if waiting is not None:
                await waiting
                self.waits.append(time.perf_counter() - started)
            else:
                await asyncio.sleep(0)
            record.response(done, RESPONSE)
            record.end(done, time.time(), "ok", {"tags": ["SELECT 1"]}, 1, len(RESPONSE))
            if recorder.pressure:
                await recorder.relieved()
        self.count += done
        record.closed(time.time(), "done", done)


async def measure(path: Path, durable: bool, agents: int, seconds: float) -> list[str]:
    recorder = await FileRecorder.open(path)
    load = Load(recorder, durable, seconds)
    process, started, cpu = time.process_time(), time.perf_counter(), time.thread_time()
    await asyncio.gather(*(load.agent(number) for number in range(agents)))
    cpu, took = time.thread_time() - cpu, time.perf_counter() - started
    await recorder.close()
    other = time.process_time() - process - cpu
    waits = sorted(load.waits) or [0.0]
    return [
        "Strict" if durable else "Relaxed",
        str(agents),
        f"{load.count / took:,.0f}",
        f"{cpu / load.count * 1e6:.1f}",
        f"{other / load.count * 1e6:.1f}",
        f"{load.count / max(1, recorder.stats.batches):.0f}",
        f"{statistics.median(waits) * 1e3:.2f}" if durable else "",
        f"{waits[int(len(waits) * 0.99)] * 1e3:.2f}" if durable else "",
        f"{(await asyncio.to_thread(path.with_suffix('.log').stat)).st_size / load.count:.0f}",
    ]


async def calls(path: Path) -> float:
    """µs of the event loop's thread for the three calls alone, nobody waiting."""
    recorder = await FileRecorder.open(path, queue_bytes=1 << 30)
    record = recorder.session_opened(SessionOpened("s", time.time(), "prod/app", "Postgres", {}, {}, {}, "Full"))
    best = float("inf")
    for first in range(0, 10_000, 1000):
        started = time.thread_time()
        for number in range(first + 1, first + 1001):
            record.begin(number, 1.0, "SELECT abalance FROM pgbench_accounts", {}, DECISION, False)
            record.response(number, RESPONSE)
            record.end(number, 1.0, "ok", {"tags": ["SELECT 1"]}, 1, len(RESPONSE))
        best = min(best, time.thread_time() - started)
        await asyncio.sleep(0.1)
    await recorder.close()
    return best * 1e3


async def stream(path: Path, size: int) -> tuple[float, float, float]:
    """MB/s of a long response, ratio of its compression, and CPU seconds a GB."""
    recorder = await FileRecorder.open(path)
    record = recorder.session_opened(SessionOpened("s", time.time(), "prod/app", "Postgres", {}, {}, {}, "Full"))
    record.begin(1, time.time(), "SELECT * FROM customers", {}, DECISION, False)
    row = b"D\0\0\0\x56\0\x03\0\0\0\x08%08d\0\0\0\x1auser%08d@example.com  \0\0\0\x20%s"
    block = b"".join(row % (n, n, os.urandom(16).hex().encode()) for n in range(3000))
    sent, started, cpu = 0, time.perf_counter(), time.process_time()
    while sent < size:
        record.response(1, block)
        sent += len(block)
        if recorder.pressure:
            await recorder.relieved()
    record.end(1, time.time(), "ok", {}, 0, sent)
    await recorder.close()
    took = time.perf_counter() - started
    ratio = recorder.stats.raw_bytes / recorder.stats.stored_bytes
    return sent / took / 1e6, ratio, (time.process_time() - cpu) / sent * 1e9


async def main(directory: Path, seconds: float) -> None:
    table = Table(title="Audit ingest")
    for name in ("mode", "agents", "requests/s", "loop µs", "writer µs", "a commit", "p50 ms", "p99 ms", "B/request"):
        table.add_column(name, justify="left" if name == "mode" else "right")
    for durable in (True, False):
        for agents in (1, 8, 32):
            path = directory / f"{durable}-{agents}.db"
            table.add_row(*await measure(path, durable, agents, seconds))
    console = Console(width=110)
    console.print(table)
    console.print(f"calls of one request (begin, response, end): {await calls(directory / 'calls.db'):.1f} µs")
    rate, ratio, cpu = await stream(directory / "stream.db", 1_000_000_000)
    console.print(f"a response of 1 GB: {rate:.0f} MB/s, compressed {ratio:.1f} times, {cpu:.1f} CPU seconds a GB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--directory", type=Path, help="on the disk to measure; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as name:
        uvloop.run(main(Path(name), options.seconds))
