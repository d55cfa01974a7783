"""Which columns of a result may carry a masked column, however the statement spells it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.protocols.postgres.lineage import (
    UNKNOWN,
    RelationView,
    column_target_query,
    lineage_of,
    load_column_targets,
    withheld_columns,
)
from ostiary_gateway.protocols.postgres.rows import Field
from ostiary_policy.masking import ColumnMask, MaskPlan, Strategy

KEEP_4 = Strategy("Partial", keep_last=4)
REDACT = Strategy("Redact")
PSEUDONYM = Strategy("Pseudonym", key=b"k" * 32)
TARGETS = {(1, 2): KEEP_4}


def relation(oid: int, name: str, *columns: str, definition: str = "") -> RelationView:
    return RelationView(oid, "public", name, tuple(enumerate(columns, 1)), definition)


RELATIONS = {
    view.name: view
    for view in (
        relation(1, "customers", "id", "email", "name"),
        relation(2, "orders", "id", "customer_id", "total"),
        relation(
            3, "shown", "id", "e", "u", definition="SELECT id, email AS e, upper(email) AS u FROM public.customers"
        ),
        relation(4, "over", "q", definition="SELECT shown.e FROM public.shown WHERE shown.id > 1"),
        relation(5, "broken", "a", "b", definition="SELECT this is no SQL"),
        relation(6, "round", "a", definition="SELECT a FROM public.round"),
        relation(7, "scratch", "a", "b"),
        RelationView(8, "pg_catalog", "pg_stats", ((1, "schemaname"), (2, "most_common_vals"))),
        RelationView(10, "public", "hidden", ((1, "a"),), None),
        relation(9, "plain", "id", definition="SELECT orders.id FROM public.orders"),
    )
}


class Catalog:
    """Seven relations, and functions of users that may read any of them."""

    def relation(self, schema: str, name: str) -> RelationView | None:
        return RELATIONS.get(name) if schema in ("", "public", "pg_catalog") else None

    def carries(self, schema: str, name: str, arguments: int) -> bool:
        return schema == "app" or name == "query_to_xml"


def fields(count: int, oid: int = 25) -> list[Field]:
    return [Field("x", 0, 0, oid, -1, -1, 0)] * count


def withheld(sql: str, count: int) -> dict[int, str]:
    return {i: s.type for i, s in withheld_columns(sql, fields(count), TARGETS, Catalog()).items()}


NOTHING: dict[int, str] = {}
WHOLE, PART = "Partial", "Redact"
"""The column itself keeps its own strategy; what is made of it is redacted."""


@pytest.mark.parametrize(
    ("sql", "count", "expected"),
    [
        # expressions
        ("select upper(email), id, email as x from customers", 3, {0: PART, 2: WHOLE}),
        ("select email || '', substr(email, 1, 3), email::text, coalesce(email, '-') from customers", 4,
         {0: PART, 1: PART, 2: PART, 3: PART}),
        ("select case when id > 1 then email end, nullif(email, 'x'), greatest(email, 'a') from customers", 3,
         {0: PART, 1: PART, 2: PART}),
        ("select min(email), string_agg(email, ','), array_agg(email), mode() within group (order by email) from customers",  # noqa: E501
         4, {0: PART, 1: PART, 2: PART, 3: PART}),
        ("select first_value(email) over (order by id), lag(email) over (order by id) from customers", 2, {0: PART, 1: PART}),  # noqa: E501
        ("select convert_to(email, 'UTF8'), md5(email), ascii(email) from customers", 3, {0: PART, 1: PART, 2: PART}),
        ("select array[email], row(email), json_build_object('e', email), xmlelement(name a, email) from customers", 4,
         {0: PART, 1: PART, 2: PART, 3: PART}),
        ("select json_object('e': email), json_value(json_object('e': email), '$.e') from customers", 2, {0: PART, 1: PART}),  # noqa: E501
        # a user's operator may give anything: only the result's type tells that it is a yes or a no
        ("select email = 'x', email like 'a%', id = 1, coalesce(email > 'a', false) from customers", 4, {0: PART, 1: PART, 3: PART}),  # noqa: E501
        # what gives only a yes, a no, a count or an order
        ("select count(email), count(*), email is null, email = any ('{a}'), email in ('a') from customers", 5, NOTHING),  # noqa: E501
        ("select case when email like 'a%' then 1 end, exists (select email from customers) from customers", 2, NOTHING),  # noqa: E501
        ("select string_agg(name, ',' order by email), rank() over (order by email) from customers", 2, NOTHING),
        ("select id from customers where email like 'a%' order by email limit 1", 1, NOTHING),
        # whole rows
        ("select c, row_to_json(c), c::text, to_jsonb(c.*), id from customers c", 5, {0: PART, 1: PART, 2: PART, 3: PART}),  # noqa: E501
        ("select (c).email, email(c), (c).* from customers c", 5, {0: PART, 1: PART, 2: PART, 3: PART, 4: PART}),
        ("select r->>'email' from (select to_jsonb(customers) r from customers) x", 1, {0: PART}),
        # sub-queries, CTEs, aliases
        ("select x.q, p from (select id, email from customers) as x(p, q)", 2, {0: WHOLE}),
        ("with c as (select email as e, id from customers) select upper(e), e, id from c", 3, {0: PART, 1: WHOLE}),
        ("with c(a, b) as materialized (select id, email from customers) select b, a from c", 2, {0: WHOLE}),
        ("with a as (select email from customers), b as (select email as x from a) select lower(x) from b", 1, {0: PART}),  # noqa: E501
        ("with recursive r(a, b) as (select id, email from customers union all select a + 1, b from r where a < 5)"
         " select a, lower(b) from r", 2, {1: PART}),
        ("with recursive r(a, b) as (select 1, '' union all select a + 1, email from r, customers) select * from r", 2, {1: WHOLE}),  # noqa: E501
        ("select (select max(email) from customers), array(select email from customers)", 2, {0: PART, 1: PART}),
        ("select e from (values ((select email from customers)), ('b')) v(e)", 1, {0: PART}),
        ("select y from customers c, lateral (select c.email || '' as y) l", 1, {0: PART}),
        ("select k, j from (customers c cross join orders) as a(i, j, k)", 2, {1: WHOLE}),
        # stars
        ("select * from customers", 3, {1: WHOLE}),
        ("table customers", 3, {1: WHOLE}),
        ("select o.*, c.*, 1 from customers c, orders o", 7, {4: WHOLE}),
        ("select *, 1 from customers c join orders o using (id)", 6, {1: WHOLE}),
        ("select * from customers natural join orders", 5, {1: WHOLE}),
        ("select * from orders, json_each((select row_to_json(c) from customers c))", 5, {3: PART, 4: PART}),
        ("select * from generate_series(1, 2) g, customers", 4, {2: WHOLE}),
        ("select * from orders, jsonb_to_record((select to_jsonb(c) from customers c)) as r(a int, b text)", 5, {3: PART, 4: PART}),  # noqa: E501
        # set operations
        ("select id, '' from orders union select id, email from customers", 2, {1: WHOLE}),
        ("select name from customers except all (select 'x' intersect select email from customers)", 1, {0: WHOLE}),
        # views
        ("select e, id, u from shown", 3, {0: WHOLE, 2: PART}),
        ("select q, q || '' from over", 2, {0: WHOLE, 1: PART}),
        ("select * from plain", 1, NOTHING),
        ("select a, upper(a) from hidden", 2, {0: PART, 1: PART}),
        # writes
        ("update customers set email = 'x' returning id, old.email, new.email, upper(email)", 4, {1: WHOLE, 2: WHOLE, 3: PART}),  # noqa: E501
        ("update customers set id = 1 returning with (old as o, new as n) o.email, n.*", 4, {0: WHOLE, 2: WHOLE}),
        ("delete from customers c using orders o returning *", 6, {1: WHOLE}),
        ("insert into customers values (1, 'a', 'b') on conflict do nothing returning *", 3, {1: WHOLE}),
        ("insert into scratch (b) select email from customers returning a, b, b || ''", 3, {1: PART, 2: PART}),
        ("update scratch set a = c.email from customers c returning *", 5, {0: PART, 3: WHOLE}),
        ("merge into scratch s using customers c on true when matched then update set a = c.email returning *", 5,
         {1: WHOLE, 3: PART}),
        ("with d as (delete from customers returning email) select * from d", 1, {0: WHOLE}),
        # functions that look elsewhere
        ("select app.secret(1), id from orders", 2, {0: PART}),
        ("select query_to_xml('select email from customers', true, true, '')", 1, {0: PART}),
        ("select * from app.rows(1) r, orders", 5, {0: PART, 1: PART}),
        # statistics hold samples of every column
        ("select schemaname, most_common_vals from pg_stats", 2, {1: PART}),
        # others
        ("declare c cursor for select id, email from customers", 2, {1: WHOLE}),
        ("copy (select id, lower(email) from customers) to stdout", 2, {1: PART}),
        ("copy customers to stdout", 3, {1: WHOLE}),
        ("copy customers (name, email) to stdout", 2, {1: WHOLE}),
        ("prepare p as select email from customers", 1, {0: WHOLE}),
        ("explain analyze select email from customers", 1, NOTHING),
        ("show search_path", 1, NOTHING),
        ("select id, total from orders", 2, NOTHING),
    ],
)  # fmt: skip
def test_lineage(sql: str, count: int, expected: dict[int, str]) -> None:
    assert withheld(sql, count) == expected


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        ("select * from customers", 7),  # the catalog is behind the server
        ("select * from app.f() a, app.g() b, customers", 9),  # two gaps
        ("select a, b from broken", 2),
        ("select * from nosuch", 2),
        ("select id, total from orders", 3),
        ("insert into scratch values (1, 2)", 1),  # a rule answers instead
        ("fetch all from c", 2),
        ("execute p", 2),
        ("call app.p(1)", 2),
        ("select from where", 2),
        ("select 1; select 2", 2),
        ("select " + "(" * 2000 + "1" + ")" * 2000, 2),
        ("select " + "-" * 1 + " - ".join(["1"] * 3000), 2),
    ],
)
def test_what_cannot_be_followed_is_withheld_as_a_whole(sql: str, count: int) -> None:
    if sql.startswith("select ("):
        # The parser folds brackets away: nothing nests.
        assert withheld(sql, 1) == {}
        return
    assert withheld(sql, count) == dict.fromkeys(range(count), "Redact")


def test_a_view_of_itself_ends() -> None:
    assert withheld("select a from round", 1) == {0: "Redact"}


def test_a_relation_that_the_server_takes_for_another_withholds_all() -> None:
    """A temporary view of the same name, made since the catalog was read."""
    lineage = lineage_of("select id, total from orders", TARGETS, Catalog())
    assert lineage.withheld([Field("id", 2, 1, 23, 4, -1, 0), Field("x", 0, 0, 25, -1, -1, 0)]) == {}
    seen = lineage.withheld([Field("id", 77, 1, 23, 4, -1, 0), Field("x", 0, 0, 25, -1, -1, 0)])
    assert seen == {0: REDACT, 1: REDACT}


def test_a_bool_is_never_withheld() -> None:
    assert UNKNOWN.withheld(fields(2, 16)) == {}
    assert list(UNKNOWN.withheld(fields(2, 25))) == [0, 1]


def test_no_targets_nothing_withheld() -> None:
    assert withheld_columns("fetch all from c", fields(2), {}, Catalog()) == {}


@pytest.mark.parametrize(
    "sql",
    [
        "insert into scratch select id, email from customers",
        "insert into scratch values ((select email from customers limit 1))",
        "insert into scratch values ('x') on conflict (a) do update set b = (select email from customers limit 1)",
        "update scratch set (a, b) = (select id, email from customers limit 1)",
        "merge into scratch using customers c on true when not matched then insert values (c.email)",
        "create table t as select email from customers",
        "select email into t from customers",
        "with x as (insert into scratch select 1, email from customers) select 1",
        "select 1 from customers where set_config('a.b', email, false) is not null",
        "select id from customers order by pg_notify('c', email) is null",
        "select 1 from orders join customers on set_config('a.b', email, false) = 'x'",
        "select case when lo_from_bytea(0, convert_to(email, 'UTF8')) > 0 then 1 end from customers",
        "update customers set name = email",
    ],
)
def test_copies_to_where_no_mask_follows_are_told(sql: str) -> None:
    assert lineage_of(sql, TARGETS, Catalog()).copies


@pytest.mark.parametrize(
    "sql",
    [
        "update customers set email = lower(email)",
        "insert into customers select * from customers",
        "insert into scratch select id, total from orders",
        "insert into scratch select count(email) from customers",
        "create materialized view v as select email from customers",
        "select set_config('a.b', 'x', false), email from customers",
        "delete from scratch using customers where email = a",
    ],
)
def test_other_writes_are_no_copies(sql: str) -> None:
    assert not lineage_of(sql, TARGETS, Catalog()).copies


@given(st.recursive(
    st.sampled_from(["email", "c.email", "c", "(c).email"]),
    lambda inner: st.builds("{}".format, inner)
    | st.builds("upper({}::text)".format, inner)
    | st.builds("(select {} limit 1)".format, inner)
    | st.builds("array[{}]".format, inner)
    | st.builds("(select x from (select {} as x) y)".format, inner)
    | st.builds("case when true then {} end".format, inner)
    | st.builds("coalesce(null, {})".format, inner)
    | st.builds("(with w(z) as (select {}) select z from w)".format, inner)
    | st.builds("(select z from (values ({})) v(z))".format, inner)
    | st.builds("(select 1 as k union all select {} as z)".format, inner),
    max_leaves=6,
))  # fmt: skip
def test_no_nesting_loses_the_column(expression: str) -> None:
    assert 0 in withheld(f"select {expression}, id from customers c", 2)


def test_rules_become_targets_and_the_stronger_wins() -> None:
    plan = MaskPlan(
        columns=(ColumnMask("public", "*", "email", KEEP_4), ColumnMask("public", "customers", "email", PSEUDONYM))
    )
    sql, parameters = column_target_query(plan.columns)
    assert "$3" in sql
    assert parameters == [["public", "public"], ["*", "customers"], ["email", "email"]]
    assert load_column_targets([(1, 10, 2), (2, 10, 2), (1, 11, 5)], plan) == {(10, 2): PSEUDONYM, (11, 5): KEEP_4}
