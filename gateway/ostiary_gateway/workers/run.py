"""A gateway of several processes, from its command line to its end; and how many processors there are for it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from ostiary_gateway.logging import get_logger
from ostiary_gateway.version import version

from .admin import SupervisorAdmin
from .supervisor import Supervisor

log = get_logger(__name__)

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")
"""In a container: microseconds of processor time, and in how many microseconds (cgroup v2)."""


def processors(quota: Path = _QUOTA) -> int:
    """Those that this process may use: by its affinity, and by its container's limit."""
    try:
        found = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        found = os.cpu_count() or 1
    try:
        most, period = quota.read_text("ascii").split()
        if most != "max":
            found = min(found, math.ceil(int(most) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return max(found, 1)


async def run(
    command: Callable[[int], Sequence[str]], workers: int, *, data: Path, admin: tuple[str, int] | None, drain: float
) -> None:
    """Serve until SIGTERM or SIGINT. `drain`: seconds that workers give their sessions then. Raises WorkerFailed, or
    AdminError if the admin address cannot be had."""
    data.mkdir(parents=True, exist_ok=True, mode=0o700)  # noqa: ASYNC240
    supervisor = Supervisor(command, workers, data, drain)
    server = None if admin is None else SupervisorAdmin(admin, supervisor, version())
    if server is not None:
        host, port = await server.start()
        log.info("admin address", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")
    try:
        await supervisor.run()
    finally:
        if server is not None:
            await server.stop()
