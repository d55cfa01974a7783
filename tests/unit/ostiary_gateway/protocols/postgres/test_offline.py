"""Facts without a target: what is assumed of tables, and what stays unknown."""

from __future__ import annotations

import pytest

from ostiary_gateway.protocols.postgres.offline import sql_facts
from ostiary_policy.facts import SqlFacts


def facts(text: str) -> SqlFacts:
    return sql_facts(text, database="app", user="agent")


def relations(text: str) -> list[tuple[str, str, str]]:
    (statement,) = facts(text)["statements"]
    return sorted((r["schema"], r["name"], r["access"]) for r in statement["relations"])


def test_a_table_without_a_schema_is_in_public() -> None:
    assert relations("select * from customers") == [("public", "customers", "read")]


def test_a_schema_that_is_named_is_kept_and_in_subqueries_too() -> None:
    assert relations("delete from audit.log where id in (select id from sales.old)") == [
        ("audit", "log", "read"),
        ("audit", "log", "write"),
        ("sales", "old", "read"),
    ]


def test_one_name_in_two_schemas_is_two_relations() -> None:
    assert relations("select * from a.t join b.t using (id)") == [("a", "t", "read"), ("b", "t", "read")]


def test_system_catalogs_are_where_they_are() -> None:
    assert relations("select * from pg_class") == [("pg_catalog", "pg_class", "read")]


def test_functions_of_postgresql_are_known_and_others_are_opaque() -> None:
    (known,) = facts("select lower('A'), count(*) from t")["statements"]
    assert known["readOnly"]
    assert not known["opaque"]
    (unknown,) = facts("select my_function()")["statements"]
    assert unknown["opaque"]
    assert "my_function" in unknown["opaqueReason"]


def test_what_does_not_parse_is_opaque_and_nul_is_refused() -> None:
    (statement,) = facts("selec 1")["statements"]
    assert statement["opaque"]
    with pytest.raises(ValueError, match="NUL"):
        facts("select 1\0")
