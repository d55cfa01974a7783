from __future__ import annotations

import math
from typing import Any

import pytest
from support.policies import NOON, decide, facts, policy, policy_set, rule, secret, statement, subject

from ostiary_api.policy import GatewayPolicy
from ostiary_policy.decision import Action, Decision, Needs
from ostiary_policy.masking import ColumnMask, Strategy
from ostiary_policy.policy_set import PolicySet

ALLOW = rule("all", "Allow")
DROPS = "sql.statements.exists(s, s.verb == 'DROP')"
FAILS = "sql.params[7] == 'x'"
"""No request of these tests has an eighth parameter."""


def decided(outcome: Decision | Needs) -> Decision:
    assert isinstance(outcome, Decision)
    return outcome


def by(outcome: Decision | Needs) -> tuple[str, str]:
    """Action, and the rule that led to it."""
    decision = decided(outcome)
    return str(decision.action), decision.rule.rule if decision.rule else ""


# Precedence


def test_what_no_policy_allows_is_denied() -> None:
    decision = decided(decide(facts=facts()))
    assert decision.action == Action.DENY
    assert decision.rule is None
    assert "No policy is for you at Connection default/db" in decision.message
    assert "Ask an administrator for a GatewayPolicy" in decision.hint


def test_a_default_denial_names_the_policies_in_force() -> None:
    outcome = decide(
        policy("reads", rule("drop", "Allow", DROPS)),
        policy("off", ALLOW, matchConditions=[{"name": "never", "expression": "false"}]),
        facts=facts(),
    )
    assert by(outcome) == ("Deny", "")
    assert decided(outcome).message == "No rule allows this. Policies in force: default/reads."


def test_policies_out_of_force_are_named_when_there_is_no_other() -> None:
    outcome = decide(policy("off", ALLOW, matchConditions=[{"name": "n", "expression": "false"}]), facts=facts())
    assert (
        "No policy is in force for this request (conditions or expiry left out default/off)" in decided(outcome).message
    )


def test_inside_a_priority_the_strictest_wins() -> None:
    allow, ask, deny = rule("a", "Allow"), rule("r", "RequireApproval"), rule("d", "Deny")
    assert by(decide(policy("p", allow), facts=facts())) == ("Allow", "a")
    assert by(decide(policy("p", allow, ask), facts=facts())) == ("RequireApproval", "r")
    assert by(decide(policy("p", allow, ask, deny), facts=facts())) == ("Deny", "d")
    assert by(decide(policy("p", deny), policy("q", allow), facts=facts())) == ("Deny", "d")


def test_a_higher_priority_decides_over_a_stricter_rule_below() -> None:
    high = policy("high", rule("break-glass", "Allow"), priority=10, namespace="ostiary-system", match=EVERYWHERE)
    low = policy("low", rule("no", "Deny"))
    assert by(decide(high, low, facts=facts())) == ("Allow", "break-glass")


def test_a_higher_priority_that_says_nothing_leaves_it_to_the_lower() -> None:
    high = policy("high", rule("no-drop", "Deny", DROPS), priority=10, namespace="ostiary-system", match=EVERYWHERE)
    assert by(decide(high, policy("low", ALLOW), facts=facts())) == ("Allow", "all")
    assert by(decide(high, policy("low", ALLOW), facts=facts("DROP"))) == ("Deny", "no-drop")


def test_one_denied_statement_denies_all_of_a_query() -> None:
    outcome = decide(policy("p", ALLOW, rule("no-drop", "Deny", DROPS)), facts=facts("SELECT", "DROP", "SELECT"))
    assert by(outcome) == ("Deny", "no-drop")


def test_masks_and_audit_add_up_over_all_priorities() -> None:
    high = policy(
        "high", rule("note", "Audit"), rule("mask", "Mask", masking=[{"column": "cards.number"}]),
        priority=5, namespace="ostiary-system", match=EVERYWHERE,
    )  # fmt: skip
    low = policy("low", ALLOW, rule("emails", "Mask", masking=[{"detector": "Email"}]))
    decision = decided(decide(high, low, facts=facts()))
    assert [mask.column for mask in decision.masks.columns] == ["number"]
    assert [mask.detector for mask in decision.masks.detectors] == ["Email"]
    assert [(m.rule.rule, m.action) for m in decision.matched] == [
        ("note", "Audit"), ("mask", "Mask"), ("all", "Allow"), ("emails", "Mask")
    ]  # fmt: skip


def test_where_two_masks_meet_the_stronger_wins() -> None:
    partial = {"column": "customers.email", "strategy": {"type": "Partial", "keepLast": 4}}
    pseudonym = {"column": "customers.email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "k", "key": "hmac"}}}
    redact = {"column": "public.customers.email"}
    keys = secret("k", hmac="secret")

    def strategies(*masks: dict[str, object]) -> list[str]:
        rules = [rule(f"m{i}", "Mask", masking=[mask]) for i, mask in enumerate(masks)]
        decision = decided(decide(policy("p", ALLOW, *rules), facts=facts(), secrets=keys))
        return [mask.strategy.type for mask in decision.masks.columns]

    assert strategies(partial, pseudonym) == ["Pseudonym"]
    assert strategies(redact, pseudonym, partial) == ["Redact"]
    assert strategies(partial, redact) == ["Redact"]


def test_a_mask_of_another_policy_takes_nothing_from_one() -> None:
    def partial(**kept: int) -> dict[str, object]:
        return {"column": "customers.phone", "strategy": {"type": "Partial", **kept}}

    first = rule("first", "Mask", masking=[partial(keepFirst=3)])
    last = rule("last", "Mask", masking=[partial(keepLast=2)])
    decision = decided(decide(policy("p", ALLOW, first), policy("q", last), facts=facts()))
    (mask,) = decision.masks.columns
    assert (mask.strategy.keep_first, mask.strategy.keep_last) == (0, 0)


def test_pseudonyms_have_the_key_of_the_system_namespace_where_a_tenants_policy_masks_the_same() -> None:
    def pseudonyms(name: str, namespace: str) -> GatewayPolicy:
        masking = [{"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "k", "key": "hmac"}}}]
        selector = {"match": EVERYWHERE} if namespace == "ostiary-system" else {}
        return policy(name, rule("emails", "Mask", masking=masking), namespace=namespace, **selector)

    keys = {
        **secret("k", hmac="a key that the tenant knows"),
        **secret("k", "ostiary-system", hmac="a key that nobody knows"),
    }
    tenants, systems = pseudonyms("a", "default"), pseudonyms("z", "ostiary-system")
    decision = decided(decide(policy("p", ALLOW), tenants, systems, facts=facts(), secrets=keys))
    (mask,) = decision.masks.detectors
    assert mask.strategy.key == b"a key that nobody knows"


def test_where_two_rules_ask_people_those_of_the_system_namespace_are_asked() -> None:
    def asks(name: str, group: str, **more: Any) -> GatewayPolicy:
        return policy(name, rule("ask", "RequireApproval", approval={"groups": [group]}), **more)

    friends = asks("a", "friends-of-the-tenant")
    guard = asks("z", "dba", namespace="ostiary-system", match=EVERYWHERE)
    decision = decided(decide(friends, guard, facts=facts()))
    assert decision.approval is not None
    assert decision.approval.groups == ("dba",)


# Enforcement


def test_an_audit_rule_is_recorded_and_does_not_act() -> None:
    outcome = decide(policy("p", ALLOW, rule("trial", "Deny", enforcement="Audit")), facts=facts())
    assert by(outcome) == ("Allow", "all")
    assert [(m.rule.rule, m.enforced) for m in decided(outcome).matched] == [("all", True), ("trial", False)]


def test_an_audit_policy_neither_allows_denies_nor_masks() -> None:
    trial = policy("trial", rule("no", "Deny"), rule("mask", "Mask"), enforcement="Audit")
    decision = decided(decide(policy("p", ALLOW), trial, facts=facts()))
    assert decision.action == Action.ALLOW
    assert not decision.masks
    allowed = decided(decide(policy("trial", ALLOW, enforcement="Audit"), facts=facts()))
    assert allowed.action == Action.DENY
    assert "A rule with enforcement Audit would; it is recorded only." in allowed.message


def test_a_rule_may_be_enforced_in_an_audit_policy() -> None:
    trial = policy("trial", rule("no", "Deny", enforcement="Enforce"), enforcement="Audit")
    assert by(decide(policy("p", ALLOW), trial, facts=facts())) == ("Deny", "no")


@pytest.mark.parametrize("action", ["Allow", "Deny", "RequireApproval", "Mask", "Audit"])
def test_an_erring_audit_rule_is_recorded_and_does_not_act(action: str) -> None:
    outcome = decide(policy("p", ALLOW, rule("trial", action, FAILS, enforcement="Audit")), facts=facts())
    assert by(outcome) == ("Allow", "all")
    (error,) = decided(outcome).errors
    assert error.field == "spec.rules[1].expression"
    assert not decided(outcome).masks


# Fail closed


@pytest.mark.parametrize("action", ["Allow", "Deny", "RequireApproval", "Audit"])
def test_an_erring_rule_denies(action: str) -> None:
    outcome = decide(policy("p", ALLOW, rule("broken", action, FAILS)), facts=facts())
    decision = decided(outcome)
    assert by(outcome) == ("Deny", "")
    assert "Policy default/p could not be evaluated" in decision.message
    assert "spec.rules[1].expression: rule broken: " in decision.message
    assert decision.errors[0].policy == "p"


def test_a_deny_that_errs_is_not_outvoted_by_a_higher_priority() -> None:
    high = policy("high", ALLOW, priority=100, namespace="ostiary-system", match=EVERYWHERE)
    assert by(decide(high, policy("low", rule("d", "Deny", FAILS)), facts=facts())) == ("Deny", "")


def test_a_deny_rule_that_holds_is_named_before_errors() -> None:
    outcome = decide(policy("p", rule("broken", "Allow", FAILS), rule("no", "Deny")), facts=facts())
    assert by(outcome) == ("Deny", "no")
    assert len(decided(outcome).errors) == 1


def test_an_erring_condition_denies() -> None:
    broken = policy("broken", ALLOW, matchConditions=[{"name": "c", "expression": FAILS}])
    outcome = decide(policy("p", ALLOW), broken, facts=facts())
    assert by(outcome) == ("Deny", "")
    assert "spec.matchConditions[0].expression" in decided(outcome).message


def test_a_condition_that_is_false_outweighs_one_that_errs_in_either_order() -> None:
    errs, false = {"name": "errs", "expression": FAILS}, {"name": "no", "expression": "sql.database == 'other'"}
    for conditions in ([errs, false], [false, errs]):
        outcome = decide(policy("p", ALLOW), policy("q", rule("d", "Deny"), matchConditions=conditions), facts=facts())
        assert by(outcome) == ("Allow", "all")


@pytest.mark.parametrize("value", ["sql.params[0]", "dyn(1)", "dyn('true')", "dyn(null)", "dyn([true])", "dyn({})"])
def test_a_value_that_is_no_bool_denies(value: str) -> None:
    for action in ("Allow", "Deny"):
        outcome = decide(policy("p", ALLOW, rule("odd", action, value)), facts=facts(params=["t"]))
        assert by(outcome) == ("Deny", "")
        assert "not true or false" in decided(outcome).message
    condition = policy("c", ALLOW, matchConditions=[{"name": "odd", "expression": value}])
    assert by(decide(condition, facts=facts(params=["t"]))) == ("Deny", "")


def test_an_erring_mask_withholds_its_fields() -> None:
    masking = [
        {"column": "customers.email", "strategy": {"type": "Partial", "keepLast": 4}},
        {"detector": "CreditCard", "strategy": {"type": "Partial", "keepLast": 4}},
        {"column": "customers.note", "strategy": {"type": "Null"}},
    ]
    outcome = decide(policy("p", ALLOW, rule("m", "Mask", FAILS, masking=masking)), facts=facts())
    decision = decided(outcome)
    assert by(outcome) == ("Allow", "all")
    assert decision.masks.columns == (
        ColumnMask("public", "customers", "email", Strategy("Redact")),
        ColumnMask("public", "customers", "note", Strategy("Null")),
    )
    assert decision.masks.detectors[0].strategy == Strategy("Redact")
    assert len(decision.errors) == 1


def test_facts_of_another_protocol_are_an_error() -> None:
    outcome = decide(policy("p", ALLOW, rule("k", "Deny", "k8s.verb == 'delete'")), facts=facts())
    assert by(outcome) == ("Deny", "")
    assert "k8s" in decided(outcome).message


def test_no_facts_at_all_are_an_error() -> None:
    assert by(decide(policy("p", ALLOW, rule("d", "Deny", DROPS)), facts={})) == ("Deny", "")


def test_rules_evaluated_together_are_as_good_as_apart() -> None:
    """An error of one rule, and a value that is no bool, leave the others what they are."""
    commented = rule("commented", "Audit", "true // ends in a comment")
    for odd in (FAILS, "dyn('x')", "request.subject.claims.admin", "'x'.matches(string(sql.params[0]))"):
        built = policy("p", rule("a", "Audit"), rule("odd", "Audit", odd), commented, rule("no", "Deny", DROPS), ALLOW)
        assert built.spec.rules
        (compiled,) = policy_set(built).policies
        assert compiled.together is not None or odd == FAILS
        decision = decided(decide(built, facts=facts("DROP", params=["("])))
        assert [m.rule.rule for m in decision.matched] == ["a", "commented", "no", "all"]
        assert [error.field for error in decision.errors] == ["spec.rules[1].expression"]
        assert decision.rule is not None
        assert decision.rule.rule == "no"


def test_rules_too_many_to_be_evaluated_together_are_evaluated_apart() -> None:
    long = " || ".join(f"sql.text == '{i}'" for i in range(300))
    built = policy("p", *(rule(f"r{i}", "Deny", long) for i in range(5)), ALLOW)
    assert policy_set(built).policies[0].together is None
    assert by(decide(built, facts=facts())) == ("Allow", "all")


# Variables


def test_variables_are_typed_lazy_and_may_read_those_before_them() -> None:
    built = policy(
        "p",
        rule("big", "Deny", "variables.many && variables.verbs.exists(v, v == 'UPDATE')"),
        rule("young", "Deny", "variables.age > duration('1h')"),
        rule("late", "Deny", "variables.when.getHours() >= 22"),
        ALLOW,
        variables=[
            {"name": "verbs", "expression": "sql.statements.map(s, s.verb)"},
            {"name": "many", "expression": "size(variables.verbs) > 1"},
            {"name": "age", "expression": "request.time - request.session.startedAt"},
            {"name": "when", "expression": "request.time"},
            {"name": "bad", "expression": FAILS},
        ],
    )
    assert by(decide(built, facts=facts("SELECT"))) == ("Allow", "all")
    assert by(decide(built, facts=facts("SELECT", "UPDATE"))) == ("Deny", "big")
    late = facts("SELECT")
    late["request"]["time"] = "2026-01-01T23:30:00.250Z"  # type: ignore[index]
    assert [m.rule.rule for m in decided(decide(built, facts=late)).matched] == ["young", "late", "all"]


def test_an_erring_variable_errs_only_where_it_is_read() -> None:
    bad = [{"name": "bad", "expression": FAILS}]
    short = policy("p", ALLOW, rule("d", "Deny", "sql.database == 'x' && variables.bad"), variables=bad)
    assert by(decide(short, facts=facts())) == ("Allow", "all")
    read = policy("p", ALLOW, rule("d", "Deny", "sql.database == 'app' && variables.bad"), variables=bad)
    outcome = decide(read, facts=facts())
    assert by(outcome) == ("Deny", "")
    assert "index" in decided(outcome).message


def test_a_variable_is_worked_out_at_most_once_in_a_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    from ostiary_policy.expression import Expression

    worked_out: list[str] = []
    original = Expression.evaluate_for_variable

    def counted(self: Expression, activation: object) -> object:
        worked_out.append(self.text)
        return original(self, activation)

    monkeypatch.setattr(Expression, "evaluate_for_variable", counted)
    built = policy(
        "p",
        *(rule(f"r{i}", "Allow", "variables.b || variables.b") for i in range(5)),
        variables=[
            {"name": "a", "expression": "size(sql.statements) == 1"},
            {"name": "b", "expression": "variables.a"},
        ],
    )
    assert by(decide(built, facts=facts())) == ("Allow", "r0")
    assert worked_out == ["variables.a", "size(sql.statements) == 1"]


def test_policies_do_not_see_each_others_variables() -> None:
    one = policy("one", rule("r", "Deny", "variables.x"), variables=[{"name": "x", "expression": "false"}])
    two = policy("two", rule("r", "Allow", "variables.x"), variables=[{"name": "x", "expression": "true"}])
    assert by(decide(one, two, facts=facts())) == ("Allow", "r")


# Costly facts

BIG = rule("big", "RequireApproval", "variables.writes && sql.estimatedRows > 1000")
WRITES = [{"name": "writes", "expression": "sql.statements.exists(s, s.writes)"}]


def test_a_costly_fact_is_asked_for_only_when_a_rule_needs_it() -> None:
    built = policy("p", BIG, ALLOW, variables=WRITES)
    assert by(decide(built, facts=facts("SELECT"))) == ("Allow", "all")
    assert decide(built, facts=facts("UPDATE")) == Needs(frozenset({"sql.estimatedRows"}))
    assert by(decide(built, facts=facts("UPDATE", estimatedRows=5))) == ("Allow", "all")
    assert by(decide(built, facts=facts("UPDATE", estimatedRows=5000))) == ("RequireApproval", "big")


def test_a_costly_fact_that_cannot_be_had_denies_and_says_so() -> None:
    outcome = decide(policy("p", BIG, ALLOW, variables=WRITES), facts=facts("UPDATE"), final=True)
    assert by(outcome) == ("Deny", "")
    assert "sql.estimatedRows could not be worked out" in decided(outcome).message


def test_a_costly_fact_read_by_a_variable_is_asked_for() -> None:
    built = policy(
        "p", rule("r", "Deny", "variables.huge"), ALLOW,
        variables=[{"name": "huge", "expression": "sql.estimatedRows > 1000000"}],
    )  # fmt: skip
    assert decide(built, facts=facts()) == Needs(frozenset({"sql.estimatedRows"}))
    assert by(decide(built, facts=facts(estimatedRows=3))) == ("Allow", "all")


def test_has_on_a_costly_fact_needs_it_up_front() -> None:
    built = policy("p", rule("r", "Deny", "has(sql.estimatedRows) && sql.estimatedRows > 10"), ALLOW)
    assert decide(built, facts=facts()) == Needs(frozenset({"sql.estimatedRows"}))
    assert by(decide(built, facts=facts(), final=True)) == ("Allow", "all")
    assert by(decide(built, facts=facts(estimatedRows=11))) == ("Deny", "r")


def test_what_is_denied_anyway_needs_no_costly_fact() -> None:
    assert by(decide(policy("p", rule("no", "Deny"), BIG, variables=WRITES), facts=facts("UPDATE"))) == ("Deny", "no")


def test_a_higher_priority_that_needs_a_costly_fact_may_still_decide() -> None:
    high = policy(
        "high", rule("small", "Allow", "sql.estimatedRows < 10"),
        priority=1, namespace="ostiary-system", match=EVERYWHERE,
    )  # fmt: skip
    low = policy("low", rule("no", "Deny"))
    assert isinstance(decide(high, low, facts=facts("UPDATE")), Needs)
    assert by(decide(high, low, facts=facts("UPDATE", estimatedRows=3))) == ("Allow", "small")


def test_a_costly_fact_in_a_condition_is_asked_for() -> None:
    built = policy("p", ALLOW, matchConditions=[{"name": "small", "expression": "sql.estimatedRows < 10"}])
    assert decide(built, facts=facts()) == Needs(frozenset({"sql.estimatedRows"}))
    assert by(decide(built, facts=facts(), final=True)) == ("Deny", "")
    assert by(decide(built, facts=facts(estimatedRows=1))) == ("Allow", "all")


def test_a_costly_condition_may_still_leave_out_a_policy_whose_other_condition_errs() -> None:
    conditions = [{"name": "errs", "expression": FAILS}, {"name": "big", "expression": "sql.estimatedRows > 10"}]
    built = policy_set(policy("p", ALLOW), policy("q", rule("d", "Deny"), matchConditions=conditions))
    assert isinstance(built.decide(facts(), NOON), Needs)
    assert by(built.decide(facts(estimatedRows=5), NOON)) == ("Allow", "all")
    assert by(built.decide(facts(estimatedRows=50), NOON)) == ("Deny", "")


def test_parameters_that_are_not_there_yet_are_asked_for() -> None:
    built = policy("p", ALLOW, rule("d", "Deny", "'root' in sql.params"))
    early = facts()
    del early["sql"]["params"]  # type: ignore[attr-defined]
    assert decide(built, facts=early) == Needs(frozenset({"sql.params"}))
    assert by(decide(built, facts=early, final=True)) == ("Deny", "")
    assert by(decide(built, facts=facts(params=["root"]))) == ("Deny", "d")
    assert by(decide(built, facts=facts(params=[None]))) == ("Allow", "all")


# Expiry


def test_an_expired_policy_is_not_in_force() -> None:
    built = policy_set(policy("p", ALLOW, notAfter="2026-01-01T12:00:00Z"))
    assert by(built.decide(facts(), NOON - 0.001)) == ("Allow", "all")
    assert by(built.decide(facts(), NOON)) == ("Deny", "")


def test_a_decision_says_until_when_it_stands() -> None:
    built = policy_set(
        policy("p", ALLOW, notAfter="2026-01-01T12:00:00Z"), policy("q", ALLOW, notAfter="2026-01-01T13:00:00Z")
    )
    assert built.valid_until == NOON
    assert decided(built.decide(facts(), NOON - 1)).valid_until == NOON
    assert decided(built.decide(facts(), NOON + 1)).valid_until == NOON + 3600
    assert decided(built.decide(facts(), NOON + 3601)).valid_until == math.inf


# Messages


def test_a_message_says_the_rule() -> None:
    deny = rule("no-drop", "Deny", DROPS, message="Dropping is not allowed.", hint="Ask the platform team.")
    decision = decided(decide(policy("p", deny), facts=facts("DROP")))
    assert decision.message == "Dropping is not allowed. (rule default/p#no-drop)"
    assert decision.hint == "Ask the platform team."


def test_a_message_expression_gives_the_message() -> None:
    deny = rule("d", "Deny", messageExpression="'No ' + sql.statements[0].verb + ' here.'", message="No.")
    assert decided(decide(policy("p", deny), facts=facts("DROP"))).message == "No DROP here. (rule default/p#d)"


@pytest.mark.parametrize("expression", ["sql.statements[9].verb", "dyn(1)", "''", "string(sql.estimatedRows)"])
def test_a_message_expression_that_fails_falls_back_to_the_message(expression: str) -> None:
    deny = rule("d", "Deny", messageExpression=expression, message="No.")
    assert decided(decide(policy("p", deny), facts=facts("DROP"))).message == "No. (rule default/p#d)"


def test_messages_without_a_text() -> None:
    assert decided(decide(policy("p", rule("d", "Deny")), facts=facts())).message == (
        "This is not allowed. (rule default/p#d)"
    )
    approval = rule("r", "RequireApproval", approval={"groups": ["dba", "sre"], "minApprovals": 2})
    decision = decided(decide(policy("p", approval), facts=facts()))
    assert decision.message == "This needs approval by 2 members of dba or sre. (rule default/p#r)"
    assert decision.approval is not None
    assert decision.approval.min_approvals == 2
    assert decided(decide(policy("p", ALLOW), facts=facts())).message == "Allowed by rule default/p#all."


# What the data plane asks of a set


def sets(*rules: dict[str, object], **spec: object) -> PolicySet:
    return policy_set(policy("p", ALLOW, *rules, **spec))


def test_a_set_knows_what_it_reads() -> None:
    built = sets(
        rule("d", "Deny", "variables.v && 'x' in request.subject.groups"),
        rule("m", "Deny", "false", messageExpression="sql.database"),
        matchConditions=[{"name": "c", "expression": "sql.user != 'root'"}],
        variables=[{"name": "v", "expression": "sql.statements.exists(s, s.opaque)"}],
    )
    assert built.reads == {
        "sql.user", "sql.statements", "sql.statements.opaque", "request.subject.groups", "sql.database"
    }  # fmt: skip
    assert not built.reads_params
    assert sets(rule("d", "Deny", "'x' in sql.params")).reads_params


def test_a_decision_is_reusable_if_nothing_that_varies_is_read() -> None:
    plain = sets(rule("d", "Deny", DROPS))
    assert plain.reusable("text")
    assert plain.reusable("request")
    text = sets(rule("d", "Deny", "sql.text.contains('x')"))
    assert not text.reusable("text")
    assert text.reusable("request")
    for varies in ("sql.params == []", "request.time.getHours() < 6", "sql.inTransaction", "sql.estimatedRows > 1",
                   "request.session.rowsRead > 10", "request == request"):  # fmt: skip
        built = sets(rule("d", "Deny", varies))
        assert not built.reusable("text"), varies
        assert not built.reusable("request"), varies


def test_a_set_knows_whether_it_may_mask() -> None:
    assert not sets().may_mask
    assert not sets(rule("m", "Mask", enforcement="Audit")).may_mask
    assert sets(rule("m", "Mask")).may_mask
    assert not sets(rule("m", "Mask", "sql.user == 'x'")).mask_rules_static
    assert sets(rule("m", "Mask", None)).mask_rules_static
    conditioned = sets(rule("m", "Mask", None), matchConditions=[{"name": "c", "expression": "sql.user == 'x'"}])
    assert not conditioned.mask_rules_static


def test_equal_masks_are_one_plan() -> None:
    built = sets(rule("m", "Mask", None), rule("n", "Mask", "sql.user == 'app'", masking=[{"detector": "Email"}]))
    first, second = decided(built.decide(facts(), NOON)), decided(built.decide(facts("UPDATE"), NOON))
    assert first.masks is second.masks


def test_subjects_choose_policies() -> None:
    groups = policy("g", rule("g", "Allow"), match={"subjects": [{"kind": "Group", "name": "devs"}]})
    account = policy(
        "sa", rule("sa", "Allow"),
        match={"subjects": [{"kind": "ServiceAccount", "namespace": "agents", "name": "planner"}]},
    )  # fmt: skip
    user = policy("u", rule("u", "Allow"), match={"subjects": [{"kind": "User", "name": "bob"}]})

    def who(asks: object) -> str:
        return by(decide(groups, account, user, facts=facts(), who=asks))[1]

    assert who(subject("alice", "devs")) == "g"
    assert who(subject("bob")) == "u"
    assert who(subject("planner", kind="ServiceAccount", namespace="agents", name="planner")) == "sa"
    assert who(subject("planner", kind="ServiceAccount", namespace="other", name="planner")) == ""
    assert who(subject("planner")) == ""
    assert who(subject("bob", kind="ServiceAccount", namespace="agents", name="x")) == ""


def test_the_statement_that_the_facts_describe_stays_as_it_was() -> None:
    given = facts(statement("UPDATE"))
    before = str(given)
    decide(policy("p", BIG, ALLOW, variables=WRITES), facts=given)
    assert str(given) == before


EVERYWHERE = {"namespaceSelector": {}}


def test_a_decision_on_an_object_is_reusable_for_requests_that_have_none() -> None:
    nothing = frozenset({"k8s.object", "k8s.oldObject"})
    large = sets(rule("d", "Deny", "k8s.verb == 'patch' && k8s.object.spec.replicas > 10"))
    assert not large.reusable("text")
    assert not large.reusable("request")
    assert large.reusable("text", fixed=nothing)
    named = sets(rule("d", "Deny", "k8s.name == 'a' && k8s.object != {}"))
    assert not named.reusable("text", fixed=nothing)
    assert named.reusable("request", fixed=nothing)
