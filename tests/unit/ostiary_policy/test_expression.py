from __future__ import annotations

import pytest
from support.policies import facts

from ostiary_policy import second_parser
from ostiary_policy.environment import FRAME, RUNTIME
from ostiary_policy.expression import EvaluationError, ExpressionError, Finding, Wanted, compile_expression

ALL = ("request", "sql", "k8s", "ssh")


def refused(text: str, wanted: Wanted = "bool", names: tuple[str, ...] = ALL) -> Finding:
    with pytest.raises(ExpressionError) as caught:
        compile_expression(text, facts=names, variables={}, wanted=wanted)
    return caught.value.findings[0]


def value(text: str, given: dict[str, object] | None = None) -> object:
    expression = compile_expression(text, facts=ALL, variables={}, wanted="any")
    return expression.evaluate(RUNTIME.Activation({**(given or facts()), FRAME: 0}))


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "hint"),
    [
        ("sql.statments == []", 1, 4, "there is no field 'statments' in Sql", "Did you mean 'statements'?"),
        ("true &&\n  sql.tex == 'x'", 2, 6, "there is no field 'tex' in Sql", "Did you mean 'text'?"),
        ("'é' + sql.tex == ''", 1, 10, "there is no field 'tex' in Sql", "Did you mean 'text'?"),
        ("'😀' + sql.tex == ''", 1, 10, "there is no field 'tex' in Sql", "Did you mean 'text'?"),
        ("sql.statements.exists(s, s.verbs == 'DROP')", 1, 27, "there is no field 'verbs' in Statement", "'verb'"),
        ("sql.zzz", 1, 4, "there is no field 'zzz' in Sql", "Its fields: text, database, user"),
        ("sqll.text == ''", 1, 5, "there is nothing called 'sqll.text'", ""),
        ("reqest", 1, 1, "there is nothing called 'reqest'", "Did you mean 'request'?"),
        ("sql.text.contain('x')", 1, 17, "there is nothing called 'contain'", "Did you mean 'contains'?"),
        ("variables.x", 1, 10, "there is no variable 'x' here", "No variable is declared before this expression."),
        ("sql.text > 5", 1, 10, "found no matching overload for '_>_' applied to '(string, int)'", ""),
        ("sql.text ==", 1, 12, "syntax error", ""),
        ("sql.text", 1, 1, "the expression gives string, not bool", "compare the value with something"),
        ("sql.statements[0]", 1, 1, "the expression gives statement, not bool", "compare"),
        ("sql.text.matches('(')", 1, 18, "not a regular expression: missing ): (", "RE2"),
        ("sql.text.matches('(?=x)')", 1, 18, "not a regular expression", "no look-around"),
        ("matches(sql.text, r'\\1')", 1, 19, "not a regular expression", "RE2"),
        ("lists.range(size(sql.text)) == []", 1, 12, "lists.range takes a literal number up to 1000", ""),
        ("lists.range(1000000000) == []", 1, 12, "lists.range takes a literal number up to 1000", ""),
        ("ostiary.Sql{text: 'x'} == sql", 1, 1, "a ostiary.Sql cannot be made in an expression", ""),
        ("sql.?text == optional.of('x')", 1, 5, "the second parser", "no optional syntax"),
        ("sql.text == 'a\0b'", 1, 1, "NUL", ""),
        ("sql.text == '\ud800'", 1, 1, "half a character", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_has_a_place_and_a_hint(text: str, line: int, column: int, message: str, hint: str) -> None:
    finding = refused(text)
    assert (finding.line, finding.column) == (line, column)
    assert message in finding.message
    assert hint in finding.hint


def test_every_mistake_is_reported() -> None:
    with pytest.raises(ExpressionError) as caught:
        compile_expression("sql.a == 1 ||\nsql.b == 2", facts=ALL, variables={}, wanted="bool")
    assert [(f.line, f.message) for f in caught.value.findings] == [
        (1, "there is no field 'a' in Sql"),
        (2, "there is no field 'b' in Sql"),
    ]


def test_facts_of_other_protocols_are_not_there() -> None:
    finding = refused("k8s.verb == 'get'", names=("request", "sql"))
    assert finding.message == "there is no 'k8s' in this policy"
    assert finding.hint == "'k8s' is for Kubernetes; see match.protocols."


@pytest.mark.parametrize("text", ["(" * 400 + "true" + ")" * 400, "[" * 300 + "]" * 300])
def test_depth_is_bounded(text: str) -> None:
    assert refused(text).message


def test_size_is_bounded() -> None:
    assert "more than 4000" in refused(" || ".join(["sql.text == 'x'"] * 1300)).message


def test_a_dynamic_value_may_be_a_condition() -> None:
    expression = compile_expression("request.subject.claims.admin", facts=ALL, variables={}, wanted="bool")
    assert expression.type.name() == "DYN"


# Times are text in the facts, and times in expressions.


@pytest.mark.parametrize(
    "text",
    [
        "request.time.getHours() == 12",
        "request.time.getHours('Europe/Berlin') == 13",
        "request.time - request.session.startedAt == duration('30m')",
        "request.time - request.session.startedAt < duration('1h')",
        "request.time > timestamp('2025-12-31T23:59:59Z')",
        "request.time == timestamp('2026-01-01T13:00:00+01:00')",
        "[request.time].exists(t, t.getFullYear() == 2026)",
        "[request].all(r, r.time.getMonth() == 0 && r.session.startedAt < r.time)",
        "cel.bind(s, request.session, s.startedAt < request.time)",
        "(true ? request.time : request.session.startedAt).getMinutes() == 0",
        "has(request.time)",
        "string(request.time) == '2026-01-01T12:00:00Z'",
        "request.time in [request.time]",
    ],
)
def test_times_are_times(text: str) -> None:
    assert value(text) is True


def test_a_time_that_is_none_errs() -> None:
    given = facts()
    given["request"]["time"] = "yesterday"  # type: ignore[index]
    with pytest.raises(EvaluationError):
        value("request.time.getHours() < 6", given)


# Traps of the engine.


def test_an_error_is_not_true() -> None:
    """The engine's value of an ERROR is a truthy string."""
    for text in ("sql.params[9] == 'x'", "1 / 0 == 1", "sql.estimatedRows > 5", "dyn(1) + 'x' == ''"):
        with pytest.raises(EvaluationError) as caught:
            value(text)
        assert str(caught.value)


def test_errors_read_well() -> None:
    for text, words in {
        "sql.estimatedRows > 5": "there is no 'estimatedRows'",
        "k8s.verb == 'get'": "there is no 'k8s' in a request of this protocol",
        "1 / (size(sql.params)) == 1": "divide by zero",
        "dyn(1) + 'x' == ''": "no function takes these types",
    }.items():
        with pytest.raises(EvaluationError, match=words):
            value(text)


def test_true_is_only_the_boolean() -> None:
    assert value("dyn('true')") == "true"
    assert value("dyn(1)") == 1
    assert value("1 == 1") is True


def test_loops_are_bounded() -> None:
    loop = "lists.range(1000).all(a, lists.range(1000).all(b, a + b >= 0))"
    with pytest.raises(EvaluationError, match="Iteration budget exceeded"):
        value(loop)


def test_constant_patterns_are_compiled_once_and_search() -> None:
    assert value("sql.text.matches('^SEL')") is True
    assert value("sql.text.matches('^sel')") is False
    assert value("sql.text.matches('LECT')") is True
    assert value("matches(sql.text, '(?i)sel.*')") is True
    assert value("['aé', 'b'].exists(x, x.matches('^.é$'))") is True
    with pytest.raises(EvaluationError):
        value("dyn(1).matches('x')")


def test_a_pattern_from_the_facts_is_a_pattern() -> None:
    given = facts(params=["^SEL", "("])
    assert value("sql.text.matches(string(sql.params[0]))", given) is True
    with pytest.raises(EvaluationError, match="regular expression"):
        value("sql.text.matches(string(sql.params[1]))", given)


@pytest.mark.parametrize(
    "text",
    [
        "sql.text.split(' ')[0] == 'SELECT'",
        "['b', 'a'].sort() == ['a', 'b']",
        "sets.contains(['a', 'b'], ['a'])",
        "math.greatest(1, 3, 2) == 3",
        "cel.bind(x, 2, x * x) == 4",
        "regex.replace('abc', 'b', 'x') == 'axc'",
        "regex.extract('abc', 'b(.)').orValue('') == 'c'",
        "'%s-%d'.format(['a', 1]) == 'a-1'",
        "'ABC'.lowerAscii() == 'abc'",
    ],
)
def test_extensions_are_there(text: str) -> None:
    assert value(text) is True


def test_an_expression_that_was_read_before_is_judged_as_at_first() -> None:
    for text in ("sql.text ==", "true ||", "sql.text == '" + "x" * 3000 + "'", "1 +" + " " * 3000):
        first = second_parser.read(text)
        assert second_parser.read(text) == first
        assert (first is None) == text.endswith("'")
