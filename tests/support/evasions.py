"""Ways to hide a DELETE or a DROP of the table `victim` from whoever reads the text.

`works`: run for real after SETUP, it empties or drops `victim` (or changes it); else the server refuses it here, and it
is only judged. `objects`: it needs what SETUP makes, so it cannot be judged from the text alone.
"""

from __future__ import annotations

from dataclasses import dataclass

SETUP = r"""
CREATE TABLE victim (id integer PRIMARY KEY, note text);
INSERT INTO victim VALUES (1, 'one'), (2, 'two');
CREATE TABLE other (id integer PRIMARY KEY, note text, extra integer DEFAULT 0);
INSERT INTO other VALUES (1, 'x');
CREATE SCHEMA trap;
CREATE FUNCTION wipe() RETURNS integer LANGUAGE sql AS 'DELETE FROM public.victim; SELECT 1';
CREATE FUNCTION wipe_body() RETURNS void LANGUAGE sql BEGIN ATOMIC DELETE FROM public.victim; END;
CREATE FUNCTION wipe_plpgsql() RETURNS integer LANGUAGE plpgsql AS
  $$BEGIN IF true THEN DELETE FROM public.victim; END IF; RETURN 1; END$$;
CREATE FUNCTION wipe_dynamic(t text) RETURNS integer LANGUAGE plpgsql AS
  $$BEGIN EXECUTE 'DELETE FROM ' || t; RETURN 1; END$$;
CREATE FUNCTION wipe_stable() RETURNS integer LANGUAGE sql STABLE AS 'SELECT public.wipe()';
CREATE FUNCTION wipe_immutable(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN RETURN public.wipe_plpgsql(); END';
CREATE FUNCTION wipe_row(o other) RETURNS integer LANGUAGE sql AS 'DELETE FROM public.victim; SELECT 1';
CREATE FUNCTION wipe_set() RETURNS SETOF victim LANGUAGE sql AS 'DELETE FROM public.victim RETURNING *';
CREATE FUNCTION wipe_default(n integer DEFAULT 1, VARIADIC m integer[] DEFAULT '{}') RETURNS integer
  LANGUAGE sql AS 'DELETE FROM public.victim; SELECT 1';
CREATE FUNCTION wipe_loop() RETURNS integer LANGUAGE plpgsql AS
  $$DECLARE r record; n integer := 0; BEGIN
    FOR r IN SELECT id FROM public.victim LOOP DELETE FROM public.victim WHERE id = r.id; END LOOP; RETURN n; END$$;
CREATE FUNCTION wipe_exception() RETURNS integer LANGUAGE plpgsql AS
  $$BEGIN PERFORM 1 / 0; RETURN 0; EXCEPTION WHEN OTHERS THEN DELETE FROM public.victim; RETURN 1; END$$;
CREATE FUNCTION drop_victim() RETURNS integer LANGUAGE plpgsql AS
  $$BEGIN DROP TABLE public.victim CASCADE; RETURN 1; END$$;
CREATE FUNCTION lower(other) RETURNS integer LANGUAGE sql AS 'DELETE FROM public.victim; SELECT 1';
CREATE FUNCTION trap.upper(text) RETURNS text LANGUAGE sql AS 'DELETE FROM public.victim; SELECT $1';
CREATE PROCEDURE wipe_procedure() LANGUAGE sql AS 'DELETE FROM public.victim';
CREATE FUNCTION wipe_trigger() RETURNS trigger LANGUAGE plpgsql AS
  $$BEGIN DELETE FROM public.victim; RETURN NEW; END$$;
CREATE TABLE triggered (id integer);
CREATE TRIGGER t BEFORE INSERT ON triggered FOR EACH ROW EXECUTE FUNCTION wipe_trigger();
CREATE TABLE trigger_condition (id integer);
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER t BEFORE INSERT ON trigger_condition FOR EACH ROW WHEN (wipe() = 1) EXECUTE FUNCTION nothing();
CREATE TABLE ruled (id integer);
INSERT INTO ruled VALUES (1);
CREATE RULE r AS ON UPDATE TO ruled DO ALSO DELETE FROM victim;
CREATE TABLE defaulted (id integer, n integer DEFAULT wipe());
CREATE TABLE checked (id integer CHECK (wipe_immutable(id) = 1));
CREATE TABLE indexed (id integer);
CREATE INDEX indexed_wipe ON indexed (wipe_immutable(id));
CREATE TABLE guarded (id integer);
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY p ON guarded USING (wipe() = 1);
INSERT INTO guarded VALUES (1);
CREATE TABLE parent (id integer PRIMARY KEY);
INSERT INTO parent VALUES (1), (2);
CREATE TABLE parted (id integer) PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
CREATE TRIGGER t BEFORE INSERT ON parted_1 FOR EACH ROW EXECUTE FUNCTION wipe_trigger();
CREATE VIEW through AS SELECT id, note FROM victim;
CREATE VIEW through_twice AS SELECT id FROM through;
CREATE VIEW calling AS SELECT wipe() AS n FROM other;
CREATE VIEW instead AS SELECT 1 AS id;
CREATE RULE r AS ON INSERT TO instead DO INSTEAD DELETE FROM victim;
CREATE VIEW instead_trigger AS SELECT 1 AS id;
CREATE TRIGGER t INSTEAD OF INSERT ON instead_trigger FOR EACH ROW EXECUTE FUNCTION wipe_trigger();
CREATE MATERIALIZED VIEW cached AS SELECT 1 AS n WHERE false;
CREATE MATERIALIZED VIEW calling_cached AS SELECT wipe_stable() AS n WITH NO DATA;
CREATE FUNCTION wipe_pair(other, other) RETURNS boolean LANGUAGE sql AS 'DELETE FROM public.victim; SELECT true';
CREATE OPERATOR === (FUNCTION = wipe_pair, LEFTARG = other, RIGHTARG = other);
CREATE OPERATOR trap.= (FUNCTION = wipe_pair, LEFTARG = other, RIGHTARG = other);
CREATE FUNCTION wipe_state(integer, integer) RETURNS integer LANGUAGE sql AS 'DELETE FROM public.victim; SELECT 1';
CREATE AGGREGATE wipe_all(integer) (SFUNC = wipe_state, STYPE = integer, INITCOND = '0');
CREATE TYPE wrapped AS (n integer);
CREATE FUNCTION wipe_cast(wrapped) RETURNS date LANGUAGE sql AS 'DELETE FROM public.victim; SELECT current_date';
CREATE CAST (wrapped AS date) WITH FUNCTION wipe_cast(wrapped);
CREATE TABLE inherited (id integer);
CREATE TABLE inherited_1 (CHECK (wipe_immutable(1) = 1)) INHERITS (inherited);
CREATE TABLE trap.victim (id integer);
CREATE FUNCTION wipe_configured() RETURNS integer LANGUAGE sql SET search_path = public AS
  'DELETE FROM victim; SELECT 1';
ALTER TABLE victim ADD COLUMN parent_id integer REFERENCES parent ON DELETE CASCADE;
UPDATE victim SET parent_id = id;
"""

AMBIENT_SETUP = r"""
CREATE TABLE victim (id integer PRIMARY KEY, note text);
INSERT INTO victim VALUES (1, 'one');
CREATE FUNCTION wipe_immutable(integer) RETURNS integer LANGUAGE plpgsql IMMUTABLE AS
  'BEGIN PERFORM public.wipe(); RETURN 1; END';
CREATE FUNCTION wipe() RETURNS void LANGUAGE sql AS 'DELETE FROM public.victim';
CREATE DOMAIN trapped AS integer CHECK (wipe_immutable(VALUE) = 1);
CREATE TABLE domained (id trapped);
CREATE TYPE wrapped AS (n integer);
CREATE FUNCTION unwrap(wrapped) RETURNS integer LANGUAGE sql AS 'DELETE FROM public.victim; SELECT 1';
CREATE CAST (wrapped AS integer) WITH FUNCTION unwrap(wrapped) AS IMPLICIT;
"""
"""What runs without being named: there every statement is conceded, so it has a database of its own."""


@dataclass(frozen=True, slots=True)
class Evasion:
    """One text, by what it does to hide."""

    name: str
    text: str
    works: bool = True
    objects: bool = False


def _text(name: str, text: str, works: bool = True) -> Evasion:
    return Evasion(name, text, works)


def _object(name: str, text: str, works: bool = True) -> Evasion:
    return Evasion(name, text, works, objects=True)


EVASIONS = (
    # How it is written
    _text("case", "dElEtE fRoM victim"),
    _text("comment between words", "DELETE/**/FROM/**/victim"),
    _text("nested comment", "DELETE /* a /* b */ SELECT */ FROM victim"),
    _text("line comment ends at a bare CR", "SELECT 1 -- harmless\r; DELETE FROM victim"),
    _text("line comment ends at LF", "SELECT 1 --\nWHERE true; DELETE FROM victim"),
    _text("comment that looks open", "SELECT '/*'; DELETE FROM victim; SELECT '*/'"),
    _text("whitespace of every kind", "\t\n\r\f\vDELETE\fFROM\vvictim"),
    _text("leading semicolons", ";;;DELETE FROM victim"),
    _text("second statement", "SELECT 1; DELETE FROM victim"),
    _text("second statement behind a dollar quote", "SELECT $$;$$; DELETE FROM victim"),
    _text("tagged dollar quote", "SELECT $a$ $$ ; $b$ $a$; DELETE FROM victim; SELECT $b$ $b$"),
    _text("dollar inside an identifier", "SELECT 1 AS a$$; DELETE FROM victim; SELECT 2 AS b$$"),
    _text("escape string with a quote", r"SELECT E'\''; DELETE FROM victim; --'"),
    _text("backslash that escapes nothing", r"SELECT '\'; DELETE FROM victim; --'"),
    _text("continued string", "SELECT 'a'\n'b'; DELETE FROM victim"),
    _text("continued escape string", "SELECT E'a'\n'\\''; DELETE FROM victim; --'"),
    _text("quoted identifier", 'DELETE FROM "victim"'),
    _text("Unicode identifier", r'DELETE FROM U&"\0076ictim"'),
    _text("Unicode identifier, own escape", "DELETE FROM U&\"!0076ic!0074im\" UESCAPE '!'"),
    _text("qualified", "DELETE FROM public.victim"),
    _text("qualified by database", "DELETE FROM evasions.public.victim"),
    _text("quotes inside quotes", 'SELECT 1 AS "a""; SELECT ""b"; DELETE FROM victim'),
    _text("alias", "DELETE FROM ONLY victim AS orders WHERE orders.id > 0"),
    _text("a WHERE that excludes nothing", "DELETE FROM victim WHERE 1 = 1"),
    _text("a WHERE that compares a column to itself", "DELETE FROM victim WHERE id = id"),
    _text("a WHERE in brackets", "DELETE FROM victim WHERE ((true)) OR id = 5"),
    _text("full-width letters are no DELETE, the next is", "SELECT 1 AS ＤＥＬＥＴＥ; DELETE FROM victim"),
    _text("no-break space in a name", "SELECT 1 AS a\u00a0; DELETE FROM victim"),
    # Inside other statements
    _text("CTE", "WITH gone AS (DELETE FROM victim RETURNING *) SELECT count(*) FROM gone"),
    _text("CTE that is not read", "WITH gone AS (DELETE FROM victim) SELECT 1"),
    _text("CTE named as a table", "WITH other AS (SELECT 1), gone AS (DELETE FROM victim) SELECT * FROM other"),
    _text("CTE named as the victim", "WITH victim AS (SELECT 1 AS id) DELETE FROM victim"),
    _text("recursive CTE", "WITH RECURSIVE r AS (SELECT 1), gone AS (DELETE FROM victim RETURNING 1) SELECT * FROM r"),
    _text("CTE in INSERT", "WITH gone AS (DELETE FROM victim RETURNING id) INSERT INTO victim SELECT -id FROM gone"),
    _text("CTE under EXPLAIN ANALYZE", "EXPLAIN ANALYZE WITH gone AS (DELETE FROM victim) SELECT 1"),
    _text("EXPLAIN ANALYZE", "EXPLAIN ANALYZE DELETE FROM victim"),
    _text("EXPLAIN with options", "EXPLAIN (COSTS off, ANALYZE) DELETE FROM victim"),
    _text("EXPLAIN, ANALYZE spelled out", "EXPLAIN (ANALYZE 1, VERBOSE true) DELETE FROM victim"),
    _text("EXPLAIN ANALYSE", "EXPLAIN ANALYSE VERBOSE DELETE FROM victim"),
    _text("EXPLAIN, ANALYZE twice", "EXPLAIN (ANALYZE off, ANALYZE on) DELETE FROM victim"),
    _text("MERGE", "MERGE INTO victim v USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE"),
    _text(
        "MERGE by source",
        "MERGE INTO victim v USING (SELECT -1 AS i) s ON s.i = v.id WHEN NOT MATCHED BY SOURCE THEN DELETE",
    ),
    _text("TRUNCATE", "TRUNCATE victim"),
    _text("TRUNCATE in a list", "TRUNCATE TABLE ONLY victim RESTART IDENTITY CASCADE"),
    _text("COPY of a DELETE", "COPY (DELETE FROM victim RETURNING id) TO STDOUT"),
    _text("COPY of a CTE", "COPY (WITH g AS (DELETE FROM victim RETURNING id) SELECT * FROM g) TO STDOUT"),
    _text("COPY TO PROGRAM", "COPY (SELECT 1) TO PROGRAM 'true; : psql -c \"DELETE FROM victim\"'", False),
    _text("COPY FROM PROGRAM", "COPY victim FROM PROGRAM 'true'", False),
    _text("COPY to a file", "COPY (SELECT 1) TO '/nonexistent/pg_hba.conf'", False),
    _text("PREPARE", "PREPARE p AS DELETE FROM victim; EXECUTE p; DEALLOCATE p"),
    _text("EXECUTE of what is not known", "EXECUTE nobody_saw_it", False),
    _text("CREATE TABLE AS EXECUTE", "CREATE TABLE made AS EXECUTE nobody_saw_it", False),
    _text(
        "CREATE TABLE AS with a CTE",
        "CREATE TABLE made AS WITH g AS (DELETE FROM victim RETURNING 1) SELECT * FROM g",
        False,
    ),
    _text("SELECT INTO", "SELECT * INTO victim FROM (SELECT 1) x", False),
    _text(
        "DECLARE and FETCH",
        "DECLARE c CURSOR FOR SELECT * FROM victim FOR UPDATE; FETCH c; DELETE FROM victim WHERE CURRENT OF c",
    ),
    _text("FETCH from what is not known", "FETCH ALL FROM nobody_saw_it", False),
    _text("ON CONFLICT", "INSERT INTO victim VALUES (1) ON CONFLICT (id) DO UPDATE SET note = NULL, id = -1"),
    _text("UPDATE in its place", "UPDATE victim SET id = -id, note = NULL"),
    _text("ALTER TABLE", "ALTER TABLE victim DROP COLUMN note CASCADE"),
    _text("ALTER TABLE with an expression", "ALTER TABLE victim ALTER parent_id TYPE integer USING NULL"),
    _text("DROP", "DROP TABLE victim CASCADE"),
    _text("DROP in a list", "DROP TABLE IF EXISTS no_such_table, victim CASCADE"),
    _text("DROP SCHEMA", "DROP SCHEMA public CASCADE"),
    _text("DROP OWNED", "DROP OWNED BY CURRENT_USER CASCADE", False),
    _text("DROP DATABASE", "DROP DATABASE evasions WITH (FORCE)", False),
    _text("RENAME", "ALTER TABLE victim RENAME TO gone"),
    _text("SET SCHEMA", "ALTER TABLE victim SET SCHEMA pg_temp", False),
    _text(
        "CREATE SCHEMA with elements",
        "CREATE SCHEMA s CREATE VIEW v AS SELECT 1 CREATE TABLE victim (a int); DROP TABLE public.victim CASCADE",
    ),
    _text(
        "CREATE RULE",
        "CREATE RULE r AS ON INSERT TO victim DO INSTEAD DELETE FROM victim; INSERT INTO victim VALUES (3)",
    ),
    _text(
        "CREATE FUNCTION and call",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM victim; SELECT 1'; SELECT f()",
    ),
    _text("CREATE VIEW and DELETE", "CREATE VIEW v AS SELECT * FROM victim; DELETE FROM v"),
    _text("rename, then the harmless name", "ALTER TABLE victim RENAME TO scratch; DELETE FROM scratch"),
    _text("CREATE PROCEDURE and CALL", "CREATE PROCEDURE q() LANGUAGE sql AS 'DELETE FROM victim'; CALL q()"),
    _text("system catalog", "DELETE FROM pg_catalog.pg_class WHERE relname = 'victim'", False),
    # SQL inside strings
    _text("DO", "DO $$BEGIN DELETE FROM victim; END$$"),
    _text("DO, language first", "DO LANGUAGE plpgsql 'BEGIN DELETE FROM victim; END'"),
    _text("DO, escape string", r"DO E'BEGIN D\105LETE FROM victim; END'"),
    _text("DO, Unicode string", r"DO U&'BEGIN \0044ELETE FROM victim; END'"),
    _text("DO, EXECUTE of a constant", "DO $$BEGIN EXECUTE 'DELETE FROM victim'; END$$"),
    _text("DO, EXECUTE of a sum", "DO $$BEGIN EXECUTE 'DEL' || 'ETE FROM ' || 'vic' || 'tim'; END$$"),
    _text("DO, EXECUTE of a variable", "DO $$DECLARE s text := 'DELETE FROM victim'; BEGIN EXECUTE s; END$$"),
    _text("DO, EXECUTE of format", "DO $$BEGIN EXECUTE format('DELETE FROM %I', 'victim'); END$$"),
    _text("DO, EXECUTE of reverse", "DO $$BEGIN EXECUTE reverse('mitciv MORF ETELED'); END$$"),
    _text("DO, EXECUTE of chr", "DO $$BEGIN EXECUTE chr(68) || 'ELETE FROM victim'; END$$"),
    _text("DO in EXECUTE in DO", "DO $a$BEGIN EXECUTE 'DO $b$BEGIN DELETE FROM victim; END$b$'; END$a$"),
    _text(
        "DO, FOR IN EXECUTE",
        "DO $$DECLARE r record; BEGIN FOR r IN EXECUTE 'DELETE FROM victim RETURNING 1' LOOP END LOOP; END$$",
    ),
    _text(
        "DO, FOR IN DELETE", "DO $$DECLARE r record; BEGIN FOR r IN DELETE FROM victim RETURNING 1 LOOP END LOOP; END$$"
    ),
    _text(
        "DO, cursor in a declaration",
        "DO $$DECLARE c CURSOR FOR SELECT id FROM victim FOR UPDATE; BEGIN OPEN c; MOVE c;"
        " DELETE FROM victim WHERE CURRENT OF c; END$$",
    ),
    _text("DO, exception block", "DO $$BEGIN PERFORM 1/0; EXCEPTION WHEN OTHERS THEN DELETE FROM victim; END$$"),
    _text(
        "DO, ELSE branch",
        "DO $$BEGIN IF false THEN NULL; ELSIF false THEN NULL; ELSE DELETE FROM victim; END IF; END$$",
    ),
    _text("DO, CASE branch", "DO $$BEGIN CASE 1 WHEN 1 THEN DELETE FROM victim; ELSE NULL; END CASE; END$$"),
    _text("DO, WHILE", "DO $$BEGIN WHILE EXISTS (SELECT FROM victim) LOOP DELETE FROM victim; END LOOP; END$$"),
    _text(
        "DO, nested block",
        "DO $$<<a>> BEGIN DECLARE x int; BEGIN <<l>> LOOP DELETE FROM victim; EXIT l; END LOOP; END; END$$",
    ),
    _text(
        "DO, default of a variable",
        "DO $$DECLARE x text := query_to_xml('DELETE FROM victim', true, true, ''); BEGIN END$$",
        False,
    ),
    _text(
        "DO, subscript of an assignment",
        "DO $$DECLARE x int[]; BEGIN x[length(query_to_xml('DELETE FROM victim', true, true, '')::text)] := 1; END$$",
        False,
    ),
    _text(
        "DO, RAISE argument",
        "DO $$BEGIN RAISE NOTICE '%', query_to_xml('DELETE FROM victim', true, true, ''); END$$",
        False,
    ),
    _text("DO with search_path", "DO $$BEGIN SET LOCAL search_path = public; DELETE FROM victim; END$$"),
    _text("DO in another language", "DO LANGUAGE plpython3u 'plpy.execute(\"DELETE FROM victim\")'", False),
    _text("query_to_xml", "SELECT query_to_xml('DELETE FROM victim', true, true, '')", False),
    _text(
        "query_to_xml, qualified", "SELECT pg_catalog . \"query_to_xml\"('DELETE FROM victim', true, true, '')", False
    ),
    _text("query_to_xml of a sum", "SELECT query_to_xml('DEL' || 'ETE FROM victim', true, true, '')", False),
    _text(
        "query_to_xml of a value",
        "SELECT query_to_xml(x, true, true, '') FROM (VALUES ('DELETE FROM victim')) AS t(x)",
        False,
    ),
    _text(
        "query_to_xmlschema",
        "SELECT query_to_xmlschema(convert_from('\\x44', 'UTF8') || 'ELETE FROM victim', true, true, '')",
        False,
    ),
    _text("cursor_to_xml", "SELECT cursor_to_xml('c', 1, true, true, '')", False),
    _text("ts_stat", "SELECT * FROM ts_stat('DELETE FROM victim RETURNING ''''::tsvector')", False),
    _text(
        "ts_rewrite",
        "SELECT ts_rewrite('a'::tsquery, 'DELETE FROM victim RETURNING ''a''::tsquery, ''b''::tsquery')",
        False,
    ),
    _text("dblink", "SELECT dblink_exec('dbname=evasions', 'DELETE FROM victim')", False),
    _text("a function nobody knows", "SELECT no_such_function('DELETE FROM victim')", False),
    _text("lo_unlink", "SELECT lo_unlink(oid) FROM pg_largeobject_metadata", False),
    _text("lo_import", "SELECT lo_import('/etc/passwd')", False),
    _text("terminate others", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE false", False),
    _text("sequence", "SELECT setval('no_such_seq', 1)", False),
    # Settings that change what is read
    _object("search_path, then the same name", "SET search_path = trap, pg_catalog; SELECT upper('x'::text)"),
    _text("set_config of search_path", "SELECT set_config('search_path', 'trap', false); DELETE FROM victim", False),
    _text("standard_conforming_strings", r"SET standard_conforming_strings = off; SELECT '\'; DELETE FROM victim; --'"),
    _text("SET ROLE", "SET ROLE pg_database_owner; DELETE FROM victim", False),
    _text("SET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION DEFAULT; DELETE FROM victim"),
    _text("client_encoding", "SET client_encoding = 'SJIS'; DELETE FROM victim"),
    _text("read-only switched off", "SET transaction_read_only = off; DELETE FROM victim"),
    # Hidden in what the catalog holds
    _object("SQL function", "SELECT wipe()"),
    _object("SQL-standard body", "SELECT wipe_body()"),
    _object("PL/pgSQL function", "SELECT wipe_plpgsql()"),
    _object("dynamic SQL in a function", "SELECT wipe_dynamic('victim')"),
    _object("stable function that calls a volatile one", "SELECT wipe_stable()"),
    _object("immutable function, planned only", "EXPLAIN SELECT wipe_immutable(1)"),
    _object("function in FROM", "SELECT * FROM wipe_set()"),
    _object("function in LATERAL", "SELECT * FROM other, LATERAL wipe_set()"),
    _object("function in ROWS FROM", "SELECT * FROM ROWS FROM (wipe_set(), generate_series(1, 2))"),
    _object("function in WHERE", "SELECT 1 FROM other WHERE wipe() = 1"),
    _object("function in ORDER BY", "SELECT 1 FROM other ORDER BY wipe()"),
    _object("function in LIMIT", "SELECT 1 LIMIT wipe()"),
    _object("function in a sub-query", "SELECT (SELECT (SELECT wipe()))"),
    _object("function in CASE", "SELECT CASE WHEN true THEN wipe() END"),
    _object("function in FILTER", "SELECT count(*) FILTER (WHERE wipe() = 1) FROM other"),
    _object("function in a window", "SELECT sum(id) OVER (PARTITION BY wipe()) FROM other"),
    _object("function in VALUES", "VALUES (wipe())"),
    _object("function in a default argument", "SELECT wipe_default()"),
    _object("function with VARIADIC", "SELECT wipe_default(1, 2, 3)"),
    _object("function as a column", "SELECT o.wipe_row FROM other o"),
    _object("function as a field", "SELECT (o).wipe_row FROM other o"),
    _object("function that overloads a built-in one", "SELECT lower(o) FROM other o"),
    _object("function in a loop", "SELECT wipe_loop()"),
    _object("function in an exception block", "SELECT wipe_exception()"),
    _object("function that drops", "SELECT drop_victim()"),
    _object("function with its own search_path", "SELECT wipe_configured()"),
    _object("procedure", "CALL wipe_procedure()"),
    _object("function in PREPARE arguments", "PREPARE p(int) AS SELECT $1; EXECUTE p(wipe())"),
    _object("function in RETURNING", "INSERT INTO other VALUES (9) RETURNING wipe()"),
    _object("function in SET", "UPDATE other SET extra = wipe()"),
    _object("function in COPY", "COPY (SELECT wipe()) TO STDOUT"),
    _object("function in a cursor", "DECLARE c CURSOR FOR SELECT wipe(); FETCH c"),
    _object("function in a new index", "CREATE INDEX ON other (wipe_immutable(id))"),
    _object("function in USING", "ALTER TABLE other ALTER extra TYPE integer USING wipe()"),
    _object("function in a new default", "ALTER TABLE other ADD COLUMN n integer DEFAULT wipe()"),
    _object("function in a new check", "ALTER TABLE other ADD CHECK (wipe() = 1)"),
    _object("aggregate", "SELECT wipe_all(id) FROM other"),
    _object("aggregate as a window", "SELECT wipe_all(id) OVER () FROM other"),
    _object("operator", "SELECT a === b FROM other a, other b"),
    _object("operator by its schema", "SELECT a OPERATOR(trap.=) b FROM other a, other b"),
    _object("operator in ANY", "SELECT 1 FROM other a WHERE a === ANY (SELECT b FROM other b)"),
    _object("cast", "SELECT ROW(1)::wrapped::date"),
    _object("cast, spelled CAST", "SELECT CAST(CAST(ROW(1) AS wrapped) AS date)"),
    _object("view", "DELETE FROM through"),
    _object("view of a view", "DELETE FROM through_twice"),
    _object("view that calls", "SELECT * FROM calling"),
    _object("view, named by TABLE", "TABLE calling"),
    _object("rule on a table", "UPDATE ruled SET id = 2"),
    _object("rule on a view", "INSERT INTO instead VALUES (1)"),
    _object("trigger", "INSERT INTO triggered VALUES (1)"),
    _object("trigger by COPY", "COPY triggered FROM STDIN"),
    _object("trigger's condition", "INSERT INTO trigger_condition VALUES (1)"),
    _object("trigger on a view", "INSERT INTO instead_trigger VALUES (1)"),
    _object("trigger on a partition", "INSERT INTO parted VALUES (1)"),
    _object("default", "INSERT INTO defaulted (id) VALUES (1)"),
    _object("check", "INSERT INTO checked VALUES (1)"),
    _object("index", "INSERT INTO indexed VALUES (1)"),
    _object("index, rebuilt", "INSERT INTO indexed VALUES (1); REINDEX TABLE indexed"),
    _object("check, when the planner folds it", "SELECT * FROM inherited", False),
    _object("default that a COPY fills in", "COPY defaulted (id) FROM STDIN"),
    _object("function with a VARIADIC array", "SELECT wipe_default(1, VARIADIC ARRAY[1, 2])"),
    _object("sub-query in a policy", "SELECT count(*) FROM guarded", False),
    _object("row security", "SELECT * FROM guarded", False),
    _object("foreign key that cascades", "DELETE FROM parent"),
    _object("TRUNCATE that cascades", "TRUNCATE parent CASCADE"),
    _object("materialized view", "REFRESH MATERIALIZED VIEW calling_cached"),
)

AMBIENT = (
    _object("domain's check", "SELECT 1::trapped"),
    _object("domain's check in a column", "INSERT INTO domained VALUES (1)"),
    _object("domain's check in PL/pgSQL", "DO $$DECLARE x trapped := 1; BEGIN END$$"),
    _object("domain's check by a column type", "CREATE TABLE d AS SELECT '5'::trapped AS x"),
    _object("implicit cast in a call", "SELECT abs(ROW(1)::wrapped)"),
    _object("implicit cast in an operator", "SELECT ROW(1)::wrapped + 1"),
)
