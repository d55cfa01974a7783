"""Which revision of a policy is in force, through changes, restarts and objects that nobody can read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from support.world import ALLOW, EXTENSIONS, NAMESPACE, World

from ostiary_api.bundle_feed import unpack
from ostiary_api.policy import GatewayPolicy
from ostiary_operator import extensions
from ostiary_operator.observed import read_policy
from ostiary_operator.reconcile import acceptance
from ostiary_policy.bundle import compile_bundle
from ostiary_policy.policy import Problem

KEY = f"{NAMESPACE}/p"
TYPO = {"name": "typo", "action": "Deny", "expression": "sql.statments == []"}
SYSTEM = "ostiary-system"


def allowed(sql: str, **more: Any) -> dict[str, Any]:
    return {"name": "a", "sql": sql, "expect": "Allow", **more}


def test_a_good_policy_is_in_force(world: World) -> None:
    world.policy("p", ALLOW, tests=[allowed("select 1")])
    world.settle()
    standing = world.standings[KEY]
    model = world.policies[KEY].model
    assert model is not None
    assert (standing.accepted, standing.refused, standing.revision) == (True, None, model.revision)


def test_a_policy_that_never_was_accepted_is_refused_with_its_reason(world: World) -> None:
    world.connection()
    world.policy("p", TYPO)
    world.settle()
    refused = world.standings[KEY].refused
    assert refused is not None
    assert refused.field == "spec.rules[0].expression"
    assert "no field 'statments'" in refused.message
    assert "Did you mean 'statements'" in refused.message
    assert world.standings[KEY].revision == ""


def test_the_last_accepted_revision_stays_in_force(world: World) -> None:
    world.policy("p", ALLOW)
    world.settle()
    first = world.standings[KEY].revision
    world.policy("p", TYPO)
    world.settle()
    assert (world.standings[KEY].accepted, world.standings[KEY].revision) == (False, first)
    assert [problem.field for problem in world.standings[KEY].problems] == ["spec.rules[0].expression"]
    world.policy("p", ALLOW, priority=-1)
    world.settle()
    assert world.standings[KEY].accepted
    assert world.standings[KEY].revision != first


def test_another_policy_of_the_same_name_does_not_inherit_what_was_accepted(world: World) -> None:
    world.policy("p", ALLOW)
    world.settle()
    del world.policies[KEY]
    world.policy("p", TYPO)
    world.settle()
    assert world.standings[KEY].refused is not None


# What is compiled again


def test_only_what_changed_is_looked_at_again(world: World) -> None:
    world.connection()
    for name in "pqr":
        world.policy(name, ALLOW, tests=[allowed("select 1")])
    world.settle()
    assert len(world.compiled) == 3
    world.connection("another", port=5433)
    world.secret("whatever")
    world.settle()
    assert world.compiled == []
    world.policy("q", ALLOW, priority=-1)
    world.settle()
    assert world.compiled == [f"{NAMESPACE}/q"]


def test_a_policy_whose_test_goes_through_another_connection_now_is_looked_at_again(world: World) -> None:
    world.connection("app-db", labels={"env": "prod"})
    by_label = "request.connection.labels['env'] == 'prod'"
    world.policy("p", ALLOW | {"expression": by_label}, tests=[allowed("select 1")])
    world.settle()
    assert world.standings[KEY].accepted
    world.connection("app-db", labels={"env": "test"})
    world.settle()
    assert world.compiled == [KEY]
    assert "test 'a' failed" in world.standings[KEY].problems[0].message


def test_a_policy_is_looked_at_again_when_the_secret_comes_that_it_lacked(world: World) -> None:
    masking = [{"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "mask", "key": "hmac"}}}]
    world.policy("p", ALLOW, {"name": "pii", "action": "Mask", "masking": masking})
    world.settle()
    assert str(world.standings[KEY].problems[0]).startswith(
        "shop/p: spec.rules[1].masking[0].strategy.keyRef: there is no Secret shop/mask"
    )
    world.secret("mask")
    world.settle()
    assert world.compiled == [KEY]
    assert world.standings[KEY].accepted


# What a policy may not be

REFUSED: list[tuple[str, dict[str, Any], str, str]] = [
    ("priority", {"priority": 1}, "spec.priority", "only for policies in namespace ostiary-system"),
    ("namespaces", {"match": {"namespaceSelector": {}}}, "spec.match.namespaceSelector", "only for policies in"),
    ("test", {"tests": [allowed("select 1") | {"expect": "Deny"}]}, "spec.tests[0]", "expected Deny, got Allow"),
    ("type", {"matchConditions": [{"name": "c", "expression": "1"}]}, "spec.matchConditions[0].expression", "bool"),
]


@pytest.mark.parametrize(("spec", "path", "says"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_not_allowed_is_told_with_its_field(world: World, spec: dict[str, Any], path: str, says: str) -> None:
    world.policy("p", ALLOW, **spec)
    world.settle()
    problem = world.standings[KEY].problems[0]
    assert problem.field == path
    assert says in problem.message


@pytest.mark.parametrize("case", REFUSED[:2], ids=["priority", "namespaces"])
def test_the_system_namespace_may(world: World, case: tuple[str, dict[str, Any], str, str]) -> None:
    world.policy("p", ALLOW, namespace=SYSTEM, **case[1])
    world.settle()
    assert world.standings[f"{SYSTEM}/p"].accepted


def test_a_mask_that_would_hide_nothing_on_a_database_is_refused(world: World) -> None:
    world.policy("p", ALLOW, {"name": "m", "action": "Mask", "masking": [{"jsonPath": "$.data"}]})
    world.settle()
    assert world.standings[KEY].accepted
    world.connection()
    world.settle()
    assert "would mask nothing on shop/app-db, a Postgres Connection" in world.standings[KEY].problems[0].message


def test_tests_that_nobody_can_run_are_told(world: World) -> None:
    ssh = {"name": "s", "ssh": {"command": "ls"}, "expect": "Allow"}
    world.policy("p", ALLOW, tests=[ssh])
    world.settle()
    assert world.standings[KEY].accepted
    assert world.standings[KEY].not_run == ("nothing here works out the facts of SSH requests",)


# What is stored and cannot be read


def stored(world: World, **spec: Any) -> None:
    manifest = world._manifest("GatewayPolicy", "p", spec.pop("namespace", NAMESPACE), spec, {})
    seen = read_policy(manifest)
    assert seen.model is None
    world.policies[seen.key] = seen


def test_a_policy_that_cannot_be_read_denies_what_it_says_it_is_for(world: World) -> None:
    world.connection("prod", labels={"env": "prod"})
    world.connection("test", port=5433, labels={"env": "test"})
    stored(world, rules=[], match={"connectionSelector": {"matchLabels": {"env": "prod"}}})
    world.settle()
    assert {key: len(plan.reached) for key, plan in world.plans.items()} == {"shop/prod": 1, "shop/test": 0}
    assert [(p.field, p.message) for p in world.standings[KEY].problems] == [
        ("spec.rules", "must have at least 1 item(s)")
    ]


@pytest.mark.parametrize(("namespace", "reached"), [(NAMESPACE, {"shop/db"}), (SYSTEM, {"shop/db", "other/db"})])
def test_one_whose_match_cannot_be_read_denies_all_that_it_could_be_for(
    world: World, namespace: str, reached: set[str]
) -> None:
    world.connection("db")
    world.connection("db", "other")
    stored(world, rules=[ALLOW], match={"protocols": "Postgres"}, namespace=namespace)
    world.settle()
    assert {key for key, plan in world.plans.items() if plan.reached} == reached


def test_a_gateway_denies_what_a_refused_policy_matches(world: World) -> None:
    """From the values to the gateway's own compiled bundle."""
    world.connection()
    world.policy("good", ALLOW)
    world.policy("p", ALLOW, tests=[allowed("select 1") | {"expect": "Deny"}])
    plan = world.plan()
    data = {each["metadata"]["name"]: each["data"] for each in plan.objects if each["kind"] == "ConfigMap"}
    read = unpack("app-db", data)
    refused = {(r.namespace, r.name): (Problem(r.namespace, r.name, r.field, r.message),) for r in read.header.refused}
    built = compile_bundle(
        read.connections, read.policies, secrets={}, namespaces=read.header.namespaces, refused=refused
    )
    assert {policy.model.metadata.name: bool(policy.problems) for policy in built.policies.values()} == {
        "good": False,
        "p": True,
    }


# After a restart


def test_a_new_operator_finds_what_was_accepted_in_the_bundles(world: World) -> None:
    world.connection()
    world.policy("p", ALLOW)
    world.settle()
    world.apply()
    first = world.standings[KEY].revision
    world.policy("p", TYPO)
    world.restart()
    world.settle()
    assert (world.standings[KEY].accepted, world.standings[KEY].revision) == (False, first)


def test_what_the_status_says_was_accepted_is_not_tested_again(world: World) -> None:
    """Its test may depend on what is no more; but the policy was in force, and stays so."""
    world.connection(labels={"env": "prod"})
    by_label = "request.connection.labels['env'] == 'prod'"
    world.policy("p", ALLOW | {"expression": by_label}, tests=[allowed("select 1")])
    world.policy_status("p")
    world.apply()
    first = world.standings[KEY].revision
    world.connection(labels={"env": "test"})
    world.restart()
    world.settle()
    assert (world.standings[KEY].accepted, world.standings[KEY].revision) == (False, first)


def test_what_was_refused_does_not_become_accepted_by_a_restart(world: World) -> None:
    world.connection()
    world.policy("p", ALLOW, tests=[allowed("select 1") | {"expect": "Deny"}])
    world.settle()
    world.apply()
    world.restart()
    world.settle()
    assert world.standings[KEY].refused is not None


def test_a_bundle_that_somebody_changed_says_nothing(world: World) -> None:
    world.connection()
    world.policy("p", TYPO)
    world.settle()
    world.apply()
    key = next(key for key in world.children if key.kind == "ConfigMap")
    data = world.children[key]["data"]
    forged = data["bundle.jsonl"].replace("sql.statments == []", "true")
    assert forged != data["bundle.jsonl"]
    world.children[key] = world.children[key] | {"data": data | {"bundle.jsonl": forged}}
    world.restart()
    world.settle()
    assert "is not that of its revision" in world.recovered.problems[0]
    assert world.standings[KEY].refused is not None


def test_a_bundle_of_one_namespace_is_not_believed_about_policies_of_another(world: World) -> None:
    """Who may write ConfigMaps in one namespace could loosen a policy of the whole cluster."""
    world.connection()
    world.policy("p", ALLOW, namespace=SYSTEM, match={"namespaceSelector": {}})
    world.settle()
    world.apply()
    world.policy("p", TYPO, namespace=SYSTEM, match={"namespaceSelector": {}})
    world.restart()
    world.settle()
    assert world.standings[f"{SYSTEM}/p"].refused is not None


def test_it_is_if_the_status_says_the_same(world: World) -> None:
    world.connection()
    world.policy("p", ALLOW, namespace=SYSTEM, match={"namespaceSelector": {}})
    first = world.policy_status("p", namespace=SYSTEM)["revision"]
    world.apply()
    world.policy("p", TYPO, namespace=SYSTEM, match={"namespaceSelector": {}})
    world.restart()
    world.settle()
    assert world.standings[f"{SYSTEM}/p"].revision == first


def test_a_bundle_of_an_earlier_policy_of_that_name_says_nothing(world: World) -> None:
    world.connection()
    world.policy("p", ALLOW)
    world.settle()
    world.apply()
    del world.policies[KEY]
    world.policy("p", TYPO)
    world.restart()
    world.settle()
    assert world.standings[KEY].refused is not None


def test_labels_of_a_policy_change_nothing(world: World) -> None:
    world.policy("p", ALLOW)
    world.settle()
    seen = world.policies[KEY]
    assert isinstance(seen.model, GatewayPolicy)
    labelled = seen.model.model_copy(update={"metadata": seen.model.metadata.model_copy(update={"labels": {"a": "b"}})})
    world.policies[KEY] = replace(seen, model=labelled)
    world.settle()
    assert world.compiled == []


def test_a_policy_that_we_fail_to_judge_is_not_passed_over(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it denies would be open."""

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("no such thing")

    world.policy("p", ALLOW)
    world.settle()
    first = world.standings[KEY].revision
    monkeypatch.setattr(acceptance, "check_policy", fails)
    world.policy("p", ALLOW, priority=-1)
    world.policy("q", ALLOW)
    world.settle()
    assert (world.standings[KEY].revision, world.standings[KEY].accepted) == (first, False)
    refused = world.standings[f"{NAMESPACE}/q"].refused
    assert refused is not None
    assert refused.message == (
        "it could not be judged (RuntimeError: no such thing); this is a fault of Ostiary. Please report it."
    )


def as_before(world: World) -> acceptance.Standing | None:
    """How a new operator takes the policy before it has looked at it."""
    world.restart()
    return acceptance.as_before(world.observed(), KEY, world.recovered)


def test_what_an_earlier_operator_accepted_is_in_force_before_it_is_compiled_again(world: World) -> None:
    world.connection()
    world.policy("p", ALLOW, tests=[allowed("select 1")])
    world.policy_status("p")
    world.apply()
    accepted = world.standings[KEY]
    taken = as_before(world)
    assert taken is not None
    assert replace(taken, inputs=accepted.inputs) == accepted
    # It is looked at nevertheless, later.
    assert acceptance.stale(world.observed(), {KEY: taken}) == [KEY]


def test_what_changed_meanwhile_is_compiled_first(world: World) -> None:
    world.connection()
    world.policy("p", ALLOW)
    world.policy_status("p")
    world.apply()
    world.policy("p", {**ALLOW, "name": "other"})
    assert as_before(world) is None


def test_what_was_not_accepted_is_compiled_first(world: World) -> None:
    world.connection()
    world.policy("p", TYPO)
    world.policy_status("p")
    world.apply()
    assert as_before(world) is None


def test_a_status_alone_makes_nothing_accepted(world: World) -> None:
    world.connection()
    world.policy("p", ALLOW)
    world.policy_status("p")
    assert as_before(world) is None


def test_a_bundle_alone_makes_nothing_accepted(world: World) -> None:
    world.connection()
    world.policy("p", ALLOW)
    world.settle()
    world.apply()
    assert as_before(world) is None


BOMB = "lists.range(1000).map(x, lists.range(1000).map(y, sql.text)).size() > 0"


def test_tests_that_take_long_are_refused_and_not_run_to_their_end(world: World) -> None:
    asked = 0

    def patience() -> Any:
        def over() -> bool:
            nonlocal asked
            asked += 1
            return asked > 4

        return over

    rules = [{"name": f"r{number}", "action": "Allow", "expression": BOMB} for number in range(128)]
    world.policy("p", *rules, tests=[allowed("select 1"), allowed("select 2", name="b")])
    standing = acceptance.accept(
        world.observed(), KEY, None, world.recovered, replace(EXTENSIONS, patience=patience)
    )
    assert [problem.field for problem in standing.problems] == ["spec.tests[0]", "spec.tests[1]"]
    assert "the tests of this policy take too long" in standing.problems[0].message
    assert standing.refused is not None
    assert asked < 400, "every expression asks once, and errs"


def test_the_time_of_tests_is_that_of_their_thread() -> None:
    over = extensions.patience()
    assert not over()
    assert extensions.TEST_SECONDS > 1.0


EVERYWHERE: dict[str, Any] = {"match": {"namespaceSelector": {"matchLabels": {"team": "shop"}}}}


def test_a_tenants_connection_does_not_decide_whether_a_policy_of_the_system_namespace_is_accepted(
    world: World,
) -> None:
    tests = [allowed("select 1", connection="app-db"), allowed("select 1", name="b")]
    not_prod = {**ALLOW, "expression": "!('env' in request.connection.labels)"}
    world.policy("guard", not_prod, namespace=SYSTEM, tests=tests, **EVERYWHERE)
    world.settle()
    assert world.standings[f"{SYSTEM}/guard"].accepted
    world.connection("app-db", "other")
    world.connection("mine", labels={"env": "prod"})
    world.settle()
    assert world.compiled == [], "what others have is nothing that it depends on"
    world.policy("guard", not_prod, {**ALLOW, "name": "b"}, namespace=SYSTEM, tests=tests, **EVERYWHERE)
    world.settle()
    assert world.standings[f"{SYSTEM}/guard"].accepted


def test_a_mask_of_the_system_namespace_that_databases_have_no_use_for_is_refused_whoever_has_one(world: World) -> None:
    mask = {"name": "m", "action": "Mask", "masking": [{"jsonPath": "$.data"}]}
    world.policy("json", mask, namespace=SYSTEM, **EVERYWHERE)
    only = {"match": {**EVERYWHERE["match"], "protocols": ["Kubernetes"]}}
    world.policy("fits", mask, namespace=SYSTEM, **only)
    for _ in range(2):
        world.settle()
        assert [problem.field for problem in world.standings[f"{SYSTEM}/json"].problems] == [
            "spec.rules[0].masking[0].jsonPath"
        ]
        assert world.standings[f"{SYSTEM}/fits"].accepted
        world.connection()
