"""What docs/policies.md shows is what happens."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import yaml
from support.policies import CLIENT, NOON, bound, bundle, connection, facts, sql, statement, subject

from ostiary_api.cases import PolicyTest
from ostiary_api.policy import GatewayPolicy
from ostiary_policy.explain import explain
from ostiary_policy.facts import ConnectionFacts

PAGE = (Path(__file__).parents[3] / "docs" / "policies.md").read_text(encoding="utf-8")


def source(test: PolicyTest, through: ConnectionFacts) -> Mapping[str, object]:
    assert test.sql is not None
    return sql(statement(test.sql.split()[0], hasWhere="WHERE" in test.sql, text=test.sql))


def test_the_example_is_accepted_with_its_tests_and_explained_as_shown() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    example = GatewayPolicy.model_validate(yaml.safe_load(text))
    built = bundle(
        example,
        connections=[connection("db", "shop", env="prod")],
        fact_sources={"Postgres": source},
        require_tests=True,
    )
    assert not built.problems
    asks = subject("planner", "agents")
    given = facts(statement("DELETE", text="DELETE FROM customers"), who=asks)
    explanation = explain(bound(built, "db", "shop").for_subject(asks, CLIENT), given, NOON)
    assert f"```\n{explanation.render()}\n```" in PAGE
