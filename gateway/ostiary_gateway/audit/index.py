"""The index of the record, in SQLite: sessions for lists, and where in the file each session's blocks are.

It says nothing that the record does not say, and follows up to a second behind. What it does not hold yet, readers find
behind `indexed.position` in the file. If it is lost, the next start makes it anew.

session    one row a session: what lists and filters need. `events` is the seq of the next one.
span       a stretch of the file in which a session has events, and the lowest and highest number of their requests.
decision   each decision once.
indexed    up to where the index goes, the link there, and the number of the last seal before.
highest    the highest number of a session, as of when the first of them went.

What the disk has got back of the record (`LogFile.free`) goes from the index too, but for decisions.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.blocks import FIRST

APPLICATION_ID = 0x4F535459
"""`OSTY`, in the file's header."""

VERSION = 2

SPAN = 1 << 20
"""Bytes of the file after which a stretch ends."""

_TABLES = (
    """create table session (
        sid integer primary key,
        id text not null,
        opened real not null,
        closed real,
        state text not null,
        connection text not null,
        protocol text not null,
        username text not null,
        recording text not null,
        requests integer not null default 0,
        denied integer not null default 0,
        asked integer not null default 0,
        errors integer not null default 0,
        rows integer not null default 0,
        bytes integer not null default 0,
        events integer not null default 0
    )""",
    "create index session_by_id on session (id)",
    "create index session_by_time on session (opened)",
    "create index session_by_user on session (username, opened)",
    "create index session_by_connection on session (connection, opened)",
    "create index session_open on session (state) where state = 'open'",
    """create table span (
        sid integer not null,
        start integer not null,
        stop integer not null,
        low integer not null,
        high integer not null,
        primary key (sid, start)
    ) without rowid""",
    "create table decision (id blob primary key, body blob not null) without rowid",
    """create table indexed (
        one integer primary key check (one = 1), position integer not null, number integer not null, link blob not null,
        seal integer not null
    )""",
)

_LATER_TABLES = ("create table if not exists highest (one integer primary key check (one = 1), sid integer not null)",)
"""Those that an index of this version may not have yet."""

Opened = tuple[str, float, str, str, str, str]
"""id, time, connection, protocol, username, recording."""

Entry = tuple[int, int, int, bytes]
"""Of a block: where it begins and ends, its kind, and its table or head."""


class Delta:
    """What some blocks add to the index."""

    def __init__(self) -> None:
        self.opened: dict[int, Opened] = {}
        self.ended: dict[int, tuple[str, float]] = {}
        self.decisions: dict[bytes, bytes] = {}
        self.counts: dict[int, tuple[int, ...]] = {}
        """requests, denied, asked, errors, rows, bytes."""
        self.events: dict[int, int] = {}
        """The seq of each session's next event."""
        self.spans: list[tuple[int, int, int, int, int]] = []
        self.highest = 0
        """Highest number of a session that a seal has named."""
        self._stretches: dict[int, list[int]] = {}
        self._start = 0

    def add(self, entries: Iterable[Entry]) -> None:
        """Blocks, in order."""
        for position, end, kind, head in entries:
            if kind == layout.EVENTS:
                self._room(position, end)
                for fields in layout.SECTION.iter_unpack(head[layout.COUNT.size :]):
                    sid = fields[0]
                    self.events[sid] = fields[1] + fields[2]
                    self.counts[sid] = fields[8:14]
                    self._reach(sid, position, end, fields[6], fields[7])
            elif kind == layout.PART:
                self._room(position, end)
                sid, seq, number, _ = layout.PART_HEAD.unpack_from(head)
                self.events[sid] = seq + 1
                self._reach(sid, position, end, number, number)

    def _room(self, position: int, end: int) -> None:
        if not self._stretches:
            self._start = position
        elif end - self._start > SPAN:
            self.settle()
            self._start = position

    def _reach(self, sid: int, position: int, end: int, low: int, high: int) -> None:
        stretch = self._stretches.get(sid)
        if stretch is None:
            self._stretches[sid] = [position, end, low, high]
            return
        stretch[1] = end
        if low and (not stretch[2] or low < stretch[2]):
            stretch[2] = low
        if high > stretch[3]:
            stretch[3] = high

    def settle(self) -> None:
        """End the stretches that are open."""
        self.spans += [(sid, *stretch) for sid, stretch in self._stretches.items()]  # type: ignore[misc]
        self._stretches.clear()


def connect(path: Path) -> sqlite3.Connection:
    """Open for writing, made as needed. sqlite3.Error; ValueError if it is another's file, or an older record."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        (application,) = connection.execute("pragma application_id").fetchone()
        (version,) = connection.execute("pragma user_version").fetchone()
        (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise ValueError(f"{path} is a database, but not a record of Ostiary. Name another file.")
        if tables and version != VERSION:
            raise ValueError(_other_version(path, version))
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.execute("pragma cache_size = -4096")
        if not tables:
            connection.execute("begin immediate")
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"pragma application_id = {APPLICATION_ID}")
            connection.execute(f"pragma user_version = {VERSION}")
            connection.execute("commit")
        for statement in _LATER_TABLES:
            connection.execute(statement)
    except BaseException:
        connection.close()
        raise
    return connection


def _other_version(path: Path, version: int) -> str:
    if version > VERSION:
        return f"{path} was written by a newer Ostiary (version {version}). Use that one to read it."
    return (
        f"{path} holds a record in the form of an earlier Ostiary (version {version}), which this one cannot read. "
        "Move audit.db, audit.pub and audit.key away (the Ostiary that wrote them still reads them) and start again."
    )


def connect_readonly(path: Path) -> sqlite3.Connection:
    """Open for reading, also while a gateway writes. FileNotFoundError, ValueError or sqlite3.Error."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no record at {path}. Name the gateway's data directory.")
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=10)
    try:
        (application,) = connection.execute("pragma application_id").fetchone()
        (version,) = connection.execute("pragma user_version").fetchone()
        if application != APPLICATION_ID:
            raise ValueError(f"{path} is not a record of Ostiary.")
        if version != VERSION:
            raise ValueError(_other_version(path, version))
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ValueError(f"{path} cannot be read: {error}.") from error
    except BaseException:
        connection.close()
        raise
    return connection


class Place(NamedTuple):
    """Where the chain stands: the position in the file, the number of the next block, the link before it, and the
    number of the last seal."""

    position: int
    number: int
    link: bytes
    seal: int


START = Place(FIRST, 0, b"", 0)


def indexed(connection: sqlite3.Connection) -> Place:
    """Up to where the index goes."""
    row = connection.execute("select position, number, link, seal from indexed").fetchone()
    return START if row is None else Place(*row)


def write(connection: sqlite3.Connection, delta: Delta, place: Place) -> None:
    """Inside a transaction: enter what the blocks up to `place` add."""
    delta.settle()
    many = connection.executemany
    many(
        "insert into session (sid, id, opened, state, connection, protocol, username, recording) "
        "values (?, ?, ?, 'open', ?, ?, ?, ?)",
        [(sid, *row) for sid, row in delta.opened.items()],
    )
    many(
        "update session set requests = ?, denied = ?, asked = ?, errors = ?, rows = ?, bytes = ? where sid = ?",
        [(*counts, sid) for sid, counts in delta.counts.items()],
    )
    many("update session set events = ? where sid = ?", [(events, sid) for sid, events in delta.events.items()])
    many(
        "update session set state = ?, closed = ? where sid = ?",
        [(state, at, sid) for sid, (state, at) in delta.ended.items()],
    )
    many("insert or replace into span values (?, ?, ?, ?, ?)", delta.spans)
    many("insert or ignore into decision values (?, ?)", list(delta.decisions.items()))
    connection.execute("insert or replace into indexed values (1, ?, ?, ?, ?)", place)
    if delta.highest:
        _raise_highest(connection, delta.highest)


def _raise_highest(connection: sqlite3.Connection, sid: int) -> None:
    connection.execute(
        "insert into highest values (1, ?) on conflict do update set sid = max(sid, excluded.sid)", (sid,)
    )


def highest(connection: sqlite3.Connection) -> int:
    """The highest number that a session of this record ever had, as far as the index goes."""
    (found,) = connection.execute(
        "select max(coalesce((select max(sid) from session), 0), coalesce((select max(sid) from span), 0), "
        "coalesce((select sid from highest), 0))"
    ).fetchone()
    return int(found)


def boundary(connection: sqlite3.Connection, position: int) -> int:
    """The end of a block at `position` or before it; 0 if the index knows none."""
    (found,) = connection.execute("select coalesce(max(stop), 0) from span where stop <= ?", (position,)).fetchone()
    return int(found)


def forget(connection: sqlite3.Connection, first: int) -> None:
    """Inside a transaction: what lies before the block at `first` is not here any more. Sessions that have nothing left
    and are over go; decisions stay, since they are named behind it."""
    _raise_highest(connection, highest(connection))
    connection.execute("delete from span where stop <= ?", (first,))
    connection.execute("delete from session where state <> 'open' and sid not in (select sid from span)")


def clear(connection: sqlite3.Connection) -> None:
    """Inside a transaction: forget everything."""
    for table in ("session", "span", "decision", "indexed", "highest"):
        connection.execute(f"delete from {table}")
