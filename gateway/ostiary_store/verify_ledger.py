"""What a verification must remember of a whole store, in a temporary SQLite database, so that memory stays bounded."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import orjson

from ostiary_gateway.audit.encoding import decision_id
from ostiary_store.digest import Hit, Verdict, verdict
from ostiary_store.model import Tally
from ostiary_store.sealed import Head

DAY: Final = 86_400
_CACHED: Final = 20_000
_MEGABYTES: Final = 64
"""Of the temporary database that stay in memory."""

TallyKey = tuple[int, str, str, str, str, str, bool]
"""hour, connection, username, action, policy, rule, enforced."""


def day_of(opened: float) -> int:
    """Of a session: midnight UTC, seconds since the epoch."""
    return int(opened // DAY) * DAY


class SealedHead(NamedTuple):
    """A session as one seal has it."""

    session: str
    seq: int
    link: bytes
    seal: int
    row: bytes
    record: str
    sid: int
    opened: float
    closed: float | None
    keep: float | None
    keep_responses: float | None


class Ledger:
    """Heads by session, decisions, tallies, and which sessions are there."""

    def __init__(self) -> None:
        self._db = db = sqlite3.connect("", isolation_level=None)
        for statement in (
            "pragma journal_mode = off",
            "pragma synchronous = off",
            f"pragma cache_size = {-1024 * _MEGABYTES}",
            """create table head (day integer, session text, seq integer, link blob, seal integer, row blob,
                record text, sid integer, opened real, closed real, keep real, keep_responses real,
                primary key (day, session, seq, link)) without rowid""",
            """create table present (day integer, session text, record text, sid integer, responses integer,
                primary key (day, session)) without rowid""",
            "create table waiting (session text primary key, seq integer, link blob) without rowid",
            "create table decision (id blob primary key, body blob) without rowid",
            """create table tally (hour integer, connection text, username text, action text, policy text, rule text,
                enforced integer, seen integer, primary key (hour, connection, username, action, policy, rule, enforced)
                ) without rowid""",
            "begin",
        ):
            db.execute(statement)
        self._verdicts: OrderedDict[bytes, Verdict | None] = OrderedDict()
        self._counts: dict[TallyKey, int] = {}

    def close(self) -> None:
        self._db.close()

    # Heads

    def add_heads(self, seal: int, heads: Iterable[Head]) -> None:
        self._db.executemany(
            "insert or ignore into head values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    day_of(head.opened), head.session, head.seq, bytes.fromhex(head.link), seal,
                    bytes.fromhex(head.row), head.record, head.sid, head.opened, head.closed,
                    head.keep, head.keep_responses,
                )
                for head in heads
            ),
        )  # fmt: skip

    def knows(self, day: int, session: str) -> bool:
        """Whether the session was sealed, or is there."""
        found = self._db.execute(
            "select 1 from head where day = ?1 and session = ?2 union all "
            "select 1 from present where day = ?1 and session = ?2 limit 1",
            (day, session),
        )
        return found.fetchone() is not None

    def days(self) -> list[int]:
        """Of which there are heads."""
        found: list[int] = []
        day: int | None = None
        while True:
            query = "select min(day) from head" + ("" if day is None else " where day > ?")
            (day,) = self._db.execute(query, () if day is None else (day,)).fetchone()
            if day is None:
                return found
            found.append(day)

    def sessions(self, day: int) -> Iterator[str]:
        """That were sealed, by id."""
        for (name,) in self._db.execute("select distinct session from head where day = ? order by session", (day,)):
            yield name

    def heads(self, day: int, session: str) -> list[SealedHead]:
        """Of one session, in order."""
        rows = self._db.execute(
            "select session, seq, link, seal, row, record, sid, opened, closed, keep, keep_responses from head "
            "where day = ? and session = ? order by seq, seal",
            (day, session),
        )
        return [SealedHead(*row) for row in rows]

    def last_heads(self, day: int) -> Iterator[tuple[SealedHead, bool, bool]]:
        """The last head of each session of a day by id; whether the session is there; whether it has parts of long
        responses."""
        # SQLite takes the other columns from the row that has the maximum.
        rows = self._db.execute(
            "select session, max(seq), link, seal, row, record, sid, opened, closed, keep, keep_responses, "
            "(select responses from present where present.day = head.day and present.session = head.session) "
            "from head where day = ? group by session order by session",
            (day,),
        )
        for *fields, responses in rows:
            yield SealedHead(*fields), responses is not None, bool(responses)

    def last_sealed(self, day: int, session: str) -> SealedHead | None:
        heads = self.heads(day, session)
        return heads[-1] if heads else None

    # Sessions

    def add_present(self, day: int, session: str, record: str, sid: int, responses: bool) -> None:
        self._db.execute(
            "insert or replace into present values (?, ?, ?, ?, ?)", (day, session, record, sid, responses)
        )

    def add_waiting(self, session: str, seq: int, link: bytes) -> None:
        self._db.execute("insert or replace into waiting values (?, ?, ?)", (session, seq, link))

    def waiting(self) -> Iterator[str]:
        """Sessions whose last rows are in no seal."""
        for (name,) in self._db.execute(
            "select session from waiting where not exists "
            "(select 1 from head where head.session = waiting.session and head.link = waiting.link)"
        ):
            yield name

    def count_waiting(self) -> int:
        (count,) = self._db.execute("select count(*) from waiting").fetchone()
        return int(count)

    def gaps(self) -> Iterator[tuple[str, int, int]]:
        """Numbers of sessions that are missing between those of a record: record, from, to."""
        yield from self._db.execute(
            "with known as (select record, sid from head union select record, sid from present), "
            "pairs as (select record, sid, lead(sid) over (partition by record order by sid) as next from known) "
            "select record, sid + 1, next - 1 from pairs where next > sid + 1 order by record, sid"
        )

    # Decisions

    def add_decisions(self, decisions: Iterable[tuple[bytes, bytes]]) -> None:
        self._db.executemany("insert or replace into decision values (?, ?)", decisions)

    def verdict(self, ident: bytes) -> Verdict | None:
        """What a decision means; None if it is not there, or is not what its id says."""
        if ident in self._verdicts:
            return self._verdicts[ident]
        found = self._db.execute("select body from decision where id = ?", (ident,)).fetchone()
        told: Verdict | None = None
        if found is not None and decision_id(found[0]) == ident:
            fields = orjson.loads(found[0])
            told = verdict(ident, fields) if isinstance(fields, dict) else None
        if len(self._verdicts) >= _CACHED:
            self._verdicts.popitem(last=False)
        self._verdicts[ident] = told
        return told

    # Tallies

    def count(self, hour: int, connection: str, username: str, hits: Iterable[Hit]) -> None:
        """One request that was decided so."""
        for action, policy, rule, enforced in hits:
            key = (hour, connection, username, action, policy, rule, enforced)
            self._counts[key] = self._counts.get(key, 0) + 1
        if len(self._counts) > _CACHED:
            self._flush()

    def _flush(self) -> None:
        self._db.executemany(
            "insert into tally values (?, ?, ?, ?, ?, ?, ?, ?) on conflict do update set seen = seen + excluded.seen",
            ((*key, seen) for key, seen in self._counts.items()),
        )
        self._counts.clear()

    def tallied(self, tally: Tally) -> int:
        """How many requests there are for it; asked once for each, for `untold` to know the rest."""
        self._flush()
        key = (
            tally.hour, tally.connection, tally.username, tally.action, tally.policy, tally.rule, tally.enforced,
        )  # fmt: skip
        where = (
            "hour = ? and connection = ? and username = ? and action = ? and policy = ? and rule = ? and enforced = ?"
        )
        found = self._db.execute(f"delete from tally where {where} returning seen", key).fetchone()
        return 0 if found is None else int(found[0])

    def untold(self) -> Iterator[Tally]:
        """What no tally says."""
        self._flush()
        for hour, connection, username, action, policy, rule, enforced, seen in self._db.execute("select * from tally"):
            yield Tally(hour, connection, username, action, policy, rule, bool(enforced), seen)
