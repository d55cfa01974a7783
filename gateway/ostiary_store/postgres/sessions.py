"""Questions about sessions, and what they hold: chunks, parts, decisions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from ostiary_store.bodies import decompressed
from ostiary_store.model import PartRow, RecordRef, Scope, SessionPage, SessionQuery, SessionRow, Slice, StoreError
from ostiary_store.opening import Bucket
from ostiary_store.postgres import rows
from ostiary_store.postgres.database import Database
from ostiary_store.postgres.days import day_of, partition
from ostiary_store.postgres.pages import Mark
from ostiary_store.postgres.rows import Values

_DECISIONS: Final = {
    "Allow": "s.requests > s.denied + s.asked", "Deny": "s.denied > 0", "RequireApproval": "s.asked > 0",
}  # fmt: skip

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")


class Sessions:
    """Those of the store's questions that begin with a session."""

    def __init__(self, database: Database, bucket: Bucket | None) -> None:
        self._database = database
        self._bucket = bucket

    async def sessions(self, query: SessionQuery, scope: Scope) -> SessionPage:
        if query.decision is not None and query.decision not in _DECISIONS:
            raise ValueError(f"{query.decision!r} is no decision. Choose one of {', '.join(_DECISIONS)}.")
        values = Values()
        where = [rows.in_scope(scope, values)]
        for column, value in (
            ("w.connection =", query.connection), ("w.username =", query.username), ("w.protocol =", query.protocol),
            ("s.opened >=", query.since), ("s.opened <", query.until), ("s.state =", query.state),
        ):  # fmt: skip
            if value is not None:
                where.append(f"{column} {values.place(value)}")
        if query.decision is not None:
            where.append(_DECISIONS[query.decision])
        if not query.gateway and query.protocol != "Gateway":
            where.append("w.protocol <> 'Gateway'")
        if query.after:
            mark = Mark.parse(query.after)
            where.append(f"(s.opened, s.key) < ({values.place(mark.begun)}, {values.place(mark.session)})")
        limit = max(1, min(query.limit, 10_000))
        found = await self._database.fetch(
            f"{rows.SESSION} where {' and '.join(where)} order by s.opened desc, s.key desc"
            f" limit {values.place(limit + 1)}",
            *values,
        )
        more = len(found) > limit
        del found[limit:]
        return SessionPage([rows.session(row) for row in found], str(Mark(found[-1][2], found[-1][0])) if more else "")

    async def session(self, session: str, scope: Scope) -> SessionRow:
        values = Values()
        seen = rows.in_scope(scope, values)
        found = await self._database.fetch(
            f"{rows.SESSION} where {seen} and s.id = {values.place(session)} order by s.key limit 1", *values
        )
        if not found and session:
            values = Values()
            seen = rows.in_scope(scope, values)
            first, behind = values.place(session), values.place(session[:-1] + _next(session[-1]))
            found = await self._database.fetch(
                f"{rows.SESSION} where {seen} and s.id >= {first} and s.id < {behind} order by s.id limit 2", *values
            )
        if not found:
            raise LookupError(f"there is no session {session!r} in this store.")
        if len(found) > 1:
            raise LookupError(f"several sessions begin with {session!r}. Give more of the id.")
        return rows.session(found[0])

    async def open_sessions(self, record: RecordRef) -> Sequence[SessionRow]:
        found = await self._database.fetch(
            f"{rows.SESSION} where s.state = 'open' and s.record = (select id from record where uuid = $1)"
            " order by s.sid",
            record.uuid,
        )
        return [rows.session(row) for row in found]

    async def open_requests(self, record: RecordRef) -> Sequence[tuple[str, int, float]]:
        found = await self._database.fetch(
            "select s.id, q.number, q.begun from running q join session s on s.key = q.session"
            " where q.record = (select id from record where uuid = $1)",
            record.uuid,
        )
        return [tuple(row) for row in found]

    async def session_of(self, record: RecordRef, sid: int) -> SessionRow | None:
        row = await self._database.fetchrow(
            f"{rows.SESSION} where r.uuid = $1 and s.sid = $2 limit 1", record.uuid, sid
        )
        return None if row is None else rows.session(row)

    # What a session holds

    async def slice(self, session: SessionRow, *, seq: int = 0, number: int | None = None, limit: int = 64) -> Slice:
        day = day_of(session.opened)
        chunks, parts = partition("chunk", day), partition("part", day)
        async with self._database.transaction(readonly=True) as connection:
            key = await self._key(connection, session)
            if key is None or not await _exists(connection, chunks):
                return Slice(session, (), ())
            if number is not None:
                found = await connection.fetch(
                    f"select {rows.CHUNK}, body from {chunks} where session = $1 and seq >= $2 and low <= $3"
                    " and high >= $3 order by seq limit $4",
                    key, await _first(connection, chunks, key, seq), number, limit,
                )  # fmt: skip
                between = await connection.fetch(
                    f"select {rows.PART} from {parts} where session = $1 and number = $2 and seq >= $3 order by seq",
                    key, number, seq,
                )  # fmt: skip
            else:
                begin = await _first(connection, chunks, key, seq)
                found = await connection.fetch(
                    f"select {rows.CHUNK}, body from {chunks} where session = $1 and seq >= $2 order by seq limit $3",
                    key, begin, limit,
                )  # fmt: skip
                end = 2**63 - 1
                if len(found) == limit:
                    # Up to the next chunk: parts behind the last one belong to it.
                    end = await connection.fetchval(
                        f"select coalesce(min(seq), $3) from {chunks} where session = $1 and seq > $2",
                        key, found[-1]["seq"], end,
                    )  # fmt: skip
                between = await connection.fetch(
                    f"select {rows.PART} from {parts} where session = $1 and seq >= $2 and seq < $3 order by seq",
                    key, seq, end,
                )  # fmt: skip
        name, opened = session.id, session.opened
        return Slice(
            session,
            [rows.chunk(row, name, opened, row["body"]) for row in found],
            [rows.part(row, name, opened, None) for row in between],
        )

    async def part(self, session: SessionRow, seq: int) -> bytes:
        day = day_of(session.opened)
        table = partition("part", day)
        async with self._database.connection() as connection:
            key = await self._key(connection, session)
            row = None
            if key is not None and await _exists(connection, table):
                row = await connection.fetchrow(
                    f"select {rows.PART}, body from {table} where session = $1 and seq = $2", key, seq
                )
        if row is None:
            raise LookupError(f"session {session.id} has no part of a response at event {seq}.")
        body = await self.part_body(rows.part(row, session.id, session.opened, row["body"]))
        try:
            return decompressed(body, row["size"])
        except ValueError as error:
            raise ValueError(
                f"the response at event {seq} of session {session.id} is damaged: `ostiary verify` names it"
            ) from error

    async def part_body(self, part: PartRow) -> bytes:
        """As stored."""
        if part.body is not None:
            return part.body
        if not part.key:
            raise LookupError(f"the response at event {part.seq} of session {part.session} is not kept any more.")
        if self._bucket is None:
            raise StoreError(f"the response at event {part.seq} lies in a bucket, and none is configured. Name it.")
        return await self._bucket.get(part.key)

    async def decisions(self, ids: Sequence[str]) -> Mapping[str, Mapping[str, object]]:
        wanted = [bytes.fromhex(each) for each in ids if _HEX.fullmatch(each)]
        found = await self._database.fetch("select id, body from decision where id = any($1)", wanted)
        return {row["id"].hex(): orjson.loads(row["body"]) for row in found}

    async def _key(self, connection: Any, session: SessionRow) -> int | None:
        key = await connection.fetchval(
            "select key from session where id = $1 and opened = $2 and record = (select id from record where uuid = $3)"
            " limit 1",
            session.id, session.opened, session.record,
        )  # fmt: skip
        return None if key is None else int(key)


def _next(letter: str) -> str:
    """The one behind it, where that is one that a database takes."""
    code = ord(letter) + 1
    return chr(code) if code < 0xD800 or 0xE000 <= code <= 0x10FFFF else "\U0010ffff"


async def _exists(connection: Any, table: str) -> bool:
    return bool(await connection.fetchval("select to_regclass($1) is not null", table))


async def _first(connection: Any, chunks: str, key: int, seq: int) -> int:
    """Where the chunk begins that holds the event `seq`."""
    found = await connection.fetchrow(
        f"select seq, events from {chunks} where session = $1 and seq <= $2 order by seq desc limit 1", key, seq
    )
    return int(found["seq"]) if found is not None and seq < found["seq"] + found["events"] else seq
