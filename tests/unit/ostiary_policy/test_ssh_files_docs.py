"""What docs/ssh-files.md shows of policies is what happens."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from support.policies import bundle
from support.ssh_desk import connection

from ostiary_api.policy import GatewayPolicy
from ostiary_gateway.feed.fact_sources import fact_sources

PAGE = (Path(__file__).parents[3] / "docs" / "ssh-files.md").read_text(encoding="utf-8")


def test_the_example_is_accepted_with_its_tests() -> None:
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    spec = {"match": {"protocols": ["SSH"]}, **yaml.safe_load(text)}
    example = GatewayPolicy.model_validate({
        "apiVersion": "ostiary.dev/v1alpha1", "kind": "GatewayPolicy",
        "metadata": {"name": "files", "namespace": connection().metadata.namespace}, "spec": spec,
    })  # fmt: skip
    built = bundle(example, connections=[connection()], fact_sources=fact_sources(), require_tests=True)
    assert not built.problems
