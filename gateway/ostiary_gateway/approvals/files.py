"""The tables of the approvals file, and the statements over them. Nothing is decided here."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from ostiary_api.approval import ApprovalRequest, ToldReceiver
from ostiary_api.counting import State

APPLICATION_ID: Final = 0x4F535441
"""`OSTA`, in the file's header."""
VERSION: Final = 1
KEPT: Final = 30 * 86400.0
"""Seconds that a closed question is kept; the record keeps what was decided."""
BUSY: Final = 10.0
"""Seconds that one process waits for another's transaction."""
FILE: Final = "approvals.db"

_TABLES: Final = (
    """create table question (
        namespace text not null,
        name text not null,
        hash text not null,
        state text not null,
        connection text not null,
        username text not null,
        asked real not null,
        until real not null,
        body blob not null,
        primary key (namespace, name)
    ) without rowid""",
    # The file itself sees to it that one question at most is open for a hash.
    "create unique index open_hash on question (namespace, hash) where state in ('Pending', 'Approved')",
    "create index open_until on question (until) where state in ('Pending', 'Approved')",
    "create index newest on question (asked)",
    """create table answer (
        namespace text not null,
        name text not null,
        approver text not null,
        acting text not null,
        operator integer not null,
        uid integer,
        at real not null,
        primary key (namespace, name, approver)
    ) without rowid""",
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A question as it is kept, and in what capacity each approver answered."""

    request: ApprovalRequest
    acting: dict[str, str]


def connect(path: Path) -> sqlite3.Connection:
    """For writing, made as needed. sqlite3.Error; ValueError if it is another program's file."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY)
    try:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = full")
        connection.execute("begin immediate")
        (application,) = connection.execute("pragma application_id").fetchone()
        (version,) = connection.execute("pragma user_version").fetchone()
        (tables,) = connection.execute("select count(*) from sqlite_master").fetchone()
        if tables and application != APPLICATION_ID:
            raise ValueError("it is a database, but not one of approvals")
        if version > VERSION:
            raise ValueError(f"it was written by a newer Ostiary (version {version})")
        if not tables:
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
    """For reading, also while a gateway writes. FileNotFoundError, ValueError or sqlite3.Error."""
    if not path.is_file():
        raise FileNotFoundError(path)
    connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=BUSY)
    try:
        (application,) = connection.execute("pragma application_id").fetchone()
        if application != APPLICATION_ID:
            raise ValueError(f"{path} is not a file of approvals")
    except BaseException:
        connection.close()
        raise
    return connection


def load(connection: sqlite3.Connection, namespace: str, name: str) -> ApprovalRequest | None:
    row = connection.execute("select body from question where namespace = ? and name = ?", (namespace, name)).fetchone()
    return None if row is None else _request(row[0])


def insert(connection: sqlite3.Connection, request: ApprovalRequest, state: State) -> None:
    created = request.metadata.creation_timestamp
    connection.execute(
        "insert into question values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            request.metadata.namespace, request.metadata.name, request.spec.request.hash, state,
            request.spec.connection_ref.name, request.spec.requester.username,
            created.timestamp() if created is not None else 0.0, _until(request), _body(request),
        ),
    )  # fmt: skip


def update(connection: sqlite3.Connection, request: ApprovalRequest, state: State) -> None:
    connection.execute(
        "update question set state = ?, until = ?, body = ? where namespace = ? and name = ?",
        (state, _until(request), _body(request), request.metadata.namespace, request.metadata.name),
    )


def open_name(connection: sqlite3.Connection, namespace: str, hash: str) -> str | None:
    row = connection.execute(
        "select name from question where namespace = ? and hash = ? and state in ('Pending', 'Approved')",
        (namespace, hash),
    ).fetchone()
    return None if row is None else str(row[0])


def open_count(connection: sqlite3.Connection, namespace: str, where: str, username: str) -> int:
    row = connection.execute(
        "select count(*) from question where state in ('Pending', 'Approved') and namespace = ? and connection = ? "
        "and username = ?",
        (namespace, where, username),
    ).fetchone()
    return int(row[0])


def pending(connection: sqlite3.Connection) -> int:
    return int(connection.execute("select count(*) from question where state = 'Pending'").fetchone()[0])


def pending_names(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    return set(connection.execute("select namespace, name from question where state = 'Pending'").fetchall())


def due(connection: sqlite3.Connection, now: float) -> list[tuple[str, str]]:
    """Open questions whose time is over."""
    return connection.execute(
        "select namespace, name from question where state in ('Pending', 'Approved') and until <= ?", (now,)
    ).fetchall()


def forget(connection: sqlite3.Connection, now: float) -> None:
    """What was closed long ago."""
    old = "from question where asked < ? and state not in ('Pending', 'Approved')"
    connection.execute(f"delete from answer where (namespace, name) in (select namespace, name {old})", (now - KEPT,))
    connection.execute(f"delete {old}", (now - KEPT,))


def insert_answer(
    connection: sqlite3.Connection,
    namespace: str,
    name: str,
    approver: str,
    acting: str,
    operator: bool,
    uid: int | None,
    at: float,
) -> None:
    connection.execute(
        "insert into answer values (?, ?, ?, ?, ?, ?, ?)", (namespace, name, approver, acting, operator, uid, at)
    )


def operator_answered(connection: sqlite3.Connection, namespace: str, name: str) -> bool:
    row = connection.execute(
        "select 1 from answer where namespace = ? and name = ? and operator", (namespace, name)
    ).fetchone()
    return row is not None


def kept(connection: sqlite3.Connection, *, closed: bool, limit: int) -> list[Kept]:
    """The newest first."""
    where = "" if closed else "where state in ('Pending', 'Approved')"
    rows = connection.execute(f"select body from question {where} order by asked desc, name limit ?", (limit,))
    return _kept(connection, (row[0] for row in rows.fetchall()))


def recent(connection: sqlite3.Connection, since: float, limit: int = 500) -> list[ApprovalRequest]:
    """Those about which anything may have happened since, the oldest first."""
    rows = connection.execute(
        "select body from question where state in ('Pending', 'Approved') or until >= ? order by asked desc, name "
        "limit ?",
        (since, limit),
    )
    return [_request(row[0]) for row in reversed(rows.fetchall())]


def tell(connection: sqlite3.Connection, namespace: str, name: str, told: tuple[ToldReceiver, ...]) -> None:
    """Keeps what receivers of notifications were told; nothing else of it changes."""
    connection.execute("begin immediate")
    try:
        request = load(connection, namespace, name)
        if request is not None and request.status is not None:
            status = request.status.model_copy(update={"told": told})
            body = _body(request.model_copy(update={"status": status}))
            connection.execute("update question set body = ? where namespace = ? and name = ?", (body, namespace, name))
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise


def matching(connection: sqlite3.Connection, name: str) -> list[Kept]:
    wanted = name if name.startswith("apr-") else f"apr-{name}"
    rows = connection.execute(
        "select body from question where name = ?1 or substr(name, 1, length(?1)) = ?1 order by name <> ?1, asked desc "
        "limit 10",
        (wanted,),
    )
    return _kept(connection, (row[0] for row in rows.fetchall()))


def _kept(connection: sqlite3.Connection, bodies: Iterable[bytes]) -> list[Kept]:
    found = []
    for body in bodies:
        request = _request(body)
        rows = connection.execute(
            "select approver, acting from answer where namespace = ? and name = ?",
            (request.metadata.namespace, request.metadata.name),
        )
        found.append(Kept(request, dict(rows.fetchall())))
    return found


def _until(request: ApprovalRequest) -> float:
    status = request.status
    until = (status.grant_expires_at or status.expires_at) if status is not None else None
    return until.timestamp() if until is not None else 0.0


def _request(body: bytes) -> ApprovalRequest:
    return ApprovalRequest.model_validate(orjson.loads(body))


def _body(request: ApprovalRequest) -> bytes:
    return orjson.dumps(request.to_manifest())
