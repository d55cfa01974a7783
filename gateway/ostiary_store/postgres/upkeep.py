"""What keeps the store in order: following what comes, leases, and the end of what has been kept long enough."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from typing import Any, Final, Literal

import orjson
import structlog

from ostiary_store.model import ChunkRow, Expiry, PartRow, Slice, StoreError
from ostiary_store.postgres import rows
from ostiary_store.postgres.database import Database, told
from ostiary_store.postgres.days import DAY, TABLES, Days, partition
from ostiary_store.sealed import ExpiryDigest

_LEASES: Final = 0x4F53_5459
_FEED: Final = 20
"""Batches of one record that are read at once."""

_SEALED: Final = "s.closed is not null and s.waits_since is null and s.sealed_at is not null"
Kind = Literal["record", "responses"]
_DUE: Final[Mapping[Kind, str]] = {
    "record": f"{_SEALED} and s.closed + coalesce(s.keep, $1) <= $3 and $2::double precision is not null",
    # What goes altogether goes with its responses.
    "responses": f"{_SEALED} and s.closed + coalesce(s.keep_responses, $2) <= $3"
    " and s.closed + coalesce(s.keep, $1) > $3",
}
"""$1 and $2: seconds that records and responses are kept by default. $3: the time."""
_BODIES: Final = "(p.body is not null or p.key <> '')"

log = structlog.get_logger(__name__)


class Upkeep:
    """The store's own housekeeping."""

    def __init__(self, database: Database, days: Days) -> None:
        self._database = database
        self._days = days

    # Following

    async def feed(self, cursor: Mapping[str, int]) -> AsyncIterator[tuple[str, int, Slice]]:
        for record in await self._database.fetch("select id, uuid, batch from record order by id"):
            uuid = record["uuid"].hex()
            done = cursor.get(uuid, 0)
            while done < record["batch"]:
                batches = await self._database.fetch(
                    "select number, days from batch where record = $1 and number > $2 order by number limit $3",
                    record["id"], done, _FEED,
                )  # fmt: skip
                if not batches:
                    break
                for batch in batches:
                    async for piece in self._batch(record["id"], batch["number"], batch["days"]):
                        yield uuid, batch["number"], piece
                    done = batch["number"]

    async def _batch(self, record: int, number: int, days: Sequence[int]) -> AsyncIterator[Slice]:
        chunks: dict[int, list[ChunkRow]] = defaultdict(list)
        parts: dict[int, list[PartRow]] = defaultdict(list)
        async with self._database.transaction(readonly=True) as connection:
            held: list[tuple[str, Any]] = []
            for day in days:
                for table, columns in (("chunk", f"{rows.CHUNK}, body"), ("part", rows.PART)):
                    name = partition(table, day)
                    if not await connection.fetchval("select to_regclass($1) is not null", name):
                        continue
                    held += [
                        (table, row)
                        for row in await connection.fetch(
                            f"select {columns}, session from {name} where record = $1 and batch = $2"
                            " order by session, seq",
                            record,
                            number,
                        )
                    ]
            keys = {row["session"] for _, row in held}
            found = await connection.fetch(f"{rows.SESSION} where s.key = any($1) order by s.key", list(keys))
        sessions = {row["key"]: rows.session(row) for row in found}
        for table, row in held:
            session = sessions.get(row["session"])
            if session is None:
                continue
            if table == "chunk":
                chunks[row["session"]].append(rows.chunk(row, session.id, session.opened, row["body"]))
            else:
                parts[row["session"]].append(rows.part(row, session.id, session.opened, None))
        for key, session in sessions.items():
            yield Slice(session, chunks.get(key, ()), parts.get(key, ()))

    async def cursor(self, name: str) -> Mapping[str, int]:
        row = await self._database.fetchrow("select body from cursor where name = $1", name)
        return {} if row is None else {str(key): int(value) for key, value in orjson.loads(row["body"]).items()}

    async def set_cursor(self, name: str, cursor: Mapping[str, int]) -> None:
        await self._database.execute(
            "insert into cursor values ($1, $2) on conflict (name) do update set body = excluded.body",
            name, orjson.dumps(dict(cursor)).decode(),
        )  # fmt: skip

    @asynccontextmanager
    async def lease(self, name: str) -> AsyncIterator[bool]:
        """An advisory lock of a connection: it ends with it."""
        number = int.from_bytes(sha256(f"{self._database.schema}\0{name}".encode()).digest()[:4], "big", signed=True)
        async with self._database.alone() as connection:
            with told():
                held = bool(await connection.fetchval("select pg_try_advisory_lock($1, $2)", _LEASES, number))
            yield held

    # The end

    async def expiring(self, at: float, record: float, responses: float, limit: int) -> Sequence[Expiry]:
        found: list[Expiry] = []
        async with self._database.transaction(readonly=True) as connection:
            for kind, due in _DUE.items():
                days = await connection.fetch(
                    f"select distinct s.day from session s where {due} order by 1", record, responses, at
                )
                for (day,) in days:
                    expiry = await self._plan(connection, kind, day, at, record, responses)
                    if expiry.sessions:
                        found.append(expiry)
                    if len(found) >= limit:
                        return found
        return found

    async def _plan(self, connection: Any, kind: Kind, day: int, at: float, record: float, responses: float) -> Expiry:
        digest = ExpiryDigest()
        closed = 0.0
        for row in await self._due(connection, kind, day, at, record, responses, lock=False):
            digest.add(row["id"], row["head"])
            closed = max(closed, row["closed"])
        return Expiry(kind, day * DAY, digest.sessions, digest.digest(), at, record, responses, closed)

    async def _due(
        self, connection: Any, kind: Kind, day: int, at: float, record: float, responses: float, *, lock: bool
    ) -> list[Any]:
        due = f"{_DUE[kind]} and s.day = $4"
        if kind == "responses":
            name = partition("part", day)
            if not await connection.fetchval(
                "select to_regclass($1) is not null", name
            ) or not await connection.fetchval(f"select exists (select from {name} p where {_BODIES})"):
                return []
            due += f" and exists (select from {name} p where p.session = s.key and {_BODIES})"
        locking = " for update" if lock else ""
        return list(
            await connection.fetch(
                f"select s.key, s.id, s.head, s.closed from session s where {due} order by s.id, s.key{locking}",
                record,
                responses,
                at,
                day,
            )
        )

    async def expire(self, expiry: Expiry) -> tuple[Mapping[str, int], list[str]]:
        """What was removed, and the keys of the parts that lay in the bucket."""
        day = expiry.day // DAY
        async with self._database.transaction() as connection:
            due = await self._due(connection, expiry.kind, day, expiry.at, expiry.record, expiry.responses, lock=True)
            digest = ExpiryDigest()
            for row in due:
                digest.add(row["id"], row["head"])
            if digest.digest() != expiry.digest or digest.sessions != expiry.sessions:
                raise StoreError("what is over is not what was said: nothing is removed. It will be worked out anew.")
            keys = [row["key"] for row in due]
            if expiry.kind == "responses":
                return await self._bodies(connection, day, keys)
            return await self._sessions(connection, day, keys)

    async def _bodies(self, connection: Any, day: int, keys: list[int]) -> tuple[Mapping[str, int], list[str]]:
        name = partition("part", day)
        there = "session = any($1) and (body is not null or key <> '')"
        names = await connection.fetch(f"select key from {name} where {there} and key <> ''", keys)
        told_ = await connection.execute(f"update {name} set body = null, key = '' where {there}", keys)
        return {"responses": int(told_.rpartition(" ")[2])}, [row[0] for row in names]

    async def _sessions(self, connection: Any, day: int, keys: list[int]) -> tuple[Mapping[str, int], list[str]]:
        removed: dict[str, int] = {}
        names: list[Any] = []
        there = await connection.fetchval("select to_regclass($1) is not null", partition("request", day))
        if there:
            names = await connection.fetch(
                f"select key from {partition('part', day)} where session = any($1) and key <> ''", keys
            )
        gone = await connection.execute("delete from session where key = any($1)", keys)
        removed["sessions"] = int(gone.rpartition(" ")[2])
        await connection.execute("delete from running where session = any($1)", keys)
        if there and not await connection.fetchval("select exists (select from session where day = $1)", day):
            for table in TABLES:
                name = partition(table, day)
                removed[f"{table}s"] = int(await connection.fetchval(f"select count(*) from {name}"))
                await connection.execute(f"drop table {name}")
            self._days.forget()
            left = await self._days.existing(connection)
            await connection.execute("delete from batch where not days && $1::integer[]", left)
        elif there:
            for table in TABLES:
                gone = await connection.execute(f"delete from {partition(table, day)} where session = any($1)", keys)
                removed[f"{table}s"] = int(gone.rpartition(" ")[2])
        return removed, [row[0] for row in names]
