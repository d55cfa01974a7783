"""The tables of the SQLite store, and how an older file becomes a newer one.

session    one row a session: what lists and filters need. Its `state` is open, closed or lost.
event      everything that happened, appended in the order of time. `seq` counts within the session from 0.
place      where the events of a session are in `event`. It follows a second behind (`indexed.event`), since
           an index over sessions dirties a page for each of them and would triple the cost of a durable commit.
pack       zstd frames of recorded responses: many small ones together, or a part of a long one.
decision   each decision once, by digest.
seal       signed heads.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

APPLICATION_ID = 0x4F535459
"""`OSTY`, in the file's header."""

RAW = 0
ZSTD = 1

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
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
            bytes integer not null default 0
        )""",
        "create index session_by_id on session (id)",
        "create index session_by_time on session (opened)",
        "create index session_by_user on session (username, opened)",
        "create index session_by_connection on session (connection, opened)",
        "create index session_open on session (state) where state = 'open'",
        """create table event (
            id integer primary key,
            sid integer not null,
            seq integer not null,
            kind text not null,
            body blob not null,
            hash blob not null,
            digest blob,
            pack integer,
            start integer,
            size integer
        )""",
        "create table place (sid integer, seq integer, event integer not null, primary key (sid, seq)) without rowid",
        "create table indexed (one integer primary key check (one = 1), event integer not null)",
        "insert into indexed values (1, 0)",
        "create table pack (id integer primary key, codec integer not null, size integer not null, data blob not null)",
        "create table decision (id text primary key, body blob not null) without rowid",
        "create table seal (number integer primary key, body blob not null, signature blob not null)",
    ),
)
"""Statements that take a file from version n to n + 1. Never edited once released; only added to."""


def connect(path: Path) -> sqlite3.Connection:
    """Open for writing, made and brought up to date as needed. sqlite3.Error; ValueError if it is another's file."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        (application,) = connection.execute("pragma application_id").fetchone()
        (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise ValueError(f"{path} is a database, but not a record of Ostiary. Name another file.")
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        # Checkpoints are made when the writer is idle; this bound holds where it never is (pages of 4 KiB).
        connection.execute("pragma wal_autocheckpoint = 8192")
        connection.execute("pragma cache_size = -4096")
        migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring a file to the newest version, each step in one transaction."""
    connection.execute("begin immediate")
    try:
        (version,) = connection.execute("pragma user_version").fetchone()
        if version > len(MIGRATIONS):
            raise ValueError(f"{path} was written by a newer Ostiary (version {version}). Use that one to read it.")
        for step in MIGRATIONS[version:]:
            for statement in step:
                connection.execute(statement)
        connection.execute(f"pragma application_id = {APPLICATION_ID}")
        connection.execute(f"pragma user_version = {len(MIGRATIONS)}")
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise


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
        if version != len(MIGRATIONS):
            raise ValueError(
                f"{path} has version {version}, this program reads {len(MIGRATIONS)}. "
                "Start a gateway of this version on it once, or use the program that wrote it."
            )
    except sqlite3.DatabaseError as error:
        connection.close()
        raise ValueError(f"{path} cannot be read: {error}.") from error
    except BaseException:
        connection.close()
        raise
    return connection
