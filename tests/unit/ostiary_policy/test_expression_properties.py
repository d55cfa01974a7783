"""Whatever stands where an expression should stand: it is refused with a place, or it can be evaluated."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.policies import NOON, decide, facts, policy, rule

from ostiary_policy.decision import Action, Decision
from ostiary_policy.environment import FRAME, RUNTIME
from ostiary_policy.expression import EvaluationError, Expression, ExpressionError, compile_expression
from ostiary_policy.second_opinion import Context

VOCABULARY = """
sql request k8s . text statements verb params [ ] ( ) { } , : ? ! - + * / % == != < <= > >= && || in 'a' '' "é" 0 1 -1
1.5 1u b'x' true false null s x exists all map filter has size matches string int timestamp duration type dyn optional
of format split 9223372036854775807 // variables estimatedRows claims subject cel bind lists range
"""
TEXTS = st.lists(st.sampled_from(VOCABULARY.split()), max_size=14).map(" ".join) | st.text(max_size=40)
SHAPES = """
sql.statements.exists(s, {})
[{}]
({}) == ({})
sql.params.map(x, {})
has(sql.text) && {}
{} ? {} : {}
dyn([{}])
""".strip().splitlines()
VALUES = """
s.verb
x
1
'a'
true
null
[x]
{'a': 1}
s.relations
sql
b''
timestamp('2026-01-01T00:00:00Z')
duration('1s')
type(1)
optional.of(1)
1u
1.0 / 0.0
sql.params[0]
request.time
sql.estimatedRows
-9223372036854775807 - 2
""".strip().splitlines()


def compiled(text: str) -> Expression | None:
    with contextlib.suppress(ExpressionError):
        return compile_expression(text, facts=("request", "sql", "k8s", "ssh"), variables={}, wanted="any")
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, facts=("request", "sql", "k8s", "ssh"), variables={}, wanted="any")
    assert all(finding.line >= 1 and finding.column >= 1 and finding.message for finding in caught.value.findings)
    return None


def check(text: str) -> None:
    expression = compiled(text)
    if expression is None:
        return
    given_facts = facts(params=["a", None])
    with contextlib.suppress(EvaluationError):
        expression.evaluate(RUNTIME.Activation({**given_facts, FRAME: 0}))
    Context(given_facts).take_apart(text)


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_any_text(text: str) -> None:
    check(text)


@pytest.mark.parametrize("shape", SHAPES)
def test_any_value_in_any_place(shape: str) -> None:
    for value in VALUES:
        check(shape.replace("{}", value))


@pytest.mark.parametrize("value", ["dyn([optional.of(1)])", "dyn(optional.of(true))", "dyn(type(1))", "dyn(b'x')"])
def test_values_without_a_form_in_python_deny(value: str) -> None:
    built = policy("p", rule("all", "Allow"), rule("odd", "Deny", value), rule("odder", "Deny", "variables.v"),
                   variables=[{"name": "v", "expression": value}])  # fmt: skip
    decision = decide(built, facts=facts(), now=NOON)
    assert isinstance(decision, Decision)
    assert decision.action == Action.DENY
    assert len(decision.errors) == 2
