"""Manifests of any text: problems with their places, never an exception, and the same for the policies in them."""

from __future__ import annotations

from support.fuzzing import Target

from ostiary_api.manifests import parse
from ostiary_policy.policy import compile_policy


def run(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape" if data[:1] == b"\xff" else "replace")
    found = parse(text, "fuzz.yaml")
    lines = max(len(text.splitlines()), 1) + 1
    for problem in (*found.problems, *found.notices):
        assert problem.message
        assert 1 <= problem.location.line <= lines, problem
        assert problem.location.column >= 1, problem
    for policy in found.policies.values():
        compile_policy(policy, {}, "ostiary-system")


TARGET = Target("manifests", run, longest=3000)


def test_the_corpus_and_its_mutations() -> None:
    TARGET.replay(700)
