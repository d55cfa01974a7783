"""What is written to the store on SQLite: batches, seals, what expires. Synchronous; one thread at a time."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import orjson

from ostiary_gateway.audit import chain
from ostiary_gateway.audit.blocks import FIRST
from ostiary_store.model import AnotherGateway, Batch, Expiry, Moved, Place, RecordRef, RequestRow, SealRow, StoreError
from ostiary_store.sqlite import expiring
from ostiary_store.sqlite.schema import day_of, moment
from ostiary_store.sqlite.text import indexed

_SESSION: Final = """insert into session (
    name, opened, closed, state, connection, protocol, username, recording, requests, denied, asked, errors, rows,
    bytes, events, head, record, sid, subject, client, detail, retention, proof, day, waiting
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_CHANGED: Final = """update session set closed = ?, state = ?, requests = ?, denied = ?, asked = ?, errors = ?,
    rows = ?, bytes = ?, events = ?, proof = ?, waiting = case when head = ? then waiting else coalesce(waiting, ?) end,
    head = ? where id = ?"""

_REQUEST: Final = """insert into request (
    id, session, number, begun, ended, connection, protocol, username, action, policy, rule, outcome, would_deny, rows,
    bytes, decision, text
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""

_TALLY: Final = """insert into tally values (?, ?, ?, ?, ?, ?, ?, ?)
    on conflict do update set requests = requests + excluded.requests"""


class Writing:
    """The connection that writes, and what it knows by heart."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._words: dict[str, int] = {}
        self._new_words: list[str] = []
        self._sessions: dict[str, int] = {}

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it, durably, or nothing."""
        connection = self.connection
        connection.execute("begin immediate")
        try:
            yield connection
            connection.execute("commit")
        except BaseException:
            # What was learnt in it may be gone with it.
            self._words.clear()
            self._sessions.clear()
            if connection.in_transaction:
                connection.execute("rollback")
            raise

    # Taking in

    def record(self, record: RecordRef) -> Place:
        with self.transaction() as connection:
            known = connection.execute("select id, gateway, keys from record where uuid = ?", (record.uuid,)).fetchone()
            if known is None:
                connection.execute(
                    "insert into record (uuid, header, gateway, instance, address, keys, position, number, link, seal, "
                    "last) values (?, ?, ?, ?, ?, ?, ?, 0, ?, 0, ?)",
                    (
                        record.uuid, record.header, record.gateway, record.instance, record.address,
                        _json(record.keys), FIRST, chain.genesis(record.header), time.time(),
                    ),
                )  # fmt: skip
                return self._place(record)[1]
            number, gateway, told = known
            if gateway != record.gateway:
                raise AnotherGateway(f"the record {record.uuid.hex()} is known as one of another gateway")
            keys = orjson.loads(told)
            keys += [key for key in record.keys if key not in keys]
            connection.execute(
                "update record set instance = ?, address = ?, keys = ?, last = ? where id = ?",
                (record.instance, record.address, _json(keys), time.time(), number),
            )
            return self._place(record)[1]

    def _place(self, record: RecordRef) -> tuple[int, Place]:
        row = self.connection.execute(
            "select id, position, number, link, seal from record where uuid = ?", (record.uuid,)
        ).fetchone()
        if row is None:
            raise StoreError(f"the store does not know the record {record.uuid.hex()}. Make it known first.")
        return row[0], Place(*row[1:])

    def append(self, batch: Batch) -> None:
        with self.transaction() as connection:
            record, place = self._place(batch.record)
            if place != batch.start:
                raise Moved(place)
            now = time.time()
            (number,) = connection.execute(
                "update record set position = ?, number = ?, link = ?, seal = ?, batches = batches + 1, last = ? "
                "where id = ? returning batches",
                (*batch.end, now, record),
            ).fetchone()
            self._put_sessions(batch, record, now)
            self._put_requests(batch.requests)
            self._end_requests(batch)
            self._put_chunks(batch, record, number)
            connection.executemany("insert or ignore into decision values (?, ?)", list(batch.decisions.items()))
            word = self._word
            connection.executemany(
                _TALLY,
                [
                    (t.hour, word(t.connection), word(t.username), word(t.action), word(t.policy), word(t.rule),
                     t.enforced, t.requests)
                    for t in batch.tallies
                ],
            )  # fmt: skip

    def _put_sessions(self, batch: Batch, record: int, now: float) -> None:
        word = self._word
        for row in batch.opened:
            try:
                self.connection.execute(
                    _SESSION,
                    (
                        row.id, row.opened, row.closed, row.state, word(row.connection), word(row.protocol),
                        word(row.username), row.recording, row.requests, row.denied, row.asked, row.errors, row.rows,
                        row.bytes, row.events, row.head, record, row.sid, _json(row.subject), _json(row.client),
                        _json(row.detail), _json(row.retention), row.proof, day_of(row.opened),
                        now if row.head else None,
                    ),
                )  # fmt: skip
            except sqlite3.IntegrityError as error:
                raise StoreError(f"session {row.id} is in the store already, from another record ({error})") from error
        self.connection.executemany(
            _CHANGED,
            [
                (row.closed, row.state, row.requests, row.denied, row.asked, row.errors, row.rows, row.bytes,
                 row.events, row.proof, row.head, now, row.head, self._session(row.id))
                for row in batch.sessions
            ],
        )  # fmt: skip

    def _put_requests(self, requests: Sequence[RequestRow]) -> None:
        if not requests:
            return
        word, session = self._word, self._session
        ids: set[int] = set()
        rows: list[tuple[object, ...]] = []
        for row in requests:
            at = moment(row.begun)
            while at in ids:
                at += 1
            ids.add(at)
            rows.append(
                (at, session(row.session), row.number, row.begun, row.ended, word(row.connection), word(row.protocol),
                 word(row.username), word(row.action), word(row.policy), word(row.rule), word(row.outcome),
                 row.would_deny, row.rows, row.bytes, _packed(row.decision), row.text)
            )  # fmt: skip
        for start in range(0, len(rows), 1000):
            self._put_some_requests(rows[start : start + 1000], ids)

    def _put_some_requests(self, rows: list[tuple[object, ...]], ids: set[int]) -> None:
        """Ids that others took before give way to the next free ones."""
        connection = self.connection
        marks = ",".join("?" * len(rows))
        known = connection.execute(f"select id from request where id in ({marks})", [row[0] for row in rows])
        taken = {at for (at,) in known}
        for place, row in enumerate(rows if taken else ()):
            if (at := row[0]) in taken:
                assert isinstance(at, int)
                while at in ids or connection.execute("select 1 from request where id = ?", (at,)).fetchone():
                    at += 1
                ids.add(at)
                rows[place] = (at, *row[1:])
        connection.execute("savepoint requests")
        try:
            connection.executemany(_REQUEST, rows)
        except sqlite3.IntegrityError:
            # A number came twice, which no gateway does: the first one counts.
            connection.execute("rollback to requests")
            rows = [row for row in rows if connection.execute(f"{_REQUEST} on conflict do nothing", row).rowcount]
        connection.execute("release requests")
        connection.executemany(
            "insert into words (rowid, text) values (?, ?)", [(row[0], indexed(str(row[-1]))) for row in rows]
        )

    def _end_requests(self, batch: Batch) -> None:
        self.connection.executemany(
            "update request set ended = ?, outcome = ?, rows = ?, bytes = ? where session = ? and number = ?",
            [
                (row.ended, self._word(row.outcome), row.rows, row.bytes, self._session(row.session), row.number)
                for row in batch.ended
            ],
        )

    def _put_chunks(self, batch: Batch, record: int, number: int) -> None:
        session = self._session
        self.connection.executemany(
            "insert into chunk (session, seq, events, first_at, last_at, low, high, size, digest, link, record, batch, "
            "day, body) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (session(row.session), row.seq, row.events, row.first_at, row.last_at, row.low, row.high, row.size,
                 row.digest, row.link, record, number, day_of(row.opened), row.body)
                for row in batch.chunks
            ],
        )  # fmt: skip
        self.connection.executemany(
            "insert into part (session, seq, number, start, size, key, digest, link, record, batch, day, body) "
            "values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (session(row.session), row.seq, row.number, row.offset, row.size, row.key, row.digest, row.link,
                 record, number, day_of(row.opened), row.body)
                for row in batch.parts
            ],
        )  # fmt: skip

    def _word(self, text: str) -> int:
        found = self._words.get(text)
        if found is None:
            row = self.connection.execute("select id from word where text = ?", (text,)).fetchone()
            if row is None:
                row = (self.connection.execute("insert into word (text) values (?)", (text,)).lastrowid,)
            if len(self._words) >= 65_536:
                self._words.clear()
            found = self._words[text] = int(row[0])
        return found

    def _session(self, name: str) -> int:
        found = self._sessions.get(name)
        if found is None:
            row = self.connection.execute("select id from session where name = ?", (name,)).fetchone()
            if row is None:
                raise StoreError(f"session {name} is not in the store. It may have expired, or its opening is missing.")
            if len(self._sessions) >= 65_536:
                self._sessions.clear()
            found = self._sessions[name] = int(row[0])
        return found

    # Seals, and what expires

    def put_seal(self, seal: SealRow, sealed: Mapping[str, bytes]) -> None:
        with self.transaction() as connection:
            (last,) = connection.execute("select coalesce(max(number), 0) from seal").fetchone()
            if seal.number != last + 1:
                raise StoreError(f"seal {last} is the last in the store, and {seal.number} is not the next one.")
            connection.execute(
                "insert into seal values (?, ?, ?, ?, ?, ?)",
                (seal.number, seal.at, seal.key, seal.body, seal.signature, seal.heads),
            )
            connection.executemany(
                "update session set sealed = ?, waiting = null where name = ? and head = ?",
                [(seal.at, name, head) for name, head in sealed.items()],
            )

    def drop_heads(self, last: int) -> None:
        with self.transaction() as connection:
            connection.execute("update seal set heads = x'' where number <= ? and heads <> x''", (last,))

    def set_cursor(self, name: str, cursor: Mapping[str, int]) -> None:
        with self.transaction() as connection:
            connection.execute("insert or replace into cursor values (?, ?)", (name, _json(cursor)))

    def expire(self, expiry: Expiry) -> dict[str, int]:
        gone: dict[str, int] = {}
        with self.transaction() as connection:
            due = list(expiring.due(connection, expiry.kind, expiry.day, expiry.at, expiry.record, expiry.responses))
            if expiring.digest_of(due) != expiry.digest:
                raise StoreError("what is due is not what was signed any more. Nothing was removed; plan it anew.")
            ids = [(each.number,) for each in due]
            if expiry.kind == "record":
                self._unindex(ids)
                for kind in ("request", "chunk", "part"):
                    gone[f"{kind}s"] = connection.executemany(f"delete from {kind} where session = ?", ids).rowcount
                gone["sessions"] = connection.executemany("delete from session where id = ?", ids).rowcount
            else:
                gone["responses"] = connection.executemany(
                    "update part set body = null, key = '' where session = ? and (body is not null or key <> '')", ids
                ).rowcount
        for each in due:
            self._sessions.pop(each.name, None)
        return gone

    def _unindex(self, ids: list[tuple[int]]) -> None:
        for session in ids:
            texts = self.connection.execute("select id, text from request where session = ?", session)
            self.connection.executemany(
                "insert into words (words, rowid, text) values ('delete', ?, ?)",
                ((at, indexed(text)) for at, text in texts.fetchall()),
            )


def _json(value: object) -> str:
    return orjson.dumps(value, default=dict).decode()


def _packed(decision: str) -> bytes:
    try:
        return bytes.fromhex(decision)
    except ValueError:
        return decision.encode()
