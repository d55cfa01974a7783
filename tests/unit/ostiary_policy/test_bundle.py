from __future__ import annotations

from typing import Any

import pytest
from support.policies import CLIENT, NOON, bound, bundle, connection, facts, policy, rule, secret, subject

from ostiary_policy.bundle import Bundle
from ostiary_policy.decision import Decision
from ostiary_policy.policy import Problem

ALLOW = rule("all", "Allow")
TYPO = rule("typo", "Deny", "sql.statments == []")


def decision(built: Bundle, name: str = "db", namespace: str = "default") -> Decision:
    outcome = bound(built, name, namespace).for_subject(subject(), CLIENT).decide(facts(), NOON)
    assert isinstance(outcome, Decision)
    return outcome


def action(built: Bundle, name: str = "db", namespace: str = "default") -> str:
    return str(decision(built, name, namespace).action)


# What a policy is for


def test_a_policy_is_for_connections_of_its_own_namespace() -> None:
    both = [connection("db"), connection("db", "team-a")]
    built = bundle(policy("p", ALLOW, namespace="team-a"), connections=both)
    assert action(built, "db", "team-a") == "Allow"
    assert action(built, "db", "default") == "Deny"


def test_labels_select_connections() -> None:
    both = [connection("prod", env="prod"), connection("test", env="test")]
    built = bundle(policy("p", ALLOW, match={"connectionSelector": {"matchLabels": {"env": "test"}}}), connections=both)
    assert action(built, "test") == "Allow"
    assert action(built, "prod") == "Deny"


def test_protocols_select_connections() -> None:
    built = bundle(policy("p", rule("k", "Allow", "k8s.verb == 'get'"), match={"protocols": ["Kubernetes"]}))
    assert not built.problems
    assert bound(built).policies == ()


def test_the_system_namespace_reaches_over_namespaces_by_their_labels() -> None:
    both = [connection("db", "team-a"), connection("db", "team-b")]
    system = policy(
        "p", ALLOW, namespace="ostiary-system", match={"namespaceSelector": {"matchLabels": {"stage": "dev"}}}
    )
    built = bundle(system, connections=both, namespaces={"team-a": {"stage": "dev"}, "team-b": {"stage": "prod"}})
    assert action(built, "db", "team-a") == "Allow"
    assert action(built, "db", "team-b") == "Deny"
    by_name = policy(
        "p", ALLOW, namespace="ostiary-system",
        match={"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "team-b"}}},
    )  # fmt: skip
    assert action(bundle(by_name, connections=both), "db", "team-b") == "Allow"


def test_the_system_namespace_may_be_another() -> None:
    system = policy("p", ALLOW, namespace="gateways", match={"namespaceSelector": {}}, priority=7)
    assert bundle(system).problems
    built = bundle(system, system_namespace="gateways")
    assert not built.problems
    assert action(built) == "Allow"


def test_there_may_be_no_such_connection() -> None:
    assert bundle().connection("default", "nope") is None


def test_the_facts_of_a_connection() -> None:
    assert bound(bundle()).facts == {
        "name": "db", "namespace": "default", "labels": {"env": "prod"}, "protocol": "Postgres"
    }  # fmt: skip


# Acceptance


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"rules": [TYPO]}, "spec.rules[0].expression", "there is no field 'statments' in Sql"),
        ({"rules": [rule("m", "Deny", messageExpression="sql.inTransaction")]}, "spec.rules[0].messageExpression",
         "the expression gives bool, not string"),
        ({"matchConditions": [{"name": "c", "expression": "1"}]}, "spec.matchConditions[0].expression",
         "the expression gives int, not bool"),
        ({"variables": [{"name": "v", "expression": "nope"}]}, "spec.variables[0].expression",
         "there is nothing called 'nope'"),
        ({"variables": [{"name": "v", "expression": "variables.v"}]}, "spec.variables[0].expression",
         "there is no variable 'v' here"),
        ({"variables": [{"name": "v", "expression": "[request.time]"}]}, "spec.variables[0].expression",
         "a variable cannot hold list<timestamp>"),
        ({"variables": [{"name": "v", "expression": "type(1)"}]}, "spec.variables[0].expression", "cannot hold"),
        ({"variables": [{"name": "v", "expression": "optional.of(1)"}]}, "spec.variables[0].expression",
         "cannot hold"),
        ({"priority": 1}, "spec.priority", "a priority over 0 is only for policies in namespace ostiary-system"),
        ({"match": {"namespaceSelector": {}}}, "spec.match.namespaceSelector", "namespaceSelector is only for"),
        ({"rules": [rule("m", "Mask", masking=[{"pattern": {"name": "x", "regex": "(?!a)"}}])]},
         "spec.rules[0].masking[0].pattern.regex", "not a regular expression of RE2"),
        ({"rules": [rule("m", "Mask", masking=[
            {"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "kez", "key": "hmac"}}}])]},
         "spec.rules[0].masking[0].strategy.keyRef", "there is no Secret default/kez"),
        ({"rules": [rule("m", "Mask", masking=[
            {"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "key", "key": "hmax"}}}])]},
         "spec.rules[0].masking[0].strategy.keyRef", "key 'hmax' of Secret default/key is not there"),
    ],
)  # fmt: skip
def test_what_is_not_accepted(spec: dict[str, Any], field: str, message: str) -> None:
    rules = spec.pop("rules", [ALLOW])
    built = bundle(policy("p", *rules, **spec), secrets=secret("key", hmac="k"))
    problem = built.problems[0]
    assert (problem.namespace, problem.policy, problem.field) == ("default", "p", field)
    assert message in problem.message


def test_a_problem_reads_well() -> None:
    (problem,) = bundle(policy("p", TYPO)).problems
    assert str(problem) == (
        "default/p: spec.rules[0].expression:1:4: there is no field 'statments' in Sql. Did you mean 'statements'?"
    )


def test_a_policy_that_was_never_accepted_denies_whatever_it_matches() -> None:
    both = [connection("db"), connection("other", "team-a")]
    built = bundle(policy("p", ALLOW), policy("bad", TYPO), policy("q", ALLOW, namespace="team-a"), connections=both)
    denied = decision(built)
    assert denied.action == "Deny"
    assert "Policy default/bad was never accepted, and denies whatever it matches" in denied.message
    assert "there is no field 'statments'" in denied.message
    assert "ostiary lint" in denied.hint
    assert action(built, "other", "team-a") == "Allow"


def test_it_does_so_only_for_its_subjects() -> None:
    bad = policy("bad", TYPO, match={"subjects": [{"kind": "User", "name": "bob"}]})
    assert action(bundle(policy("p", ALLOW), bad)) == "Allow"


def test_it_cannot_reach_other_namespaces() -> None:
    bad = policy("bad", ALLOW, namespace="team-a", match={"namespaceSelector": {}}, priority=1000)
    built = bundle(policy("p", ALLOW), bad, connections=[connection("db"), connection("db", "team-a")])
    assert action(built) == "Allow"
    assert action(built, "db", "team-a") == "Deny"


def test_an_audit_policy_that_was_never_accepted_is_only_recorded() -> None:
    allowed = decision(bundle(policy("p", ALLOW), policy("bad", TYPO, enforcement="Audit")))
    assert allowed.action == "Allow"
    assert allowed.errors


def test_a_policy_keeps_its_last_accepted_revision() -> None:
    first = bundle(policy("p", ALLOW))
    second = bundle(policy("p", TYPO), previous=first)
    assert second.problems
    assert action(second) == "Allow"
    assert second.policies["default", "p"].revision == first.policies["default", "p"].revision
    third = bundle(policy("p", TYPO), previous=second)
    assert action(third) == "Allow"
    assert action(bundle(policy("p", rule("no", "Deny")), previous=third)) == "Deny"


def test_a_policy_that_never_was_accepted_stays_so() -> None:
    first = bundle(policy("p", TYPO))
    assert action(bundle(policy("p", TYPO), previous=first)) == "Deny"


def test_a_policy_that_was_removed_is_gone_even_if_it_was_accepted() -> None:
    first = bundle(policy("p", ALLOW))
    assert action(bundle(previous=first)) == "Deny"


def test_a_missing_key_keeps_the_last_accepted_revision_and_its_key() -> None:
    masks = [{"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "key", "key": "hmac"}}}]
    masked = policy("p", ALLOW, rule("m", "Mask", masking=masks))
    first = bundle(masked, secrets=secret("key", hmac="one"))
    second = bundle(masked, previous=first)
    assert second.problems
    assert decision(second).masks.detectors[0].strategy.key == b"one"
    assert decision(bundle(masked, secrets=secret("key", hmac="two"))).masks.detectors[0].strategy.key == b"two"


def test_two_policies_of_one_name_deny() -> None:
    built = bundle(policy("p", ALLOW), policy("p", ALLOW))
    assert "there are two policies of this name" in built.problems[0].message
    assert action(built) == "Deny"


# Revision


def test_the_revision_changes_with_what_decides_and_with_nothing_else() -> None:
    masks = [{"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "key", "key": "hmac"}}}]
    masked = policy("p", ALLOW, rule("m", "Mask", masking=masks))
    one = bundle(masked, secrets=secret("key", hmac="one"))
    assert len(one.revision) == 64
    assert bundle(masked, secrets=secret("key", hmac="one", other="x")).revision == one.revision
    assert bundle(masked, secrets=secret("key", hmac="two")).revision != one.revision
    assert bundle(masked, secrets=secret("key", hmac="one"), namespaces={"a": {"b": "c"}}).revision != one.revision
    assert bundle(masked, policy("q", ALLOW), secrets=secret("key", hmac="one")).revision != one.revision
    assert bundle(masked, secrets=secret("key", hmac="one"), connections=[connection()]).revision != one.revision
    assert decision(one).revision == one.revision
    assert b"one" not in one.revision.encode()


def test_keys_are_in_no_text() -> None:
    masks = [{"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "key", "key": "hmac"}}}]
    built = bundle(policy("p", ALLOW, rule("m", "Mask", masking=masks)), secrets=secret("key", hmac="s3cr3t"))
    assert "s3cr3t" not in repr(decision(built))
    assert "s3cr3t" not in repr(built.policies)


def test_a_policy_that_somebody_else_refused_denies_what_it_matches() -> None:
    refused = {("default", "p"): (Problem("default", "p", "spec.tests[0]", "test 'a' failed: it was allowed"),)}
    built = bundle(policy("p", ALLOW), refused=refused)
    assert [str(problem) for problem in built.problems] == [str(refused["default", "p"][0])]
    assert decision(built).action == "Deny"
    assert "test 'a' failed: it was allowed" in decision(built).message
    assert action(bundle(policy("p", ALLOW), refused={})) == "Allow"


def test_what_did_not_change_is_taken_as_it_is_and_decides_the_same() -> None:
    masks = [{"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "key", "key": "hmac"}}}]
    masked, plain = policy("m", ALLOW, rule("m", "Mask", masking=masks)), policy("p", ALLOW)
    one, two = secret("key", hmac="one"), secret("key", hmac="two")
    old = bundle(masked, plain, secrets=one)
    same = bundle(masked, plain, secrets=one, previous=old, reuse=True)
    assert all(same.policies[key] is old.policies[key] for key in old.policies)
    assert same.revision == old.revision
    rotated = bundle(masked, plain, secrets=two, previous=old, reuse=True)
    assert rotated.policies["default", "m"] is not old.policies["default", "m"]
    assert rotated.revision == bundle(masked, plain, secrets=two).revision
    changed = bundle(masked, policy("p", rule("no", "Deny")), secrets=one, previous=old, reuse=True)
    assert action(changed) == "Deny"


def test_what_is_broken_is_looked_at_again() -> None:
    broken = policy("p", ALLOW, match={"namespaceSelector": {}})
    old = bundle(broken)
    assert old.problems
    again = bundle(broken, previous=old, reuse=True, system_namespace="default")
    assert not again.problems
    assert action(again) == "Allow"
