"""What PostgreSQL refuses in a read-only transaction is never called readOnly, for every statement of the corpus."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import pq
from support.servers import Server

from ostiary_gateway.protocols.postgres.catalog import Catalog, CatalogQuery
from ostiary_gateway.protocols.postgres.facts import Analysis, Parsed, Scope, parse, resolve

CORPUS = Path(__file__).parents[1] / "corpus"
READ_ONLY_REFUSED = "25006"
ROUNDS = 12
SHOW = bool(os.environ.get("OSTIARY_SHOW"))
"""Print what is opaque, and what is judged more strictly than the server does."""
COPY_DATA = b"1\tone\n"


def statements(file: Path) -> list[str]:
    """One a line; lines that begin with `--` are comments."""
    return [line for line in file.read_text("utf-8").splitlines() if line.strip() and not line.startswith("--")]


class Session:
    """A connection that judges each statement before it runs it."""

    def __init__(self, server: Server) -> None:
        self.connection = psycopg.connect(server.dsn(), autocommit=True)
        self.reader = psycopg.connect(server.dsn(), autocommit=True, cursor_factory=psycopg.RawCursor)
        self.state = ""
        self.catalog = Catalog(180000)
        self.prepared: dict[str, Parsed] = {}
        self.cursors: dict[str, Parsed] = {}
        self.scope = Scope(("public",), server.user, server.database)

    def close(self) -> None:
        self.connection.close()
        self.reader.close()

    @property
    def status(self) -> pq.TransactionStatus:
        return self.connection.pgconn.transaction_status

    def rows(self, query: CatalogQuery) -> list[tuple[str | None, ...]]:
        return [tuple(row) for row in self.reader.execute(query.sql, query.params or None).fetchall()]

    def judge(self, text: str) -> Analysis:
        parsed = parse(text)
        for _ in range(ROUNDS):
            found = resolve(parsed, self.catalog, self.scope, self.prepared.get, self.cursors.get)
            if isinstance(found, Analysis):
                return found
            for query in self.catalog.queries(found):
                self.catalog.load(query, self.rows(query))
        raise AssertionError(f"the catalog never knows enough: {text}: {found}")

    def run(self, text: str) -> str:
        """Run one Query message; SQLSTATE of its error, or empty."""
        connection = self.connection.pgconn
        connection.send_query(text.encode())
        state = ""
        while (result := connection.get_result()) is not None:
            if result.status == pq.ExecStatus.COPY_IN:
                connection.put_copy_data(COPY_DATA)
                connection.put_copy_end()
            elif result.status == pq.ExecStatus.COPY_OUT:
                while connection.get_copy_data(0)[0] > 0:
                    pass
            elif result.status == pq.ExecStatus.FATAL_ERROR:
                state = state or (result.error_field(pq.DiagnosticField.SQLSTATE) or b"?????").decode()
        return state

    def refresh(self) -> None:
        if self.status in (pq.TransactionStatus.IDLE, pq.TransactionStatus.INTRANS):
            result = self.connection.pgconn.exec_(
                b"SELECT pg_catalog.array_to_json(pg_catalog.current_schemas(false)),"
                b" pg_catalog.pg_my_temp_schema() <> 0"
            )
            path = (result.get_value(0, 0) or b"[]").decode()
            self.scope = Scope(
                tuple(json.loads(path)),
                self.scope.role,
                self.scope.database,
                has_temp=result.get_value(0, 1) == b"t",
                uncommitted_ddl=self.scope.uncommitted_ddl,
                rebound=self.scope.rebound,
            )

    def after(self, analysis: Analysis, text: str) -> None:
        """Keep what the protocol's state machine would."""
        for statement in analysis.statements:
            effects = statement.effects
            if effects.ddl:
                self.catalog.forget()
                self.scope = replace(self.scope, uncommitted_ddl=True, rebound=self.scope.rebound or effects.rebinds)
            if self.state:
                continue
            if effects.prepares:
                self.prepared[effects.prepares[0]] = effects.prepares[1]
            if effects.deallocates == "*":
                self.prepared.clear()
            elif effects.deallocates:
                self.prepared.pop(effects.deallocates, None)
            if effects.declares_cursor:
                self.cursors[effects.declares_cursor] = parse(text)
        if self.status == pq.TransactionStatus.IDLE:
            self.catalog.forget()
            self.scope = replace(self.scope, uncommitted_ddl=False, rebound=False)
        self.refresh()

    def refused_read_only(self, text: str, analysis: Analysis) -> bool:
        """Run a statement as read-only, and again for real if it failed. True if PostgreSQL refused the first."""
        boundary = any(statement.effects.transaction for statement in analysis.statements)
        if self.status == pq.TransactionStatus.INTRANS and not boundary:
            self.run("SAVEPOINT trial")
            self.run("SET TRANSACTION READ ONLY")
            state = self.run(text)
            self.run("ROLLBACK TO SAVEPOINT trial; RELEASE SAVEPOINT trial")
            self.state = self.run(text)
        elif self.status == pq.TransactionStatus.IDLE and not (boundary and len(analysis.statements) == 1):
            self.run("SET default_transaction_read_only = on")
            state = self.state = self.run(text)
            self.run("ROLLBACK" if self.status != pq.TransactionStatus.IDLE else "")
            self.run("SET default_transaction_read_only = off")
            if state:
                self.state = self.run(text)
        else:
            state = self.state = self.run(text)
        return state == READ_ONLY_REFUSED


FILES = sorted(path for path in CORPUS.glob("*.sql") if path.name != "setup.sql")


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_no_statement_that_read_only_refuses_is_called_read_only(pg18: Server, file: Path) -> None:
    pg18.recreate(pg18.database)
    pg18.sql((CORPUS / "setup.sql").read_text("utf-8"))
    session = Session(pg18)
    wrong, refused, read_only = [], 0, 0
    texts = statements(file)
    for text in texts:
        analysis = session.judge(text)
        says = all(statement.facts["readOnly"] for statement in analysis.statements)
        was_refused = session.refused_read_only(text, analysis)
        read_only += says
        refused += was_refused
        if says and was_refused:
            wrong.append(text)
        if SHOW and not session.state:
            for statement in analysis.statements:
                if statement.facts["opaque"]:
                    print(f"OPAQUE {statement.facts['opaqueReason']}: {text[:100]}")
                elif says is False and not was_refused:
                    print(f"STRICT {text[:100]}")
        session.after(analysis, text)
    session.close()
    assert wrong == []
    # It would prove nothing if little were refused, or little were called readOnly.
    assert refused >= 10
    assert read_only >= 10
