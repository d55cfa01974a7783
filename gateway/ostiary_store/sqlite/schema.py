"""The tables of the store on SQLite, and how its file is opened.

record     one row a record: where it stands, and how many batches of it were taken in
session    one row a session. `day`: on which it was opened. `sealed`: when a seal had it last; `waiting`: since when
           its head is in none, null once it is
request    one row a request. `id` is the time of its begin in microseconds, and room for those of the same one behind
           it: so rows lie in the order of time, and so does what the full-text index finds
words      the full-text index over the requests' texts. It has no text of its own
word       what repeats in many rows, once: Connections, users, policies, rules, actions, outcomes
chunk      stretches of a session's events; part: pieces of its long responses. `batch`: in which they came
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

APPLICATION_ID: Final = 0x4F535453
"""`OSTS`, in the file's header."""

VERSION: Final = 1

TIES: Final = 2048
"""Requests of one microsecond that have room, before they take that of the next one."""

_TABLES: Final = (
    """create table record (
        id integer primary key,
        uuid blob not null unique,
        header blob not null,
        gateway text not null,
        instance text not null,
        address text not null,
        keys text not null,
        position integer not null,
        number integer not null,
        link blob not null,
        seal integer not null,
        batches integer not null default 0,
        last real not null
    )""",
    "create table word (id integer primary key, text text not null unique)",
    """create table session (
        id integer primary key autoincrement,
        name text not null unique,
        opened real not null,
        closed real,
        state text not null,
        connection integer not null,
        protocol integer not null,
        username integer not null,
        recording text not null,
        requests integer not null,
        denied integer not null,
        asked integer not null,
        errors integer not null,
        rows integer not null,
        bytes integer not null,
        events integer not null,
        head blob not null,
        record integer not null,
        sid integer not null,
        subject text not null,
        client text not null,
        detail text not null,
        retention text not null,
        proof blob not null,
        day integer not null,
        sealed real,
        waiting real,
        unique (record, sid)
    )""",
    "create unique index session_by_day on session (day, name)",
    "create index session_by_time on session (opened, name)",
    "create index session_by_connection on session (connection, opened, name)",
    "create index session_by_user on session (username, opened, name)",
    "create index session_open on session (record) where state = 'open'",
    "create index session_waiting on session (waiting) where waiting is not null",
    """create table request (
        id integer primary key,
        session integer not null,
        number integer not null,
        begun real not null,
        ended real,
        connection integer not null,
        protocol integer not null,
        username integer not null,
        action integer not null,
        policy integer not null,
        rule integer not null,
        outcome integer not null,
        would_deny integer not null,
        rows integer not null,
        bytes integer not null,
        decision blob not null,
        text text not null,
        unique (session, number)
    )""",
    "create index request_by_connection on request (connection, id)",
    "create index request_by_user on request (username, id)",
    "create index request_by_rule on request (rule, policy, id)",
    "create index request_by_action on request (action, id)",
    "create index request_by_outcome on request (outcome, id)",
    "create index request_would_deny on request (id) where would_deny",
    "create index request_running on request (session) where ended is null",
    # Texts come as words of letters and digits with a space between them; where in the text they stood is not kept.
    "create virtual table words using fts5(text, content='', columnsize=0, detail=none, tokenize='ascii')",
    """create table chunk (
        id integer primary key,
        session integer not null,
        seq integer not null,
        events integer not null,
        first_at real not null,
        last_at real not null,
        low integer not null,
        high integer not null,
        size integer not null,
        digest blob not null,
        link blob not null,
        record integer not null,
        batch integer not null,
        day integer not null,
        body blob not null
    )""",
    "create unique index chunk_by_seq on chunk (session, seq)",
    "create index chunk_by_batch on chunk (record, batch)",
    """create table part (
        id integer primary key,
        session integer not null,
        seq integer not null,
        number integer not null,
        start integer not null,
        size integer not null,
        key text not null,
        digest blob not null,
        link blob not null,
        record integer not null,
        batch integer not null,
        day integer not null,
        body blob
    )""",
    "create unique index part_by_seq on part (session, seq)",
    "create index part_by_number on part (session, number, seq)",
    "create index part_by_batch on part (record, batch)",
    "create index part_kept on part (session) where body is not null or key <> ''",
    "create table decision (id blob primary key, body blob not null) without rowid",
    """create table tally (
        hour integer not null,
        connection integer not null,
        username integer not null,
        action integer not null,
        policy integer not null,
        rule integer not null,
        enforced integer not null,
        requests integer not null,
        primary key (hour, connection, username, action, policy, rule, enforced)
    ) without rowid""",
    """create table seal (
        number integer primary key,
        at real not null,
        key text not null,
        body blob not null,
        signature blob not null,
        heads blob not null
    )""",
    "create table cursor (name text primary key, at text not null) without rowid",
)


def connect(path: Path) -> sqlite3.Connection:
    """For writing; made as needed. sqlite3.Error; ValueError if it is another's file, or of another version."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    try:
        # Two processes may make it at once.
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("pragma cache_size = -32768")
        connection.execute("pragma journal_size_limit = 67108864")
        connection.execute("begin immediate")
        if not _known(connection, path):
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"pragma application_id = {APPLICATION_ID}")
            connection.execute(f"pragma user_version = {VERSION}")
        connection.execute("commit")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_readonly(path: Path) -> sqlite3.Connection:
    """For asking, also while others write. The file is there. sqlite3.Error, ValueError."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False, timeout=30
    )
    try:
        connection.execute("pragma cache_size = -16384")
        _known(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _known(connection: sqlite3.Connection, path: Path) -> bool:
    """False if it is empty."""
    (application,) = connection.execute("pragma application_id").fetchone()
    (version,) = connection.execute("pragma user_version").fetchone()
    (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
    if not tables:
        return False
    if application != APPLICATION_ID:
        raise ValueError(f"{path} is a database, but not a store of Ostiary. Name another file.")
    if version != VERSION:
        older = "an older" if version < VERSION else "a newer"
        raise ValueError(
            f"{path} was written by {older} Ostiary (version {version}). Move it away: it is made anew from the record."
        )
    return True


def day_of(opened: float) -> int:
    """Seconds since the epoch, a multiple of 86400."""
    return int(min(max(opened, 0.0), 4e9)) // 86400 * 86400 if opened == opened else 0


def moment(begun: float) -> int:
    """The first id of the requests that began then. Times that no clock shows have the nearest one that fits."""
    if begun != begun:  # no number
        return 0
    return int(min(max(begun, 0.0), 4e9) * 1e6) * TIES
