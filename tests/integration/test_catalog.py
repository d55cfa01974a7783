"""The built-in functions that are kept for judging without a target are those of the real PostgreSQL 18."""

from __future__ import annotations

import psycopg
from support.servers import Server

from ostiary_gateway.protocols.postgres import functions
from ostiary_gateway.protocols.postgres.catalog import Catalog, CatalogQuery, Wanted

LISTS = (
    functions.HARMLESS | functions.EFFECTS | functions.DANGEROUS | set(functions.RUNS_SQL) | functions.READS_RELATION
    | set(functions.READS_UNNAMED) | set(functions.SEQUENCES)
)  # fmt: skip


def loaded(server: Server, wanted: Wanted) -> Catalog:
    catalog = Catalog(180000)
    with psycopg.connect(server.dsn(), autocommit=True, cursor_factory=psycopg.RawCursor) as connection:
        for query in catalog.queries(wanted):
            catalog.load(query, rows(query, connection))
    return catalog


def rows(query: CatalogQuery, connection: psycopg.Connection) -> list[tuple[str | None, ...]]:
    return [tuple(row) for row in connection.execute(query.sql, query.params or None).fetchall()]


def test_the_built_in_functions_have_not_drifted(pg18: Server) -> None:
    real, kept = loaded(pg18, Wanted(builtins=True)), Catalog.offline()

    def seen(catalog: Catalog) -> set[tuple[str, int, int, bool, str]]:
        return {
            (name, each.arguments, each.defaults, each.variadic, each.volatility)
            for name, found in catalog.builtins.items()
            for each in found
        }

    assert seen(real) == seen(kept)
    assert {name for name in real.types if not name.startswith("_")} == kept.types


def test_the_lists_checked_by_hand_name_functions_that_exist(pg18: Server) -> None:
    catalog = loaded(pg18, Wanted(builtins=True))
    assert {name for name in LISTS if name not in catalog.builtins} == set()


def test_an_older_server_answers_the_same_queries(pg15: Server) -> None:
    pg15.sql(
        "CREATE TABLE IF NOT EXISTS asked (a integer PRIMARY KEY); CREATE OR REPLACE VIEW asked_view AS TABLE asked"
    )
    wanted = Wanted(
        frozenset(("asked", "asked_view")), frozenset((1259,)), frozenset(("x",)), frozenset((1,)), True, True
    )
    catalog = loaded(pg15, wanted)
    (view,) = catalog.relations["asked_view"]
    (table,) = catalog.relations["asked"]
    # Before PostgreSQL 16 a view's stored query names the view itself, too.
    assert {oid for oid, _ in view.view.reads} - {view.oid} == {table.oid}
    assert catalog.functions["x"] == ()
