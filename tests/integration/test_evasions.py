"""Whatever hides a DELETE or a DROP is seen or conceded, and really is what it claims: it is run."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import pq
from support.evasions import AMBIENT, AMBIENT_SETUP, EVASIONS, SETUP, Evasion
from support.servers import Server

from ostiary_gateway.protocols.postgres.catalog import Catalog
from ostiary_gateway.protocols.postgres.facts import Analysis, Scope, parse, resolve

DATABASE = "evasions"
ROUNDS = 12


@pytest.fixture(scope="module")
def connection(pg18: Server) -> Iterator[psycopg.Connection]:
    pg18.recreate(DATABASE)
    pg18.sql(SETUP, DATABASE)
    connected = psycopg.connect(pg18.dsn(dbname=DATABASE), autocommit=True, cursor_factory=psycopg.RawCursor)
    connected.prepare_threshold = None
    with connected:
        yield connected


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog(180000)


def judge(text: str, catalog: Catalog, connection: psycopg.Connection) -> Analysis:
    parsed = parse(text)
    for _ in range(ROUNDS):
        found = resolve(parsed, catalog, Scope(("public",), "owner", DATABASE))
        if isinstance(found, Analysis):
            return found
        for query in catalog.queries(found):
            rows = connection.execute(query.sql, query.params or None).fetchall()
            catalog.load(query, [tuple(row) for row in rows])
    raise AssertionError("the catalog never knows enough")


def victim(connection: psycopg.Connection) -> object:
    """What the table holds; None if it is gone."""
    if connection.execute("SELECT to_regclass('public.victim')").fetchone() == (None,):
        return None
    return connection.execute("SELECT array_agg(v ORDER BY v) FROM public.victim v").fetchone()


def run(text: str, connection: psycopg.Connection) -> str:
    """Run one Query message inside a transaction; the error, or empty."""
    link = connection.pgconn
    link.send_query(text.encode())
    error = ""
    while (result := link.get_result()) is not None:
        if result.status == pq.ExecStatus.COPY_IN:
            link.put_copy_data(b"1\n")
            link.put_copy_end()
        elif result.status == pq.ExecStatus.COPY_OUT:
            while link.get_copy_data(0)[0] > 0:
                pass
        elif result.status == pq.ExecStatus.FATAL_ERROR:
            error = result.error_message.decode()
    return error


@pytest.mark.parametrize("evasion", EVASIONS, ids=lambda evasion: evasion.name)
def test_it_is_seen_or_conceded(evasion: Evasion, connection: psycopg.Connection, catalog: Catalog) -> None:
    analysis = judge(evasion.text, catalog, connection)
    statements = analysis.statements
    assert not all(statement.facts["readOnly"] for statement in statements)
    shown = [
        statement
        for statement in statements
        if statement.facts["opaque"]
        or statement.effects.pinned
        or (statement.facts["verb"] == "DROP" and statement.facts["kind"] == "SCHEMA")
        or any(
            relation["name"] == "victim" and relation["schema"] == "public" and relation["access"] != "read"
            for relation in statement.facts["relations"]
        )
    ]
    assert shown or not evasion.works


@pytest.mark.parametrize("evasion", [each for each in EVASIONS if each.works], ids=lambda evasion: evasion.name)
def test_it_really_does_it(evasion: Evasion, connection: psycopg.Connection) -> None:
    connection.execute("BEGIN")
    try:
        before = victim(connection)
        assert run(evasion.text, connection) == ""
        connection.execute("RESET client_encoding")
        assert victim(connection) != before
    finally:
        connection.execute("ROLLBACK")
        connection.execute("DISCARD ALL")


@pytest.fixture(scope="module")
def ambient(pg18: Server) -> Iterator[psycopg.Connection]:
    name = f"{DATABASE}_ambient"
    pg18.recreate(name)
    pg18.sql(AMBIENT_SETUP, name)
    connected = psycopg.connect(pg18.dsn(dbname=name), autocommit=True, cursor_factory=psycopg.RawCursor)
    connected.prepare_threshold = None
    with connected:
        yield connected


@pytest.mark.parametrize("evasion", AMBIENT, ids=lambda evasion: evasion.name)
def test_what_runs_unnamed_is_conceded(evasion: Evasion, ambient: psycopg.Connection) -> None:
    (statement,) = judge(evasion.text, Catalog(180000), ambient).statements
    assert statement.facts["opaque"]
    test_it_really_does_it(evasion, ambient)
