from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from support.policies import bundle, connection, policy, rule, sql, statement

from ostiary_api.cases import PolicyTest
from ostiary_policy.bundle import Bundle
from ostiary_policy.facts import ConnectionFacts

SEEN: list[ConnectionFacts] = []


def source(test: PolicyTest, through: ConnectionFacts) -> Mapping[str, object]:
    """The verb is the first word: enough of SQL for these tests."""
    SEEN.append(through)
    assert test.sql is not None
    if test.sql == "garbage":
        raise ValueError("this is no SQL")
    return sql(statement(test.sql.split()[0].upper()), params=list(test.params))


def with_cases(*cases: Mapping[str, Any], **more: Any) -> Bundle:
    rules = more.pop(
        "rules",
        [
            rule("no-drop", "Deny", "sql.statements.exists(s, s.verb == 'DROP')"),
            rule("big", "RequireApproval", "sql.statements.exists(s, s.writes) && sql.estimatedRows > 1000"),
            rule("reads", "Allow", "sql.statements.all(s, s.readOnly)"),
            rule("pii", "Mask", "'pii' in request.subject.groups == false"),
        ],
    )
    options = {key: more.pop(key) for key in ("connections", "require_tests", "fact_sources") if key in more}
    options.setdefault("fact_sources", {"Postgres": source})
    return bundle(policy("p", *rules, tests=list(cases), **more), **options)


def problems(*cases: Mapping[str, Any], **more: Any) -> list[str]:
    return [f"{problem.field}: {problem.message}" for problem in with_cases(*cases, **more).problems]


READ = {"name": "reads pass", "sql": "select 1", "expect": "Allow"}


def test_cases_that_hold_are_accepted() -> None:
    assert not problems(
        READ,
        {"name": "drop", "sql": "drop database app", "expect": "Deny", "rule": "no-drop"},
        {"name": "big", "sql": "update t", "estimatedRows": 5000, "expect": "RequireApproval", "rule": "big"},
        {"name": "small", "sql": "update t", "estimatedRows": 5, "expect": "Deny"},
        {"name": "masked", "sql": "select 1", "expect": "Allow", "masks": ["customers.email"]},
        {"name": "seen", "sql": "select 1", "as": {"groups": ["pii"]}, "expect": "Allow", "masks": []},
        rules=[
            rule("no-drop", "Deny", "sql.statements.exists(s, s.verb == 'DROP')"),
            rule("big", "RequireApproval", "sql.statements.exists(s, s.writes) && sql.estimatedRows > 1000"),
            rule("reads", "Allow", "sql.statements.all(s, s.readOnly)"),
            rule("pii", "Mask", "!('pii' in request.subject.groups)"),
        ],
    )


ALLOWS = [rule("reads", "Allow", "sql.statements.all(s, s.readOnly)"), rule("pii", "Mask", "true")]


def test_a_failing_case_gates_acceptance_and_says_what_came_out() -> None:
    (problem,) = problems(READ, {"name": "drop", "sql": "drop x", "expect": "Allow"}, rules=ALLOWS)
    assert problem == (
        "spec.tests[1]: test 'drop' failed: expected Allow, got Deny: No rule allows this. Policies in force: default/p"
    )


def test_the_deciding_rule_is_compared() -> None:
    (problem,) = problems({**READ, "rule": "writes"}, rules=ALLOWS)
    assert "expected rule writes to decide, but reads did" in problem


def test_the_masks_are_compared() -> None:
    (problem,) = problems({**READ, "masks": ["CreditCard"]}, rules=ALLOWS)
    assert "expected masks on CreditCard, got public.customers.email" in problem


def test_a_denial_by_an_error_is_no_pass() -> None:
    (problem,) = problems(
        {"name": "d", "sql": "drop x", "expect": "Deny"}, rules=[rule("d", "Deny", "sql.params[3] == 'x'")]
    )
    assert "denied by an error, not by a rule" in problem


def test_facts_that_cannot_be_worked_out_fail_the_case() -> None:
    (problem,) = problems({"name": "g", "sql": "garbage", "expect": "Deny"}, rules=ALLOWS)
    assert "the facts of the request cannot be worked out: this is no SQL" in problem


def test_a_case_without_a_source_is_a_problem_only_if_asked() -> None:
    assert not problems(READ, fact_sources={}, rules=ALLOWS)
    (problem,) = problems(READ, fact_sources={}, require_tests=True, rules=ALLOWS)
    assert "test 'reads pass' could not be run: nothing here works out the facts of Postgres requests" in problem


def test_a_policy_whose_case_fails_is_not_accepted() -> None:
    built = with_cases({**READ, "expect": "Deny"}, rules=ALLOWS)
    assert built.policies["default", "p"].problems


def test_an_audit_policy_is_tested_as_if_it_were_enforced() -> None:
    assert not problems({**READ, "rule": "reads"}, enforcement="Audit", rules=ALLOWS)


def test_expiry_counts_only_in_a_case_with_a_time() -> None:
    late = {"name": "late", "sql": "select 1", "time": "2027-01-01T00:00:00Z", "expect": "Deny"}
    assert not problems(READ, late, notAfter="2020-01-01T00:00:00Z", rules=ALLOWS)


def test_the_time_of_a_case_is_the_time_of_the_request() -> None:
    night = [rule("day", "Allow", "request.time.getHours() >= 6")]
    early = {"name": "n", "sql": "select 1", "time": "2026-01-01T03:00:00Z", "expect": "Deny"}
    assert not problems(READ, early, rules=night)


def test_subjects_count() -> None:
    match = {"subjects": [{"kind": "Group", "name": "devs"}]}
    as_dev = {**READ, "name": "dev", "as": {"username": "eve", "groups": ["devs"]}}
    assert not problems(as_dev, match=match, rules=ALLOWS)
    assert "No policy is for you" in problems(READ, match=match, rules=ALLOWS)[0]


def test_a_case_goes_through_a_connection_that_the_policy_is_for() -> None:
    SEEN.clear()
    both = [connection("a", env="test"), connection("b", env="prod")]
    match = {"connectionSelector": {"matchLabels": {"env": "prod"}}}
    assert not problems(READ, match=match, connections=both, rules=ALLOWS)
    assert SEEN[-1]["name"] == "b"
    assert not problems({**READ, "connection": "made-up"}, match=match, connections=both, rules=ALLOWS)
    assert SEEN[-1] == {"name": "made-up", "namespace": "default", "labels": {"env": "prod"}, "protocol": "Postgres"}
    (problem,) = problems({**READ, "connection": "a"}, match=match, connections=both, rules=ALLOWS)
    assert "the policy is not for Connection a" in problem


def test_a_case_of_another_protocol_fails() -> None:
    (problem,) = problems(READ, match={"protocols": ["SSH"]}, rules=[rule("a", "Allow", "ssh.kind == 'exec'")])
    assert "the policy is not for Postgres: its match.protocols are SSH" in problem
