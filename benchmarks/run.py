"""`make bench`: how fast Ostiary is beside a direct connection and beside pgbouncer, all in one run on one machine.

The targets take turns, so that what else the machine does falls on all of them alike; what is told is the median of
the ratios of neighbours. `--quick` is for development; only a full run writes docs/speed.md.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from support.servers import Server  # noqa: E402
from support.wire import Wire, frame, query  # noqa: E402
from targets import Target, everything  # noqa: E402

ROWS = 1_000_000
IDLE_SESSIONS = 200
BEGIN, END = "<!-- benchmarks/run.py writes from here -->", "<!-- to here -->"


@dataclass(frozen=True)
class Sample:
    """One run of pgbench against one target. Times in seconds, CPU of what is in between."""

    rate: float
    latency: float
    cpu: float


def rate_of(sample: Sample) -> float:
    return sample.rate


def cpu_of(sample: Sample) -> float:
    return sample.cpu


@dataclass
class Measured:
    """Samples of one load, by target, round by round."""

    load: str
    clients: int
    samples: dict[str, list[Sample]] = field(default_factory=dict)

    def ratio(self, target: str) -> float:
        pairs = zip(self.samples[target], self.samples["direct"], strict=True)
        return statistics.median(mine.rate / direct.rate for mine, direct in pairs)

    def median(self, target: str, what: Callable[[Sample], float]) -> float:
        return statistics.median(what(sample) for sample in self.samples[target])


def main() -> None:
    options = arguments()
    with everything(scale=10) as (server, targets):
        small = [
            pgbench(server, targets, mode, clients, options.seconds, options.rounds)
            for mode in options.modes
            for clients in options.clients
        ]
        large = bulk(server, targets, options.rounds)
        memory = {target.name: idle(target) for target in targets if target.root}
        text = table(targets, small, large, memory, options)
    print("\n" + text)
    if options.write:
        write(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; nothing is written")
    parser.add_argument("--seconds", type=float, help="of each run of pgbench")
    parser.add_argument("--rounds", type=int, help="how often the targets take turns")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--modes", nargs="+", default=["simple", "extended", "prepared"])
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, default=None, help="write docs/speed.md")
    options = parser.parse_args()
    options.seconds = options.seconds or (1 if options.quick else 6)
    options.rounds = options.rounds or (1 if options.quick else 5)
    if options.write is None:
        options.write = not options.quick
    return options


def pgbench(server: Server, targets: list[Target], mode: str, clients: int, seconds: float, rounds: int) -> Measured:
    measured = Measured(mode, clients, {target.name: [] for target in targets})
    for number in range(rounds):
        # Another one begins each time, so that none always has the cooler or the warmer machine.
        for target in targets[number % len(targets) :] + targets[: number % len(targets)]:
            before = target.cpu().total
            done = subprocess.run(
                [server.bindir / "pgbench", "-S", "-n", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2))]
                + ["-T", str(max(1, round(seconds)))],
                env=target.environment(),
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise SystemExit(f"pgbench against {target.name} failed: {done.stderr}")
            rate = number_of(done.stdout, "tps = ")
            count = number_of(done.stdout, "number of transactions actually processed: ")
            latency = number_of(done.stdout, "latency average = ") / 1000
            measured.samples[target.name].append(Sample(rate, latency, (target.cpu().total - before) / count))
    told = ", ".join(f"{target.name} {measured.median(target.name, rate_of):,.0f}" for target in targets)
    print(f"pgbench -S {mode}, {clients} clients, transactions/s: {told}", flush=True)
    return measured


def number_of(text: str, label: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(label))
    return float(line[len(label) :].split()[0].partition("/")[0])


def bulk(server: Server, targets: list[Target], rounds: int) -> list[Measured]:
    """A million rows out by SELECT and by COPY, and in by COPY. The rate is in bytes a second, CPU is per byte."""
    server.sql(
        "create unlogged table bulk_out as select aid, bid, abalance, filler from pgbench_accounts;"
        "create unlogged table bulk_in (like bulk_out)"
    )
    assert int(server.sql("select count(*) from bulk_out")) >= ROWS
    lines = server.sql("copy bulk_out to stdout").encode() + b"\n"
    loads: list[tuple[str, Callable[[Wire], int]]] = [
        ("SELECT, 1,000,000 rows", lambda wire: drain(wire, f"select * from bulk_out limit {ROWS}")),
        ("COPY out, 1,000,000 rows", lambda wire: drain(wire, "copy bulk_out to stdout")),
        ("COPY in, 1,000,000 rows", lambda wire: fill(wire, lines)),
    ]
    found = []
    for load, work in loads:
        measured = Measured(load, 1, {target.name: [] for target in targets})
        for number in range(rounds):
            for target in targets[number % len(targets) :] + targets[: number % len(targets)]:
                server.sql("truncate bulk_in")
                wire = login(target)
                before, begun = target.cpu().total, time.perf_counter()
                size = work(wire)
                spent = time.perf_counter() - begun
                measured.samples[target.name].append(Sample(size / spent, spent, (target.cpu().total - before) / size))
                wire.close()
        found.append(measured)
        told = ", ".join(f"{target.name} {measured.median(target.name, rate_of) / 1e6:,.0f}" for target in targets)
        print(f"{load}, MB/s: {told}", flush=True)
    return found


def login(target: Target) -> Wire:
    return Wire.login("127.0.0.1", target.port, user=target.user, password=target.password, database="app", timeout=600)


def drain(wire: Wire, sql: str) -> int:
    """Ask, and read to the end without looking at it. Returns the bytes that came."""
    wire.send(query(sql))
    size, tail = 0, b""
    while not tail.endswith(b"Z\0\0\0\5I"):
        data = wire.socket.recv(1 << 20)
        assert data, "the connection was closed"
        size += len(data)
        tail = (tail + data[-6:])[-6:]
    return size


def fill(wire: Wire, lines: bytes) -> int:
    wire.send(query("copy bulk_in from stdin"))
    wire.until("G")
    for start in range(0, len(lines), 65536):
        wire.send(frame("d", lines[start : start + 65536]))
    wire.send(frame("c"))
    tags = [message.text for message in wire.until() if message.type == "C"]
    assert tags == [f"COPY {ROWS}"], tags
    return len(lines)


def idle(target: Target) -> tuple[int, float]:
    """Memory in bytes: at rest after the load, and of each idle session on top."""
    login(target).close()
    time.sleep(1)
    rest = target.resident()
    wires = [login(target) for _ in range(IDLE_SESSIONS)]
    time.sleep(1)
    each = (target.resident() - rest) / IDLE_SESSIONS
    for wire in wires:
        wire.close()
    return rest, each


def table(
    targets: list[Target],
    small: list[Measured],
    large: list[Measured],
    memory: dict[str, tuple[int, float]],
    options: argparse.Namespace,
) -> str:
    others = [target.name for target in targets if target.root]
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release().partition('-')[0]}, CPython {platform.python_version()}"
    )
    today = datetime.datetime.now(datetime.UTC).date()
    lines = [
        f"Measured on {today}: {machine}, PostgreSQL 18; {options.rounds} rounds of {options.seconds:g} s each.",
        "",
        "| pgbench -S | clients | direct, transactions/s | "
        + " | ".join(f"{name} (CPU a transaction, latency added)" for name in others)
        + " |",
        "| --- " * (3 + len(others)) + "|",
    ]
    for measured in small:
        cells = []
        for name in others:
            added = measured.median(name, lambda s: s.latency) - measured.median("direct", lambda s: s.latency)
            cpu = measured.median(name, cpu_of)
            cells.append(f"{measured.ratio(name):.2f} ({cpu * 1e6:.0f} µs, {added * 1e6:+.0f} µs)")
        rate = measured.median("direct", rate_of)
        lines.append(f"| {measured.load} | {measured.clients} | {rate:,.0f} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| a million rows | direct, MB/s | " + " | ".join(f"{name}, MB/s (CPU a GB)" for name in others) + " |",
        "| --- " * (2 + len(others)) + "|",
    ]
    for measured in large:
        cells = [
            f"{measured.median(name, rate_of) / 1e6:,.0f} ({measured.median(name, cpu_of) * 1e9:.1f} s)"
            for name in others
        ]
        rate = measured.median("direct", rate_of) / 1e6
        lines.append(f"| {measured.load.partition(',')[0]} | {rate:,.0f} | " + " | ".join(cells) + " |")
    lines += ["", "| memory | " + " | ".join(others) + " |", "| --- " * (1 + len(others)) + "|"]
    lines.append("| after this load | " + " | ".join(f"{memory[name][0] / 1e6:.0f} MB" for name in others) + " |")
    lines.append("| each idle session | " + " | ".join(f"{memory[name][1] / 1e3:.0f} kB" for name in others) + " |")
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table between its marks in docs/speed.md."""
    path = ROOT / "docs" / "speed.md"
    page = path.read_text("utf-8")
    before, mark, rest = page.partition(BEGIN)
    _, other, after = rest.partition(END)
    if not mark or not other:
        raise SystemExit(f"{path} has lost its marks: {BEGIN} … {END}")
    path.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")
    print(f"\nwritten to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
