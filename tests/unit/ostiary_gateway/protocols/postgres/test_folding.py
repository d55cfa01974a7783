"""Keys of texts: what is folded is beyond doubt a literal, and mere values are told from what is more."""

from __future__ import annotations

import pytest

from ostiary_gateway.protocols.postgres.folding import fold, positions
from ostiary_gateway.protocols.postgres.literal_places import mere_values


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (b"select a from t where b = 12", b"select a from t where b = \0i"),
        (b"select 'it''s', -5", b"select \0s, -\0i"),
        (b"insert into t values (1,'x')", b"insert into t values (\0i,\0s)"),
        (b'select 5 as "it\'s 5"', b'select \0i as "it\'s 5"'),
        (b"select 1.5, 0x1F, 1_000, 1234567890, x1, $1", b"select 1.5, 0x1F, 1_000, 1234567890, x1, $1"),
    ],
)
def test_plain_literals_are_folded_and_nothing_else(text: bytes, key: bytes) -> None:
    assert fold(text) == key


@pytest.mark.parametrize(
    "text",
    [
        b"select E'a'", b"select U&'a'", b"select B'1'", b"select X'1F'", b"select N'a'", rb"select 'a\'",
        b"select $$5$$",
        b"select $a$5$a$", b"select 5 -- five", b"select 5 /* five */", b"select 'open", b'select "open',
        b"select 5, \0",
    ],
)  # fmt: skip
def test_what_can_be_misread_is_its_own_key(text: bytes) -> None:
    assert fold(text) is text
    assert positions(text) == frozenset()


def test_positions_are_those_of_the_literals() -> None:
    assert positions(b"select 'a', 5") == {7, 12}


@pytest.mark.parametrize(
    "text",
    [
        b"select abalance from accounts where aid = 5",
        b"select a from t where a in (1, 2) and b like 'x%' and c between 1 and 3 limit 5 offset 2",
        b"insert into t (a, b) values (1, 'x'), (-2, 'y')",
        b"update t set a = a + 5 where b = 'q'",
        b"delete from t where x = 'a'",
        b"with q as (select 5 as x) select x from q where x > 3 union select 7",
        b"select '5'::int, date '2020-01-01', lower('X'), coalesce(a, 0), case when a = 1 then 'x' else 'y' end from t",
    ],
)
def test_values_of_expressions_are_mere_values(text: bytes) -> None:
    assert mere_values(text)


@pytest.mark.parametrize(
    "text",
    [
        b"select a, b from t order by 1", b"select a from t group by 1", b"select distinct on (1) a from t",
        b"select nextval('s')", b"select 's'::regclass", b"select set_config('search_path', 'x', false)",
        b"select query_to_xml('select 1', true, true, '')", b"select pg_read_file('/etc/passwd')",
        b"select cast(a as float(24)) from t", b"select a::varchar(5) from t", b"select interval '1' day",
        b"select extract(year from d) from t where x = 1", b"select * from t tablesample system (5)",
        b"set x = 5", b"fetch 5 from c", b"do 'begin end'", b"select 1; select 2", b"select '1'\n'2'",
        b"select a.b[1] from t",
        b"select u.lower('x')",
    ],
)  # fmt: skip
def test_what_is_more_than_a_value_is_none(text: bytes) -> None:
    assert not mere_values(text)
