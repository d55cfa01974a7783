"""What an agent is told that its request to the Kubernetes API could be instead."""

from __future__ import annotations

from typing import Any

from support.policies import CLIENT, NOON, bound, bundle, facts, policy, rule, statement, subject

from ostiary_api.cases import KubernetesTest
from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy
from ostiary_gateway.protocols.kubernetes.offline import offline_facts
from ostiary_policy.answer import Answer, Reason
from ostiary_policy.answer_size import line
from ostiary_policy.answering import answer
from ostiary_policy.decision import Decision

GUARD = policy(
    "guard",
    rule("large", "RequireApproval", "variables.copies > variables.limit"),
    rule("huge", "Deny", "variables.copies > 100", message="Too many."),
    rule(
        "privileged",
        "Deny",
        "k8s.resource == 'pods' && k8s.verb == 'create' && k8s.object.spec.containers.exists(c, c.privileged)",
    ),
    rule("many", "Deny", "k8s.verb == 'deletecollection' && k8s.affected > 5"),
    rule("typing", "Deny", "k8s.exec.tty", message="No terminals."),
    rule("frozen", "Deny", "k8s.resource == 'configmaps' && !k8s.readOnly && !k8s.dryRun"),
    rule("rest", "Allow", "k8s.namespace == 'shop'"),
    variables=[
        {"name": "limit", "expression": "10"},
        {"name": "copies", "expression": "k8s.resource == 'deployments' && k8s.verb in ['create', 'patch']"
                                         " ? k8s.object.spec.replicas : 0"},
    ],
    match={"protocols": ["Kubernetes"]},
)  # fmt: skip


CLUSTER = Connection.model_validate({
    "metadata": {"name": "db", "namespace": "default"},
    "spec": {
        "protocol": "Kubernetes",
        "upstream": {"server": "https://cluster.example"},
        "credentials": {"static": {"secretRef": {"name": "cluster"}}},
        "listener": {"port": 6443},
    },
})  # fmt: skip


def ask(of: GatewayPolicy = GUARD, **case: Any) -> Answer:
    policies = bound(bundle(of, connections=[CLUSTER]), "db").for_subject(subject(), CLIENT)
    request = facts(statement("SELECT"))["request"]
    given = {"request": request, "k8s": dict(offline_facts(KubernetesTest.model_validate(case)))}
    decision = policies.decide(given, NOON, final=True)
    assert isinstance(decision, Decision)
    reply = answer(decision, policies, given, NOON)
    assert Answer.model_validate_json(line(reply)).decision == decision.action
    return reply


def changes(reply: Answer) -> set[tuple[str, object, str]]:
    return {(c.fact, c.equals if c.at_most is None else c.at_most, c.then) for c in reply.allowed.changes}


def web(replicas: int) -> dict[str, Any]:
    meta = {"name": "web", "namespace": "shop"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {"replicas": replicas}}


def test_the_threshold_is_named_with_the_number_that_passes() -> None:
    reply = ask(verb="patch", object=web(50))
    assert (reply.decision, reply.rule) == ("RequireApproval", "large")
    assert ("k8s.object.spec.replicas", 10, "Allow") in changes(reply)


def test_of_two_thresholds_the_nearer_is_named() -> None:
    reply = ask(verb="patch", object=web(500))
    assert (reply.decision, reply.rule) == ("Deny", "huge")
    assert ("k8s.object.spec.replicas", 100, "RequireApproval") in changes(reply)
    assert reply.next.do == "Change"


def test_a_flag_inside_a_list_is_named_by_its_place() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop"}}
    containers = [{"name": "a", "privileged": False}, {"name": "b", "privileged": True}]
    reply = ask(verb="create", object={**pod, "spec": {"containers": containers}})
    assert [(c.expression, c.facts) for c in reply.because][-1:] == [
        ("c.privileged", {"k8s.object.spec.containers[1].privileged": True})
    ]
    assert ("k8s.object.spec.containers[1].privileged", False, "Allow") in changes(reply)


def test_how_many_may_be_deleted_is_named() -> None:
    reply = ask(verb="deletecollection", resource="pods", namespace="shop", affected=40)
    assert ("k8s.affected", 5, "Allow") in changes(reply)


def test_a_dry_run_and_reading_are_named_where_they_would_pass() -> None:
    reply = ask(verb="patch", resource="configmaps", namespace="shop", name="a")
    assert changes(reply) == {("k8s.dryRun", True, "Allow"), ("k8s.readOnly", True, "Allow")}


def test_a_command_without_a_terminal_is_named() -> None:
    shell = {"command": ["sh"], "tty": True, "stdin": True}
    reply = ask(verb="connect", resource="pods", subresource="exec", namespace="shop", name="web-0", exec=shell)
    assert ("k8s.exec.tty", False, "Allow") in changes(reply)


def test_nothing_is_named_that_would_not_pass() -> None:
    reply = ask(verb="patch", object={**web(50), "metadata": {"name": "web", "namespace": "billing"}})
    assert (reply.decision, changes(reply)) == ("RequireApproval", set())
    denied = ask(verb="list", resource="pods", namespace="billing")
    assert (denied.reason, changes(denied), denied.next.do) == (Reason.NO_RULE, set(), "Change")
    (allowing,) = [rule for rule in denied.allowed.rules if rule.action == "Allow"]
    assert [(c.expression, c.facts) for c in allowing.unmet] == [
        ("k8s.namespace == 'shop'", {"k8s.namespace": "billing"})
    ]


def test_objects_that_are_not_known_do_not_get_in_the_way() -> None:
    reply = ask(verb="patch", resource="deployments", namespace="shop", name="web")
    assert (reply.decision, reply.reason) == ("Deny", Reason.ERROR)
    assert ("k8s.readOnly", True, "Allow") in changes(reply)
