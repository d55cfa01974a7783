"""Whether a store can be asked: it is opened as soon as it is there, and looked at while somebody serves from it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Final

from ostiary_gateway.logging import get_logger
from ostiary_store.model import StoreError
from ostiary_store.store import Store

log = get_logger(__name__)

PATIENCE: Final = 5.0
"""Seconds that the store may take to answer."""
AGAIN: Final = (0.5, 10.0)
"""Seconds between attempts to open it."""


class Health:
    """Whether the store can be asked, and since when that is so. `trouble` is empty while it can."""

    def __init__(self) -> None:
        self.trouble = "it was not opened yet"
        self.since = time.time()

    def tell(self, trouble: str) -> None:
        if bool(trouble) != bool(self.trouble):
            self.since = time.time()
            if trouble:
                log.warning("the store cannot be asked", problem=trouble)
            else:
                log.info("the store can be asked")
        self.trouble = trouble


async def opened(
    opening: Callable[[], Awaitable[Store]], stack: AsyncExitStack, health: Health, stopping: asyncio.Event
) -> Store | None:
    """The store, as soon as it is there; closed with the stack. None: it is to stop. What `opening` raises beside
    StoreError and OSError is raised."""
    pause = AGAIN[0]
    while not stopping.is_set():
        try:
            store = await opening()
        except (StoreError, OSError) as problem:
            health.tell(str(problem) or type(problem).__name__)
            log.warning("the store cannot be opened; it is tried again", problem=health.trouble)
        else:
            stack.push_async_callback(store.close)
            health.tell("")
            return store
        try:
            async with asyncio.timeout(pause):
                await stopping.wait()
        except TimeoutError:
            pause = min(pause * 2, AGAIN[1])
    return None


async def look(store: Store, health: Health, probe: str, every: float) -> None:
    """Asks again and again, `every` so many seconds, until cancelled. `probe`: the name of a cursor that nobody has."""
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                await store.cursor(probe)
            health.tell("")
        except TimeoutError:
            health.tell(f"it does not answer within {PATIENCE:.0f} s")
        except (StoreError, OSError) as problem:
            health.tell(str(problem) or type(problem).__name__)
        await asyncio.sleep(every)
