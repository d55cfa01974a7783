"""The interface that every store keeps: PostgreSQL for teams, SQLite beside a gateway. One suite tests both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ostiary_store.model import (
    Batch,
    Facets,
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

    async def session_of(self, record: RecordRef, sid: int) -> SessionRow | None:
        """A session by its number in its record."""

    async def put_seal(self, seal: SealRow) -> None:
        """Moved-like StoreError if a seal of this number is there, or the one before is not the last."""

    async def unsealed(self, limit: int = 10_000) -> Sequence[SessionRow]:
        """Sessions whose head is not in a seal yet, the longest waiting first."""

    async def seals(self, first: int = 0) -> AsyncIterator[SealRow]:
        """In order."""
        yield NotImplemented

    # Asking

    async def sessions(self, query: SessionQuery, scope: Scope) -> SessionPage: ...

    async def requests(self, query: RequestQuery, scope: Scope) -> RequestPage: ...

    async def facets(self, query: RequestQuery, scope: Scope) -> Facets: ...

    async def session(self, session: str, scope: Scope) -> SessionRow:
        """By its id, or by the beginning of its id if only one begins so. LookupError."""

    async def request(self, request: str, scope: Scope) -> RequestRow:
        """By its id. LookupError."""

    async def slice(
        self, session: SessionRow, *, seq: int = 0, number: int | None = None, limit: int = 64
    ) -> Slice:
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
        """Of each record: gateway, instance, address, position, last (when something came)."""

    def feed(self, cursor: Mapping[str, int]) -> AsyncIterator[tuple[str, int, Slice]]:
        """What came after `cursor`: (uuid of the record in hex, number of the batch, a session's chunks in it), in the
        order of batches of each record. For exports; `cursor` is {uuid: last batch that was dealt with}."""

    # Upkeep

    async def cursor(self, name: str) -> Mapping[str, int]:
        """Where a consumer of the feed stands."""

    async def set_cursor(self, name: str, cursor: Mapping[str, int]) -> None: ...

    def lease(self, name: str) -> AbstractAsyncContextManager[bool]:
        """True for one holder at a time over all processes; it ends with the block, or with the process."""

    async def expire(self, now: float, *, record: float, responses: float) -> Mapping[str, int]:
        """Removes what is older than its retention: that of its Connection, or these defaults (seconds). What was
        removed, by kind. Sessions that are open are kept."""

    async def close(self) -> None: ...
