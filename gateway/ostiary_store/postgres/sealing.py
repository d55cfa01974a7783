"""Seals as they are kept, and everything in the order in which it can be compared."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Final

from ostiary_store.model import ChunkRow, Link, PartRow, RequestRow, SealRow, SessionRow, StoreError, Tally
from ostiary_store.postgres import rows
from ostiary_store.postgres.database import Database, told
from ostiary_store.postgres.days import DAY, partition

_SEAL: Final = "select number, at, key, body, signature, heads from seal "
_AT_ONCE: Final = 1_000
_BODIES_AT_ONCE: Final = 32


class Sealing:
    """What the sealer and `ostiary verify` ask for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_seal(self, seal: SealRow, sealed: Mapping[str, Link]) -> None:
        async with self._database.transaction() as connection:
            await connection.execute("lock table seal in share row exclusive mode")
            last = await connection.fetchval("select max(number) from seal")
            if seal.number != (last or 0) + 1:
                raise StoreError(f"seal {seal.number} does not follow seal {last or 0}: somebody else seals too")
            await connection.execute(
                "insert into seal values ($1, $2, $3, $4, $5, $6)", seal.number, seal.at, seal.key, seal.body,
                seal.signature, seal.heads,
            )  # fmt: skip
            if sealed:
                await connection.execute(
                    "update session s set sealed_at = $3, waits_since = null"
                    " from unnest($1::text[], $2::bytea[]) as n (id, head) where s.id = n.id and s.head = n.head",
                    list(sealed), list(sealed.values()), seal.at,
                )  # fmt: skip

    async def last_seal(self) -> SealRow | None:
        row = await self._database.fetchrow(f"{_SEAL} order by number desc limit 1")
        return None if row is None else SealRow(*row)

    async def unsealed(self, limit: int, live_before: float) -> Sequence[SessionRow]:
        found = await self._database.fetch(
            f"{rows.SESSION} where s.waits_since is not null and (s.state <> 'open' or s.sealed_at is null"
            " or s.sealed_at < $2) order by s.waits_since, s.key limit $1",
            limit, live_before if math.isfinite(live_before) else 1e300,
        )  # fmt: skip
        return [rows.session(row) for row in found]

    async def seals(self, first: int) -> AsyncIterator[SealRow]:
        async for row in self._scan(f"{_SEAL} where number >= $1 order by number", first, at_once=100):
            yield SealRow(*row)

    async def drop_heads(self, last: int) -> None:
        await self._database.execute("update seal set heads = '' where number <= $1 and heads <> ''", last)

    # Everything

    async def days(self) -> Sequence[int]:
        found = {row[0] for row in await self._database.fetch("select distinct day from session")}
        for table in ("chunk", "part", "request"):
            # Of each partition one row is enough.
            names = await self._database.fetch(
                "select i.inhrelid::regclass::text from pg_inherits i where i.inhparent = $1::regclass", table
            )
            for (name,) in names:
                row = await self._database.fetchrow(f"select day from {name} limit 1")
                if row is not None:
                    found.add(row["day"])
        return [day * DAY for day in sorted(found)]

    async def scan_sessions(self, day: int, session: str) -> AsyncIterator[SessionRow]:
        query = f"{rows.SESSION} where s.day = $1 {'and s.id = $2' if session else ''} order by s.id, s.key"
        async for row in self._scan(query, day // DAY, *((session,) if session else ())):
            yield rows.session(row)

    async def scan_rows(self, day: int, session: str, *, bodies: bool) -> AsyncIterator[ChunkRow | PartRow]:
        chunks, parts = partition("chunk", day // DAY), partition("part", day // DAY)
        if await self._database.fetchrow("select 1 where to_regclass($1) is not null", chunks) is None:
            return
        one = "where s.id = $1" if session else ""
        body = "q.body" if bodies else "null::bytea"
        query = (
            f"select true, q.seq, q.events, q.first_at, q.last_at, q.low, q.high, q.size, '' as key, q.digest, q.link,"
            f" {body}, coalesce(s.id, '#' || q.session) collate \"C\" as id, coalesce(s.opened, q.day * {DAY})::float8,"
            f" q.session from {chunks} q left join session s on s.key = q.session {one}"
            f" union all select false, q.seq, q.number, 0, 0, q.start, 0, q.size, q.key, q.digest, q.link,"
            f" {body}, coalesce(s.id, '#' || q.session) collate \"C\" as id, coalesce(s.opened, q.day * {DAY})::float8,"
            f" q.session from {parts} q left join session s on s.key = q.session {one} order by id, session, seq"
        )
        values = (session,) if session else ()
        async for row in self._scan(query, *values, at_once=_BODIES_AT_ONCE if bodies else _AT_ONCE):
            is_chunk, seq, events, first_at, last_at, low, high, size, key, digest, link, held, name, opened, _ = row
            if is_chunk:
                yield ChunkRow(name, opened, seq, events, first_at, last_at, low, high, size, held or b"", digest, link)
            else:
                yield PartRow(name, opened, seq, events, low, size, held, key, digest, link)

    async def scan_requests(self, day: int, session: str) -> AsyncIterator[RequestRow]:
        table = partition("request", day // DAY)
        if await self._database.fetchrow("select 1 where to_regclass($1) is not null", table) is None:
            return
        query = (
            "select coalesce(s.id, '#' || q.session) collate \"C\" as id, q.number, q.begun, q.ended,"
            " coalesce(w.connection, ''), coalesce(w.protocol, ''), coalesce(w.username, ''), q.text,"
            " coalesce(v.action, ''), coalesce(v.policy, ''), coalesce(v.rule, ''),"
            " coalesce(encode(d.id, 'hex'), ''), coalesce(v.would_deny, false), q.outcome, q.rows, q.bytes"
            f" from {table} q left join session s on s.key = q.session left join who w on w.id = q.who"
            " left join verdict v on v.id = q.verdict left join decision d on d.n = q.decision"
            f" {'where s.id = $1' if session else ''} order by 1, 2, 3"
        )
        async for row in self._scan(query, *((session,) if session else ())):
            yield RequestRow(*row)

    async def scan_decisions(self) -> AsyncIterator[tuple[bytes, bytes]]:
        async for row in self._scan("select id, body from decision order by id"):
            yield row["id"], row["body"]

    async def scan_tallies(self) -> AsyncIterator[Tally]:
        query = (
            "select t.hour, coalesce(w.connection, ''), coalesce(w.username, ''), coalesce(h.action, ''),"
            " coalesce(h.policy, ''), coalesce(h.rule, ''), coalesce(h.enforced, false), t.requests from tally t"
            " left join who w on w.id = t.who left join hit h on h.id = t.hit order by t.hour, t.who, t.hit"
        )
        async for row in self._scan(query):
            yield Tally(*row)

    async def _scan(self, query: str, *values: object, at_once: int = _AT_ONCE) -> AsyncIterator[Any]:
        """Through a cursor of the server, in one state of the database. Nothing is held between two of its reads but
        the connection."""
        with told():
            async with (
                self._database.pool.acquire(timeout=10) as connection,
                connection.transaction(isolation="repeatable_read", readonly=True),
            ):
                cursor = await connection.cursor(query, *values)
                while found := await cursor.fetch(at_once):
                    for row in found:
                        yield row
