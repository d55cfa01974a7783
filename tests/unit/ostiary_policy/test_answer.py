"""The answer that an agent gets: why, what would be allowed, how to go on; short, and as its schema says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.policies import NOON, facts, policy, policy_set, rule, statement

from ostiary_api.policy import GatewayPolicy
from ostiary_policy import answer_schema
from ostiary_policy.answer import Answer, Approval, Change, Reason
from ostiary_policy.answer_size import MAX_BYTES, cut, line, short
from ostiary_policy.answering import Told, answer
from ostiary_policy.decision import Decision
from ostiary_policy.policy_set import PolicySet

ROOT = Path(__file__).parents[3]
GUARD = policy(
    "guard",
    rule(
        "bounded",
        "Deny",
        "sql.statements.exists(s, s.verb in ['DELETE', 'UPDATE'] && !s.hasWhere)",
        message="Every row would change.",
        hint="Say which rows.",
    ),
    rule("big", "RequireApproval", "variables.writes && sql.estimatedRows > 1000"),
    rule("no-files", "Deny", "sql.statements.exists(s, s.functions.exists(f, f == 'pg_catalog.pg_read_file'))"),
    rule("no-hr", "Deny", "sql.statements.exists(s, s.relations.exists(r, r.schema == 'hr'))"),
    rule("work", "Allow", "sql.statements.all(s, s.readOnly || s.verb in ['DELETE', 'UPDATE'])", description="Work."),
    variables=[{"name": "writes", "expression": "sql.statements.exists(s, s.writes)"}],
)


def ask(*statements: dict[str, Any], of: GatewayPolicy = GUARD, told: Told | None = None, **sql: object) -> Answer:
    policies, given = policy_set(of), facts(*statements, **sql)
    decision = policies.decide(given, NOON, final=True)
    assert isinstance(decision, Decision)
    reply = answer(decision, policies, given, NOON, told)
    assert Answer.model_validate_json(line(reply)).decision == decision.action
    return reply


def changes(reply: Answer) -> dict[str, str]:
    return {_said(change): change.then for change in reply.allowed.changes}


def _said(change: Change) -> str:
    if change.without is not None:
        return f"{change.fact} without {change.without}"
    return f"{change.fact} <= {change.at_most}" if change.at_most is not None else f"{change.fact} = {change.equals}"


def test_a_denial_names_its_rule_and_the_conditions_that_made_it_hold() -> None:
    reply = ask(statement("SELECT"), statement("DELETE"))
    assert (reply.reason, reply.policy, reply.rule) == (Reason.RULE, "default/guard", "bounded")
    assert [(c.expression, c.value, c.facts) for c in reply.because] == [
        ("s.verb in ['DELETE', 'UPDATE']", True, {"sql.statements[1].verb": "DELETE"}),
        ("!s.hasWhere", True, {"sql.statements[1].hasWhere": False}),
    ]
    assert (reply.next.do, reply.next.hint) == ("Change", "Say which rows.")
    assert reply.message.startswith("Every row would change.")


def test_it_says_which_change_would_be_enough() -> None:
    assert changes(ask(statement("DELETE"))) == {
        "sql.statements[0].hasWhere = True": "Estimate",
    }
    large = ask(statement("DELETE", hasWhere=True), estimatedRows=5000)
    assert changes(large)["sql.estimatedRows <= 1000"] == "Allow"
    read = statement("SELECT", functions=["pg_catalog.pg_read_file", "pg_catalog.upper"])
    assert changes(ask(read)) == {"sql.statements[0].functions without pg_catalog.pg_read_file": "Allow"}
    hr = {"schema": "hr", "name": "salaries", "access": "read", "columns": ["*"]}
    joined = statement("SELECT", relations=[hr, {**hr, "schema": "public", "name": "staff"}])
    assert changes(ask(joined)) == {"sql.statements[0].relations without hr.salaries": "Allow"}


def test_of_several_statements_it_says_which_would_pass_alone() -> None:
    reply = ask(statement("SELECT"), statement("DROP"), statement("SELECT"))
    assert reply.allowed.statements == (1, 3)


def test_no_rule_allows_it_and_what_those_that_allow_something_miss() -> None:
    reply = ask(statement("DROP"), estimatedRows=1)
    assert (reply.reason, reply.rule, reply.next.do) == (Reason.NO_RULE, "", "Change")
    (big, work) = reply.allowed.rules
    assert (big.rule, big.action) == ("big", "RequireApproval")
    assert (work.policy, work.rule, work.description) == ("default/guard", "work", "Work.")
    assert [(c.expression, c.facts) for c in work.unmet] == [
        ("s.readOnly", {"sql.statements[0].readOnly": False}),
        ("s.verb in ['DELETE', 'UPDATE']", {"sql.statements[0].verb": "DROP"}),
    ]


def test_nobody_allows_anything() -> None:
    none = PolicySet((), policy_set(GUARD).connection, "")
    given = facts(statement("SELECT"))
    decision = none.decide(given, NOON)
    assert isinstance(decision, Decision)
    reply = answer(decision, none, given, NOON)
    assert (reply.reason, reply.next.do) == (Reason.NO_POLICY, "AskAdministrator")


def test_approval_says_who_and_how_it_stands() -> None:
    asked = ask(statement("UPDATE", hasWhere=True), estimatedRows=5000)
    assert (asked.decision, asked.reason) == ("RequireApproval", Reason.APPROVAL)
    assert asked.approval == Approval(state="Unavailable", groups=("dba",))
    pending = Approval(name="apr-1", state="Pending", groups=("dba",), expires_at="2026-01-01T12:15:00Z")
    told = Told(request="s-1", approval=pending, rollback=True)
    waiting = ask(statement("UPDATE", hasWhere=True), estimatedRows=5000, told=told)
    assert waiting.approval == pending
    assert (waiting.next.do, waiting.next.rollback, waiting.request) == ("AwaitApproval", True, "s-1")
    assert {(c.expression, str(c.facts)) for c in waiting.because} == {
        ("s.writes", "{'sql.statements[0].writes': True}"),
        ("sql.estimatedRows > 1000", "{'sql.estimatedRows': 5000}"),
    }


def test_a_rule_that_errs_is_named_and_no_change_helps() -> None:
    erring = policy("erring", rule("odd", "Deny", "sql.params[3] == 'x'"), rule("rest", "Allow"))
    reply = ask(statement("SELECT"), of=erring, params=[])
    assert (reply.reason, reply.next.do) == (Reason.ERROR, "AskAdministrator")
    (error,) = reply.errors
    assert (error.policy, error.field) == ("default/erring", "spec.rules[0].expression")


def test_facts_that_cannot_be_decided_by_are_told_without_looking_into_them() -> None:
    reply = ask(statement("SELECT", text="a\0b"))
    assert (reply.reason, reply.truncated, reply.because) == (Reason.ERROR, True, ())


def test_a_request_of_many_statements_is_told_in_brief() -> None:
    reply = ask(*[statement("DELETE")] * 1000)
    assert (reply.rule, reply.truncated, reply.allowed.rules) == ("bounded", True, ())


@pytest.mark.parametrize("filler", ["x", "é", "\u2028", "😀", "\x1b", '"'])
def test_it_is_one_short_line_whatever_is_in_it(filler: str) -> None:
    rules = [rule(f"r{n}", "Allow", f"sql.user == '{n}' && sql.text == 'never {n}'") for n in range(20)]
    wide = policy("wide", rule("no", "Deny", "sql.text != ''", message=filler * 900, hint=filler * 900), *rules)
    approval = Approval(name="a" * 60, state="Denied", groups=(filler * 200,) * 16, message=filler * 500)
    told = Told(request="s" * 20, opaque=filler * 3000, approval=approval)
    text = line(ask(statement("SELECT"), of=wide, told=told, text=filler * 5000))
    assert len(text.encode()) <= MAX_BYTES
    assert len(text.splitlines()) == 1
    found = Answer.model_validate_json(text)
    assert (found.rule, found.truncated, found.request) == ("no", True, "s" * 20)


def test_long_values_are_cut() -> None:
    assert cut("abc", 3) == "abc"
    assert cut("abcd", 3) == "ab…"
    assert short(["x" * 200] * 9) == [*["x" * 99 + "…"] * 8, "…"]
    assert short(5) == 5


def test_negation_variables_and_nested_macros_are_followed() -> None:
    odd = policy(
        "odd",
        rule(
            "quiet",
            "Deny",
            "!(variables.plain || sql.user == 'root') && !sql.statements.all(s, s.relations.all(r, r.schema != 'hr'))",
        ),
        rule("rest", "Allow"),
        variables=[{"name": "plain", "expression": "sql.statements.all(s, s.hasWhere)"}],
    )
    hr = {"schema": "hr", "name": "pay", "access": "read", "columns": []}
    reply = ask(statement("SELECT", relations=[hr]), of=odd)
    assert {(c.expression, c.value, str(c.facts)) for c in reply.because} == {
        ("s.hasWhere", False, "{'sql.statements[0].hasWhere': False}"),
        ("sql.user == 'root'", False, "{'sql.user': 'app'}"),
        ("r.schema != 'hr'", False, "{'sql.statements[0].relations[0].schema': 'hr'}"),
    }


def test_the_schema_in_the_documentation_is_the_models() -> None:
    assert answer_schema.main([str(ROOT / "docs" / "answer.schema.json"), "--check"]) == 0
    made = json.loads(answer_schema.schema())
    assert made["properties"]["version"]["const"] == 1
    assert made["required"] == ["version", "decision", "reason", "request", "next", "message"]
