"""Memory of the gateway: at rest, for an idle session, and what a large result adds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import bulk
from support.wire import Wire, query
from targets import Target, memory_of

SESSIONS = 1000
LARGE = 'select few.* from "few", generate_series(1, 8)'
"""A little more than 1 GB."""


@dataclass(frozen=True)
class Rest:
    """Bytes of the process; `shared` is what of it other processes have too, by their share."""

    resident: int
    proportional: int


def rest(target: Target) -> Rest:
    """Just started, and nobody came yet."""
    time.sleep(2)
    found = [memory_of(pid) for pid in target.pids()]
    return Rest(sum(each["Rss"] for each in found), sum(each["Pss"] for each in found))


def idle(target: Target, sessions: int = SESSIONS) -> tuple[float, float]:
    """Bytes for each of so many sessions: logged in, and when each has run a statement."""
    wires = [target.login() for _ in range(20)]  # what the first ones load, the others share
    for wire in wires:
        _one(wire)
    time.sleep(1)
    before = _resident(target)
    wires += [target.login() for _ in range(sessions)]
    time.sleep(1)
    silent = _resident(target) - before
    for wire in wires[20:]:
        _one(wire)
    time.sleep(1)
    used = _resident(target) - before
    for wire in wires:
        wire.close()
    return silent / sessions, used / sessions


def _one(wire: Wire) -> None:
    wire.send(query("select abalance from pgbench_accounts where aid = 1"))
    wire.until()


def growth(target: Target) -> tuple[int, int]:
    """Bytes that a process which only did small things grew at most while 1 GB went through, and the bytes of that."""
    wire = target.login()
    for _ in range(100):
        _one(wire)
    time.sleep(2)
    for pid in target.pids():
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins again
    before = _resident(target)
    size = bulk.drain(wire, LARGE)
    peak = sum(_peak(pid) for pid in target.pids())
    wire.close()
    return peak - before, size


def _resident(target: Target) -> int:
    return sum(memory_of(pid)["Rss"] for pid in target.pids())


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
