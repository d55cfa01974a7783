from __future__ import annotations

import json

from support.policies import CLIENT, NOON, bound, bundle, facts, policy, policy_set, rule, statement, subject

from ostiary_policy.explain import Explanation, clean, explain
from ostiary_policy.second_opinion import Part

GUARD = policy(
    "guard",
    rule("no-drop", "Deny", "sql.statements.exists(s, s.verb == 'DROP' && s.kind == 'DATABASE')", message="No."),
    rule("big", "RequireApproval", "variables.writes && sql.estimatedRows > 1000"),
    rule("reads", "Allow", "sql.statements.all(s, s.readOnly)"),
    rule("pii", "Mask", None),
    rule("trial", "Deny", "request.time.getHours() < 6", enforcement="Audit"),
    variables=[{"name": "writes", "expression": "sql.statements.exists(s, s.writes)"}],
    matchConditions=[{"name": "app", "expression": "sql.database == 'app'"}],
)


def explained(*statements: object, **more: object) -> Explanation:
    return explain(policy_set(GUARD), facts(*statements, **more), NOON)  # type: ignore[arg-type]


def flat(parts: tuple[Part, ...]) -> dict[str, object]:
    found: dict[str, object] = {}
    for part in parts:
        found[f"{part.element}: {part.text}" if part.element else part.text] = part.opinion.value
        found |= flat(part.parts)
    return found


def test_every_expression_has_its_value() -> None:
    explanation = explained("SELECT")
    (guard,) = explanation.policies
    assert [(e.kind, e.name, e.value, e.error) for e in guard.expressions] == [
        ("condition", "app", True, ""),
        ("variable", "writes", False, ""),
        ("Deny", "no-drop", False, ""),
        ("RequireApproval", "big", False, ""),
        ("Allow", "reads", True, ""),
        ("Mask", "pii", True, ""),
        ("Deny", "trial", False, ""),
    ]
    assert {e.agreement for e in guard.expressions} == {"agrees"}
    assert not explanation.differences


def test_every_sub_expression_has_its_value_and_its_place() -> None:
    explanation = explained("SELECT", statement("DROP", kind="DATABASE"))
    no_drop = explanation.policies[0].expressions[2]
    values = flat(no_drop.parts)
    assert values["s = sql.statements[0]: s.verb == 'DROP' && s.kind == 'DATABASE'"] is False
    assert values["s = sql.statements[1]: s.verb == 'DROP' && s.kind == 'DATABASE'"] is True
    assert values["s.kind"] == "DATABASE"

    def check(parts: tuple[Part, ...]) -> None:
        for part in parts:
            assert no_drop.text is not None
            assert no_drop.text[part.start : part.end] == part.text
            check(part.parts)

    check(no_drop.parts)


def test_costly_facts_that_are_not_given_are_named() -> None:
    explanation = explained("UPDATE")
    assert explanation.needed == {"sql.estimatedRows"}
    assert explanation.decision.action == "Deny"
    assert "not given: sql.estimatedRows, which a rule reads" in explanation.render()
    assert explained("UPDATE", estimatedRows=5000).decision.action == "RequireApproval"


def test_variables_are_explained_with_their_values() -> None:
    big = explained("UPDATE", estimatedRows=5000).policies[0].expressions[3]
    assert flat(big.parts)["variables.writes"] is True
    assert flat(big.parts)["sql.estimatedRows"] == 5000


def test_times_are_explained() -> None:
    trial = explained("SELECT").policies[0].expressions[6]
    assert flat(trial.parts) == {"request.time.getHours()": 12, "request.time": "2026-01-01T12:00:00Z"}
    assert not trial.enforced


def test_policies_out_of_force_say_why() -> None:
    never = policy("never", rule("r", "Allow"), matchConditions=[{"name": "c", "expression": "sql.database == 'x'"}])
    expired = policy("expired", rule("r", "Allow"), notAfter="2025-01-01T00:00:00Z")
    errs = policy("errs", rule("r", "Allow"), matchConditions=[{"name": "c", "expression": "sql.params[4] == 'x'"}])
    bad = policy("bad", rule("r", "Deny", "nope"))
    built = bundle(never, expired, errs, bad)
    explanation = explain(bound(built).for_subject(subject(), CLIENT), facts(), NOON)
    assert {p.name: p.state for p in explanation.policies} == {
        "default/never": "not in force",
        "default/expired": "expired",
        "default/errs": "condition errs",
        "default/bad": "never accepted",
    }
    assert "there is nothing called 'nope'" in explanation.render()


def test_a_difference_between_the_engines_is_said() -> None:
    odd = policy("p", rule("odd", "Deny", "dyn(sql.text) == 5"), rule("all", "Allow", "true"))
    explanation = explain(policy_set(odd), facts(), NOON)
    assert explanation.decision.action == "Allow"
    odd_rule = explanation.policies[0].expressions[0]
    assert (odd_rule.agreement, odd_rule.value) == ("differs", False)
    assert "the second engine differs: error: found no matching overload" in explanation.render()
    assert "The two CEL engines differ on default/p spec.rules[0].expression" in explanation.render()
    assert explanation.to_json()["differences"] == ["default/p spec.rules[0].expression"]


def test_what_the_second_engine_does_not_know_is_no_difference() -> None:
    extension = policy("p", rule("r", "Allow", "sets.contains(['a'], ['a']) && math.greatest(1, 2) == 2"))
    explanation = explain(policy_set(extension), facts(), NOON)
    assert explanation.decision.action == "Allow"
    assert explanation.policies[0].expressions[0].agreement == "no opinion"


def test_the_compact_form_is_json() -> None:
    described = json.loads(json.dumps(explained("SELECT").to_json()))
    assert described["decision"] == "Allow"
    assert described["rule"] == "default/guard#reads"
    assert described["policies"][0]["expressions"][0] == {
        "kind": "condition",
        "name": "app",
        "field": "spec.matchConditions[0].expression",
        "expression": "sql.database == 'app'",
        "value": True,
        "parts": [{"text": "sql.database", "span": [0, 12], "value": "app"}],
    }


def test_the_readable_form() -> None:
    text = explain(policy_set(policy("p", rule("d", "Deny", "sql.user == 'app'", hint="Use another."))), facts(), NOON)
    assert text.render().splitlines() == [
        "DENY  This is not allowed. (rule default/p#d)",
        "  hint: Use another.",
        "",
        "default/p  priority 0  in force",
        "  Deny d: true",
        "    sql.user == 'app'",
        '      sql.user = "app"',
    ]
    assert "\033[31mDENY\033[0m" in text.render(colour=True)


def test_nothing_in_a_request_steers_the_terminal() -> None:
    given = facts(statement("SELECT", text="\x1b[2J\u202e evil"))
    given["sql"]["user"] = "\x1b]0;x\x07"  # type: ignore[index]
    text = explain(policy_set(policy("p", rule("d", "Deny", "sql.user + sql.text != ''"))), given, NOON).render()
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert clean("a\x1b\n") == "a\\u001b\\u000a"


def test_refused_facts_are_explained_by_the_decision() -> None:
    explanation = explained("SELECT", database="a\0b")
    assert explanation.decision.action == "Deny"
    assert "NUL" in explanation.render()
