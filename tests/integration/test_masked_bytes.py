"""Real bytes of PostgreSQL 18 through the masks: nothing shows, and the server itself reads the result as its type."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.servers import Server
from support.wire import SYNC, Message, Wire, close_all, frame

from ostiary_gateway.protocols.postgres import wire as messages
from ostiary_gateway.protocols.postgres.copy import CopyOutMask, options_from, parse_copy_response
from ostiary_gateway.protocols.postgres.lineage import column_target_query, load_column_targets
from ostiary_gateway.protocols.postgres.notices import MessageMask
from ostiary_gateway.protocols.postgres.rows import Field, compile_row_mask, parse_row_description
from ostiary_policy.masking import ColumnMask, DetectorMask, MaskPlan, Strategy

CARD, EMAIL = "4111111111111111", "bob@example.com"
ESCAPED = EMAIL.replace("@", "\\u0040")
KEEP_4, REDACT = Strategy("Partial", keep_last=4), Strategy("Redact")
DETECT = MaskPlan(detectors=(DetectorMask("CreditCard", KEEP_4), DetectorMask("Email", REDACT)))

SETUP = f"""
    CREATE SCHEMA masks; SET search_path = masks;
    CREATE TYPE mood AS ENUM ('{EMAIL}', 'sad');
    CREATE TYPE pair AS (a text, n int8);
    CREATE DOMAIN address AS text CHECK (VALUE LIKE '%@%');
    CREATE TABLE customers (id int PRIMARY KEY, email text UNIQUE CHECK (length(email) > 3), note jsonb);
    CREATE TABLE part (id int, email text) PARTITION BY LIST (id);
    CREATE TABLE part_1 PARTITION OF part FOR VALUES IN (1);
    CREATE TABLE base (id int, email text); CREATE TABLE derived (more int) INHERITS (base);
    CREATE VIEW shown AS SELECT id, email AS e FROM customers;
    INSERT INTO customers VALUES (1, '{EMAIL}', '{{"card": {CARD}}}');
    CREATE FUNCTION shout(t text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not %', t; END $$;
"""


def login(server: Server) -> Wire:
    return Wire.login(server.host, server.port, user=server.user, password=server.password, database="masks")


@pytest.fixture(scope="module")
def database(pg18: Server) -> Server:
    pg18.recreate("masks")
    session = login(pg18)
    assert not [m.fields for m in session.simple(SETUP) if m.type == "E"]
    session.close()
    return pg18


@pytest.fixture
def server(database: Server) -> Iterator[Wire]:
    yield login(database)
    close_all()


VALUES = [
    ("text", f"'mail {EMAIL}, pay {CARD}'"),
    ("varchar(40)", f"'{EMAIL}'"),
    ("char(20)", f"'{CARD}'"),
    ("name", f"'{EMAIL}'"),
    ("int8", CARD),
    ("numeric", CARD),
    ("numeric(20,2)", f"{CARD}.25"),
    ("float8", CARD),
    (
        "json",
        f"""'{{"n": {CARD}, "e": "x\\u0020{EMAIL.replace("@", chr(92) + "u0040")}", "k {EMAIL}": [1.5, null, true]}}'""",  # noqa: E501
    ),
    ("jsonb", f"""'{{"n": [{CARD}], "e": "say \\"{EMAIL}\\""}}'"""),
    ("text[]", f"array['{EMAIL}', null, 'a \"b\" {CARD} \\c', 'NULL', '']"),
    ("text[][]", f"array[array['{EMAIL}', 'a'], array['b', '{CARD}']]"),
    ("int8[]", f"array[1, {CARD}]"),
    ("numeric[]", f"array[{CARD}, null]"),
    ("jsonb[]", f"""array['{{"c": {CARD}}}'::jsonb, '1']"""),
    ("json[]", f"""array['{{"c": "{EMAIL}"}}'::json, '1']"""),
    ("bytea", f"convert_to('{EMAIL}', 'UTF8')"),
    ("bytea[]", f"array[convert_to('{CARD}', 'UTF8')]"),
    ("masks.address", f"'{EMAIL}'"),
    ("masks.address[]", f"array['{EMAIL}']"),
    ("masks.mood", f"'{EMAIL}'"),
    ("masks.pair", f"row('{EMAIL}, \"x\"', {CARD})"),
    ("masks.pair[]", f"array[row('{EMAIL}', 1)::masks.pair]"),
    ("record", f"row('{EMAIL}', row({CARD}, 'x'), array['{CARD}'], null)"),
    ("tsvector", f"to_tsvector('simple', '{EMAIL}')"),
    ("int8range", f"int8range({CARD}, null)"),
]
HARMLESS = [
    ("bool", "true"), ("int4", "7"), ("uuid", "gen_random_uuid()"), ("timestamptz", "now()"), ("date", "current_date"),
    ("interval", "'1 day'"), ("inet", "'10.0.0.1'"), ("text", "'4111111111111112'"), ("int8", "1693526400123456789"),
    ("jsonb", """'{"a": [1, 2.5e3, "\\u00e9"]}'"""), ("text[]", "array['a b', null, '{\"x\"}']"), ("numeric", "'NaN'"),
    ("numeric", "-0.00012300"), ("float8", "'-Infinity'"), ("point", "'(1,2)'"), ("int4[]", "array[1,2]"), ("oid", "4111111"),  # noqa: E501
]  # fmt: skip


def answer(session: Wire, sql: str, form: int) -> tuple[Field, bytes]:
    replies = session.extended(sql, binary=bool(form))
    assert not [m.fields for m in replies if m.type == "E"], sql
    described = [m for m in replies if m.type == "T"][-1]
    (row,) = (m for m in replies if m.type == "D")
    (field,) = parse_row_description(described.body)
    return field, frame("D", row.body)


def accepted(session: Wire, kind: str, value: bytes, form: int) -> bool:
    """True if the server reads the value as this type in this format."""
    if kind in ("record", "int8range"):
        return True
    session.send(
        messages.parse_message(b"", f"SELECT $1::{kind}".encode())
        + messages.bind_message(b"", b"", [value], [form])
        + messages.execute_message(b"")
        + SYNC
    )
    return not [m for m in session.until("Z") if m.type == "E"]


def reads(value: bytes | None) -> str:
    text = (value or b"").decode("latin-1")
    return text + bytes.fromhex(text[2:]).decode("latin-1") if text.startswith("\\x") else text


@pytest.mark.parametrize("form", [0, 1], ids=["text", "binary"])
@pytest.mark.parametrize(("kind", "expression"), VALUES, ids=[kind for kind, _ in VALUES])
def test_detectors_on_every_type(server: Wire, kind: str, expression: str, form: int) -> None:
    cast = expression if kind == "record" else f"({expression})::{kind}"
    field, row = answer(server, f"SELECT {cast}", form)
    mask = compile_row_mask(DETECT, (field,), {}, {})
    assert mask is not None
    (shown,) = messages.parse_data_row(mask.apply_all(row)[5:])
    assert CARD not in reads(shown)
    assert EMAIL not in reads(shown)
    if kind in ("masks.address", "masks.address[]", "masks.mood"):
        return  # a CHECK and an enum's labels refuse any other text; clients take both as text
    if shown is not None and not (kind.startswith("masks.pair") and form == 0):
        assert accepted(server, kind, shown, form), shown


@pytest.mark.parametrize("form", [0, 1], ids=["text", "binary"])
@pytest.mark.parametrize(("kind", "expression"), HARMLESS)
def test_what_holds_nothing_passes_as_it_is(server: Wire, kind: str, expression: str, form: int) -> None:
    field, row = answer(server, f"SELECT ({expression})::{kind}", form)
    mask = compile_row_mask(DETECT, (field,), {}, {})
    assert mask is None or mask.apply_all(row) == row


@pytest.mark.parametrize("form", [0, 1], ids=["text", "binary"])
@pytest.mark.parametrize(("kind", "expression"), VALUES + HARMLESS)
def test_a_columns_mask_on_every_type(server: Wire, kind: str, expression: str, form: int) -> None:
    cast = expression if kind == "record" else f"({expression})::{kind}"
    field, row = answer(server, f"SELECT {cast}", form)
    for strategy in (REDACT, KEEP_4, Strategy("Null"), Strategy("Pseudonym", key=b"k" * 16)):
        mask = compile_row_mask(MaskPlan(), (field,), {}, {0: strategy})
        assert mask is not None
        (shown,) = messages.parse_data_row(mask.apply_all(row)[5:])
        assert CARD not in reads(shown)
        assert EMAIL not in reads(shown)
        if shown is not None and not kind.startswith("masks."):
            assert accepted(server, kind, shown, form), (strategy.type, shown)


COPIES = [
    ("text", {}),
    ("text", {"delimiter": "|", "null": "NIL"}),
    ("text", {"delimiter": "-", "header": None}),
    ("csv", {}),
    ("csv", {"header": None, "force_quote": "*", "delimiter": ";", "null": "NIL"}),
    ("csv", {"quote": "'", "escape": "\\"}),
    ("csv", {"quote": "4", "escape": "@"}),
    ("binary", {}),
]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize(("form", "written"), COPIES)
def test_copy_is_masked_and_can_be_copied_in_again(
    server: Wire, form: str, written: dict[str, str | None], size: int
) -> None:
    rows = [
        f"1, '{EMAIL}', 'a\tb,;|\\ \"q\" ''s'' {CARD} - x', {CARD}, '{{\"c\": {CARD}}}', array['{EMAIL}', null], null",
        "2, 'a@\n', E'line\\nbreak \\\\. 4111-1111 1111-1111', 7, '[]', '{}', ''",
        "3, null, '', null, null, null, 'plain'",
    ]
    server.simple("DROP TABLE IF EXISTS masks.source, masks.target")
    server.simple("CREATE TABLE masks.source (id int, secret text, note text, n int8, j jsonb, a text[], t text)")
    server.simple("CREATE TABLE masks.target (LIKE masks.source)")
    replies = server.simple(f"INSERT INTO masks.source VALUES {', '.join(f'({row})' for row in rows)}")
    assert not [m.fields for m in replies if m.type == "E"]

    def option(name: str, value: str | None) -> str:
        if value is None or value == "*":
            return f"{name} {value or ''}"
        return f"{name} '{value.replace(chr(39), chr(39) * 2)}'"

    options = ", ".join([f"format {form}", *(option(name, value) for name, value in written.items())])
    out = server.simple(f"COPY masks.source TO STDOUT ({options})")
    (response,) = (m for m in out if m.type == "H")
    _, formats = parse_copy_response(response.body)
    data = b"".join(m.body for m in out if m.type == "d")
    mask = CopyOutMask(
        DETECT, options_from({"format": form, **written}), len(formats), {1: REDACT}, (23, 25, 25, 20, 3802, 1009, 25)
    )
    masked = b"".join(mask.feed(data[i : i + size]) for i in range(0, len(data), size)) + mask.finish()
    back = options.replace(", force_quote *", "")
    server.send(messages.query_message(f"COPY masks.target FROM STDIN ({back})".encode()))
    assert server.until("GE")[-1].type == "G"
    server.send(frame("d", masked) + frame("c"))
    assert not [m.fields for m in server.until("Z") if m.type == "E"]
    shown = server.rows("SELECT * FROM masks.target ORDER BY id")
    assert shown == [
        ["1", "[redacted]", "a\tb,;|\\ \"q\" 's' ************1111 - x", None, '{"c": "************1111"}', "{[redacted],NULL}", None],  # noqa: E501
        ["2", "[redacted]", "line\nbreak \\. ****-**** ****-1111", "7", "[]", "{}", ""],
        ["3", None, "", None, None, None, "plain"],
    ]  # fmt: skip


def targets_of(server: Wire, *columns: ColumnMask) -> set[tuple[str, str]]:
    sql, parameters = column_target_query(columns)
    arrays = [("{" + ",".join(f'"{item}"' for item in items) + "}").encode() for items in parameters]
    found = [m.cells for m in server.extended(sql, arrays) if m.type in "DE"]
    rows = [[int(cell or 0) for cell in row] for row in found]
    targets = load_column_targets(rows, MaskPlan(columns=columns))
    names = set()
    for oid, attnum in targets:
        ((table, column),) = server.rows(
            f"SELECT {oid}::regclass, attname FROM pg_attribute WHERE attrelid = {oid} AND attnum = {attnum}"
        )
        names.add((str(table).removeprefix("masks."), str(column)))
    return names


def test_rules_find_partitions_children_and_parents(server: Wire) -> None:
    def mask(table: str, column: str, schema: str = "masks") -> ColumnMask:
        return ColumnMask(schema, table, column, REDACT)

    assert targets_of(server, mask("part", "email")) == {("part", "email"), ("part_1", "email")}
    assert targets_of(server, mask("part_1", "email")) == {("part", "email"), ("part_1", "email")}
    assert targets_of(server, mask("base", "email")) == {("base", "email"), ("derived", "email")}
    assert targets_of(server, mask("derived", "email"), mask("shown", "e")) == {
        ("derived", "email"), ("base", "email"), ("shown", "e"),
    }  # fmt: skip
    assert targets_of(server, mask("nosuch", "*")) == set()
    assert targets_of(server, mask("*", "more", "*")) == {("derived", "more")}
    everywhere = targets_of(server, mask("*", "email", "*"))
    assert {table for table, _ in everywhere} >= {"customers", "part", "part_1", "base", "derived"}


LEAKS = [
    f"INSERT INTO masks.customers VALUES (2, '{EMAIL}')",
    "UPDATE masks.customers SET email = left(email, 2)",
    "UPDATE masks.customers SET id = null",
    "SELECT email::int FROM masks.customers",
    "SELECT email::json FROM masks.customers",
    "SELECT email::regclass FROM masks.customers",
    "SELECT email::date FROM masks.customers",
    "SELECT email::masks.mood::text::uuid FROM masks.customers",
    "SELECT email::text[] FROM masks.customers",
    "SELECT set_config(email, 'x', false) FROM masks.customers",
    "SELECT masks.shout(email) FROM masks.customers",
    "SELECT to_tsquery('simple', '((' || email) FROM masks.customers",
    "SELECT regexp_replace('x', '(' || email, '') FROM masks.customers",
    "SELECT nextval(email) FROM masks.customers",
    "SELECT pg_read_file(email) FROM masks.customers",
    "SELECT encode(decode(email, 'hex'), 'hex') FROM masks.customers",
    "SELECT jsonb_path_query('{}', ('$[' || email)::jsonpath) FROM masks.customers",
    "SELECT 1 FROM masks.customers WHERE now() AT TIME ZONE email IS NULL",
    "DO $$ DECLARE e text; BEGIN SELECT email INTO e FROM masks.customers; EXECUTE 'select ' || e; END $$",
    "DO $$ DECLARE e text; BEGIN SELECT email INTO e FROM masks.customers; RAISE NOTICE '%', e; RAISE '%', e; END $$",
]


@pytest.mark.parametrize("sql", LEAKS)
def test_no_error_tells_a_masked_column(server: Wire, sql: str) -> None:
    plan = MaskPlan(columns=(ColumnMask("masks", "customers", "email", REDACT),))
    told: list[Message] = [m for m in server.simple(sql) if m.type in "EN"]
    assert told, "the statement was meant to fail"
    mask = MessageMask(plan)
    statement = sql.replace(EMAIL, "someone else").encode()
    for message in told:
        masked = Message(message.type, mask.fields(message.body, statement))
        assert masked.fields["C"] == message.fields["C"]
        for secret in (EMAIL, "bob", "example", "bo,"):
            assert secret not in " ".join(masked.fields.values()), masked.fields
