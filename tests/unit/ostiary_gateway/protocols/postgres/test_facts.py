"""Texts and their facts."""

from __future__ import annotations

import json

import pytest
from postgast import pg_query_pb2

from ostiary_gateway.protocols.postgres.catalog import Catalog, Row, Wanted
from ostiary_gateway.protocols.postgres.facts import Analysis, Effects, Parsed, Scope, parse, resolve
from ostiary_gateway.protocols.postgres.facts_commands import COMMANDS
from ostiary_gateway.protocols.postgres.facts_walk import HANDLERS
from ostiary_policy.facts import StatementFacts

SCOPE = Scope(("public",), "agent", "app")
COLUMNS = ("id", "name", "email")


def relation(oid: int, schema: str, name: str) -> Row:
    columns = json.dumps(dict(enumerate(COLUMNS, 1)))
    return (str(oid), schema, name, "r", "100", columns, *([None] * 8))


def target(*relations: Row, functions: tuple[Row, ...] = ()) -> Catalog:
    """A target whose catalog has these and nothing else, for any question."""
    offline = Catalog.offline()
    catalog = Catalog(180000)
    catalog.builtins, catalog.types, catalog.ambient = offline.builtins, offline.types, offline.ambient
    catalog.rows = relations, functions  # type: ignore[attr-defined]
    return catalog


def analyse(
    text: str, catalog: Catalog | None = None, scope: Scope = SCOPE, prepared: dict[str, Parsed] | None = None
) -> Analysis:
    """What the I/O side does: load what is wanted until nothing is."""
    catalog = catalog or target(relation(20001, "public", "customers"), relation(20002, "shop", "customers"))
    for _ in range(8):
        found = resolve(parse(text), catalog, scope, (prepared or {}).get)
        if isinstance(found, Analysis):
            return found
        for query in catalog.queries(found):
            relations, functions = catalog.rows  # type: ignore[attr-defined]
            asked = found.relations if query.kind == "relations" else found.functions
            rows = relations if query.kind == "relations" else functions
            catalog.load(query, [row for row in rows if row[2 if query.kind == "relations" else 3] in asked])
    raise AssertionError("it never knows enough")


def facts(text: str, **more: object) -> StatementFacts:
    (statement,) = analyse(text, **more).statements  # type: ignore[arg-type]
    return statement.facts


def effects(text: str, **more: object) -> Effects:
    (statement,) = analyse(text, **more).statements  # type: ignore[arg-type]
    return statement.effects


def relations(text: str, **more: object) -> list[str]:
    return [
        f"{each['access']} {each['schema']}.{each['name']}({','.join(each['columns'])})"
        for each in facts(text, **more)["relations"]
    ]


def test_a_plain_select() -> None:
    assert facts("SELECT name FROM customers WHERE id = 1 LIMIT 5") == {
        "verb": "SELECT",
        "kind": "",
        "commands": ["SELECT"],
        "readOnly": True,
        "writes": False,
        "opaque": False,
        "opaqueReason": "",
        "relations": [{"schema": "public", "name": "customers", "access": "read", "columns": ["id", "name"]}],
        "functions": [],
        "hasWhere": True,
        "hasLimit": True,
        "settings": [],
        "text": "SELECT name FROM customers WHERE id = 1 LIMIT 5",
        "fingerprint": parse("SELECT name FROM customers WHERE id = 7 LIMIT 9").statements[0].fingerprint,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("WITH gone AS (DELETE FROM orders RETURNING 1) SELECT * FROM gone", ["SELECT", "DELETE"]),
        ("EXPLAIN DELETE FROM orders", ["EXPLAIN"]),
        ("EXPLAIN ANALYZE DELETE FROM orders", ["EXPLAIN", "DELETE"]),
        ("COPY (DELETE FROM orders RETURNING 1) TO STDOUT", ["COPY TO STDOUT", "DELETE"]),
        ("PREPARE p AS UPDATE orders SET id = 1", ["PREPARE", "UPDATE"]),
        ("SELECT * INTO made FROM orders", ["SELECT INTO"]),
        ("CREATE TABLE made AS SELECT 1", ["CREATE TABLE", "SELECT"]),
        ("DO $$BEGIN DROP TABLE orders; TRUNCATE orders; END$$", ["DO", "DROP TABLE", "TRUNCATE TABLE"]),
        ("DO $$BEGIN EXECUTE 'DROP INDEX i'; END$$", ["DO", "SELECT", "DROP INDEX"]),
        ("COPY orders TO '/tmp/x'", ["COPY TO FILE"]),
        ("COPY orders FROM PROGRAM 'ls'", ["COPY FROM PROGRAM"]),
        ("INSERT INTO orders VALUES (1)", ["INSERT", "VALUES"]),
        ("ALTER TABLE orders DROP a", ["ALTER TABLE", "ALTER TABLE DROP COLUMN"]),
        ("ALTER TABLE orders ALTER a TYPE int", ["ALTER TABLE", "ALTER TABLE ALTER COLUMN TYPE"]),
        ("ALTER TABLE orders RENAME TO gone", ["ALTER TABLE RENAME"]),
        ("ALTER VIEW v SET SCHEMA trap", ["ALTER VIEW SET SCHEMA"]),
        ("CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DROP VIEW v'", ["CREATE FUNCTION", "DROP VIEW"]),
        ("CREATE RULE r AS ON INSERT TO orders DO INSTEAD DELETE FROM orders", ["CREATE RULE", "DELETE"]),
        ("REVOKE ALL ON orders FROM public", ["REVOKE TABLE"]),
        ("SET ROLE other", ["SET"]),
    ],
)
def test_every_command_in_it_is_named(text: str, expected: list[str]) -> None:
    assert facts(text)["commands"] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT * FROM customers", ["read public.customers(*)"]),
        ("SELECT count(*) FROM customers", ["read public.customers()"]),
        ("SELECT c FROM customers c", ["read public.customers(*)"]),
        ("SELECT c.email FROM shop.customers AS c", ["read shop.customers(email)"]),
        ("SELECT 1 FROM customers c WHERE EXISTS (SELECT WHERE c.id = 2)", ["read public.customers(id)"]),
        ("WITH customers AS (SELECT 1 AS id) SELECT id FROM customers", []),
        ("WITH c AS (SELECT id FROM customers) SELECT * FROM c", ["read public.customers(id)"]),
        (
            "WITH customers AS (SELECT name FROM customers) SELECT * FROM customers",
            ["read public.customers(name)"],
        ),
        ("WITH RECURSIVE customers AS (SELECT 1 UNION SELECT * FROM customers) SELECT * FROM customers", []),
        ("INSERT INTO customers (id) VALUES (1)", ["write public.customers(id)"]),
        (
            "INSERT INTO customers (id) VALUES (1) RETURNING *",
            ["write public.customers(id)", "read public.customers(*)"],
        ),
        (
            "UPDATE customers SET name = upper(email) WHERE id = 1",
            ["write public.customers(name)", "read public.customers(email,id)"],
        ),
        ("DELETE FROM customers", ["write public.customers(*)"]),
        ("TRUNCATE customers", ["write public.customers(*)"]),
        ("DROP TABLE customers", ["define public.customers(*)"]),
        ("ALTER TABLE customers ADD x int", ["define public.customers(*)"]),
        ("COMMENT ON COLUMN customers.id IS 'x'", ["define public.customers(*)"]),
        ("CREATE TABLE fresh (id int)", ["define public.fresh(*)"]),
        ("CREATE TEMP TABLE fresh (id int)", ["define pg_temp.fresh(*)"]),
        ("COPY customers (id) TO STDOUT", ["read public.customers(id)"]),
        ("COPY customers FROM STDIN", ["write public.customers(*)"]),
        ("SELECT nextval('shop.customers')", ["write shop.customers(*)"]),
        ("SELECT * FROM nowhere", ["read .nowhere(*)"]),
    ],
)
def test_relations(text: str, expected: list[str]) -> None:
    assert relations(text) == expected


def test_the_first_schema_of_the_path_wins() -> None:
    assert relations("TABLE customers", scope=Scope(("shop", "public"), "agent", "app")) == ["read shop.customers(*)"]
    assert relations("TABLE customers", scope=Scope(("other",), "agent", "app")) == ["read .customers(*)"]


def test_pg_catalog_comes_first_unless_it_is_listed() -> None:
    def catalog() -> Catalog:
        return target(relation(1259, "pg_catalog", "pg_class"), relation(20009, "public", "pg_class"))

    assert relations("TABLE pg_class", catalog=catalog()) == ["read pg_catalog.pg_class(*)"]
    last = Scope(("public", "pg_catalog"), "agent", "app")
    assert relations("TABLE pg_class", catalog=catalog(), scope=last) == ["read public.pg_class(*)"]


@pytest.mark.parametrize(
    ("text", "has_where"),
    [
        ("DELETE FROM customers WHERE id = 1", True),
        ("DELETE FROM customers WHERE CURRENT OF c", True),
        ("DELETE FROM customers", False),
        ("DELETE FROM customers WHERE true", False),
        ("DELETE FROM customers WHERE 1 = 1", False),
        ("DELETE FROM customers WHERE id = id", False),
        ("DELETE FROM customers WHERE id = 1 OR true", False),
        ("DELETE FROM customers WHERE id = 1 AND true", True),
        ("DELETE FROM customers WHERE $1", False),
        ("DELETE FROM customers WHERE random() < 2", False),
        ("WITH g AS (DELETE FROM customers) SELECT 1 WHERE 1 = id", False),
        ("DO $$BEGIN DELETE FROM customers WHERE id = 1; UPDATE customers SET id = 2; END$$", False),
        ("MERGE INTO customers c USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE", False),
        ("MERGE INTO customers c USING (SELECT 1 AS i) s ON c.id = s.i WHEN MATCHED THEN DELETE", True),
        ("SELECT FROM customers", False),
    ],
)
def test_a_where_counts_only_if_it_can_leave_rows_out(text: str, has_where: bool) -> None:
    assert facts(text)["hasWhere"] is has_where


@pytest.mark.parametrize(
    ("text", "verb", "kind"),
    [
        ("DROP DATABASE app", "DROP", "DATABASE"),
        ("DROP MATERIALIZED VIEW v", "DROP", "MATERIALIZED VIEW"),
        ("ALTER TABLE t RENAME COLUMN a TO b", "ALTER", "TABLE"),
        ("CREATE INDEX ON t (a)", "CREATE", "INDEX"),
        ("CREATE USER x", "CREATE", "ROLE"),
        ("REVOKE SELECT ON t FROM x", "REVOKE", "TABLE"),
        ("START TRANSACTION", "START TRANSACTION", ""),
        ("ROLLBACK TO a", "ROLLBACK TO", ""),
        ("RESET work_mem", "RESET", ""),
        ("MOVE 1 IN c", "MOVE", "CURSOR"),
        ("ANALYZE t", "ANALYZE", ""),
        ("VALUES (1)", "SELECT", ""),
        ("SELECT 1 INTO t", "SELECT", "TABLE"),
        ("REFRESH MATERIALIZED VIEW v", "REFRESH", "MATERIALIZED VIEW"),
        ("DISCARD ALL", "DISCARD", "ALL"),
        ("IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y", "IMPORT", "FOREIGN SCHEMA"),
        ("gibberish", "", ""),
    ],
)
def test_verbs_and_kinds(text: str, verb: str, kind: str) -> None:
    found = facts(text)
    assert (found["verb"], found["kind"]) == (verb, kind)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("SET work_mem = '1MB'", ["work_mem"]),
        ("SET LOCAL Search_Path = a", ["search_path"]),
        ("SET ROLE x", ["role"]),
        ("RESET ALL", ["*"]),
        ("DISCARD ALL", ["*"]),
        ("SET TIME ZONE 'UTC'", ["timezone"]),
        ("SET SESSION AUTHORIZATION x", ["session_authorization"]),
        ("SET TRANSACTION READ ONLY", ["transaction_read_only"]),
        ("ALTER ROLE x SET work_mem = '1MB'", ["work_mem"]),
        ("SELECT set_config('Work_Mem', '1MB', false)", ["work_mem"]),
        ("SELECT set_config(name, '1', false) FROM customers", ["*"]),
        ("DO $$BEGIN SET work_mem = '1MB'; END$$", ["work_mem"]),
    ],
)
def test_settings(text: str, settings: list[str]) -> None:
    assert facts(text)["settings"] == settings
    assert facts(text)["readOnly"] is False


@pytest.mark.parametrize(
    "text",
    [
        "SET standard_conforming_strings = off",
        "SET standard_conforming_strings = 0",
        "SET standard_conforming_strings FROM CURRENT; SET standard_conforming_strings = 'F'",
        "SET client_encoding = 'LATIN1'",
        "SET NAMES 'SJIS'",
        "SELECT set_config('client_encoding', 'latin1', true)",
        "SELECT set_config('client_encoding', $1, true)",
        "SELECT set_config('client_' || 'encoding', 'latin1', true)",
        "SELECT set_config(name, 'x', true) FROM customers",
        "DO $$BEGIN SET LOCAL client_encoding = 'BIG5'; END$$",
        "DO $$BEGIN PERFORM set_config('standard_conforming_strings', 'off', false); END$$",
    ],
)
def test_what_changes_how_sql_is_read_is_refused_always(text: str) -> None:
    assert any(statement.effects.pinned for statement in analyse(text).statements)


def test_settings_are_not_changed_through_their_view() -> None:
    catalog = target(relation(12104, "pg_catalog", "pg_settings"))
    found = effects("UPDATE pg_settings SET setting = 'off' WHERE name = 'work_mem'", catalog=catalog)
    assert "through pg_settings" in found.pinned


@pytest.mark.parametrize(
    "text",
    [
        "SET standard_conforming_strings = on",
        "SET client_encoding = 'utf-8'",
        "SET NAMES 'Unicode'",
        "RESET client_encoding",
        "SELECT set_config('work_mem', $1, false)",
        "SHOW client_encoding",
    ],
)
def test_what_does_not_is_not(text: str) -> None:
    assert not effects(text).pinned


def test_what_the_parser_cannot_read_is_opaque_and_says_so() -> None:
    found = facts("SELEC 1")
    assert found["opaqueReason"] == 'it cannot be parsed: syntax error at or near "SELEC"'
    assert (found["opaque"], found["writes"], found["readOnly"], found["fingerprint"]) == (True, True, False, "")


@pytest.mark.parametrize("text", ["", " ", ";;", "-- nothing", "/* nothing */"])
def test_an_empty_query_has_no_statements(text: str) -> None:
    assert analyse(text).statements == ()


def test_each_statement_has_its_own_text() -> None:
    text = "SELECT 'ä';  -- first\n DELETE FROM customers ; "
    assert [each.facts["text"] for each in analyse(text).statements] == [
        "SELECT 'ä'",
        "DELETE FROM customers",
    ]


def test_functions_have_their_schema_and_unknown_ones_have_none() -> None:
    assert facts("SELECT lower(name), pg_sleep(1) FROM customers")["functions"] == [
        "pg_catalog.lower",
        "pg_catalog.pg_sleep",
    ]
    found = facts("SELECT no_such(1)")
    assert found["functions"] == [".no_such"]
    assert found["opaqueReason"] == "the function no_such cannot be resolved"


def function(oid: int, name: str, language: str, source: str, volatility: str = "v", returns: str = "int4") -> Row:
    return (
        "function", str(oid), "public", name, "0", "0", "f", volatility, language, source, None, "f", None, "f",
        returns, "f", None, "f", None,
    )  # fmt: skip


def test_bodies_are_read() -> None:
    catalog = target(
        relation(20001, "public", "customers"),
        functions=(
            function(1, "reads", "sql", "SELECT id FROM customers"),
            function(2, "wipes", "plpgsql", "BEGIN DELETE FROM customers; RETURN 1; END"),
            function(3, "calls", "sql", "SELECT wipes()"),
            function(4, "builds", "plpgsql", "BEGIN EXECUTE 'DELETE FROM ' || $1; END"),
            function(5, "foreign_one", "plpython3u", "pass", "i"),
            function(6, "loops", "sql", "SELECT loops()"),
        ),
    )
    assert facts("SELECT reads()", catalog=catalog)["readOnly"] is True
    assert relations("SELECT reads()", catalog=catalog) == ["read public.customers(id)"]
    assert relations("SELECT calls()", catalog=catalog) == ["write public.customers(*)"]
    assert facts("SELECT calls()", catalog=catalog)["functions"] == ["public.calls", "public.wipes"]
    assert facts("SELECT calls()", catalog=catalog)["opaque"] is False
    assert "EXECUTE runs SQL that is put together" in facts("SELECT builds()", catalog=catalog)["opaqueReason"]
    assert "plpython3u" in facts("SELECT foreign_one()", catalog=catalog)["opaqueReason"]
    assert facts("SELECT loops()", catalog=catalog)["readOnly"] is True


def test_explain_runs_nothing_unless_it_analyzes() -> None:
    assert facts("EXPLAIN DELETE FROM customers")["readOnly"] is True
    assert relations("EXPLAIN DELETE FROM customers") == ["write public.customers(*)"]
    assert facts("EXPLAIN (ANALYZE off) DELETE FROM customers")["readOnly"] is True
    assert facts("EXPLAIN ANALYZE DELETE FROM customers")["writes"] is True
    assert effects("EXPLAIN (ANALYZE, COSTS off) DELETE FROM customers").explain_text == "DELETE FROM customers"


def test_prepared_statements_are_followed() -> None:
    prepare = effects("PREPARE gone (int) AS DELETE FROM customers WHERE id = $1")
    assert prepare.prepares is not None
    name, inner = prepare.prepares
    assert (name, inner.text) == ("gone", "DELETE FROM customers WHERE id = $1")
    found = facts("EXECUTE gone(1)", prepared={"gone": inner})
    assert (found["writes"], found["opaque"], found["hasWhere"]) == (True, False, True)
    assert facts("EXECUTE gone(1)")["opaqueReason"] == "the prepared statement gone is not known"
    assert effects("DEALLOCATE ALL").deallocates == "*"
    assert effects("DEALLOCATE gone").deallocates == "gone"


@pytest.mark.parametrize(
    ("text", "transaction"),
    [
        ("BEGIN", "BEGIN"),
        ("START TRANSACTION READ ONLY", "BEGIN"),
        ("COMMIT", "COMMIT"),
        ("END", "COMMIT"),
        ("ABORT", "ROLLBACK"),
        ("SAVEPOINT a", "SAVEPOINT"),
        ("ROLLBACK TO a", "ROLLBACK_TO"),
        ("RELEASE a", "RELEASE"),
        ("PREPARE TRANSACTION 'x'", "PREPARE_TRANSACTION"),
        ("SELECT 1", ""),
        ("DO $$BEGIN COMMIT; END$$", ""),
    ],
)
def test_transactions(text: str, transaction: str) -> None:
    assert effects(text).transaction == transaction


def test_copy_tells_its_format_and_its_columns() -> None:
    copy = effects("COPY customers TO STDOUT WITH (FORMAT csv, HEADER, FORCE_QUOTE (name), NULL 'nil')").copy
    assert copy is not None
    assert (copy.direction, copy.format, copy.delimiter, copy.null, copy.header) == ("out", "csv", ",", "nil", True)
    assert copy.force_quote == ("name",)
    assert copy.select_text == 'SELECT "id", "name", "email" FROM ONLY "public"."customers"'
    query = effects("COPY (SELECT name FROM customers) TO STDOUT").copy
    assert query is not None
    assert query.select_text == "SELECT name FROM customers"
    incoming = effects("COPY customers FROM STDIN").copy
    assert incoming is not None
    assert (incoming.direction, incoming.delimiter, incoming.null) == ("in", "\t", "\\N")
    assert effects("COPY customers FROM PROGRAM 'true'").copy is None


def test_names_behind_a_definition_are_not_trusted() -> None:
    first, second = analyse("ALTER TABLE customers RENAME TO c; SELECT * FROM customers").statements
    assert first.effects.rebinds
    assert second.facts["opaque"]
    open_transaction = Scope(("public",), "agent", "app", uncommitted_ddl=True)
    assert facts("SELECT * FROM nowhere", scope=open_transaction)["opaque"]
    assert not facts("SELECT * FROM customers", scope=open_transaction)["opaque"]


@pytest.mark.parametrize(
    ("text", "rebinds"),
    [
        ("CREATE TABLE t (a int)", False),
        ("ALTER TABLE customers ADD x int", False),
        ("CREATE INDEX ON customers (id)", False),
        ("ALTER TABLE customers ADD FOREIGN KEY (id) REFERENCES shop.customers ON DELETE CASCADE", True),
        ("ALTER TABLE customers INHERIT shop.customers", True),
        ("ALTER TABLE customers RENAME TO c", True),
        ("CREATE VIEW v AS SELECT 1", True),
        ("DROP TABLE customers", True),
        ("DO $$BEGIN EXECUTE 'DROP TABLE customers'; END$$", True),
        ("UPDATE customers SET id = 1", False),
    ],
)
def test_what_may_give_names_another_meaning(text: str, rebinds: bool) -> None:
    assert effects(text).rebinds is rebinds


def test_nothing_is_trusted_once_names_may_mean_something_else() -> None:
    scope = Scope(("public",), "agent", "app", uncommitted_ddl=True, rebound=True)
    assert facts("SELECT lower(name) FROM customers", scope=scope)["opaque"]
    assert facts("SELECT 'x'::text || 'y'", scope=scope)["opaque"]
    assert not facts("SELECT 1", scope=scope)["opaque"]
    assert not facts("COMMIT", scope=scope)["opaque"]


def test_a_search_path_that_a_text_sets_holds_behind_it() -> None:
    _, second = analyse("SET search_path = shop; TABLE customers").statements
    assert [each["schema"] for each in second.facts["relations"]] == ["shop"]
    _, second = analyse("SELECT set_config('search_path', 'shop', false); TABLE customers").statements
    assert second.facts["opaque"]


def test_temporary_relations_have_their_schema() -> None:
    scope = Scope(("public",), "agent", "app", has_temp=True)
    assert relations("SELECT * FROM mine", scope=scope) == ["read pg_temp.mine(*)"]


def test_forgetting_asks_again() -> None:
    catalog = target(relation(20001, "public", "customers"))
    analyse("TABLE customers", catalog)
    generation = catalog.generation
    catalog.forget()
    assert catalog.generation == generation + 1
    assert isinstance(resolve(parse("TABLE customers"), catalog, SCOPE), Wanted)


def test_every_statement_of_the_grammar_has_a_verb_and_a_reader() -> None:
    statements = {
        field.message_type.name
        for field in pg_query_pb2.Node.DESCRIPTOR.fields
        if field.message_type.name.endswith("Stmt")
    }
    parts_of_others = {"RawStmt", "SetOperationStmt", "ReturnStmt", "PLAssignStmt", "ReplicaIdentityStmt"}
    assert statements - parts_of_others == set(COMMANDS)
    assert set(COMMANDS) <= set(HANDLERS)


SLOTS = {
    "declaration": "DECLARE x int := {0}; BEGIN END",
    "bound cursor": "DECLARE c CURSOR FOR SELECT {0}; BEGIN END",
    "statement": "BEGIN INSERT INTO t SELECT {0}; END",
    "assignment": "DECLARE x int; BEGIN x := {0}; END",
    "subscript": "DECLARE x int[]; BEGIN x[{0}] := 1; END",
    "perform": "BEGIN PERFORM {0}; END",
    "if": "BEGIN IF {0} = 1 THEN NULL; END IF; END",
    "then": "BEGIN IF true THEN PERFORM {0}; END IF; END",
    "elsif": "BEGIN IF true THEN NULL; ELSIF {0} = 1 THEN NULL; END IF; END",
    "elsif then": "BEGIN IF true THEN NULL; ELSIF false THEN PERFORM {0}; END IF; END",
    "else": "BEGIN IF true THEN NULL; ELSE PERFORM {0}; END IF; END",
    "case": "BEGIN CASE {0} WHEN 1 THEN NULL; END CASE; END",
    "case when": "BEGIN CASE 1 WHEN {0} THEN NULL; END CASE; END",
    "case then": "BEGIN CASE 1 WHEN 1 THEN PERFORM {0}; END CASE; END",
    "case else": "BEGIN CASE 1 WHEN 1 THEN NULL; ELSE PERFORM {0}; END CASE; END",
    "searched case": "BEGIN CASE WHEN {0} = 1 THEN NULL; END CASE; END",
    "loop": "BEGIN LOOP PERFORM {0}; END LOOP; END",
    "while": "BEGIN WHILE {0} = 1 LOOP END LOOP; END",
    "while body": "BEGIN WHILE true LOOP PERFORM {0}; END LOOP; END",
    "for lower": "BEGIN FOR i IN {0}..2 LOOP END LOOP; END",
    "for upper": "BEGIN FOR i IN 1..{0} LOOP END LOOP; END",
    "for step": "BEGIN FOR i IN 1..2 BY {0} LOOP END LOOP; END",
    "for body": "BEGIN FOR i IN 1..2 LOOP PERFORM {0}; END LOOP; END",
    "for query": "DECLARE r record; BEGIN FOR r IN SELECT {0} LOOP END LOOP; END",
    "for query body": "DECLARE r record; BEGIN FOR r IN SELECT 1 LOOP PERFORM {0}; END LOOP; END",
    "for cursor": "DECLARE c CURSOR (n int) FOR SELECT 1; BEGIN FOR r IN c({0}) LOOP END LOOP; END",
    "for cursor body": "DECLARE c CURSOR FOR SELECT 1; BEGIN FOR r IN c LOOP PERFORM {0}; END LOOP; END",
    "for execute": "DECLARE r record; BEGIN FOR r IN EXECUTE 'SELECT {0}' LOOP END LOOP; END",
    "for execute using": "DECLARE r record; BEGIN FOR r IN EXECUTE 'SELECT 1' USING {0} LOOP END LOOP; END",
    "for execute body": "DECLARE r record; BEGIN FOR r IN EXECUTE 'SELECT 1' LOOP PERFORM {0}; END LOOP; END",
    "foreach": "DECLARE x int; BEGIN FOREACH x IN ARRAY ARRAY[{0}] LOOP END LOOP; END",
    "foreach body": "DECLARE x int; BEGIN FOREACH x IN ARRAY ARRAY[1] LOOP PERFORM {0}; END LOOP; END",
    "exit when": "BEGIN LOOP EXIT WHEN {0} = 1; END LOOP; END",
    "raise": "BEGIN RAISE NOTICE '%', {0}; END",
    "raise using": "BEGIN RAISE NOTICE 'x' USING HINT = {0}; END",
    "assert": "BEGIN ASSERT {0} = 1; END",
    "assert message": "BEGIN ASSERT true, {0}; END",
    "execute": "BEGIN EXECUTE 'SELECT {0}'; END",
    "execute using": "BEGIN EXECUTE 'SELECT 1' USING {0}; END",
    "open": "DECLARE c refcursor; BEGIN OPEN c FOR SELECT {0}; END",
    "open execute": "DECLARE c refcursor; BEGIN OPEN c FOR EXECUTE 'SELECT {0}'; END",
    "open execute using": "DECLARE c refcursor; BEGIN OPEN c FOR EXECUTE 'SELECT 1' USING {0}; END",
    "open arguments": "DECLARE c CURSOR (n int) FOR SELECT 1; BEGIN OPEN c({0}); END",
    "fetch relative": "DECLARE c CURSOR FOR SELECT 1; x int; BEGIN FETCH RELATIVE {0} FROM c INTO x; END",
    "call": "BEGIN CALL p({0}); END",
    "nested block": "BEGIN BEGIN PERFORM {0}; END; END",
    "nested declaration": "BEGIN DECLARE x int := {0}; BEGIN END; END",
    "exception": "BEGIN NULL; EXCEPTION WHEN OTHERS THEN PERFORM {0}; END",
}


@pytest.mark.parametrize("slot", SLOTS)
def test_nothing_in_a_pl_pgsql_block_is_missed(slot: str) -> None:
    body = SLOTS[slot].format("pg_notify('a', 'b')" if "'SELECT {0}" not in SLOTS[slot] else "pg_notify(''a'', ''b'')")
    assert "pg_catalog.pg_notify" in facts(f"DO $body${body}$body$")["functions"]


@pytest.mark.parametrize(
    "body", ["RETURN pg_notify('a', 'b')", "RETURN QUERY SELECT pg_notify('a', 'b')", "RETURN NEXT pg_notify('a', 'b')"]
)
def test_nothing_that_a_function_returns_is_missed(body: str) -> None:
    returns = "SETOF text" if " QUERY " in body or " NEXT " in body else "text"
    text = f"CREATE FUNCTION f() RETURNS {returns} LANGUAGE plpgsql AS $$BEGIN {body}; END$$"
    assert "pg_catalog.pg_notify" in facts(text)["functions"]
