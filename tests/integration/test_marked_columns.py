"""A detector that hit a column: what is made of the column is withheld from then on, and the column stays as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.gateway import Gateway, policy
from support.servers import Server
from support.wire import Wire, close_all

CARD = "4111111111111111"

TABLES = f"""
    CREATE TABLE payers (id int PRIMARY KEY, card text, remark text, doc jsonb);
    CREATE TABLE others (id int PRIMARY KEY, card text);
    CREATE VIEW paying AS SELECT id, card AS number, left(card, 6) AS bin FROM payers;
    INSERT INTO payers VALUES (1, '{CARD}', 'on time', '{{"card": "{CARD}"}}'), (2, NULL, 'late', '{{}}');
    INSERT INTO others VALUES (1, '{CARD}');
"""

DETECTS = policy(
    "detects",
    [
        {"name": "all", "action": "Allow", "expression": "true"},
        {
            "name": "cards",
            "action": "Mask",
            "expression": "true",
            "masking": [{"detector": "CreditCard", "strategy": {"type": "Partial", "keepLast": 4}}],
        },
    ],
)


@pytest.fixture
def gateway(pg18: Server, start_gateway: Callable[..., Gateway]) -> Gateway:
    pg18.recreate("marked")
    session = Wire.login(pg18.host, pg18.port, user=pg18.user, password=pg18.password, database="marked")
    assert not [m.fields for m in session.simple(TABLES) if m.type == "E"]
    session.close()
    return start_gateway(pg18, DETECTS, database="marked")


def login(gateway: Gateway) -> Wire:
    return Wire.login(gateway.host, gateway.port, user=gateway.user, password=gateway.password, database="marked")


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    close_all()


DERIVED = [
    "reverse(card)", "left(card, 8)", "substr(card, 2)", "encode(convert_to(card, 'UTF8'), 'hex')", "md5(card)",
    "card || 'x'", "string_agg(card, '') OVER ()", "upper(card)", "card::varchar(8)", "translate(card, '1', 'i')",
    "regexp_replace(card, '4', 'four')", "convert_to(card, 'UTF8')", "to_jsonb(left(card, 8))",
    "(SELECT reverse(p.card))", "array[left(card, 8), right(card, 8)]::text", "length(card)", "card::bigint + 1",
    "json_build_object('k', reverse(card))", "left(p::text, 9)", "format('%s', card)",
    "CASE WHEN id = 1 THEN left(card, 9) END",
]  # fmt: skip
PLAIN = ["card", "min(card) OVER ()", "coalesce(card, '')", "to_jsonb(card)", "card::text", "array[card]"]


def test_what_is_derived_is_withheld_once_the_column_was_hit(gateway: Gateway) -> None:
    agent = login(gateway)
    assert agent.rows("SELECT reverse(card) FROM payers WHERE id = 1") == [[CARD[::-1]]]
    assert agent.rows("SELECT card, remark FROM payers WHERE id = 1") == [["************1111", "on time"]]
    for expression in DERIVED:
        (row,) = agent.rows(f"SELECT {expression} FROM payers p WHERE id = 1")
        assert row[0] in (None, '"[redacted]"', "[redacted]"), expression


def test_the_column_itself_stays_with_the_detector(gateway: Gateway) -> None:
    agent = login(gateway)
    agent.rows("SELECT card FROM payers")
    for expression in PLAIN:
        (row,) = agent.rows(f"SELECT {expression} FROM payers WHERE id = 1")
        assert CARD not in str(row), expression
        assert "************1111" in str(row), expression
    assert agent.rows("SELECT count(card), count(*), bool_or(card LIKE '41%') FROM payers") == [["1", "2", "t"]]
    assert agent.rows("SELECT left(remark, 2), id + 1 FROM payers WHERE id = 1") == [["on", "2"]]
    assert agent.rows("SELECT card FROM payers UNION ALL SELECT 'x' ORDER BY 1 LIMIT 1") == [["************1111"]]


def test_all_sessions_of_the_connection_know_it_at_once(gateway: Gateway) -> None:
    one, other = login(gateway), login(gateway)
    assert other.rows("SELECT left(card, 8) FROM payers WHERE id = 1") == [["41111111"]]
    one.rows("SELECT card FROM payers")
    assert other.rows("SELECT left(card, 8) FROM payers WHERE id = 1") == [["[redacted]"]]
    other.rows("SELECT card FROM payers LIMIT 0")
    other.rows("CREATE TEMP TABLE mine AS SELECT 1 AS n")
    assert other.rows("SELECT left(card, 8), n FROM payers, mine WHERE id = 1") == [["[redacted]", "1"]]
    assert other.rows("SELECT reverse(card), m.* FROM payers, mine m WHERE id = 1")[0][0] == "[redacted]"


def test_it_is_followed_through_sub_queries_views_and_copy(gateway: Gateway) -> None:
    agent = login(gateway)
    agent.rows("SELECT p.card FROM payers AS p")
    for text in (
        "SELECT left(x, 8) FROM (SELECT card AS x FROM payers) AS s WHERE x IS NOT NULL",
        "WITH c AS MATERIALIZED (SELECT card AS x FROM payers) SELECT reverse(x) FROM c WHERE x IS NOT NULL",
        "SELECT bin FROM paying WHERE id = 1",
        "SELECT reverse(number) FROM paying WHERE id = 1",
        "SELECT substr(j::text, 1, 20) FROM (SELECT row_to_json(p) AS j FROM payers p WHERE id = 1) AS s",
        "UPDATE payers SET remark = reverse(card) WHERE id = 1 RETURNING remark",
    ):
        assert agent.rows(text) == [["[redacted]"]], text
    copied = agent.simple("COPY (SELECT id, left(card, 8), card FROM payers WHERE id = 1) TO STDOUT")
    assert b"".join(m.body for m in copied if m.type == "d") == b"1\t[redacted]\t************1111\n"


def test_other_columns_are_not_withheld(gateway: Gateway) -> None:
    agent = login(gateway)
    agent.rows("SELECT card FROM payers")
    assert agent.rows("SELECT reverse(card) FROM others") == [[CARD[::-1]]]
    assert agent.rows("SELECT reverse('abc'), upper(relname) FROM pg_class WHERE relname = 'payers'") == [
        ["cba", "PAYERS"]
    ]
    agent.rows("SELECT doc FROM payers")
    assert agent.rows("SELECT doc->>'card', doc->'card' FROM payers WHERE id = 1") == [
        ["************1111", '"************1111"']
    ]
