"""`make bench`: how fast Ostiary is beside a direct connection and beside pgbouncer, all in one run on one machine.

The targets take turns, so that what else the machine does falls on all of them alike; a ratio is one of neighbours in
the same round, and what is told is the median of the rounds. `--quick` is for a first look. docs/speed.md is written
by a full run (`--write` does so for any run of all rows).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("tests", "benchmarks", "crds", "gateway")]

import bulk  # noqa: E402
import decide  # noqa: E402
import memory  # noqa: E402
import report  # noqa: E402
from load import Run, pgbench  # noqa: E402
from report import Row  # noqa: E402
from support.servers import Server  # noqa: E402
from targets import Target, database, direct, manifests, ostiary, pgbouncer  # noqa: E402

MODES = ("simple", "extended", "prepared")
GROUPS = ("pgbench", "strict", "bulk", "decide", "rest", "idle", "growth", "workers")
STRICT_CLIENTS = 32
CPU_CLIENTS = 8
WORKERS_CLIENTS = 32


@dataclass
class Session:
    """What one run of the benchmark has: the ways to the database, and what was found so far."""

    options: argparse.Namespace
    server: Server
    direct: Target
    pgbouncer: Target
    ostiary: Target
    strict: Target
    rows: list[Row] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    noise: list[float] = field(default_factory=list)

    def rounds(self, targets: Sequence[Target]) -> list[list[Target]]:
        """The targets in each round's order: another one begins, so that none has the cooler machine."""
        shifts = [number % len(targets) for number in range(self.options.rounds)]
        return [[*targets[shift:], *targets[:shift]] for shift in shifts]

    def add(self, row: Row) -> None:
        self.rows.append(row)
        _, at_least, aim, measured, reached = row.cells
        print(f"  {row.work}: {measured}; at least {at_least}, aim {aim}: {reached}", flush=True)


def main() -> None:
    options = arguments()
    with ExitStack() as stack:
        say("filling a database")
        server = stack.enter_context(database())
        session = Session(
            options, server, direct(server), stack.enter_context(pgbouncer(server)),
            stack.enter_context(ostiary(server)), stack.enter_context(ostiary(server, audit="Strict")),
        )  # fmt: skip
        if "bulk" in options.rows or "growth" in options.rows:
            say("making the tables of a million rows")
            bulk.prepare(server)
        if "pgbench" in options.rows or "strict" in options.rows:
            small(session)
        if "bulk" in options.rows:
            large(session)
        if "decide" in options.rows:
            decisions(session)
        for name, measure in (("rest", rest), ("idle", idle), ("growth", growth), ("workers", workers)):
            if name in options.rows:
                measure(session)
    text = "\n\n".join(
        [report.machine(options.seconds, options.rounds, session.noise), report.wanted(session.rows), *session.tables]
    )
    print("\n" + text)
    if options.write:
        report.write(text)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short round of everything; nothing is written")
    parser.add_argument("--seconds", type=float, help="of each run of pgbench (6; 1 with --quick)")
    parser.add_argument("--rounds", type=int, help="how often the targets take turns (5; 1 with --quick)")
    parser.add_argument("--rows", nargs="+", choices=GROUPS, default=list(GROUPS), help="what to measure")
    parser.add_argument("--workers", type=int, default=2, help="of the gateway that is compared with one process")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--write", action=argparse.BooleanOptionalAction, default=None, help="write docs/speed.md")
    options = parser.parse_args()
    options.seconds = options.seconds or (1 if options.quick else 6)
    options.rounds = options.rounds or (1 if options.quick else 5)
    whole = set(options.rows) == set(GROUPS) and set(options.clients) == {1, 8, 32} and set(options.modes) == set(MODES)
    if options.write and not whole:
        parser.error("--write is for a run of all rows, clients and modes: what is left out would be lost in the docs")
    if options.write is None:
        options.write = whole and not options.quick
    return options


def say(what: str) -> None:
    print(f"… {what}", flush=True)


# -- many small statements


def small(session: Session) -> None:
    """pgbench -S: beside pgbouncer, and Strict beside Relaxed."""
    options = session.options
    details: list[list[str]] = []
    costs: list[Row] = []
    strict: list[Row] = []
    for mode in options.modes:
        for clients in options.clients:
            compared = [session.direct, session.pgbouncer, session.ostiary] if "pgbench" in options.rows else []
            if clients == STRICT_CLIENTS and "strict" in options.rows:
                compared = [*(compared or [session.ostiary]), session.strict]
            if not compared:
                continue
            say(f"pgbench -S {mode}, {told(clients)}: {options.rounds} rounds of {len(compared)} targets")
            runs = play(session, compared, mode, clients)
            if "pgbench" in options.rows:
                session.noise.append(report.spread([run.rate for run in runs["direct"]]))
                values = ratios(runs["Ostiary"], runs["pgbouncer"])
                session.add(Row(f"pgbench -S, {mode}, {told(clients)}, against pgbouncer", 0.7, 1.0, values))
                details.append(detail(mode, clients, runs))
                if clients == CPU_CLIENTS:
                    cost = tuple(run.cost * 1e6 for run in runs["Ostiary"])
                    costs.append(Row(f"gateway CPU a transaction, {mode}, {told(clients)}", 28, 16, cost, "µs"))
            if session.strict in compared:
                values = ratios(runs[session.strict.name], runs["Ostiary"])
                strict.append(Row(f"Strict audit, {mode}, {told(clients)}, against Relaxed", 0.6, 0.9, values))
    for row in [*costs, *strict]:
        session.add(row)
    if details:
        head = ["pgbench -S", "clients", "direct, transactions/s"]
        head += [f"{name}, transactions/s (CPU a transaction, latency added)" for name in ("pgbouncer", "Ostiary")]
        session.tables.append(report.markdown(head, details))


def play(session: Session, targets: list[Target], mode: str, clients: int) -> dict[str, list[Run]]:
    """Every target's runs, round by round."""
    runs: dict[str, list[Run]] = {target.name: [] for target in targets}
    for order in session.rounds(targets):
        for target in order:
            runs[target.name].append(pgbench(session.server, target, mode, clients, session.options.seconds))
    return runs


def ratios(mine: Sequence[Run], others: Sequence[Run]) -> tuple[float, ...]:
    return tuple(one.rate / other.rate for one, other in zip(mine, others, strict=True))


def detail(mode: str, clients: int, runs: dict[str, list[Run]]) -> list[str]:
    def median(name: str, what: Callable[[Run], float]) -> float:
        return statistics.median(what(run) for run in runs[name])

    cells = [mode, str(clients), f"{median('direct', lambda run: run.rate):,.0f}"]
    for name in ("pgbouncer", "Ostiary"):
        added = median(name, lambda run: run.latency) - median("direct", lambda run: run.latency)
        rate, cost = median(name, lambda run: run.rate), median(name, lambda run: run.cost)
        cells.append(f"{rate:,.0f} ({cost * 1e6:.0f} µs, {added * 1e6:+.0f} µs)")
    return cells


def told(clients: int) -> str:
    return f"{clients} client{'' if clients == 1 else 's'}"


# -- few large answers


def large(session: Session) -> None:
    """A million rows, beside a direct connection."""
    details = []
    for table, what in bulk.TABLES.items():
        for way in ("SELECT", "COPY"):
            say(f"a million rows by {way}, {what}")
            sql = bulk.statement(table, way)
            row, cells = paired(session, lambda target, sql=sql: bulk.read(target, sql))  # type: ignore[misc]
            at_least, aim = (0.6, 1.2) if table == "few" else (0.3, 1.0)
            session.add(Row(f"1,000,000 rows by {way}, {what}, against direct", at_least, aim, row))
            details.append([f"{way}, {what}", *cells])
    lines = session.server.sql("copy few to stdout").encode() + b"\n"
    say("a million rows in by COPY")

    def fill(target: Target) -> tuple[int, float, float]:
        session.server.sql("truncate filled")
        return bulk.fill(target, lines)

    details.append(["COPY in", *paired(session, fill)[1]])
    head = ["a million rows", "direct, MB/s", "Ostiary, MB/s", "Ostiary, CPU a GB"]
    session.tables.append(report.markdown(head, details))


def paired(session: Session, work: Callable[[Target], tuple[int, float, float]]) -> tuple[tuple[float, ...], list[str]]:
    """Ostiary's rate by the direct one's in each round; and the medians, told."""
    runs: dict[str, list[tuple[float, float]]] = {"direct": [], "Ostiary": []}
    for order in session.rounds([session.direct, session.ostiary]):
        for target in order:
            size, seconds, cpu = work(target)
            runs[target.name].append((size / seconds, cpu / size))
    straight, mine = ([rate for rate, _ in runs[name]] for name in ("direct", "Ostiary"))
    session.noise.append(report.spread(straight))
    cost = statistics.median(cpu for _, cpu in runs["Ostiary"])
    cells = [f"{statistics.median(rates) / 1e6:,.0f}" for rates in (straight, mine)]
    return tuple(one / other for one, other in zip(mine, straight, strict=True)), [*cells, f"{cost * 1e9:.1f} s"]


# -- one statement, and memory


def decisions(session: Session) -> None:
    """A statement that was never seen, and one that differs in literals."""
    say("facts and decision of statements")
    found = decide.measure(session.server, manifests(session.server), max(3, session.options.rounds))
    for name, what, at_least, aim in (
        ("never seen", "of a short statement never seen", 120, 60),
        ("new literals", "of one that differs in literals only", 10, 3),
    ):
        session.add(Row(f"facts and decision {what}", at_least, aim, tuple(each * 1e6 for each in found[name]), "µs"))


def rest(session: Session) -> None:
    """The process when nobody has come yet."""
    say("memory at rest")
    values = []
    for _ in range(min(3, session.options.rounds)):
        with ostiary(session.server) as fresh:
            found = memory.rest(fresh)
        values.append(found.resident / 1e6)
    print(f"  of it, pages that are shared counted by share (PSS): {found.proportional / 1e6:.0f} MB")
    session.add(Row("memory of the process at rest", 90, 70, tuple(values), "MB"))


def idle(session: Session) -> None:
    """A thousand sessions that do nothing."""
    say(f"memory of {memory.SESSIONS:,} idle sessions")
    with ostiary(session.server) as fresh:
        silent, used = memory.idle(fresh)
    session.add(Row(f"memory of an idle session ({memory.SESSIONS:,}, logged in)", 30, 10, (silent / 1e3,), "kB"))
    session.add(Row("the same, each has run a statement", 30, 10, (used / 1e3,), "kB"))


def growth(session: Session) -> None:
    """A result of 1 GB, masked and recorded."""
    say("a result of 1 GB")
    with ostiary(session.server) as fresh:
        grown, size = memory.growth(fresh)
    session.add(Row(f"growth over a result of {size / 1e9:.2f} GB, masked and recorded", 64, 16, (grown / 1e6,), "MB"))


def workers(session: Session) -> None:
    """Several processes beside one. Not a row of what is wanted: on how many cores is the machine's."""
    count, rounds = session.options.workers, session.options.rounds
    lines = []
    with ostiary(session.server, workers=count) as several:
        targets = [session.pgbouncer, session.ostiary, several]
        for mode in session.options.modes:
            say(f"{count} workers, pgbench -S {mode}: {rounds} rounds of {len(targets)} targets")
            runs = play(session, targets, mode, WORKERS_CLIENTS)
            cells = [mode, str(WORKERS_CLIENTS)]
            for target in targets[1:]:
                rate, cost = (
                    statistics.median(getattr(run, what) for run in runs[target.name]) for what in ("rate", "cost")
                )
                others = statistics.median(ratios(runs[target.name], runs["pgbouncer"]))
                cells.append(f"{rate:,.0f} ({cost * 1e6:.0f} µs, {others:.2f} of pgbouncer)")
            cells.append(f"{statistics.median(ratios(runs[several.name], runs['Ostiary'])):.2f}")
            lines.append(cells)
            print(f"  {mode}: " + ", ".join(cells[2:]), flush=True)
    head = ["pgbench -S", "clients", "one process, transactions/s", f"{count} workers, transactions/s", "ratio"]
    session.tables.append(report.markdown(head, lines))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failure:
        raise SystemExit(f"{failure}\n{failure.stderr}") from failure
