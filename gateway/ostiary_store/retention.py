"""The janitor: what is past its retention is stated in a seal, signed, and only then removed.

So a reader tells what expired from what was stolen: whatever is missing must be in a statement, and its time must have
been over by what the seals before said of it. The sealer runs it while it holds the lease, so nothing is sealed between
a statement and what it is about.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from ostiary_store.model import Expiry, SealRow, StoreError
from ostiary_store.sealed import Head, RecordHead, parse_heads, raw_heads, seal_of
from ostiary_store.sealing import Sealer
from ostiary_store.store import Store

CURSOR: Final = "retention"
"""In the store: up to which seal all statements were carried out."""

DAYS: Final = 32
"""Statements of one seal."""

HEADS_EVERY: Final = 86_400.0
"""Seconds between two statements that heads are dropped: each is a seal of its own."""

SEALS: Final = 64
"""Seals in one go; the next one is after `every`."""

log = structlog.get_logger(__name__)


class Janitor:
    """Give its `work` to a Sealer as `upkeep`."""

    def __init__(
        self,
        store: Store,
        *,
        record: float | None = None,
        responses: float | None = None,
        every: float = 600.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """record, responses: seconds that they are kept where their Connection does not say; None: for ever."""
        self._store = store
        self._record = math.inf if record is None else record
        self._responses = math.inf if responses is None else responses
        self._every = every
        self._clock = clock
        self._next = 0.0
        self._looked_back = False
        self._kept = 0
        """From this seal on there are heads."""
        self._dropped = -math.inf
        self.removed: dict[str, int] = {}
        """How much so far, by kind."""
        self.failures = 0

    async def work(self, sealer: Sealer) -> None:
        """What is due, if it is time to look. Failures are logged: the next time it is tried again."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + self._every
        try:
            if not self._looked_back:
                await self.look_back()
                self._looked_back = True
            for _ in range(SEALS):
                if not await self.step(sealer):
                    await self.drop_heads(sealer)
                    return
            self._next = 0.0
        except StoreError as error:
            self.failures += 1
            log.warning("what is past its retention could not be removed", error=str(error))

    async def step(self, sealer: Sealer) -> int:
        """States and removes some of what is due; how many statements that were."""
        due = await self.due()
        if not due:
            return 0
        seal = await sealer.seal(expired=due)
        if seal is None:
            return 0
        for expiry in due:
            await self._remove(expiry)
        await self._store.set_cursor(CURSOR, {"seal": seal.number})
        return len(due)

    async def due(self) -> list[Expiry]:
        """What may go now."""
        found = await self._store.expiring(
            self._clock(), record=self._record, responses=self._responses, limit=DAYS
        )  # fmt: skip
        return list(found)

    async def drop_heads(self, sealer: Sealer) -> int:
        """Drops the heads of the oldest seals that are about days of which nothing is left. How many seals."""
        days = await self._store.days()
        before = min(days, default=int(self._clock() // 86_400) * 86_400)
        last = count = 0
        async for row in self._store.seals(self._kept):
            if not row.heads:
                if not last:
                    self._kept = row.number + 1
                continue
            try:
                heads = await asyncio.to_thread(_heads, row)
            except ValueError:
                break
            if any(isinstance(head, Head) and head.opened >= before for head in heads):
                break
            last, count = row.number, count + 1
        if last and self._clock() - self._dropped >= HEADS_EVERY:
            self._dropped = self._clock()
            if await sealer.seal(dropped=last, before=before) is not None:
                await self._store.drop_heads(last)
                self._kept = last + 1
                return count
        return 0

    async def look_back(self) -> None:
        """Carries out what was stated and not done, because a process ended between the two."""
        done = (await self._store.cursor(CURSOR)).get("seal", 0)
        last = 0
        async for row in self._store.seals(done + 1):
            last = row.number
            try:
                expired = seal_of(row).expired
            except ValueError:
                continue  # changed by somebody: verify says so
            for expiry in expired:
                try:
                    await self._remove(expiry)
                except StoreError as error:
                    log.info("a statement of what expires was carried out before", seal=row.number, why=str(error))
        if last > done:
            await self._store.set_cursor(CURSOR, {"seal": last})

    async def _remove(self, expiry: Expiry) -> None:
        counts: Mapping[str, int] = await self._store.expire(expiry)
        for kind, count in counts.items():
            self.removed[kind] = self.removed.get(kind, 0) + count
        day = time.strftime("%Y-%m-%d", time.gmtime(expiry.day))
        log.info("removed what is past its retention", kind=expiry.kind, day=day, sessions=expiry.sessions, **counts)


def _heads(row: SealRow) -> list[Head | RecordHead]:
    return list(parse_heads(raw_heads(row.heads)))
