"""Rows of a plan, as PostgreSQL 18 explains it."""

from __future__ import annotations

import json

import pytest

from ostiary_gateway.protocols.postgres.reference import array, estimate
from ostiary_gateway.protocols.postgres.upstream import QuestionFailed


def plan(kind: str, rows: int, *children: dict[str, object], **more: object) -> dict[str, object]:
    return {"Node Type": kind, "Plan Rows": rows, **({"Plans": list(children)} if children else {}), **more}


def explained(tree: dict[str, object]) -> str:
    return json.dumps([{"Plan": tree}])


def test_a_select_is_what_it_returns() -> None:
    assert estimate(explained(plan("Aggregate", 1, plan("Seq Scan", 5000)))) == 1


def test_a_change_is_what_its_source_gives() -> None:
    assert estimate(explained(plan("ModifyTable", 0, plan("Seq Scan", 5000)))) == 5000
    assert estimate(explained(plan("ModifyTable", 5000, plan("Seq Scan", 5000)))) == 5000, "RETURNING counts once"


def test_a_partitioned_change_is_the_sum() -> None:
    assert estimate(explained(plan("ModifyTable", 0, plan("Append", 30, plan("Scan", 10), plan("Scan", 20))))) == 30


def test_every_modifying_cte_counts() -> None:
    cte = plan("ModifyTable", 7, plan("Seq Scan", 7), **{"Parent Relationship": "InitPlan"})
    assert estimate(explained(plan("ModifyTable", 0, cte, plan("Seq Scan", 3)))) == 10
    assert estimate(explained(plan("CTE Scan", 1, cte))) == 7


@pytest.mark.parametrize("text", ["", "[]", "{}", "[{}]", '[{"Plan": {}}]', '[{"Plan": {"Plan Rows": "many"}}]'])
def test_a_plan_that_cannot_be_read_is_no_estimate(text: str) -> None:
    with pytest.raises(QuestionFailed):
        estimate(text)


def test_arrays_are_quoted() -> None:
    assert array(["a", 'b"c', "d\\e", "f,g", ""]) == '{"a","b\\"c","d\\\\e","f,g",""}'
