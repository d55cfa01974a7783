"""Signs, every few seconds, how all sessions stand: a chain of seals. Replicas take turns by a lease.

What the store service did not write itself (a row without a proof) is signed as just that, never as if it were true.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import structlog

from ostiary_store.chain import seal_hash
from ostiary_store.gateway_seals import key_ids
from ostiary_store.model import Expiry, SealRow, SessionRow, StoreError
from ostiary_store.sealed import (
    BEFORE_FIRST,
    FIRST,
    Head,
    Prover,
    RecordHead,
    Seal,
    pack_heads,
    seal_of,
)
from ostiary_store.signing import StoreKey
from ostiary_store.store import Store

LEASE: Final = "sealer"
"""Of the store: who holds it seals, and removes what is expired."""

HEADS: Final = 10_000
"""Sessions in one seal at most; more make more seals."""

LIVE: Final = 60.0
"""Seconds after which an open session is sealed again, if something came."""

RECORDS: Final = 600.0
"""Seconds after which it is sealed again how far a record was taken in."""

NAMED: Final = 1000
"""Sessions without a proof that one seal names; the others follow in the next."""

log = structlog.get_logger(__name__)


class Sealer:
    """One for each process of the store service. `run` it in a task; `seal` makes one seal now."""

    def __init__(
        self,
        store: Store,
        key: StoreKey,
        *,
        prover: Prover | None = None,
        every: float = 10.0,
        live: float = LIVE,
        limit: int = HEADS,
        adopt: bool = False,
        told: Callable[[SealRow], None] = lambda _: None,
        upkeep: Callable[[Sealer], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """adopt: believe rows without any proof: of a store that had no key before. told: called with each new seal
        (for anchors). upkeep: called now and then while the lease is held (for what expires)."""
        self._store = store
        self._key = key
        self._prover = prover
        self._every = every
        self._live = live
        self._limit = limit
        self._adopt = adopt
        self._told = told
        self._upkeep = upkeep
        self._clock = clock
        self._lock = asyncio.Lock()
        self._last: SealRow | None = None
        """The last seal of this process's own making, or that it found."""
        self._records: dict[str, tuple[int, float, tuple[str, ...]]] = {}
        """Of each record: position and keys as they were last sealed, and when."""
        self.made = 0
        self.heads = 0
        self.unproven = 0
        self.failures = 0
        self.behind = False
        """The last round ended before all was sealed."""

    @property
    def last(self) -> SealRow | None:
        """For metrics and anchors."""
        return self._last

    async def run(self) -> None:
        """Until it is cancelled; then what is left is sealed once more, if that works at once."""
        while True:
            try:
                async with self._store.lease(LEASE) as held:
                    if held:
                        await self._hold()
            except StoreError as error:
                self.failures += 1
                log.warning("sessions could not be sealed", error=str(error))
            await asyncio.sleep(self._every)

    async def _hold(self) -> None:
        """A minute or so of the lease; then another replica may have it."""
        until = time.monotonic() + max(60.0, 3 * self._every)
        try:
            while time.monotonic() < until:
                await self.drain()
                if self._upkeep is not None:
                    await self._upkeep(self)
                await asyncio.sleep(self._every)
        except asyncio.CancelledError:
            try:
                async with asyncio.timeout(5):
                    await self.drain()
            except (TimeoutError, StoreError) as error:
                log.warning("the last sessions were not sealed", error=str(error) or "it took too long")
            raise

    async def drain(self, most: int = 100) -> int:
        """Seals until nothing waits, `most` seals at the most. How many were made."""
        for made in range(most):
            if await self.seal() is None:
                self.behind = False
                return made
        self.behind = True
        return most

    async def seal(
        self, *, expired: Sequence[Expiry] = (), dropped: int = 0, before: int = 0, troubles: Sequence[str] = ()
    ) -> SealRow | None:
        """One seal over what has changed, with these statements in it; None if there is nothing to say. StoreError."""
        async with self._lock:
            now = self._clock()
            last, found = await self._before()
            rows = await self._store.unsealed(self._limit, live_before=now - self._live)
            records = await self._moved(now)
            said = [*found, *troubles]
            if not (rows or records or said or expired or dropped):
                return None
            heads = [Head.of(row) for row in rows]
            count, digest, stored = await asyncio.to_thread(pack_heads, [*heads, *records])
            unproven, adopted = self._unproven(rows)
            seal = Seal(
                FIRST if last is None else last.number + 1, now, self._key.id, self._key.public,
                BEFORE_FIRST if last is None else last.hash.hex(), count, digest, tuple(unproven[:NAMED]), tuple(said),
                tuple(expired), dropped, before, adopted,
            )  # fmt: skip
            body = seal.body()
            row = SealRow(seal.number, now, seal.key, body, self._key.sign(seal_hash(body)), stored)
            sealed: Mapping[str, bytes] = {each.id: each.head for each in rows}
            if len(unproven) > NAMED:
                # Those that are not named stay unsealed, so that the next seal names them.
                sealed = {name: head for name, head in sealed.items() if name not in set(unproven[NAMED:])}
            await self._store.put_seal(row, sealed)
            self._last = row
            for head in records:
                self._records[head.record] = (head.position, now, head.keys)
            self.made += 1
            self.heads += count
            self._told(row)
            return row

    async def _before(self) -> tuple[SealRow | None, list[str]]:
        """The seal to go on from, and what is wrong with the chain as it stands."""
        last, mine = await self._store.last_seal(), self._last
        said: list[str] = []
        if mine is not None:
            if last is None or last.number < mine.number:
                said.append(f"seal {mine.number}:{mine.hash.hex()} and what followed was removed")
            elif last.number == mine.number and last.hash != mine.hash:
                said.append(f"seal {mine.number}:{mine.hash.hex()} was replaced")
            elif last.number > mine.number:
                found = await anext(self._store.seals(mine.number), None)
                if found is None or found.hash != mine.hash:
                    said.append(f"seal {mine.number}:{mine.hash.hex()} was removed or replaced")
        if last is not None:
            try:
                seal_of(last)
            except ValueError as error:
                said.append(f"seal {last.number} was changed: {error}")
        for what in said:
            log.error("somebody has changed the store", what=what)
        return last, said

    def _unproven(self, rows: Sequence[SessionRow]) -> tuple[list[str], int]:
        """Sessions whose rows somebody else has written, and how many are believed without a proof."""
        if self._prover is None:
            return [], 0
        doubtful = [row for row in rows if not self._prover.holds(row)]
        names = [row.id for row in doubtful if row.proof or not self._adopt]
        if names:
            self.unproven += len(names)
            log.error("sessions were written by somebody else than the store service", sessions=names[:20])
        return names, len(doubtful) - len(names)

    async def _moved(self, now: float) -> list[RecordHead]:
        """Records that have to be sealed again."""
        heads: list[RecordHead] = []
        for record in await self._store.records():
            ids = key_ids(record.get("keys"))
            head = RecordHead(
                str(record["uuid"]), str(record["gateway"]), int(str(record["position"])), int(str(record["number"])),
                str(record["link"]), ids,
            )  # fmt: skip
            position, at, known = self._records.get(head.record, (0, 0.0, ()))
            if head.position != position and (now - at >= RECORDS or head.position < position or known != ids):
                heads.append(head)
        return heads
