"""The store on SQLite. Nothing of it runs on the event loop: one thread writes, a few others read."""

from __future__ import annotations

import asyncio
import fcntl
import math
import os
import re
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Concatenate, Final, ParamSpec, Protocol, TypeVar

from ostiary_store.bodies import decompressed
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
    StoreError,
    Tally,
)
from ostiary_store.sqlite.scanning import Key, Scanning
from ostiary_store.sqlite.schema import connect, connect_readonly
from ostiary_store.sqlite.writing import Writing

READERS: Final = 2
"""Questions that are answered at the same time."""

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Row = TypeVar("_Row", ChunkRow, PartRow)


class Bucket(Protocol):
    """Where bodies of parts may lie instead."""

    async def get(self, key: str) -> bytes:
        """LookupError if there is none."""


class SqliteStore:
    """A Store (see ostiary_store.store) in one file. Open it with `open`; several processes may have it open."""

    def __init__(self, path: Path, connection: sqlite3.Connection, bucket: Bucket | None) -> None:
        self.path = path
        self._bucket = bucket
        self._writing = Writing(connection)
        self._writer = ThreadPoolExecutor(1, "store-writer")
        self._readers = ThreadPoolExecutor(READERS, "store-reader")
        self._connections: SimpleQueue[Scanning] = SimpleQueue()
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, bucket: Bucket | None = None) -> SqliteStore:
        """Made if it is not there, readable by its owner only. StoreError: it cannot be opened, and why."""

        def prepare() -> SqliteStore:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Made here, since SQLite gives its other files the mode of this one.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            store = cls(path, connect(path), bucket)
            try:
                for _ in range(READERS):
                    store._connections.put(Scanning(connect_readonly(path)))
            except BaseException:
                store._shut()
                raise
            return store

        try:
            return await asyncio.to_thread(prepare)
        except (OSError, ValueError, sqlite3.Error) as error:
            raise StoreError(f"the store {path} cannot be opened: {error}") from error

    async def _write(self, what: Callable[Concatenate[Writing, _P], _T], *values: _P.args, **named: _P.kwargs) -> _T:
        return await self._in(self._writer, lambda: what(self._writing, *values, **named))

    async def _ask(self, what: Callable[Concatenate[Scanning, _P], _T], *values: _P.args, **named: _P.kwargs) -> _T:
        def ask() -> _T:
            connection = self._connections.get()
            try:
                return what(connection, *values, **named)
            finally:
                self._connections.put(connection)

        return await self._in(self._readers, ask)

    async def _in(self, threads: ThreadPoolExecutor, what: Callable[[], _T]) -> _T:
        if self._closed:
            raise StoreError("the store is closed.")
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, what)
        except sqlite3.Error as error:
            raise StoreError(f"the store {self.path} cannot be asked: {error}. Has its disk room?") from error

    # Taking in

    async def record(self, record: RecordRef) -> Place:
        return await self._write(Writing.record, record)

    async def append(self, batch: Batch) -> None:
        await self._write(Writing.append, batch)

    async def open_sessions(self, record: RecordRef) -> Sequence[SessionRow]:
        return await self._ask(Scanning.open_sessions, record.uuid)

    async def session_of(self, record: RecordRef, sid: int) -> SessionRow | None:
        return await self._ask(Scanning.session_of, record.uuid, sid)

    async def open_requests(self, record: RecordRef) -> Sequence[tuple[str, int, float]]:
        return await self._ask(Scanning.open_requests, record.uuid)

    async def put_seal(self, seal: SealRow, sealed: Mapping[str, Link]) -> None:
        await self._write(Writing.put_seal, seal, sealed)

    async def last_seal(self) -> SealRow | None:
        return await self._ask(Scanning.last_seal)

    async def unsealed(self, limit: int = 10_000, *, live_before: float = math.inf) -> Sequence[SessionRow]:
        return await self._ask(Scanning.unsealed, limit, live_before)

    async def seals(self, first: int = 0) -> AsyncIterator[SealRow]:
        while found := await self._ask(Scanning.seals, first, 100):
            for seal in found:
                yield seal
            first = found[-1].number + 1

    async def drop_heads(self, last: int) -> None:
        await self._write(Writing.drop_heads, last)

    # Looking at everything

    async def days(self) -> Sequence[int]:
        return await self._ask(Scanning.days)

    async def scan_sessions(self, day: int, session: str = "") -> AsyncIterator[SessionRow]:
        after = ""
        while found := await self._ask(Scanning.some_sessions, day, session, after):
            for row in found:
                yield row
            after = found[-1].id

    async def scan_rows(
        self, day: int, session: str = "", *, bodies: bool
    ) -> AsyncIterator[ChunkRow | PartRow]:  # fmt: skip
        chunks = self._pages(Scanning.some_chunks, day, session, bodies)
        parts = self._pages(Scanning.some_parts, day, session, bodies)
        chunk, part = await anext(chunks, None), await anext(parts, None)
        while chunk is not None or part is not None:
            if part is None or (chunk is not None and (chunk.session, chunk.seq) <= (part.session, part.seq)):
                assert chunk is not None
                yield chunk
                chunk = await anext(chunks, None)
            else:
                yield part
                part = await anext(parts, None)

    async def _pages(
        self, some: Callable[[Scanning, int, str, Key, bool], list[_Row]], day: int, session: str, bodies: bool
    ) -> AsyncIterator[_Row]:
        after: Key = ("", -1)
        while found := await self._ask(some, day, session, after, bodies):
            for row in found:
                yield row
            after = found[-1].session, found[-1].seq

    async def scan_requests(self, day: int, session: str = "") -> AsyncIterator[RequestRow]:
        after: Key = ("", -1)
        while found := await self._ask(Scanning.some_requests, day, session, after):
            for row in found:
                yield row
            after = found[-1].session, found[-1].number

    async def scan_decisions(self) -> AsyncIterator[tuple[bytes, bytes]]:
        after = b""
        while found := await self._ask(Scanning.some_decisions, after):
            for row in found:
                yield row
            after = found[-1][0]

    async def scan_tallies(self) -> AsyncIterator[Tally]:
        for tally in await self._ask(Scanning.all_tallies):
            yield tally

    async def part_body(self, part: PartRow) -> bytes:
        _, body, key = await self._ask(Scanning.part, part.session, part.seq)
        return body if body is not None else await self._fetched(key)

    # Asking

    async def sessions(self, query: SessionQuery, scope: Scope) -> SessionPage:
        return await self._ask(Scanning.sessions, query, scope)

    async def requests(self, query: RequestQuery, scope: Scope) -> RequestPage:
        return await self._ask(Scanning.requests, query, scope)

    async def facets(self, query: RequestQuery, scope: Scope) -> Facets:
        return await self._ask(Scanning.facets, query, scope)

    async def session(self, session: str, scope: Scope) -> SessionRow:
        return await self._ask(Scanning.session, session, scope)

    async def request(self, request: str, scope: Scope) -> RequestRow:
        return await self._ask(Scanning.request, request, scope)

    async def slice(
        self, session: SessionRow, *, seq: int = 0, number: int | None = None, limit: int = 64
    ) -> Slice:  # fmt: skip
        return await self._ask(Scanning.slice, session, seq, number, limit)

    async def part(self, session: SessionRow, seq: int) -> bytes:
        size, body, key = await self._ask(Scanning.part, session.id, seq)
        if body is None:
            body = await self._fetched(key)
        return await asyncio.to_thread(decompressed, body, size)

    async def _fetched(self, key: str) -> bytes:
        if self._bucket is None:
            raise StoreError("this response lies in a bucket. Open the store with the bucket that it was made with.")
        return await self._bucket.get(key)

    async def decisions(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        return await self._ask(Scanning.decisions, ids)

    async def rule_hits(self, since: float, scope: Scope) -> Sequence[RuleHits]:
        return await self._ask(Scanning.rule_hits, since, scope)

    async def tallies(self, since: float, until: float, scope: Scope) -> Sequence[Tally]:
        return await self._ask(Scanning.tallies, since, until, scope)

    async def records(self) -> Sequence[Mapping[str, object]]:
        return await self._ask(Scanning.records)

    async def feed(self, cursor: Mapping[str, int]) -> AsyncIterator[tuple[str, int, Slice]]:
        for uuid in await self._ask(Scanning.uuids):
            at = cursor.get(uuid, 0)
            while (found := await self._ask(Scanning.batch_after, uuid, at)) is not None:
                at, slices = found
                for each in slices:
                    yield uuid, at, each

    # Upkeep

    async def cursor(self, name: str) -> Mapping[str, int]:
        return await self._ask(Scanning.cursor, name)

    async def set_cursor(self, name: str, cursor: Mapping[str, int]) -> None:
        await self._write(Writing.set_cursor, name, cursor)

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[bool]:
        # A lock of a file ends with the process, however it ends.
        path = self.path.with_name(f"{self.path.name}-{re.sub('[^A-Za-z0-9-]', '_', name)}.lease")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                held = True
            except OSError:
                held = False
            yield held
        finally:
            os.close(descriptor)

    async def expiring(self, at: float, *, record: float, responses: float, limit: int = 32) -> Sequence[Expiry]:
        return await self._ask(Scanning.expiring, at, record, responses, limit)

    async def expire(self, expiry: Expiry) -> Mapping[str, int]:
        return await self._write(Writing.expire, expiry)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            await asyncio.to_thread(self._shut)

    def _shut(self) -> None:
        self._writer.shutdown()
        self._readers.shutdown()
        while not self._connections.empty():
            self._connections.get().connection.close()
        self._writing.connection.close()
