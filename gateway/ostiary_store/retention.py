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
from ostiary_store.sealed import Head, Prover, parse_heads, raw_heads, seal_of
from ostiary_store.sealing import Sealer
from ostiary_store.store import Store

CURSOR: Final = "retention"
"""In the store: up to which seal all statements were carried out."""

DAYS: Final = 32
"""Statements of one seal."""

HEADS_KEPT: Final = 90 * 86_400.0
"""Seconds that a verification can still judge what was removed."""

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
        prover: Prover | None = None,
        heads: float = HEADS_KEPT,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """record, responses: seconds that they are kept where their Connection does not say; None: for ever.
        prover: without it rows are believed. heads: seconds that heads are kept after all of them expired."""
        self._store = store
        self._record = math.inf if record is None else record
        self._responses = math.inf if responses is None else responses
        self._every = every
        self._prover = prover
        self._heads = heads
        self._held: set[str] = set()
        """Sessions that somebody has edited: their days stay as they are."""
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
        due: list[Expiry] = []
        edited: set[str] = set()
        for expiry in await self.due():
            if names := await self._believed(expiry):
                edited.update(names)
            else:
                due.append(expiry)
        if new := edited - self._held:
            self._held |= new
            log.error("sessions were edited; their days are not removed", sessions=sorted(new)[:20])
            said = [f"session {name} was edited, so that its day is not removed" for name in sorted(new)[:100]]
            await sealer.seal(troubles=said)
        if not due:
            return 0
        seal = await sealer.seal(expired=due)
        if seal is None:
            return 0
        failed: StoreError | None = None
        for expiry in due:
            try:
                await self._remove(expiry)
            except StoreError as error:
                failed = error  # the others are not worse for it
        await self._store.set_cursor(CURSOR, {"seal": seal.number})
        if failed is not None:
            raise failed
        return len(due)

    async def due(self) -> list[Expiry]:
        """What may go now."""
        found = await self._store.expiring(self._clock(), record=self._record, responses=self._responses, limit=DAYS)
        return list(found)

    async def _believed(self, expiry: Expiry) -> list[str]:
        """Sessions that would go because somebody has edited their rows."""
        if self._prover is None:
            return []
        return [
            row.id
            async for row in self._store.scan_sessions(expiry.day)
            if row.closed is not None and not self._prover.holds(row)
        ]

    async def drop_heads(self, sealer: Sealer) -> int:
        """Drops the heads of the oldest seals, all about what expired long ago. Number of the last."""
        now = self._clock()
        if now - self._dropped < HEADS_EVERY:
            return 0
        self._dropped = now
        before = min(await self._store.days(), default=int(now // 86_400) * 86_400)
        seals: list[tuple[int, set[int]]] = []
        """The first ones, with the days that their heads are about."""
        stated: dict[int, float] = {}
        reading = True
        async for row in self._store.seals(self._kept):
            try:
                for expiry in seal_of(row).expired:
                    stated[expiry.day] = max(stated.get(expiry.day, 0.0), expiry.at)
                days = await asyncio.to_thread(_days, row) if reading else set()
            except ValueError:
                break  # changed by somebody: verify says so
            reading = reading and all(day < before for day in days)
            if reading:
                seals.append((row.number, days))
        last = 0
        for number, days in seals:
            if not all(day in stated and stated[day] <= now - self._heads for day in days):
                break
            last = number if days else last
        if not last or await sealer.seal(dropped=last, before=before) is None:
            return 0
        await self._store.drop_heads(last)
        self._kept = last + 1
        return last

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
        log.info(
            "removed what is past its retention",
            kind=expiry.kind,
            day=day,
            sessions=expiry.sessions,
            removed=dict(counts),
        )


def _days(row: SealRow) -> set[int]:
    """On which the sessions of its heads were opened."""
    heads = parse_heads(raw_heads(row.heads))
    return {int(head.opened // 86_400) * 86_400 for head in heads if isinstance(head, Head)}
