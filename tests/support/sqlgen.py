"""SQL by a grammar, as hypothesis strategies: reads that change nothing, writes, and ways to write both differently.

It speaks of two tables, `t (a int, b text)` and `u (a int, c text)`, in the schema public.
"""

from __future__ import annotations

from hypothesis import strategies as st
from postgast import scan

SETUP = """
    CREATE TABLE t (a int PRIMARY KEY, b text); INSERT INTO t VALUES (1, 'one'), (2, 'two');
    CREATE TABLE u (a int UNIQUE, c text); INSERT INTO u VALUES (1, 'x');
"""

LITERALS = st.sampled_from(["1", "0", "-7", "42", "1.5", "'one'", "'it''s'", "''", "NULL", "true", "E'a\\nb'", "$$x$$"])
NUMBERS = st.sampled_from(["1", "2", "999", "-1", "(1 + 1)"])
TEXTS = st.sampled_from(["'one'", "'%o%'", "'it''s'", "b", "lower('A')", "'a' || b"])


@st.composite
def conditions(draw: st.DrawFn, depth: int = 2) -> str:
    """Over the columns of t."""
    kind = draw(st.integers(0, 9 if depth else 5))
    match kind:
        case 0:
            return f"a {draw(st.sampled_from(['=', '<', '>=', '<>', '!=']))} {draw(NUMBERS)}"
        case 1:
            return f"b LIKE {draw(TEXTS)}"
        case 2:
            return "a IS NOT NULL"
        case 3:
            return f"a IN ({draw(NUMBERS)}, {draw(NUMBERS)})"
        case 4:
            return f"a BETWEEN {draw(NUMBERS)} AND {draw(NUMBERS)}"
        case 5:
            return f"length(b) > {draw(NUMBERS)}"
        case 6:
            return f"NOT ({draw(conditions(depth - 1))})"
        case 7:
            joint = draw(st.sampled_from(["AND", "OR"]))
            return f"({draw(conditions(depth - 1))} {joint} {draw(conditions(depth - 1))})"
        case 8:
            return f"EXISTS ({draw(queries(depth - 1))})"
        case _:
            return "a IN (SELECT a FROM u)"


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    """Of any type, over the columns of t."""
    kind = draw(st.integers(0, 8 if depth else 3))
    match kind:
        case 0:
            return draw(LITERALS)
        case 1:
            return draw(st.sampled_from(["a", "b", "t.a", "t.b", "public.t.a"]))
        case 2:
            calls = ["lower(b)", "abs(a)", "coalesce(b, 'x')", "now()", "a::text", "CAST(a AS text)"]
            return draw(st.sampled_from(calls))
        case 3:
            rest = ["count(*) OVER ()", "array[1, 2]", "current_user", "ROW(1, 'x')", 'b COLLATE "C"']
            return draw(st.sampled_from(rest))
        case 4:
            return f"(a + {draw(NUMBERS)})"
        case 5:
            return f"CASE WHEN {draw(conditions(depth - 1))} THEN {draw(NUMBERS)} ELSE 0 END"
        case 6:
            return "(SELECT max(u.a) FROM u)"
        case 7:
            return f"ARRAY(SELECT a FROM u WHERE u.a = {draw(NUMBERS)})"
        case _:
            return f"({draw(conditions(depth - 1))})"


@st.composite
def queries(draw: st.DrawFn, depth: int = 2) -> str:
    """SELECT that changes nothing."""
    columns = ", ".join(draw(st.lists(values(depth), min_size=1, max_size=3)))
    source = draw(
        st.sampled_from(
            ["t", "public.t", "t AS t", "t JOIN u USING (a)", "t LEFT JOIN u ON u.a = t.a", "ONLY t",
             "t, LATERAL (SELECT c FROM u) AS l", "(SELECT * FROM t) AS t"]
        )
    )  # fmt: skip
    if "USING" in source or "JOIN" in source or "LATERAL" in source or "(SELECT" in source:
        columns = "t.b"
    text = f"SELECT {draw(st.sampled_from(['', '', 'DISTINCT ']))}{columns} FROM {source}"
    if "JOIN" not in source and draw(st.booleans()):
        text += f" WHERE {draw(conditions(depth))}"
    if draw(st.integers(0, 3)) == 0:
        text += " ORDER BY 1"
    if draw(st.integers(0, 2)) == 0:
        text += f" LIMIT {draw(st.integers(0, 9))}"
    wrapped = draw(st.integers(0, 7)) if depth else 9
    match wrapped:
        case 0:
            return f"WITH q AS ({text}) SELECT * FROM q"
        case 1:
            return f"({text}) UNION ALL ({text})"
        case 2:
            return f"WITH RECURSIVE q AS MATERIALIZED ({text}) TABLE q"
        case 3:
            return f"SELECT * FROM ({text}) AS s"
        case _:
            return text


@st.composite
def writes(draw: st.DrawFn) -> str:
    """INSERT, UPDATE, DELETE or MERGE on t, without RETURNING."""
    where = draw(st.sampled_from(["", f" WHERE {draw(conditions(1))}"]))
    match draw(st.integers(0, 7)):
        case 0:
            text = draw(st.sampled_from(["'one'", "'it''s'", "lower('A')", "DEFAULT", "NULL"]))
            return f"INSERT INTO t (a, b) VALUES ({draw(st.integers(10, 99))}, {text})"
        case 1:
            return f"INSERT INTO t SELECT a + 100, b FROM t{where}"
        case 2:
            return "INSERT INTO t VALUES (1, 'x') ON CONFLICT (a) DO UPDATE SET b = excluded.b"
        case 3:
            return f"UPDATE t SET b = {draw(TEXTS)}{where}"
        case 4:
            return "UPDATE t SET b = u.c FROM u WHERE u.a = t.a"
        case 5:
            return f"DELETE FROM t{where}"
        case 6:
            return "DELETE FROM t USING u WHERE u.a = t.a"
        case _:
            return "INSERT INTO t DEFAULT VALUES ON CONFLICT DO NOTHING"


OTHER_WRITES = st.sampled_from([
    "TRUNCATE t", "DROP TABLE t", "CREATE TABLE v (a int)", "ALTER TABLE t ADD COLUMN x int", "CREATE INDEX i ON t (a)",
    "MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", "SELECT * INTO v FROM t",
    "CREATE TABLE v AS SELECT * FROM t", "CREATE VIEW v AS SELECT 1", "GRANT SELECT ON t TO public",
    "COMMENT ON TABLE t IS 'x'", "COPY t FROM STDIN",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "DO $$ BEGIN DELETE FROM t; END $$",
    "CREATE SEQUENCE s", "SELECT nextval('s')", "SELECT setval('s', 1)", "LOCK TABLE t IN EXCLUSIVE MODE", "VACUUM t",
    "SELECT pg_notify('a', 'b')", "REINDEX TABLE t", "REFRESH MATERIALIZED VIEW v", "SELECT lo_create(1)",
    "CREATE RULE r AS ON SELECT TO t DO INSTEAD NOTHING", "IMPORT FOREIGN SCHEMA s FROM SERVER x INTO y",
    "SECURITY LABEL ON TABLE t IS 'x'", "CALL p()", "SELECT f()", "SELECT 1 FOR UPDATE",
    "SELECT * FROM t FOR UPDATE", "SELECT query_to_xml('delete from t', true, true, '')", "EXECUTE p",
    "SELECT set_config('search_path', 'x', false)", "SET search_path = x", "NOTIFY c", "LISTEN c", "DISCARD ALL",
    "SELECT pg_terminate_backend(1)", "SELECT * FROM dblink('', '') AS d (a int)", "ANALYZE t", "CLUSTER t",
])  # fmt: skip
"""Whatever is not to be called readOnly, by PostgreSQL or because it cannot be known."""

ANY = queries() | writes() | OTHER_WRITES

_BLANKS = st.sampled_from(
    [" ", "  ", "\t", "\n", "\r\n", "\f", " /* c */ ", " -- c\n", " /* a /* b */ 'c */ ", " --'\n", "\v"]
)

_LOOKING_AHEAD = frozenset({"FORMAT", "NOT", "NULLS", "WITH", "WITHOUT"})
"""Words that PostgreSQL's grammar takes together with the next."""


@st.composite
def respelled(draw: st.DrawFn, text: str) -> str:
    """The same tokens in another spelling: blanks and comments between them, other case where it does not matter."""
    data = text.encode()
    shown = [draw(_BLANKS)]
    for token in scan(text).tokens:
        word = data[token.start : token.end].decode()
        if word.isascii() and word.replace("_", "").isalnum() and not word[0].isdigit():
            word = draw(st.sampled_from([word, word.upper(), word.lower(), word.swapcase()]))
        # The parser does not look ahead over a comment: `NOT /* c */ IN` is a text that it cannot read, so opaque.
        shown += [word, " " if word.upper() in _LOOKING_AHEAD else draw(_BLANKS)]
    return "".join(shown)


def around(write: str) -> list[str]:
    """Texts that do what this INSERT, UPDATE or DELETE does, or more."""
    return [
        f"WITH w AS ({write} RETURNING 1) SELECT * FROM w",
        f"WITH q AS (SELECT 1), w AS MATERIALIZED ({write} RETURNING a) SELECT * FROM q",
        f"WITH w AS ({write}) SELECT 1",
        f"SELECT 1; {write}; SELECT 2",
        f"BEGIN; {write}; COMMIT",
        f"EXPLAIN ANALYZE {write}",
        f"EXPLAIN (FORMAT JSON, ANALYZE ON) {write}",
        f"COPY ({write} RETURNING 1) TO STDOUT",
        f"CREATE TABLE made AS WITH w AS ({write} RETURNING 1) SELECT * FROM w",
        f"DO $body$ BEGIN {write}; END $body$",
        f"SELECT * FROM (WITH w AS ({write} RETURNING 1) SELECT * FROM w) s",
        f"INSERT INTO u WITH w AS ({write} RETURNING a, b) SELECT * FROM w",
        f"DECLARE c CURSOR FOR WITH w AS ({write} RETURNING 1) SELECT * FROM w",
        f"CREATE OR REPLACE FUNCTION g() RETURNS void LANGUAGE sql AS $body$ {write} $body$",
        f"CREATE FUNCTION g() RETURNS void LANGUAGE sql BEGIN ATOMIC {write}; END",
        f"CREATE RULE r AS ON INSERT TO u DO ALSO {write}",
        f"; {write} ;;",
    ]
