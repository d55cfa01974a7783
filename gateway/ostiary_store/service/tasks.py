"""What the service does beside taking in: each runs until it is cancelled, and is started again if it fails.

`background` is the one place where tasks are registered.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import structlog

from ostiary_gateway.counters import Gauge
from ostiary_store.exports.exporter import Exporter
from ostiary_store.exports.metrics import gauges
from ostiary_store.follow import Follower
from ostiary_store.ingest import Ingest
from ostiary_store.objects import Bucket, sweep
from ostiary_store.service.counts import Counts
from ostiary_store.settings import Settings
from ostiary_store.store import Store
from ostiary_store.upkeep import Upkeep

BACKOFF: Final = (1.0, 60.0)
STEADY: Final = 60.0
"""Seconds that a task has to run for its end to count as the first one again."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """`run` goes on until it is cancelled; what it raises is logged, and it is started again."""

    name: str
    run: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Service:
    """What tasks are made of. `stack`: what they open is closed with it."""

    settings: Settings
    store: Store
    ingest: Ingest
    counts: Counts
    stack: AsyncExitStack
    upkeep: Upkeep | None = None
    bucket: Bucket | None = None


async def background(service: Service) -> list[Task]:
    """All that the settings ask for."""
    found: list[Task] = []
    if (upkeep := service.upkeep) is not None:
        found.append(Task("upkeep", upkeep.run))
        service.counts.more.append(upkeep.gauges)
    if (bucket := service.bucket) is not None:
        found.append(Task("sweep", lambda: sweep(bucket, service.store)))
    followers = {str(data): Follower(data, service.ingest) for data in service.settings.follow}
    found += [Task(f"follow {name}", follower.run) for name, follower in followers.items()]
    if followers:
        service.counts.more.append(lambda: _behind(followers))
    if service.settings.exports:
        exporters = [Exporter(service.store, each) for each in service.settings.exports]
        found += [Task(f"export {each.name}", each.run) for each in exporters]
        service.counts.families.append(lambda: gauges(exporters))
    return found


def _behind(followers: Mapping[str, Follower]) -> Iterator[Gauge]:
    for name, follower in followers.items():
        text = "Bytes of the records in a directory that the store does not have."
        yield Gauge("ostiary_store_follow_waiting_bytes", text, follower.behind, ("directory", name))


async def supervised(task: Task, counts: Counts) -> None:
    """Runs it again and again, until cancelled."""
    pause, failures = BACKOFF[0], 0
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        counts.tasks[task.name] = True, failures
        try:
            await task.run()
            problem = "it has ended"
        except Exception as error:
            problem = str(error) or type(error).__name__
            log.warning("a task of the store failed, and is started again", task=task.name, problem=problem)
            log.debug("the task's failure", task=task.name, exc_info=True)
        failures += 1
        counts.tasks[task.name] = False, failures
        if loop.time() - begun > STEADY:
            pause = BACKOFF[0]
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, BACKOFF[1])
