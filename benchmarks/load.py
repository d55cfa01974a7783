"""One run of pgbench -S against one target, and what the processes in between used for it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

from support.servers import Server
from targets import Cpu, Target


@dataclass(frozen=True)
class Run:
    """Transactions a second, the average latency in seconds, and the processor time of what is in between."""

    rate: float
    latency: float
    transactions: int
    cpu: Cpu

    @property
    def cost(self) -> float:
        """Seconds of processor time for a transaction."""
        return self.cpu.total / self.transactions


def pgbench(server: Server, target: Target, mode: str, clients: int, seconds: float) -> Run:
    """`mode` is pgbench's -M: simple, extended or prepared."""
    before = target.cpu()
    done = subprocess.run(
        [str(server.bindir / "pgbench"), "-S", "-n", "-M", mode, "-c", str(clients), "-j", str(min(clients, 2))]
        + ["-T", str(max(1, round(seconds)))],
        env=target.environment(),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"pgbench against {target.name} failed: {done.stderr}")
    rate = _number(done.stdout, "tps = ")
    count = _number(done.stdout, "number of transactions actually processed: ")
    latency = _number(done.stdout, "latency average = ") / 1000
    return Run(rate, latency, int(count), target.cpu() - before)


def _number(text: str, label: str) -> float:
    line = next(line for line in text.splitlines() if line.startswith(label))
    return float(line[len(label) :].split()[0].partition("/")[0])
