"""A batch into the tables: one transaction, that begins by holding the record where the batch wants it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from ostiary_store.digest import start
from ostiary_store.model import (
    AnotherGateway,
    Batch,
    EndedRow,
    Moved,
    Place,
    RecordRef,
    RequestRow,
    StoreError,
)
from ostiary_store.postgres.database import Database
from ostiary_store.postgres.days import Days, day_of, partition
from ostiary_store.postgres.names import Name, Names

KEYS: Final = 200_000
"""Sessions whose numbers are kept in mind."""

_REQUEST: Final = (
    "day", "who", "session", "number", "begun", "ended", "rows", "bytes", "verdict", "decision", "flagged", "outcome",
    "text", "folded",
)  # fmt: skip
_CHUNK: Final = (
    "day", "record", "session", "seq", "batch", "events", "first_at", "last_at", "low", "high", "size", "digest",
    "link", "body",
)  # fmt: skip
_PART: Final = (
    "day", "record", "session", "seq", "batch", "number", "start", "size", "key", "digest", "link", "body",
)  # fmt: skip
_SESSION: Final = (
    "key", "id", "day", "opened", "closed", "state", "who", "recording", "requests", "denied", "asked", "errors",
    "rows", "bytes", "events", "head", "record", "sid", "subject", "client", "detail", "retention", "keep",
    "keep_responses", "proof", "waits_since",
)  # fmt: skip


class _Key(NamedTuple):
    """A session as rows name it."""

    key: int
    day: int
    who: int


class Taking:
    """What `record` and `append` of the store do."""

    def __init__(self, database: Database, days: Days, who: Names, verdicts: Names, hits: Names) -> None:
        self._database = database
        self._days = days
        self._who = who
        self._verdicts = verdicts
        self._hits = hits
        self._keys: dict[tuple[bytes, str], _Key] = {}
        self._decisions: dict[str, int] = {}

    async def record(self, record: RecordRef) -> Place:
        """Make it known, or bring it up to date."""
        first = start(record)
        row = await self._database.fetchrow(
            "insert into record (uuid, header, gateway, instance, address, keys, position, number, link, seal, last)"
            " values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"
            " on conflict (uuid) do update set last = excluded.last,"
            " instance = case when record.gateway = excluded.gateway then excluded.instance else record.instance end,"
            " address = case when record.gateway = excluded.gateway then excluded.address else record.address end,"
            " keys = case when record.gateway = excluded.gateway then record.keys || array("
            "select unnest(excluded.keys) except select unnest(record.keys)) else record.keys end"
            " returning gateway, header, position, number, link, seal",
            record.uuid, record.header, record.gateway, record.instance, record.address, list(record.keys), *first,
            time.time(),
        )  # fmt: skip
        if row["gateway"] != record.gateway:
            raise AnotherGateway(
                f"the record {record.uuid.hex()} is that of gateway {row['gateway']}, not of {record.gateway}"
            )
        if bytes(row["header"]) != record.header:
            raise StoreError(f"the record {record.uuid.hex()} is known with another header; it was replaced")
        return Place(row["position"], row["number"], row["link"], row["seal"])

    async def append(self, batch: Batch) -> None:
        """All of it or nothing."""
        keys = await self._known(batch)
        whos = await self._whos(batch)
        verdicts = await self._verdict_numbers(batch)
        hits = await self._hits.numbers((t.action, t.policy, t.rule, t.enforced) for t in batch.tallies)
        days = {day_of(row.opened) for row in batch.opened} | {key.day for key in keys.values()}
        await self._days.ensure(days)
        try:
            async with self._database.transaction() as connection:
                record, number = await self._hold(connection, batch)
                decisions = await self._decided(connection, batch)
                await self._open(connection, batch, record, whos, keys)
                await self._requests(connection, batch, record, keys, verdicts, decisions)
                await self._pieces(connection, batch, record, number, keys)
                await self._change(connection, batch, keys)
                await self._count(connection, batch, whos, hits)
                sessions = {row.session for row in batch.chunks} | {row.session for row in batch.parts}
                touched = sorted({keys[each].day for each in sessions})
                await connection.execute(
                    "insert into batch values ($1, $2, $3, $4)", record, number, time.time(), touched
                )
        except StoreError as error:
            if not isinstance(error, Moved):
                # A day may have been removed by another process.
                self._days.forget()
            raise
        uuid = batch.record.uuid
        for row in (*batch.opened, *batch.sessions):
            if row.state == "open":
                self._keys[uuid, row.id] = keys[row.id]
            else:
                self._keys.pop((uuid, row.id), None)
        if len(self._keys) > KEYS:
            self._keys.clear()
        self._decisions.update(decisions)
        if len(self._decisions) > KEYS:
            self._decisions.clear()

    # What rows name by number

    async def _known(self, batch: Batch) -> dict[str, _Key]:
        """The sessions that were there before."""
        uuid = batch.record.uuid
        found: dict[str, _Key] = {}
        missing = []
        for row in batch.sessions:
            key = self._keys.get((uuid, row.id))
            if key is None:
                missing.append(row.sid)
            else:
                found[row.id] = key
        if missing:
            rows = await self._database.fetch(
                "select s.id, s.key, s.day, s.who from session s join record r on r.id = s.record"
                " where r.uuid = $1 and s.sid = any($2)",
                uuid, missing,
            )  # fmt: skip
            for row in rows:
                found[row["id"]] = _Key(row["key"], row["day"], row["who"])
        if len(found) < len(batch.sessions):
            await self._look(self._database, batch)
        for each in batch.sessions:
            if each.id not in found:
                raise StoreError(f"session {each.id} goes on, but is not in the store; its row was removed")
        return found

    async def _whos(self, batch: Batch) -> dict[Name, int]:
        names: set[Name] = {(row.connection, row.protocol, row.username) for row in batch.opened}
        protocols = {row.connection: row.protocol for row in (*batch.opened, *batch.sessions)}
        names |= {(row.connection, row.protocol, row.username) for row in batch.sessions}
        names |= {(t.connection, protocols.get(t.connection, ""), t.username) for t in batch.tallies}
        return await self._who.numbers(names)

    async def _verdict_numbers(self, batch: Batch) -> dict[str, tuple[int, bool]]:
        """By id of the decision: the number of its verdict, and whether it is flagged."""
        by_id: dict[str, Name] = {}
        for row in batch.requests:
            if row.decision not in by_id:
                by_id[row.decision] = (row.action, row.policy, row.rule, row.would_deny)
        numbers = await self._verdicts.numbers(by_id.values())
        return {ident: (numbers[name], name[0] != "Allow" or bool(name[3])) for ident, name in by_id.items()}

    async def _decided(self, connection: Any, batch: Batch) -> dict[str, int]:
        """Numbers of the decisions that the batch brings or names."""
        if batch.decisions:
            ids = sorted(batch.decisions)
            await connection.execute(
                "insert into decision (id, body) select * from unnest($1::bytea[], $2::bytea[])"
                " on conflict (id) do nothing",
                ids, [batch.decisions[each] for each in ids],
            )  # fmt: skip
        wanted = {row.decision for row in batch.requests}
        found = {each: self._decisions[each] for each in wanted if each in self._decisions}
        if missing := [bytes.fromhex(each) for each in wanted if each and each not in found]:
            for row in await connection.fetch("select n, id from decision where id = any($1)", missing):
                found[row["id"].hex()] = row["n"]
        return found

    # The tables

    async def _hold(self, connection: Any, batch: Batch) -> tuple[int, int]:
        """The record's number and that of the batch. Nobody else writes of this record until the transaction ends."""
        here, end = batch.start, batch.end
        row = await connection.fetchrow(
            "update record set position = $3, number = $4, link = $5, seal = $6, batch = batch + 1, last = $7"
            " where uuid = $1 and position = $2 and link = $8 returning id, batch",
            batch.record.uuid, here.position, end.position, end.number, end.link, end.seal, time.time(), here.link,
        )  # fmt: skip
        if row is not None:
            return row["id"], row["batch"]
        await self._look(connection, batch)
        raise StoreError("the record came to another place and back; try again")

    async def _look(self, connection: Any, batch: Batch) -> None:
        """Moved, if the record does not stand where the batch begins."""
        row = await connection.fetchrow(
            "select position, number, link, seal from record where uuid = $1", batch.record.uuid
        )
        if row is None:
            raise StoreError("the record is not known to the store; announce it again")
        place = Place(*row)
        if (place.position, place.link) != (batch.start.position, batch.start.link):
            raise Moved(place)

    async def _open(
        self, connection: Any, batch: Batch, record: int, whos: Mapping[Name, int], keys: dict[str, _Key]
    ) -> None:
        if not batch.opened:
            return
        numbers = await connection.fetch(
            "select nextval(pg_get_serial_sequence('session', 'key')) from generate_series(1, $1)", len(batch.opened)
        )
        now = time.time()
        rows = []
        for row, (key,) in zip(batch.opened, numbers, strict=True):
            who = whos[row.connection, row.protocol, row.username]
            day = day_of(row.opened)
            keys[row.id] = _Key(key, day, who)
            rows.append(
                (
                    key, row.id, day, row.opened, row.closed, row.state, who, row.recording, row.requests, row.denied,
                    row.asked, row.errors, row.rows, row.bytes, row.events, row.head, record, row.sid,
                    _json(row.subject), _json(row.client), _json(row.detail), _json(row.retention),
                    _seconds(row.retention.get("record")), _seconds(row.retention.get("responses")), row.proof, now,
                )
            )  # fmt: skip
        await connection.copy_records_to_table("session", records=rows, columns=_SESSION)

    async def _change(self, connection: Any, batch: Batch, keys: Mapping[str, _Key]) -> None:
        rows = sorted(batch.sessions, key=lambda row: keys[row.id].key)
        if not rows:
            return
        await connection.execute(
            "update session s set closed = n.closed, state = n.state, requests = n.requests, denied = n.denied,"
            " asked = n.asked, errors = n.errors, rows = n.rows, bytes = n.bytes, events = n.events, head = n.head,"
            " proof = n.proof, waits_since = coalesce(s.waits_since, $14)"
            " from unnest($1::bigint[], $2::double precision[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],"
            " $7::bigint[], $8::bigint[], $9::bigint[], $10::bigint[], $11::bytea[], $12::bytea[]) as n (key, closed,"
            " state, requests, denied, asked, errors, rows, bytes, events, head, proof)"
            " where s.key = n.key and s.key = any($13)",
            [keys[row.id].key for row in rows], [row.closed for row in rows], [row.state for row in rows],
            [row.requests for row in rows], [row.denied for row in rows], [row.asked for row in rows],
            [row.errors for row in rows], [row.rows for row in rows], [row.bytes for row in rows],
            [row.events for row in rows], [row.head for row in rows], [row.proof for row in rows],
            [keys[row.id].key for row in rows], time.time(),
        )  # fmt: skip

    async def _requests(
        self, connection: Any, batch: Batch, record: int, keys: Mapping[str, _Key],
        verdicts: Mapping[str, tuple[int, bool]], decisions: Mapping[str, int],
    ) -> None:  # fmt: skip
        by_day: dict[int, list[tuple[object, ...]]] = defaultdict(list)
        running = []
        last, key, day, who, add = "", 0, 0, 0, None
        for row in batch.requests:
            if row.session != last:
                last = row.session
                key, day, who = keys[last]
                add = by_day[day].append
            decision, text = row.decision, row.text
            verdict, flagged = verdicts[decision]
            assert add is not None
            add(
                (
                    day, who, key, row.number, row.begun, row.ended, row.rows, row.bytes, verdict,
                    decisions.get(decision), flagged, row.outcome, text,
                    None if text.isascii() else text.lower(),
                )
            )  # fmt: skip
            if not row.outcome:
                running.append((record, key, row.number, row.begun))
        for day, rows in sorted(by_day.items()):
            await connection.copy_records_to_table(partition("request", day), records=rows, columns=_REQUEST)
        if running:
            await connection.copy_records_to_table(
                "running", records=running, columns=("record", "session", "number", "begun")
            )
        if batch.ended:
            await self._ended(connection, batch.ended, keys)

    async def _ended(self, connection: Any, ended: Sequence[EndedRow], keys: Mapping[str, _Key]) -> None:
        by_day: dict[int, list[EndedRow]] = defaultdict(list)
        for row in ended:
            by_day[keys[row.session].day].append(row)
        await connection.execute(
            "set local enable_seqscan = off; set local enable_hashjoin = off; set local enable_mergejoin = off"
        )
        for day, rows in sorted(by_day.items()):
            sessions, numbers = [keys[row.session].key for row in rows], [row.number for row in rows]
            await connection.execute(
                f"update {partition('request', day)} r set ended = n.ended, outcome = n.outcome, rows = n.rows,"
                " bytes = n.bytes from unnest($1::bigint[], $2::bigint[], $3::double precision[],"
                " $4::double precision[], $5::text[], $6::bigint[], $7::bigint[])"
                " as n (session, number, begun, ended, outcome, rows, bytes)"
                " where r.session = n.session and r.number = n.number and r.begun = n.begun",
                sessions, numbers, [row.begun for row in rows], [row.ended for row in rows],
                [row.outcome for row in rows], [row.rows for row in rows], [row.bytes for row in rows],
            )  # fmt: skip
            await connection.execute(
                "delete from running r using unnest($1::bigint[], $2::bigint[]) as n (session, number)"
                " where r.session = n.session and r.number = n.number",
                sessions, numbers,
            )  # fmt: skip

    async def _pieces(self, connection: Any, batch: Batch, record: int, number: int, keys: Mapping[str, _Key]) -> None:
        chunks: dict[int, list[tuple[object, ...]]] = defaultdict(list)
        for row in batch.chunks:
            key, day, _ = keys[row.session]
            chunks[day].append(
                (
                    day, record, key, row.seq, number, row.events, row.first_at, row.last_at, row.low, row.high,
                    row.size, row.digest, row.link, row.body,
                )
            )  # fmt: skip
        parts: dict[int, list[tuple[object, ...]]] = defaultdict(list)
        for part in batch.parts:
            key, day, _ = keys[part.session]
            parts[day].append(
                (
                    day, record, key, part.seq, number, part.number, part.offset, part.size, part.key, part.digest,
                    part.link, part.body,
                )
            )  # fmt: skip
        for day, rows in sorted(chunks.items()):
            await connection.copy_records_to_table(partition("chunk", day), records=rows, columns=_CHUNK)
        for day, rows in sorted(parts.items()):
            await connection.copy_records_to_table(partition("part", day), records=rows, columns=_PART)

    async def _count(self, connection: Any, batch: Batch, whos: Mapping[Name, int], hits: Mapping[Name, int]) -> None:
        """Last, and in order: several batches count in the same rows."""
        if not batch.tallies:
            return
        latest = _latest(batch.requests)
        protocols = {row.connection: row.protocol for row in (*batch.opened, *batch.sessions)}
        rows: dict[tuple[int, int, int], int] = defaultdict(int)
        for tally in batch.tallies:
            who = whos[tally.connection, protocols.get(tally.connection, ""), tally.username]
            hit = hits[tally.action, tally.policy, tally.rule, tally.enforced]
            rows[tally.hour, who, hit] += tally.requests
        order = sorted(rows)
        await connection.execute(
            "insert into tally as t select * from unnest($1::bigint[], $2::integer[], $3::integer[], $4::bigint[],"
            " $5::double precision[]) on conflict (hour, who, hit) do update"
            " set requests = t.requests + excluded.requests, last = greatest(t.last, excluded.last)",
            [each[0] for each in order], [each[1] for each in order], [each[2] for each in order],
            [rows[each] for each in order], [latest.get(each[0], float(each[0])) for each in order],
        )  # fmt: skip


def _latest(requests: Iterable[RequestRow]) -> dict[int, float]:
    """When the last request of each hour began."""
    found: dict[int, float] = {}
    for row in requests:
        hour = int(row.begun // 3600) * 3600
        if row.begun > found.get(hour, 0.0):
            found[hour] = row.begun
    return found


def _json(value: Mapping[str, object]) -> str:
    return orjson.dumps(value).decode()


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
