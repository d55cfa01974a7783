"""No text crashes the parser, hangs it or fills the memory: in a process of its own, to see a crash."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import time

import pytest

from ostiary_gateway.protocols.postgres import facts_parse
from ostiary_gateway.protocols.postgres.facts import parse

DEEP = {
    "operators": "'SELECT 1' + '+1' * n",
    "brackets": "'SELECT ' + '(' * n + '1' + ')' * n",
    "signs": "'SELECT ' + '- ' * n + '1'",
    "casts": "'SELECT 1' + '::a' * n",
    "collations": "'SELECT a' + ' COLLATE a' * n",
    "null tests": "'SELECT 1' + ' ISNULL' * n",
    "lists": "'SELECT 1' + ' IN (1)' * n",
    "unions": "'VALUES(1)' + 'UNION VALUES(1)' * n",
    "joins": "'SELECT FROM a' + ' CROSS JOIN a' * n",
    "sub-queries": "'SELECT ' + '(SELECT ' * n + '1' + ')' * n",
    "calls": "'SELECT ' + 'f(' * n + '1' + ')' * n",
    "arrays": "'SELECT ' + 'ARRAY[' * n + ']' * n",
    "blocks": "'DO $$' + 'begin ' * n + 'end;' * n + '$$'",
    "branches": "'DO $$begin if a then ' + 'elsif b then ' * n + ' end if; end$$'",
    "PL/pgSQL expression": "'DO $$declare x int; begin x := 1' + '+1' * n + '; end$$'",
}


@pytest.mark.parametrize("kind", DEEP)
def test_nesting_does_not_crash(kind: str) -> None:
    script = f"""
        import threading
        from ostiary_gateway.protocols.postgres.facts import parse
        def work():
            for n in (400, 32_000, 400_000):
                for statement in parse({DEEP[kind]}).statements:
                    assert statement.fingerprint or statement.draft.opaque
        worker = threading.Thread(target=work)
        worker.start()
        worker.join()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-500:]


def nested(depth: int, between: str = "") -> str:
    query = "SELECT 1, 2"
    for _ in range(depth):
        query = f"WITH q AS (UPDATE t SET (a, b){between}=({query})) SELECT 1, 2"
    return query


@pytest.mark.parametrize("between", ["", " ", "/**/", "--\n", "\f/* a /* b */ */\n"])
def test_a_source_that_is_copied_to_every_column_does_not_fill_the_memory(between: str) -> None:
    assert parse(nested(5, between)).error == ""
    assert "one source" in parse(nested(40, between)).error


def test_many_columns_may_have_one_source() -> None:
    columns = ", ".join(f"c{number}" for number in range(100))
    assert parse(f"UPDATE t SET ({columns}) = (SELECT {columns} FROM s)").error == ""
    pairs = ", ".join(f"(a{number}, b{number}) = (1, 2)" for number in range(500))
    assert parse(f"UPDATE t SET {pairs} WHERE (x) = (1)").error == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("SELECT 1\0; DROP TABLE t", "NUL"),
        ("SELECT '\ud800'", "UTF-8"),
        ("SELECT '" + "x" * facts_parse.MAX_BYTES + "'", "longer than"),
        ("SELECT 1;" * 5000, "more than 1000 statements"),
        ("SELECT 1" + "+1" * 100_000, "chains more than"),
    ],
)
def test_what_is_not_parsed_is_one_opaque_statement(text: str, why: str) -> None:
    parsed = parse(text)
    (statement,) = parsed.statements
    assert why in parsed.error
    assert statement.draft.opaque
    assert (statement.draft.verb, statement.fingerprint) == ("", "")


def test_long_flat_texts_are_read() -> None:
    rows = ", ".join(f"({number}, 'text {number}', -{number})" for number in range(20_000))
    started = time.perf_counter()
    parsed = parse(f"INSERT INTO t VALUES {rows}")
    assert parsed.error == ""
    assert time.perf_counter() - started < 10
    assert parse("SELECT 1 WHERE a IN (" + ",".join(["1"] * 50_000) + ")").error == ""


def test_the_wrong_braces_of_trigger_variables_are_mended_outside_strings_only() -> None:
    (body,) = facts_parse.parse_body(
        """CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN DELETE FROM ",{}},"; RETURN NEW; END$$"""
    )
    assert ",{}}," in str(body)


SEEDS = (
    "SELECT a, b FROM t WHERE a = 1 AND b LIKE 'x%' ORDER BY 1 LIMIT 5",
    "WITH x AS (DELETE FROM t RETURNING *) INSERT INTO u SELECT * FROM x ON CONFLICT (a) DO UPDATE SET (a, b) = (1, 2)",
    "DO $$DECLARE r record; BEGIN FOR r IN SELECT 1 LOOP EXECUTE 'x' || r; END LOOP; END$$",
    "CREATE FUNCTION f(a int) RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.a := 1; RETURN NEW; END$$",
    "MERGE INTO t USING s ON t.a = s.a WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (1)",
    "COPY (SELECT 1) TO STDOUT WITH (FORMAT csv, HEADER)",
    "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS (a int PATH '$')) AS j",
    "SET search_path = a, b; ALTER TABLE t ALTER a TYPE int USING a::int, ADD CHECK (a > 0)",
    "PREPARE p AS SELECT $1; EXECUTE p(1); DECLARE c CURSOR FOR SELECT 1; FETCH ALL FROM c",
)


def test_broken_statements_never_raise() -> None:
    chance = random.Random(18)
    words = " ".join(SEEDS).split()
    for _ in range(4000):
        pieces = chance.choice(SEEDS).split()
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(pieces))
            pieces[at : at + chance.randint(0, 2)] = chance.choices(words, k=chance.randint(0, 2))
            pieces = pieces or ["SELECT"]
        text = " ".join(pieces)
        for statement in parse(text[: chance.randint(1, len(text))] if chance.random() < 0.3 else text).statements:
            assert statement.draft.verb or statement.draft.opaque


@pytest.mark.parametrize("run", ["+-" * 16_000, "+" * 32_000, "/*" * 16_000, "/**/" * 8_000, "<>" + "-+" * 9_000])
def test_runs_of_operators_that_the_scanner_is_quadratic_in_are_not_scanned(run: str) -> None:
    parsed = parse(f"select 1 {run}")
    assert "operator characters" in parsed.error


@pytest.mark.parametrize(
    "text", ["select 1 /*" + "*" * 900 + "*/", "--" + "-" * 900 + "\nselect 1", "select '" + "=" * 900 + "'"]
)
def test_lines_of_dashes_and_stars_are_no_harm(text: str) -> None:
    assert parse(text).error == ""
