"""One load, looked at closely: where the gateway's time goes.

    python benchmarks/hot.py --mode prepared --clients 8 --seconds 3 --rounds 2 --profile py-spy

Prints transactions a second beside pgbouncer's in the same run, the gateway's processor time for a transaction by
thread, in user and system time, and, if asked, the functions that it was seen in.
"""

from __future__ import annotations

import argparse
import collections
import shutil
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from load import pgbench  # noqa: E402
from support.servers import Server  # noqa: E402
from targets import Target, database, direct, ostiary, pgbouncer  # noqa: E402

SHOWN = 30
"""Functions."""
WAITING = ("lock_timed", "acquire_timed", "SimpleQueue_get", "epoll_wait", "epoll_pwait", "take_gil")
"""A thread that is in one of these does nothing."""


def main() -> None:
    options = arguments()
    with ExitStack() as stack:
        server = stack.enter_context(database(scale=1))
        rivals = [stack.enter_context(pgbouncer(server))] + ([direct(server)] if options.direct else [])
        gateway = stack.enter_context(ostiary(server, audit=options.audit, workers=options.workers))
        pgbench(server, gateway, options.mode, options.clients, 1)  # what is loaded once is not what is measured
        ratios: dict[str, list[float]] = {rival.name: [] for rival in rivals}
        for number in range(options.rounds):
            before = gateway.threads()
            mine = pgbench(server, gateway, options.mode, options.clients, options.seconds)
            after = gateway.threads()
            print(
                f"round {number + 1}: Ostiary {mine.rate:,.0f}/s, {mine.cost * 1e6:.1f} µs CPU a transaction "
                f"({mine.cpu.user / mine.transactions * 1e6:.1f} user, "
                f"{mine.cpu.system / mine.transactions * 1e6:.1f} system), latency {mine.latency * 1e6:.0f} µs"
            )
            for rival in rivals:
                other = pgbench(server, rival, options.mode, options.clients, options.seconds)
                ratios[rival.name].append(mine.rate / other.rate)
                print(
                    f"         {rival.name} {other.rate:,.0f}/s, {other.cost * 1e6:.1f} µs CPU, "
                    f"latency {other.latency * 1e6:.0f} µs; Ostiary is at {mine.rate / other.rate:.2f}",
                    flush=True,
                )
        for name, found in ratios.items():
            print(f"against {name}: {statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})")
        print("µs CPU a transaction by thread in the last round: user, system")
        for name, used in sorted(after.items(), key=lambda item: -item[1].total):
            spent = used - before[name] if name in before else used
            if spent.total:
                count = mine.transactions
                print(f"  {spent.user / count * 1e6:7.1f} {spent.system / count * 1e6:7.1f}  {name}")
        if options.profile:
            profile(server, gateway, options)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mode", default="simple", choices=["simple", "extended", "prepared"])
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--audit", default="Relaxed", choices=["Relaxed", "Strict"])
    parser.add_argument("--workers", type=int, default=1, help="of the gateway; a profile is of the first process")
    parser.add_argument("--direct", action="store_true", help="beside a direct connection too")
    parser.add_argument("--profile", choices=["py-spy", "py-spy-lines", "perf"], help="one more run, looked into")
    return parser.parse_args()


def profile(server: Server, gateway: Target, options: argparse.Namespace) -> None:
    """Run the load once more, and print the functions that the gateway was in."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "out"
        seconds = str(max(1, round(options.seconds)))
        pid = str(gateway.root)
        if options.profile == "perf":
            command = ["perf", "record", "-q", "-F", "999", "-g", "-p", pid, "-o", str(out), "--", "sleep", seconds]
        else:
            spy = ["py-spy"] if shutil.which("py-spy") else [str(Path(sys.executable).parent / "uvx"), "py-spy"]
            command = [*spy, "record", "-p", pid, "-d", seconds, "-r", "500", "-f", "raw", "-o", str(out), "--native"]
            command += [] if options.profile == "py-spy-lines" else ["--function"]
        looking = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        pgbench(server, gateway, options.mode, options.clients, options.seconds + 1)
        _, complaint = looking.communicate(timeout=120)
        if not out.exists():
            raise SystemExit(f"{command[0]} found nothing: {complaint}")
        if options.profile == "perf":
            report = [
                "perf",
                "report",
                "-i",
                str(out),
                "--no-children",
                "-g",
                "none",
                "--stdio",
                "--percent-limit",
                "0.5",
            ]
            print(subprocess.run(report, capture_output=True, text=True, check=False).stdout)
        else:
            stacks(out.read_text("utf-8").splitlines())


def stacks(lines: list[str]) -> None:
    """py-spy's raw format: `outer;…;inner samples`. Prints how often a function was innermost, and in the stack."""
    own: collections.Counter[str] = collections.Counter()
    within: collections.Counter[str] = collections.Counter()
    total = 0
    for line in lines:
        path, _, count = line.rpartition(" ")
        if any(waiting in path for waiting in WAITING):
            continue
        frames = path.split(";")
        samples = int(count)
        total += samples
        own[frames[-1]] += samples
        for frame in set(frames):
            within[frame] += samples
    for title, counts in (("in the function itself", own), ("in it and what it calls", within)):
        print(f"\n{title}, % of {total} samples")
        for name, samples in counts.most_common(SHOWN):
            print(f"  {samples / total:6.1%}  {name}")


if __name__ == "__main__":
    main()
