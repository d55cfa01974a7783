"""Facts of any value are refused or taken as they are; expressions of any text are refused or evaluated."""

from __future__ import annotations

import contextlib
import random

from support.fuzzing import Target
from support.policies import facts

from ostiary_policy.environment import FRAME, RUNTIME
from ostiary_policy.expression import EvaluationError, ExpressionError, compile_expression
from ostiary_policy.guard import RefusedFacts, check_facts

GIVEN = facts(params=["a", None])


def run_expression(data: bytes) -> None:
    """The text of an expression."""
    try:
        expression = compile_expression(
            data.decode("utf-8", "surrogateescape"), facts=("request", "sql"), variables={}, wanted="any"
        )
    except ExpressionError as problem:
        findings = problem.findings
    else:
        with contextlib.suppress(EvaluationError):
            expression.evaluate(RUNTIME.Activation({**GIVEN, FRAME: 0}))
        return
    assert all(finding.line >= 1 and finding.column >= 1 and finding.message for finding in findings)


class _Odd(str):
    """Only like a string."""

    __slots__ = ()


_LEAVES: list[object] = [
    0, -1, 2**63 - 1, -(2**63), 2**63, 1.5, float("nan"), float("inf"), "", "x", "a\0b", "\ud800", "é", True, None,
    b"x", _Odd("x"), (1,), {1}, 10**30,
]  # fmt: skip


def value(chance: random.Random, depth: int) -> object:
    kind = chance.randrange(10)
    if kind < 2 and depth:
        return [value(chance, depth - 1) for _ in range(chance.randrange(3))]
    if kind < 5 and depth:
        keys: list[object] = ["verb", "x", "relations", "a\0", "\udc80", 1, None]
        return {key: value(chance, depth - 1) for key in chance.sample(keys, chance.randrange(4))}
    return chance.choice(_LEAVES)


def sound(found: object, depth: int = 0) -> bool:
    """What the engine takes as it is, said once more and simply."""
    if depth > 64:
        return False
    if isinstance(found, dict):
        keys = all(type(key) is str and sound(key, depth) for key in found)
        return keys and all(sound(item, depth + 1) for item in found.values())
    if isinstance(found, list):
        return all(sound(item, depth + 1) for item in found)
    if type(found) is str:
        return "\0" not in found and not any("\ud800" <= char <= "\udfff" for char in found)
    if type(found) is float:
        return found - found == 0
    return found is None or type(found) is bool or (type(found) is int and -(2**63) <= found < 2**63)


def run_facts(data: bytes) -> None:
    """The bytes choose the values."""
    chance = random.Random(data)
    given: dict[str, object] = {"sql": value(chance, 5)}
    for _ in range(chance.choice((0, 0, 0, 60, 63, 64, 65, 70, 300))):
        given = {"sql": [given] if chance.random() < 0.5 else given}
    with contextlib.suppress(RefusedFacts):
        check_facts(given)
        assert sound(given)
        return
    assert not sound(given), "refused, and yet nothing is wrong with it"


EXPRESSIONS = Target("expressions", run_expression, longest=400)
FACTS = Target("guard", run_facts, longest=64)


def test_expressions() -> None:
    EXPRESSIONS.replay(1200)


def test_facts() -> None:
    FACTS.replay(4000)
