"""The Store on PostgreSQL: its parts put together."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Self

from ostiary_store.model import (
    Batch,
    ChunkRow,
    Expiry,
    Facets,
    Link,
    PartRow,
    Place,
    RecordRef,
    RequestPage,
    RequestQuery,
    RequestRow,
    RuleHits,
    Scope,
    SealRow,
    SessionPage,
    SessionQuery,
    SessionRow,
    Slice,
    Tally,
)
from ostiary_store.opening import Bucket
from ostiary_store.postgres.counting import Counting
from ostiary_store.postgres.database import Database
from ostiary_store.postgres.days import Days
from ostiary_store.postgres.names import Names
from ostiary_store.postgres.sealing import Sealing
from ostiary_store.postgres.searching import Search
from ostiary_store.postgres.sessions import Sessions
from ostiary_store.postgres.taking import Taking
from ostiary_store.postgres.upkeep import Upkeep


class PostgresStore:
    """Open it with `open`, or with ostiary_store.opening.open_store."""

    def __init__(self, database: Database, bucket: Bucket | None = None) -> None:
        self._database = database
        days = Days(database)
        who = Names(database, "who", ("connection", "protocol", "username"))
        verdicts = Names(database, "verdict", ("action", "policy", "rule", "would_deny"))
        hits = Names(database, "hit", ("action", "policy", "rule", "enforced"))
        self._taking = Taking(database, days, who, verdicts, hits)
        self._sessions = Sessions(database, bucket)
        self._search = Search(database, days, who, verdicts)
        self._counting = Counting(database, self._search, who, verdicts)
        self._sealing = Sealing(database)
        self._upkeep = Upkeep(database, days)

    @classmethod
    async def open(
        cls, url: str, *, bucket: Bucket | None = None, connections: int = 10, make: bool = True
    ) -> Self:
        """url: postgresql://…; its schema is brought up to date, and made if it is not there and `make` says so.
        StoreError."""
        return cls(await Database.open(url, connections=connections, make=make), bucket)

    async def close(self) -> None:
        await self._database.close()

    # Taking in

    async def record(self, record: RecordRef) -> Place:
        return await self._taking.record(record)

    async def append(self, batch: Batch) -> None:
        await self._taking.append(batch)

    async def open_sessions(self, record: RecordRef) -> Sequence[SessionRow]:
        return await self._sessions.open_sessions(record)

    async def open_requests(self, record: RecordRef) -> Sequence[tuple[str, int, float]]:
        return await self._sessions.open_requests(record)

    async def session_of(self, record: RecordRef, sid: int) -> SessionRow | None:
        return await self._sessions.session_of(record, sid)

    # Sealing

    async def put_seal(self, seal: SealRow, sealed: Mapping[str, Link]) -> None:
        await self._sealing.put_seal(seal, sealed)

    async def last_seal(self) -> SealRow | None:
        return await self._sealing.last_seal()

    async def unsealed(self, limit: int = 10_000, *, live_before: float = math.inf) -> Sequence[SessionRow]:
        return await self._sealing.unsealed(limit, live_before)

    def seals(self, first: int = 0) -> AsyncIterator[SealRow]:
        return self._sealing.seals(first)

    async def drop_heads(self, last: int) -> None:
        await self._sealing.drop_heads(last)

    async def days(self) -> Sequence[int]:
        return await self._sealing.days()

    def scan_sessions(self, day: int, session: str = "") -> AsyncIterator[SessionRow]:
        return self._sealing.scan_sessions(day, session)

    def scan_rows(self, day: int, session: str = "", *, bodies: bool) -> AsyncIterator[ChunkRow | PartRow]:
        return self._sealing.scan_rows(day, session, bodies=bodies)

    def scan_requests(self, day: int, session: str = "") -> AsyncIterator[RequestRow]:
        return self._sealing.scan_requests(day, session)

    def scan_decisions(self) -> AsyncIterator[tuple[bytes, bytes]]:
        return self._sealing.scan_decisions()

    def scan_tallies(self) -> AsyncIterator[Tally]:
        return self._sealing.scan_tallies()

    async def part_body(self, part: PartRow) -> bytes:
        return await self._sessions.part_body(part)

    # Asking

    async def sessions(self, query: SessionQuery, scope: Scope) -> SessionPage:
        return await self._sessions.sessions(query, scope)

    async def requests(self, query: RequestQuery, scope: Scope) -> RequestPage:
        return await self._search.requests(query, scope)

    async def facets(self, query: RequestQuery, scope: Scope) -> Facets:
        return await self._counting.facets(query, scope)

    async def session(self, session: str, scope: Scope) -> SessionRow:
        return await self._sessions.session(session, scope)

    async def request(self, request: str, scope: Scope) -> RequestRow:
        return await self._search.request(request, scope)

    async def slice(self, session: SessionRow, *, seq: int = 0, number: int | None = None, limit: int = 64) -> Slice:
        return await self._sessions.slice(session, seq=seq, number=number, limit=limit)

    async def part(self, session: SessionRow, seq: int) -> bytes:
        return await self._sessions.part(session, seq)

    async def decisions(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        return await self._sessions.decisions(ids)

    async def rule_hits(self, since: float, scope: Scope) -> Sequence[RuleHits]:
        return await self._counting.rule_hits(since, scope)

    async def tallies(self, since: float, until: float, scope: Scope) -> Sequence[Tally]:
        return await self._counting.tallies(since, until, scope)

    async def records(self) -> Sequence[Mapping[str, object]]:
        return await self._counting.records()

    def feed(self, cursor: Mapping[str, int]) -> AsyncIterator[tuple[str, int, Slice]]:
        return self._upkeep.feed(cursor)

    # Upkeep

    async def cursor(self, name: str) -> Mapping[str, int]:
        return await self._upkeep.cursor(name)

    async def set_cursor(self, name: str, cursor: Mapping[str, int]) -> None:
        await self._upkeep.set_cursor(name, cursor)

    def lease(self, name: str) -> AbstractAsyncContextManager[bool]:
        return self._upkeep.lease(name)

    async def expiring(self, at: float, *, record: float, responses: float, limit: int = 32) -> Sequence[Expiry]:
        return await self._upkeep.expiring(at, record, responses, limit)

    async def expire(self, expiry: Expiry) -> Mapping[str, int]:
        removed, _ = await self._upkeep.expire(expiry)
        return removed
