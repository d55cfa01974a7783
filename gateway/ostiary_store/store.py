"""The interface that every store keeps: PostgreSQL for teams, SQLite beside a gateway. One suite tests both."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

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


class Store(Protocol):
    """Open it with `ostiary_store.opening.open_store(url)`. Every method raises StoreError when it cannot be asked."""

    # Taking in

    async def record(self, record: RecordRef) -> Place:
        """Makes the record known; where it stands. Its `keys`, `address` and the time are brought up to date.
        AnotherGateway if it is known under another `gateway`: whoever learns an id must not write into it."""

    async def append(self, batch: Batch) -> None:
        """All of it, durably, or nothing. Moved if the record does not stand at `batch.start`."""

    async def open_sessions(self, record: RecordRef) -> Sequence[SessionRow]:
        """Those of this record that have not ended, for whoever goes on with it."""

    async def open_requests(self, record: RecordRef) -> Sequence[tuple[str, int, float]]:
        """Session, number and begin of the requests of this record that have not ended."""

    async def session_of(self, record: RecordRef, sid: int) -> SessionRow | None:
        """A session by its number in its record."""

    async def put_seal(self, seal: SealRow, sealed: Mapping[str, Link]) -> None:
        """Keeps the seal, and marks the sessions whose `head` is still the one in `sealed`, with `seal.at`.
        StoreError if it is not the next one after the last that is there."""

    async def last_seal(self) -> SealRow | None: ...

    async def unsealed(self, limit: int = 10_000, *, live_before: float = math.inf) -> Sequence[SessionRow]:
        """Sessions whose head is not in a seal yet, the longest waiting first. Of those that are open only such as were
        never sealed, or last before `live_before`."""

    def seals(self, first: int = 0) -> AsyncIterator[SealRow]:
        """In order."""

    async def drop_heads(self, last: int) -> None:
        """Empties `heads` of the seals up to this number."""

    # Looking at everything, in the order in which it can be compared; texts as bytes compare (collation "C")

    async def days(self) -> Sequence[int]:
        """On which sessions were opened of which there is any row, ascending: seconds since the epoch, multiples of
        86400."""

    def scan_sessions(self, day: int, session: str = "") -> AsyncIterator[SessionRow]:
        """Of that day, by id; or this one alone."""

    def scan_rows(self, day: int, session: str = "", *, bodies: bool) -> AsyncIterator[ChunkRow | PartRow]:
        """All chunks and parts of sessions of that day, by (session, seq), also those without a session. Without
        bodies: a chunk's is empty, a part's None. Bodies in the bucket are not fetched."""

    def scan_requests(self, day: int, session: str = "") -> AsyncIterator[RequestRow]:
        """By (session, number). `day` is that of the session."""

    def scan_decisions(self) -> AsyncIterator[tuple[bytes, bytes]]:
        """Id and JSON, by id."""

    def scan_tallies(self) -> AsyncIterator[Tally]:
        """As they are kept."""

    async def part_body(self, part: PartRow) -> bytes:
        """As stored (compressed), from the database or the bucket. LookupError if it is not there."""

    # Asking

    async def sessions(self, query: SessionQuery, scope: Scope) -> SessionPage: ...

    async def requests(self, query: RequestQuery, scope: Scope) -> RequestPage: ...

    async def facets(self, query: RequestQuery, scope: Scope) -> Facets: ...

    async def session(self, session: str, scope: Scope) -> SessionRow:
        """By its id, or by the beginning of its id if only one begins so. LookupError."""

    async def request(self, request: str, scope: Scope) -> RequestRow:
        """By its id. LookupError."""

    async def slice(self, session: SessionRow, *, seq: int = 0, number: int | None = None, limit: int = 64) -> Slice:
        """Chunks (and heads of parts between them) from the event `seq` on, or all that hold anything of the request
        `number`; `limit` chunks at most."""

    async def part(self, session: SessionRow, seq: int) -> bytes:
        """The body of a part, decompressed, from the database or the bucket. LookupError if its retention is over."""

    async def decisions(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        """By id in hex: as audit.encoding.decision_fields made it. Those that are unknown are missing."""

    async def rule_hits(self, since: float, scope: Scope) -> Sequence[RuleHits]: ...

    async def tallies(self, since: float, until: float, scope: Scope) -> Sequence[Tally]:
        """By hour, connection, action and rule (usernames together, `username` is empty)."""

    async def records(self) -> Sequence[Mapping[str, object]]:
        """Of each record: uuid (hex), gateway, instance, address, keys, position, number, link (hex), seal, last (when
        something came)."""

    def feed(self, cursor: Mapping[str, int]) -> AsyncIterator[tuple[str, int, Slice]]:
        """What came after `cursor`: (uuid of the record in hex, number of the batch, a session's chunks in it), in the
        order of batches of each record. For exports; `cursor` is {uuid: last batch that was dealt with}."""

    # Upkeep

    async def cursor(self, name: str) -> Mapping[str, int]:
        """Where a consumer of the feed stands."""

    async def set_cursor(self, name: str, cursor: Mapping[str, int]) -> None: ...

    def lease(self, name: str) -> AbstractAsyncContextManager[bool]:
        """True for one holder at a time over all processes; it ends with the block, or with the process."""

    async def expiring(self, at: float, *, record: float, responses: float, limit: int = 32) -> Sequence[Expiry]:
        """What may go at that time, oldest days first, at most so many. Nothing of sessions that are open, or whose
        last row is not sealed. `responses` only where a part's body is left to remove."""

    async def expire(self, expiry: Expiry) -> Mapping[str, int]:
        """Removes exactly this, in one transaction; how much, by kind. It looks again: StoreError, and nothing is
        removed, if it is not what `expiry.digest` says. Where it is all of a day, its partitions may be dropped."""

    async def close(self) -> None: ...
