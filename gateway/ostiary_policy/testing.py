"""The tests that a policy carries: requests, and what must become of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from ostiary_api.cases import PolicyTest, TestSubject
from ostiary_api.connection import Connection
from ostiary_api.units import format_timestamp
from ostiary_policy.decision import Decision, Needs
from ostiary_policy.facts import PROTOCOL_VARIABLE, ClientFacts, ConnectionFacts, SubjectFacts
from ostiary_policy.masking import MaskPlan
from ostiary_policy.matching import connection_facts, matches_subject, selects
from ostiary_policy.policy import CompiledPolicy
from ostiary_policy.policy_set import PolicySet

FactSource = Callable[[PolicyTest, ConnectionFacts], Mapping[str, object]]
"""Works out the protocol's facts of a test's request: the value of `sql`. ValueError: the test fails, with its text."""

DEFAULT_TIME = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When a test without `time` happens, if the caller does not say: acceptance must not change by itself."""


@dataclass(frozen=True, slots=True)
class TestResult:
    """One case. `passed` is None if it was not run; `reason` says why, or why it failed."""

    __test__ = False

    test: str
    passed: bool | None
    reason: str = ""
    decision: Decision | None = None


def run_tests(
    policy: CompiledPolicy,
    *,
    connections: Sequence[Connection],
    namespaces: Mapping[str, Mapping[str, str]],
    system_namespace: str,
    fact_sources: Mapping[str, FactSource],
    now: datetime | None = None,
    over: Callable[[], bool] | None = None,
) -> tuple[TestResult, ...]:
    """Run the tests of a policy, on that policy alone, in their order. `over`: whether their time is over, if they
    have not as long as they like; what was not done by then has failed.

    A policy with enforcement Audit is tested as if it were enforced; rules with their own enforcement keep it. Expiry
    counts only in a test that has a `time`.
    """
    selected = [c for c in connections if selects(policy.model, c, namespaces, system_namespace)]
    limited = policy if over is None else _limited(policy, over)
    results = []
    for test in policy.model.spec.tests:
        result = None
        if over is None or not over():
            result = _run(limited, test, selected, connections, fact_sources, now or DEFAULT_TIME)
        if result is None or (over is not None and over()):
            result = TestResult(test.name, False, TOO_LONG)
        results.append(result)
    return tuple(results)


TOO_LONG = "the tests of this policy take too long. Use fewer, or expressions that go through less"


def _limited(policy: CompiledPolicy, over: Callable[[], bool]) -> CompiledPolicy:
    """The policy, each of whose expressions errs when the time is over: one test can have hundreds of them."""
    return replace(
        policy,
        conditions=tuple(replace(each, expression=each.expression.limited(over)) for each in policy.conditions),
        variables=tuple(replace(each, expression=each.expression.limited(over)) for each in policy.variables),
        rules=tuple(
            replace(
                rule,
                expression=rule.expression and rule.expression.limited(over),
                message_expression=rule.message_expression and rule.message_expression.limited(over),
            )
            for rule in policy.rules
        ),
        together=policy.together and policy.together.limited(over),
    )


def _run(
    policy: CompiledPolicy,
    test: PolicyTest,
    selected: Sequence[Connection],
    connections: Sequence[Connection],
    fact_sources: Mapping[str, FactSource],
    now: datetime,
) -> TestResult:
    protocol = "Postgres" if test.sql is not None else "Kubernetes" if test.k8s is not None else "SSH"
    source = fact_sources.get(protocol)
    if source is None:
        return TestResult(test.name, None, f"nothing here works out the facts of {protocol} requests")
    connection, wrong = _connection(policy, test, protocol, selected, connections)
    if connection is None:
        return TestResult(test.name, False, wrong)
    time = test.time or now
    subject = test_subject(test)
    try:
        facts = dict(source(test, connection))
    except ValueError as error:
        return TestResult(test.name, False, f"the facts of the request cannot be worked out: {error}")
    if test.estimated_rows is not None:
        facts["estimatedRows"] = test.estimated_rows
    request: dict[str, object] = {
        "time": format_timestamp(time),
        "connection": dict(connection),
        "subject": dict(subject),
        "client": dict(TEST_CLIENT),
        "session": {
            "id": "test",
            "startedAt": format_timestamp(time),
            "requests": 0,
            "rowsRead": 0,
            "bytesRead": 0,
            "rowsWritten": 0,
        },
    }
    tested = _as_tested(policy, expires=test.time is not None)
    policies = [tested] if matches_subject(policy.model, subject) else []
    decision = PolicySet(policies, connection, "").decide(
        {"request": request, PROTOCOL_VARIABLE[protocol]: facts}, time.timestamp(), final=True
    )
    assert not isinstance(decision, Needs)
    wrong = _compare(test, decision)
    return TestResult(test.name, not wrong, wrong, decision)


TEST_CLIENT: ClientFacts = {"address": "127.0.0.1", "application": "test"}


def test_subject(test: PolicyTest) -> SubjectFacts:
    """The facts of the one who asks in a test."""
    return subject_facts(test.as_)


def subject_facts(who: TestSubject) -> SubjectFacts:
    """The facts of a subject that was written down, not proven."""
    return {
        "username": who.username,
        "uid": who.uid,
        "groups": list(who.groups),
        "kind": who.kind,
        "namespace": who.namespace,
        "name": who.name or who.username,
        "claims": dict(who.claims),
        "onBehalfOf": who.on_behalf_of,
    }


test_subject.__test__ = False  # type: ignore[attr-defined]


def _connection(
    policy: CompiledPolicy,
    test: PolicyTest,
    protocol: str,
    selected: Sequence[Connection],
    connections: Sequence[Connection],
) -> tuple[ConnectionFacts | None, str]:
    """The Connection that a test goes through: the one it names, the first of those selected, or one made up."""
    match = policy.model.spec.match
    fitting = [c for c in selected if c.spec.protocol == protocol]
    if test.connection is not None:
        named = next((c for c in fitting if c.metadata.name == test.connection), None)
        if named is not None:
            return connection_facts(named), ""
        if any(c.metadata.name == test.connection for c in connections):
            return None, f"the policy is not for Connection {test.connection}, or that is not a {protocol} Connection"
    elif fitting:
        return connection_facts(fitting[0]), ""
    if match.protocols and protocol not in match.protocols:
        return None, f"the policy is not for {protocol}: its match.protocols are {', '.join(match.protocols)}"
    labels = dict(match.connection_selector.match_labels) if match.connection_selector is not None else {}
    name = test.connection or "test"
    return {"name": name, "namespace": policy.model.metadata.namespace, "labels": labels, "protocol": protocol}, ""


def _as_tested(policy: CompiledPolicy, *, expires: bool) -> CompiledPolicy:
    spec = policy.model.spec
    rules = tuple(
        replace(compiled, enforced=True, matched=replace(compiled.matched, enforced=True))
        if rule.enforcement is None
        else compiled
        for rule, compiled in zip(spec.rules, policy.rules, strict=True)
    )
    not_after = policy.not_after if expires else None
    return replace(policy, rules=rules, not_after=not_after, enforced=any(rule.enforced for rule in rules))


def _compare(test: PolicyTest, decision: Decision) -> str:
    """What differs from what was expected; empty if nothing does."""
    if decision.action != test.expect:
        return f"expected {test.expect}, got {decision.action}: {decision.message}"
    decided_by = decision.rule.rule if decision.rule is not None else "no rule"
    if test.rule is not None and decided_by != test.rule:
        return f"expected rule {test.rule} to decide, but {decided_by} did: {decision.message}"
    if decision.rule is None and decision.errors:
        return f"denied by an error, not by a rule: {decision.message}"
    if test.masks is not None:
        got = mask_targets(decision.masks)
        # `table.column` is a column in schema public, as in the mask itself.
        wanted = {f"public.{name}" if f"public.{name}" in got else name for name in test.masks}
        if wanted != got:
            return (
                f"expected masks on {', '.join(sorted(wanted)) or 'nothing'}, got {', '.join(sorted(got)) or 'nothing'}"
            )
    return ""


def mask_targets(plan: MaskPlan) -> set[str]:
    """What a plan masks, as `masks` of a test names it: columns, paths, names of detectors and patterns."""
    columns = {f"{mask.schema}.{mask.table}.{mask.column}" for mask in plan.columns}
    return columns | {mask.path for mask in plan.json_paths} | {mask.detector for mask in plan.detectors}
