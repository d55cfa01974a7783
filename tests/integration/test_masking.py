"""Masks that hold: an agent at `ostiary serve` before PostgreSQL 18 tries to read what is masked, in every way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.gateway import Gateway, policy
from support.servers import Server
from support.wire import Message, Wire, close_all, frame

CARD, EMAIL, NAME = "4111111111111111", "bob@example.com", "Roberta Zimmermann"
SECRETS = (CARD, "4111-1111-1111-1111", EMAIL, NAME, "Roberta", "Zimmermann")

SHOP = f"""
    CREATE TABLE customers (id int PRIMARY KEY, name text UNIQUE, email text, card text, doc jsonb, tags text[]);
    CREATE TABLE orders (id int PRIMARY KEY, customer_id int, note text);
    CREATE TABLE scratch (a text, b text);
    INSERT INTO customers VALUES (1, '{NAME}', '{EMAIL}', '4111-1111-1111-1111', '{{"card": {CARD}}}', '{{"{EMAIL}"}}');
    INSERT INTO orders VALUES (10, 1, 'write to {EMAIL}');
    CREATE VIEW people AS SELECT id, name AS who, upper(name) AS loud FROM customers;
    CREATE VIEW deep AS SELECT who || '!' AS shout, id FROM people;
    CREATE FUNCTION name_of(n int) RETURNS text LANGUAGE sql STABLE AS 'SELECT name FROM customers WHERE id = n';
    CREATE TABLE parent (id int, name text); CREATE TABLE child () INHERITS (parent);
    ANALYZE customers;
"""

MASKS = policy(
    "masks",
    [
        {"name": "all", "action": "Allow", "expression": "true"},
        {
            "name": "pii",
            "action": "Mask",
            "expression": "true",
            "masking": [
                {"column": "public.customers.name", "strategy": {"type": "Redact"}},
                {"detector": "CreditCard", "strategy": {"type": "Partial", "keepLast": 4}},
                {"detector": "Email", "strategy": {"type": "Redact"}},
            ],
        },
    ],
)


@pytest.fixture(scope="module")
def gateway(pg18: Server, start_gateway: Callable[..., Gateway]) -> Gateway:
    pg18.recreate("masking")
    session = Wire.login(pg18.host, pg18.port, user=pg18.user, password=pg18.password, database="masking")
    assert not [m.fields for m in session.simple(SHOP) if m.type == "E"]
    session.close()
    return start_gateway(pg18, MASKS, database="masking")


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[Wire]:
    yield Wire.login(gateway.host, gateway.port, user=gateway.user, password=gateway.password, database="masking")
    close_all()


def told(messages: list[Message]) -> str:
    return b"\n".join(m.body for m in messages if m.type in "DdENA").decode("latin-1")


QUERIES = [
    "SELECT * FROM customers",
    "SELECT name AS n, card, doc, tags, email FROM customers c",
    "TABLE customers",
    "SELECT upper(name), lower(name), name || '', left(name, 3), right(name, 4) FROM customers",
    "SELECT substr(name, 2, 5), initcap(name), overlay(name placing 'X' from 1 for 1) FROM customers",
    "SELECT c FROM customers c",
    "SELECT row_to_json(c), to_jsonb(c), c::text FROM customers c",
    "SELECT (c).name, name(c), (c).* FROM customers c",
    "SELECT json_agg(c), array_agg(name), string_agg(name, ',') FROM customers c",
    "SELECT jsonb_build_object('k', name), xmlconcat(null), array[name], row(name, id) FROM customers",
    "WITH c AS (SELECT name AS x FROM customers) SELECT x, x || '.' FROM c",
    "WITH RECURSIVE r(n, x) AS (SELECT 1, name FROM customers UNION ALL SELECT n + 1, x FROM r WHERE n < 3) SELECT * FROM r",  # noqa: E501
    "SELECT q FROM (SELECT id, name FROM customers) AS s(p, q)",
    "SELECT name FROM customers UNION ALL SELECT 'x'",
    "SELECT 'x' UNION SELECT name FROM customers ORDER BY 1",
    "SELECT (SELECT name FROM customers LIMIT 1)",
    "SELECT note, (SELECT max(name) FROM customers) FROM orders",
    "SELECT v FROM (VALUES ((SELECT name FROM customers))) AS t(v)",
    "SELECT who, loud FROM people",
    "SELECT * FROM people NATURAL JOIN orders",
    "SELECT shout FROM deep",
    "SELECT lower(shout) FROM deep",
    "SELECT name_of(1)",
    "SELECT * FROM name_of(1)",
    "SELECT e.value FROM customers c, jsonb_each_text(to_jsonb(c)) e",
    "SELECT c2.x FROM customers c, LATERAL (SELECT c.name AS x) c2",
    "SELECT regexp_split_to_table(name, '') FROM customers",
    "SELECT ascii(substr(name, 1, 1)), chr(ascii(name)), encode(convert_to(name, 'UTF8'), 'hex') FROM customers",
    "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE tablename = 'customers'",
    "SELECT query_to_xml('SELECT name FROM customers', true, true, '')",
    "UPDATE customers SET email = email RETURNING name, upper(name), customers",
    "INSERT INTO customers SELECT id + 100, name || id, email FROM customers WHERE id = 1 RETURNING *",
    "DELETE FROM customers WHERE id = 101 RETURNING old.name, old.*",
    "MERGE INTO customers c USING orders o ON c.id = o.customer_id WHEN MATCHED THEN UPDATE SET email = c.email RETURNING *",  # noqa: E501
    f"INSERT INTO customers VALUES (1, '{NAME}')",
    "INSERT INTO customers (id, name) SELECT id + 5, name FROM customers",
    "UPDATE customers SET id = NULL",
    "SELECT name::int FROM customers",
    "SELECT name::jsonb FROM customers",
    "SELECT name::regclass FROM customers",
    "SELECT set_config('a.b', name, false) FROM customers",
    "SELECT 1 FROM customers WHERE set_config('a.b', name, false) IS NULL; SHOW a.b",
    "CREATE TEMP TABLE t1 AS SELECT name FROM customers; SELECT * FROM t1",
    "SELECT name INTO TEMP t2 FROM customers; SELECT * FROM t2",
    "INSERT INTO scratch SELECT name, 'x' FROM customers RETURNING *",
    "SELECT * FROM scratch",
    "BEGIN; CREATE RULE r AS ON INSERT TO scratch DO INSTEAD SELECT name FROM customers; INSERT INTO scratch VALUES (1, 2); ROLLBACK",  # noqa: E501
    "BEGIN; CREATE RULE r AS ON INSERT TO scratch DO INSTEAD SELECT upper(name) FROM customers; INSERT INTO scratch VALUES (1); ROLLBACK",  # noqa: E501
    "CREATE TEMP VIEW orders AS SELECT id, name AS customer_id, 'x' AS note FROM customers; SELECT * FROM orders",
    "SELECT * FROM orders",
    "CREATE TEMP VIEW orders AS SELECT id, name AS k FROM customers; SELECT upper(k) FROM orders; DROP VIEW pg_temp.orders",  # noqa: E501
    "CREATE VIEW calling AS SELECT name_of(1) AS n; SELECT n, upper(n) FROM calling; DROP VIEW calling",
    "CREATE VIEW calling AS SELECT name_of(1) AS n",
    "SELECT n, upper(n) FROM calling",
    "SELECT c.n FROM (SELECT * FROM calling) c",
    "DROP VIEW calling",
    "BEGIN; CREATE VIEW fresh AS SELECT name AS k FROM customers; SELECT k, upper(k) FROM fresh; ROLLBACK",
    "PREPARE p AS SELECT upper(name) FROM customers; EXECUTE p; DEALLOCATE p",
    "BEGIN; DECLARE c CURSOR FOR SELECT upper(name), name FROM customers; FETCH ALL FROM c; ROLLBACK",
    "DO $$ DECLARE n text; BEGIN SELECT name INTO n FROM customers; RAISE NOTICE 'it is %', n; END $$",
    "DO $$ DECLARE n text; BEGIN SELECT name INTO n FROM customers; RAISE EXCEPTION 'it is %', n; END $$",
    "COPY customers TO STDOUT",
    "COPY customers (card, name) TO STDOUT (FORMAT csv, HEADER)",
    "COPY (SELECT upper(name), name, card FROM customers) TO STDOUT (FORMAT csv, FORCE_QUOTE *)",
    "COPY (SELECT c FROM customers c) TO STDOUT",
    "COPY customers TO STDOUT (FORMAT binary)",
    "COPY people TO STDOUT",
    "COPY (TABLE people) TO STDOUT",
    "EXPLAIN ANALYZE SELECT name FROM customers",
]


@pytest.mark.parametrize("sql", QUERIES)
def test_simple_queries_tell_nothing(agent: Wire, sql: str) -> None:
    shown = told(agent.simple(sql))
    for secret in SECRETS:
        if secret not in sql:
            assert secret.lower() not in shown.lower()
            assert secret.encode().hex() not in shown


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
@pytest.mark.parametrize("sql", [sql for sql in QUERIES if "; " not in sql])
def test_the_extended_protocol_tells_nothing(agent: Wire, sql: str, binary: bool) -> None:
    shown = told(agent.extended(sql, binary=binary))
    for secret in SECRETS:
        if secret not in sql:
            assert secret.lower() not in shown.lower()
            assert secret.encode().hex() not in shown


def test_what_is_not_masked_is_as_it_is(agent: Wire) -> None:
    assert agent.rows("SELECT id, card, email, name FROM customers WHERE id = 1") == [
        ["1", "****-****-****-1111", "[redacted]", "[redacted]"]
    ]
    assert agent.rows("SELECT count(*), count(name), name IS NULL FROM customers WHERE id = 1 GROUP BY name") == [
        ["1", "1", "f"]
    ]
    assert agent.rows("SELECT id, note FROM orders") == [["10", "write to [redacted]"]]
    assert agent.rows("SELECT p.id FROM people p") == [["1"]]
    assert agent.rows("SELECT doc->'card', tags FROM customers WHERE id = 1") == [
        ['"************1111"', '{"[redacted]"}']
    ]


def test_copy_masks_what_a_select_masks(agent: Wire) -> None:
    rows = [m.body for m in agent.simple("COPY customers (id, name, card) TO STDOUT") if m.type == "d"]
    assert b"1\t[redacted]\t****-****-****-1111\n" in rows
    rows = [m.body for m in agent.simple("COPY customers TO STDOUT (FORMAT csv)") if m.type == "d"]
    assert rows[0].startswith(b'1,"[redacted]","[redacted]","****-****-****-1111",')


def test_a_notification_is_masked(agent: Wire, gateway: Gateway) -> None:
    agent.simple("LISTEN mail")
    agent.send(frame("Q", f"NOTIFY mail, 'from {EMAIL}'".encode() + b"\0"))
    messages = agent.until("Z")
    assert [m.body[4:] for m in messages if m.type == "A"] == [b"mail\0from [redacted]\0"]


@pytest.mark.parametrize("begin", ["SELECT 1", "BEGIN"])
def test_what_was_made_since_the_catalog_was_read_tells_nothing(agent: Wire, begin: str) -> None:
    steps = [
        "SELECT upper(note) FROM orders",
        begin,
        "CREATE TEMP VIEW orders AS SELECT id, name AS note FROM customers",
        "SELECT upper(note) FROM orders",
        "SELECT upper(note), note FROM pg_temp.orders",
    ]
    shown = "".join(told(agent.simple(step)) for step in steps)
    assert NAME.lower() not in shown.lower()
