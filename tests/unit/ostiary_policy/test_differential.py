"""The engine that decides, held against cel-python on everything that policies are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.policies import facts, request, statement, subject

from ostiary_policy.environment import FRAME, RUNTIME
from ostiary_policy.expression import EvaluationError, compile_expression
from ostiary_policy.schema import FACTS
from ostiary_policy.second_opinion import Context, plain_time, same

CORPUS = [
    line
    for line in (Path(__file__).parent / "cel_corpus.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]


def inputs() -> dict[str, dict[str, Any]]:
    claims = {"team": "data", "level": 5, "admin": True, "roles": ["x", "y"], "a": {}}
    delete = statement("DELETE", text="DELETE FROM customers", hasWhere=False, fingerprint="")
    drop = statement("DROP", kind="TABLE", text="DROP TABLE x", relations=[], opaque=True, opaqueReason="why")
    sleep = statement("SELECT", functions=["pg_catalog.pg_sleep"], hasLimit=True, settings=["role"])
    return {
        "a read": facts("SELECT"),
        "a write with an estimate": facts(delete, estimatedRows=5000),
        "several": facts(drop, "SELECT", sleep, inTransaction=True, estimatedRows=3),
        "no statement": {"request": request(), "sql": {**facts()["sql"], "statements": [], "text": ""}},  # type: ignore[dict-item]
        "parameters": facts("SELECT", params=[None, "x", "5"]),
        "no parameters known": {"request": request(), "sql": _without(facts("UPDATE")["sql"], "params")},
        "claims and groups": facts("SELECT", who=subject("bob", "devs", "dba", claims=claims, kind="ServiceAccount")),
        "unicode": facts("SELECT", database="dätä😀", who=subject("алиса")),
    }


def _without(value: Any, key: str) -> dict[str, Any]:
    return {name: item for name, item in value.items() if name != key}


INPUTS = inputs()

KNOWN_DIFFERENCES = {
    "sql.params[0] == 5": "values of two types are unequal; cel-python errs",
    "sql.params.exists(p, p == 5)": "values of two types are unequal; cel-python errs",
    "dyn(1) == 1.0": "numbers of two types are compared by value; cel-python errs",
    "dyn('x') == 5": "values of two types are unequal; cel-python errs",
    "dyn(1) == true": "values of two types are unequal; cel-python takes true for 1",
    "dyn(1) in [1.0, 2.0]": "numbers of two types are compared by value; cel-python errs",
    "string(true) == 'true'": "cel-python writes True",
    "type(duration('1s')) == google.protobuf.Duration": "cel-python does not know this name",
    "sql.params[0] in ['a', 5]": "values of two types are unequal; cel-python errs",
    "has(request.subject.claims.a.b)": "without claims.a it errs; cel-python says false",
}


def decided(text: str, given: dict[str, Any]) -> tuple[bool, object]:
    """Whether there is a value, and the value."""
    expression = compile_expression(text, facts=tuple(FACTS), variables={}, wanted="any")
    try:
        return True, plain_time(expression.evaluate(RUNTIME.Activation({**given, FRAME: 0})))
    except EvaluationError:
        return False, None


def second(text: str, given: dict[str, Any]) -> tuple[bool, object]:
    opinion = Context(given).evaluate(text)
    return not opinion.error, opinion.value


def differ(text: str) -> list[str]:
    """Names of the inputs on which the two differ."""
    found = []
    for name, given in INPUTS.items():
        first, other = decided(text, given), second(text, given)
        if first[0] != other[0] or not same(first[1], other[1]):
            found.append(f"{name}: {first} and {other}")
    return found


def test_the_corpus_is_large() -> None:
    assert len(set(CORPUS)) == len(CORPUS) >= 150


@pytest.mark.parametrize("text", [text for text in CORPUS if text not in KNOWN_DIFFERENCES])
def test_both_engines_agree(text: str) -> None:
    assert not differ(text)


@pytest.mark.parametrize("text", KNOWN_DIFFERENCES)
def test_known_differences_are_still_there(text: str) -> None:
    assert differ(text)
