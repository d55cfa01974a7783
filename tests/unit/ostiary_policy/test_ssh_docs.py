"""The recipes of docs/policies-ssh.md: each is accepted, and its tests hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from support.policies import bundle

from ostiary_api.policy import GatewayPolicy
from ostiary_gateway.feed.fact_sources import fact_sources

PAGE = (Path(__file__).parents[3] / "docs" / "policies-ssh.md").read_text(encoding="utf-8")
RECIPES: dict[str, str] = dict(re.findall(r"### (\d+\. [^\n]*)\n.*?```yaml\n(.*?)```", PAGE, re.DOTALL))


def test_there_are_twelve() -> None:
    assert len(RECIPES) == 12


@pytest.mark.parametrize("title", RECIPES)
def test_a_recipe_is_accepted_and_its_tests_hold(title: str) -> None:
    spec = yaml.safe_load(RECIPES[title])
    spec["match"] = {"protocols": ["SSH"]}
    policy = GatewayPolicy.model_validate({"metadata": {"name": "recipe"}, "spec": spec})
    assert {rule.name for rule in policy.spec.rules if rule.action in ("Deny", "RequireApproval")} <= {
        test.rule for test in policy.spec.tests
    }
    built = bundle(policy, fact_sources=fact_sources(), require_tests=True)
    assert not [str(problem) for problem in built.problems]
