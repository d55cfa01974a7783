from __future__ import annotations

from enum import StrEnum

import pytest
from support.policies import decide, facts, policy, rule

from ostiary_policy.decision import Action, Decision
from ostiary_policy.guard import MAX_DEPTH, MAX_VALUES, RefusedFacts, check_facts


class Text(str):
    __slots__ = ()


class Verb(StrEnum):
    DROP = "DROP"


def nested(depth: int) -> object:
    value: object = "x"
    for _ in range(depth):
        value = [value]
    return value


REFUSED = {
    "NUL, which the engine would cut at": "DR\0OP",
    "NUL behind other characters": "é\0",
    "a lone surrogate, on which the engine raises": "\ud800",
    "a datetime in a value, which poisons it": __import__("datetime").datetime(2026, 1, 1),
    "a tuple": ("a",),
    "a set": {"a"},
    "bytes": b"a",
    "a subclass of str": Text("a"),
    "an enum": Verb.DROP,
    "an integer over 64 bits": 2**63,
    "a negative integer over 64 bits": -(2**63) - 1,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "a key that is no string": {1: "a"},
    "a key with NUL": {"a\0": 1},
    "a key with half a character": {"\udfff": 1},
    "a value too deep, which can crash the engine": nested(MAX_DEPTH + 1),
    "a value very much too deep": nested(100_000),
    "too many values": [None] * (MAX_VALUES + 1),
    "an object": object(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_is_refused_before_evaluation_and_denies(what: str) -> None:
    with pytest.raises(RefusedFacts):
        check_facts({"sql": {"params": [REFUSED[what]]}})
    built = policy("p", rule("all", "Allow"), rule("mask", "Mask", "sql.user == 'nobody'"))
    decision = decide(built, facts=facts(params=[REFUSED[what]]))
    assert isinstance(decision, Decision)
    assert decision.action == Action.DENY
    assert decision.rule is None
    assert "This request cannot be decided: " in decision.message
    assert decision.errors
    assert decision.masks.columns[0].strategy.type == "Redact"


def test_a_refusal_never_shows_the_value() -> None:
    with pytest.raises(RefusedFacts) as caught:
        check_facts({"sql": {"text": "secret\0"}})
    assert "secret" not in str(caught.value)


def test_a_key_that_only_equals_a_fact_never_allows_more() -> None:
    given = facts()
    given["sql"][Text("user")] = given["sql"].pop("user")  # type: ignore[attr-defined, index]
    decision = decide(policy("p", rule("all", "Allow"), rule("d", "Deny", "sql.user == 'app'")), facts=given)
    assert isinstance(decision, Decision)
    assert decision.action == Action.DENY


def test_a_cycle_is_refused() -> None:
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(RefusedFacts):
        check_facts({"sql": cycle})


def test_everything_plain_passes() -> None:
    check_facts(facts(params=["é😀\t\n\x01", "", None, True, 2**63 - 1, -(2**63), 1.5, nested(MAX_DEPTH - 3)]))
