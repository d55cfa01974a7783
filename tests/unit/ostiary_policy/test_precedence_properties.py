"""Any policies, any truth: the decision is the one that a naive reading of the rules gives, and it fails closed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.policies import NOON, decide, facts, policy, policy_set, rule

from ostiary_policy.decision import Action, Decision, Needs

Truth = Literal["true", "false", "error"]
QUICK = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Expressions whose truth is known without an engine. `costly` depends on sql.estimatedRows: absent, 5 or 50.

ATOMS = {
    "true": "sql.database == 'app'",
    "false": "sql.database == 'other'",
    "error": "sql.statements[7].opaque",
    "odd": "dyn(1)",
    "costly": "sql.estimatedRows > 10",
}


@dataclass(frozen=True)
class Term:
    """An atom, or `not`, `and`, `or` of terms; `via` names a variable that stands for it."""

    kind: str
    of: tuple[Term, ...] = ()

    def text(self) -> str:
        match self.kind:
            case "and" | "or":
                sign = "&&" if self.kind == "and" else "||"
                return f"({self.of[0].text()} {sign} {self.of[1].text()})"
            case "not":
                return f"!({self.of[0].text()})"
            case _:
                return ATOMS[self.kind]

    def truth(self, rows: int | None) -> Truth:
        match self.kind:
            case "true" | "false" | "error":
                return self.kind  # type: ignore[return-value]
            case "odd":
                return "error"
            case "costly":
                return "error" if rows is None else "true" if rows > 10 else "false"
            case "not":
                inner = self.of[0].truth(rows)
                return {"true": "false", "false": "true", "error": "error"}[inner]  # type: ignore[return-value]
            case _:
                values = {term.truth(rows) for term in self.of}
                decisive: Truth = "false" if self.kind == "and" else "true"
                if decisive in values:
                    return decisive
                return "error" if "error" in values else values.pop()


terms = st.recursive(
    st.sampled_from(list(ATOMS)).map(Term),
    lambda inner: st.one_of(
        inner.map(lambda one: Term("not", (one,))),
        st.tuples(st.sampled_from(["and", "or"]), inner, inner).map(lambda of: Term(of[0], of[1:])),
    ),
    max_leaves=4,
)


@dataclass(frozen=True)
class SomeRule:
    action: str
    term: Term
    enforcement: str | None
    by_variable: bool


@dataclass(frozen=True)
class SomePolicy:
    priority: int
    enforcement: str
    conditions: tuple[Term, ...]
    rules: tuple[SomeRule, ...]
    expires: float | None = None


rules = st.builds(
    SomeRule,
    st.sampled_from(["Deny", "RequireApproval", "Allow", "Allow", "Mask", "Audit"]),
    terms,
    st.sampled_from([None, None, None, "Enforce", "Audit"]),
    st.booleans(),
)
policies = st.builds(
    SomePolicy,
    st.integers(-1, 2),
    st.sampled_from(["Enforce", "Enforce", "Enforce", "Audit"]),
    st.lists(terms, max_size=2).map(tuple),
    st.lists(rules, min_size=1, max_size=4).map(tuple),
    st.sampled_from([None, None, NOON, NOON + 1]),
)
many = st.lists(policies, max_size=4)


def build(some: list[SomePolicy]) -> list[Any]:
    built = []
    for number, one in enumerate(some):
        variables, written = [], []
        for index, each in enumerate(one.rules):
            text = each.term.text()
            if each.by_variable:
                variables.append({"name": f"v{index}", "expression": text})
                text = f"variables.v{index}"
            more: dict[str, Any] = {"enforcement": each.enforcement} if each.enforcement else {}
            if each.action == "Mask":
                more["masking"] = [{"column": f"t.c{number}x{index}", "strategy": {"type": "Partial"}}]
            written.append(rule(f"r{index}", each.action, text, **more))
        spec: dict[str, Any] = {"priority": one.priority, "enforcement": one.enforcement, "variables": variables}
        spec["matchConditions"] = [
            {"name": f"c{index}", "expression": term.text()} for index, term in enumerate(one.conditions)
        ]
        if one.expires is not None and not any(each.action == "Deny" for each in one.rules):
            spec["notAfter"] = "2026-01-01T12:00:00Z" if one.expires == NOON else "2026-01-01T12:00:01Z"
        spec["match"] = {"namespaceSelector": {}}
        built.append(policy(f"p{number}", *written, namespace="ostiary-system", **spec))
    return built


@dataclass
class Expected:
    action: str = "Deny"
    masks: set[tuple[str, str]] = field(default_factory=set)
    matched: list[tuple[str, str, bool]] = field(default_factory=list)


def naive(some: list[SomePolicy], rows: int | None) -> Expected:
    """Section by section as the documentation says it, with no thought for speed."""
    expected = Expected()
    says: dict[int, set[str]] = {}
    fails = False
    order = sorted(range(len(some)), key=lambda number: (-some[number].priority, number))
    for number in order:
        one = some[number]
        has_deny = any(each.action == "Deny" for each in one.rules)
        if one.expires is not None and not has_deny and one.expires <= NOON:
            continue
        conditions = [term.truth(rows) for term in one.conditions]
        if "false" in conditions:
            continue
        if "error" in conditions:
            fails = fails or any((each.enforcement or one.enforcement) == "Enforce" for each in one.rules)
            continue
        for index, each in enumerate(one.rules):
            enforced = (each.enforcement or one.enforcement) == "Enforce"
            truth = each.term.truth(rows)
            if truth == "true":
                expected.matched.append((f"p{number}", f"r{index}", enforced))
            if not enforced or truth == "false":
                continue
            if each.action == "Mask":
                expected.masks.add((f"c{number}x{index}", "Partial" if truth == "true" else "Redact"))
            elif truth == "error":
                fails = True
            elif each.action != "Audit":
                says.setdefault(one.priority, set()).add(each.action)
    if fails or not says:
        return expected
    highest = says[max(says)]
    expected.action = next(a for a in ("Deny", "RequireApproval", "Allow") if a in highest)
    return expected


@QUICK
@given(many, st.sampled_from([None, 5, 50]))
def test_the_decision_is_the_naive_one(some: list[SomePolicy], rows: int | None) -> None:
    given_facts = facts() if rows is None else facts(estimatedRows=rows)
    decision = decide(*build(some), facts=given_facts, final=True)
    expected = naive(some, rows)
    assert isinstance(decision, Decision)
    assert decision.action == expected.action
    assert {(mask.column, mask.strategy.type) for mask in decision.masks.columns} == expected.masks
    assert [(m.rule.policy, m.rule.rule, m.enforced) for m in decision.matched] == expected.matched


@QUICK
@given(many)
def test_what_is_decided_without_a_costly_fact_stands_whatever_the_fact_is(some: list[SomePolicy]) -> None:
    built = policy_set(*build(some))
    early = built.decide(facts(), NOON)
    if isinstance(early, Needs):
        assert early.facts == {"sql.estimatedRows"}
        return
    for rows in (5, 50):
        late = built.decide(facts(estimatedRows=rows), NOON)
        assert isinstance(late, Decision)
        assert late.action == early.action == naive(some, rows).action


@QUICK
@given(many, st.sampled_from([5, 50]))
def test_with_every_fact_nothing_is_needed(some: list[SomePolicy], rows: int) -> None:
    assert isinstance(policy_set(*build(some)).decide(facts(estimatedRows=rows), NOON), Decision)


@QUICK
@given(many, st.sampled_from([None, 5, 50]))
def test_a_deny_rule_that_holds_at_the_top_always_denies(some: list[SomePolicy], rows: int | None) -> None:
    top = SomePolicy(2, "Enforce", (), (SomeRule("Deny", Term("true"), None, False),))
    given_facts = facts() if rows is None else facts(estimatedRows=rows)
    decision = decide(*build([*some, top]), facts=given_facts)
    assert isinstance(decision, Decision)
    assert decision.action == Action.DENY
    assert decision.rule is not None


@QUICK
@given(many, st.sampled_from(["Deny", "RequireApproval", "Allow", "Audit"]), st.integers(-1, 2))
def test_an_enforced_rule_that_errs_anywhere_always_denies(some: list[SomePolicy], action: str, priority: int) -> None:
    broken = SomePolicy(priority, "Enforce", (), (SomeRule(action, Term("error"), None, False),))
    decision = decide(*build([*some, broken]), facts=facts(estimatedRows=5))
    assert isinstance(decision, Decision)
    assert decision.action == Action.DENY


NAMES = st.sampled_from(["statements", "database", "params", "verb", "x"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=5)
    | st.binary(max_size=3) | st.tuples(st.integers()) | st.just(object()),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(NAMES | st.integers(), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
READS = (
    rule("app", "Allow", "sql.database == 'app' && sql.statements.all(s, s.verb == 'SELECT')"),
    rule("claims", "RequireApproval", "request.subject.claims.admin == true"),
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.sampled_from(["request", "sql", "k8s", "ssh", "other"]), values, max_size=4))
def test_garbage_for_facts_never_crashes_and_never_allows(garbage: dict[str, object]) -> None:
    decision = SET.decide(garbage, NOON, final=True)
    assert isinstance(decision, Decision)
    assert decision.action == Action.DENY
    assert decision.message


SET = policy_set(policy("p", *READS))
