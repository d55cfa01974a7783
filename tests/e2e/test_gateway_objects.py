"""What reconcile works out is taken by a real API server, and does there what it should: rights, pods, clean-up."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from support.cluster import Cluster
from support.waiting import until
from support.world import ALLOW, World, child

from ostiary_operator.observed import ChildKey, Manifest, child_key, read_connection, read_policy
from ostiary_operator.reconcile import cluster as clusterwide
from ostiary_operator.reconcile import connections, policies
from ostiary_operator.reconcile.gateways import GatewayPlan

pytestmark = pytest.mark.cluster

MANAGER = "ostiary-operator"


class Shop:
    """A namespace that takes restricted pods only, and what the operator sees of it."""

    def __init__(self, cluster: Cluster, namespace: str, system: str) -> None:
        self.cluster = replace(cluster, namespace=namespace)
        self.namespace, self.system = namespace, system
        self.world = World()
        self.world.settings = replace(self.world.settings, system_namespace=system)

    def connection(self, name: str, port: int = 5432, **spec: Any) -> None:
        spec = {
            "protocol": "Postgres",
            "upstream": {"host": "db.example"},
            "credentials": {"static": {"secretRef": {"name": f"{name}-login"}}},
            "listener": {"port": port},
            **spec,
        }
        self.put("Connection", name, spec)
        self.cluster.kubectl("create", "secret", "generic", f"{name}-login", "--from-literal=username=a")

    def put(self, kind: str, name: str, spec: Manifest, namespace: str = "") -> None:
        manifest: Manifest = {
            "apiVersion": "ostiary.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace or self.namespace},
            "spec": spec,
        }
        cluster = replace(self.cluster, namespace=manifest["metadata"]["namespace"])
        done = cluster.kubectl("apply", "-f", "-", manifest=manifest)
        assert done.returncode == 0, done.stderr

    def plan(self, gateway: str) -> GatewayPlan:
        """The plan of a gateway, from what the API server has now."""
        world, spaces = self.world, (self.namespace, self.system)
        world.connections = {c.key: c for c in map(read_connection, self.items("connections", spaces))}
        world.policies = {p.key: p for p in map(read_policy, self.items("gatewaypolicies", spaces))}
        world.secrets.clear()
        for item in self.items("secrets", spaces):
            world.secret(item["metadata"]["name"], item["metadata"]["namespace"])
        kinds = "serviceaccounts,roles,rolebindings,networkpolicies,configmaps,services,deployments,pdb,hpa"
        there = self.items(kinds, spaces, "--selector=app.kubernetes.io/managed-by=ostiary-operator")
        world.children = {child_key(item): item for item in there}
        world.settle()
        return world.plans[f"{self.namespace}/{gateway}"]

    def items(self, kinds: str, namespaces: tuple[str, ...], *more: str) -> list[Manifest]:
        found: list[Manifest] = []
        for namespace in namespaces:
            found += replace(self.cluster, namespace=namespace).get(kinds, *more)["items"]
        return found

    def apply(self, plan: GatewayPlan) -> list[Manifest]:
        """Apply a plan as the operator does. Not even a warning may come."""
        return [self.server_side(manifest) for manifest in plan.objects]

    def server_side(self, manifest: Manifest, *more: str) -> Manifest:
        arguments = ("apply", "--server-side", "--field-manager", MANAGER, "--force-conflicts", "-o", "json", *more)
        cluster = replace(self.cluster, namespace=manifest["metadata"].get("namespace", self.namespace))
        done = cluster.kubectl(*arguments, "-f", "-", manifest=manifest)
        assert (done.returncode, done.stderr) == (0, ""), f"{child_key(manifest)}: {done.stderr}"
        applied: Manifest = json.loads(done.stdout)
        return applied

    def may(self, verb: str, resource: str, *more: str, namespace: str = "") -> bool:
        """What the API server says of the gateway's rights."""
        who = f"system:serviceaccount:{self.namespace}:ostiary-app-db"
        cluster = replace(self.cluster, namespace=namespace or self.namespace)
        return cluster.kubectl("auth", "can-i", verb, resource, *more, f"--as={who}").stdout.strip() == "yes"


@pytest.fixture
def shop(cluster: Cluster) -> Iterator[Shop]:
    names = [f"{cluster.namespace}-{name}-{time.monotonic_ns() % 10**6}" for name in ("shop", "system")]
    for name in names:
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        cluster.ok("create", "-f", "-", manifest=space)
    made = Shop(cluster, names[0], names[1])
    made.world.namespaces |= {name: cluster.get("namespace", name)["metadata"]["labels"] for name in names}
    yield made
    for name in names:
        cluster.ok("delete", "namespace", name, "--wait=false")


MASK = {"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "mask", "key": "hmac"}}}


def everything(shop: Shop) -> GatewayPlan:
    """A gateway that needs every kind of object."""
    scaling = {"minReplicas": 2, "maxReplicas": 4}
    shop.connection("app-db", 5432, gateway={"autoscaling": scaling})
    shop.connection("other-db", 443, gateway={"name": "app-db"})
    replace(shop.cluster, namespace=shop.system).ok("create", "secret", "generic", "mask", "--from-literal=hmac=x")
    rules = [ALLOW, {"name": "pii", "action": "Mask", "masking": [MASK]}]
    shop.put("GatewayPolicy", "masks", {"match": {"namespaceSelector": {}}, "rules": rules}, shop.system)
    return shop.plan("app-db")


def test_the_api_server_takes_every_object_without_a_warning_and_changes_nothing(shop: Shop) -> None:
    plan = everything(shop)
    assert {key.kind for key in plan.keys} == {
        "ServiceAccount",
        "Role",
        "RoleBinding",
        "NetworkPolicy",
        "ConfigMap",
        "Service",
        "Deployment",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
    }
    first = shop.apply(plan)
    again = shop.apply(plan)
    for before, after in zip(first, again, strict=True):
        # Controllers write the status of some meanwhile.
        if before["kind"] not in ("Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler"):
            assert before["metadata"]["resourceVersion"] == after["metadata"]["resourceVersion"]
        assert before["metadata"].get("generation") == after["metadata"].get("generation")
        assert before.get("spec") == after.get("spec")


def test_restricted_pods_are_made_of_it(shop: Shop) -> None:
    shop.connection("app-db", 443, gateway={"replicas": 2})
    shop.apply(shop.plan("app-db"))
    selector = "--selector=ostiary.dev/gateway=app-db"
    until(lambda: len(shop.cluster.get("pods", selector)["items"]) == 2, "two pods")
    for pod in shop.cluster.get("pods", selector)["items"]:
        # Neither the API server nor its admission has added a way to the API that was not asked for.
        assert [volume["name"] for volume in pod["spec"]["volumes"]] == ["data", "tmp", "api-access"]
        assert pod["spec"]["serviceAccountName"] == "ostiary-app-db"


def test_the_gateway_has_the_rights_that_it_needs_and_no_others(shop: Shop) -> None:
    plan = everything(shop)
    shop.apply(plan)
    shop.cluster.ok("create", "secret", "generic", "another", "--from-literal=a=b")
    system = shop.system
    def all_allowed() -> bool:
        return all([
            shop.may("get", "secret/app-db-login"),
            shop.may("get", "secret/mask", namespace=system),
            shop.may("watch", "configmap/ostiary-app-db"),
            shop.may("list", "configmap/ostiary-app-db"),
            shop.may("serve", "connections.ostiary.dev/other-db"),
            shop.may("create", "approvalrequests.ostiary.dev"),
            shop.may("update", "approvalrequests.ostiary.dev/any", "--subresource=status"),
        ])  # fmt: skip

    # The API server takes a moment to see new roles.
    until(all_allowed, "the gateway has its rights")
    refused = [
        shop.may("list", "secrets"),
        shop.may("watch", "secret/app-db-login"),
        shop.may("get", "secret/another"),
        shop.may("get", "secret/another", namespace=system),
        shop.may("list", "configmaps"),
        shop.may("update", "configmap/ostiary-app-db"),
        shop.may("approve", "connections.ostiary.dev/app-db"),
        shop.may("serve", "connections.ostiary.dev"),
        shop.may("update", "approvalrequests.ostiary.dev/any"),
        shop.may("delete", "approvalrequests.ostiary.dev/any"),
        shop.may("create", "approvalrequests.ostiary.dev", namespace=system),
        shop.may("create", "pods"),
    ]
    assert not any(refused), refused


def test_children_go_with_the_last_of_their_connections(shop: Shop) -> None:
    plan = everything(shop)
    shop.apply(plan)
    shop.cluster.ok("delete", "connection", "other-db")
    until(lambda: shop.cluster.kubectl("get", "service", "ostiary-other-db").returncode != 0, "no Service")
    assert shop.cluster.get("deployment", "ostiary-app-db")["metadata"].get("deletionTimestamp") is None
    after = shop.plan("app-db")
    assert ChildKey("Service", shop.namespace, "ostiary-app-db") in after.keys
    shop.apply(after)
    shop.cluster.ok("delete", "connection", "app-db")
    ours = "--selector=ostiary.dev/gateway=app-db"
    kinds = "serviceaccounts,roles,rolebindings,networkpolicies,configmaps,services,deployments,pdb,hpa,pods"
    until(lambda: shop.cluster.get(kinds, ours)["items"] == [], "no children")
    # What is in the system namespace has no owner there; the plan says that it is left over.
    assert {key.kind for key in shop.plan("app-db").orphans} == {"Role", "RoleBinding"}


def test_autoscaling_begins_at_the_replicas_that_are_there(shop: Shop) -> None:
    shop.connection("app-db", gateway={"replicas": 3})
    shop.apply(shop.plan("app-db"))
    shop.connection("app-db", gateway={"autoscaling": {"minReplicas": 2, "maxReplicas": 5}})
    shop.apply(shop.plan("app-db"))
    assert shop.cluster.get("deployment", "ostiary-app-db")["spec"]["replicas"] == 3
    shop.cluster.ok("scale", "deployment/ostiary-app-db", "--replicas=5")
    stale = child(shop.world.plans[f"{shop.namespace}/app-db"], "Deployment")
    done = shop.cluster.kubectl(
        "apply", "--server-side", "--field-manager", MANAGER, "--force-conflicts", "-f", "-", manifest=stale
    )
    assert done.returncode != 0, "a number that is no longer the autoscaler's"
    assert "the object has been modified" in done.stderr
    shop.apply(shop.plan("app-db"))
    assert shop.cluster.get("deployment", "ostiary-app-db")["spec"]["replicas"] == 5


def test_the_largest_part_of_a_bundle_fits(shop: Shop) -> None:
    shop.connection("app-db")
    text = " || ".join(f"sql.text == '{number:0100}'" for number in range(120))
    for number in range(70):
        shop.world.policy(f"p{number:02}", ALLOW | {"expression": text}, namespace=shop.namespace)
    world = shop.world
    world.connections = {c.key: c for c in map(read_connection, shop.items("connections", (shop.namespace,)))}
    plan = world.settle() and world.plans[f"{shop.namespace}/app-db"]
    parts = [each for each in plan.objects if each["kind"] == "ConfigMap"]
    assert len(parts) == 2
    for part in parts:
        shop.server_side(part)


def test_statuses_are_taken_and_kubectl_shows_them(shop: Shop) -> None:
    shop.connection("app-db")
    shop.put("GatewayPolicy", "good", {"rules": [ALLOW]})
    shop.put("GatewayPolicy", "bad", {"rules": [ALLOW | {"expression": "sql.statments == []"}]})
    plan = shop.plan("app-db")
    world, now = shop.world, datetime.now(UTC)
    observed = world.observed()
    key = f"{shop.namespace}/app-db"
    written = [("Connection", "app-db", connections.status(observed, plan, key, now))]
    for name in ("good", "bad"):
        status = policies.status(observed, world.standings, world.plans, f"{shop.namespace}/{name}", now)
        written.append(("GatewayPolicy", name, status))
    for kind, name, status in written:
        manifest = {
            "apiVersion": "ostiary.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": shop.namespace},
            "status": status.status,
        }
        stored = shop.server_side(manifest, "--subresource=status")["status"]
        # Nothing was pruned, nothing defaulted: the next comparison finds nothing to write.
        assert stored == status.status
    shown = shop.cluster.ok("get", "gwconn,gwpol")
    assert "ostiary-app-db" in shown
    assert shop.cluster.ok("wait", "--for=condition=Accepted", "gwconn/app-db", "gwpol/good", "--timeout=5s")
    assert "Did you mean 'statements'?" in shop.cluster.ok("describe", "gwpol", "bad")


def test_the_subjects_of_the_charts_binding_are_all_gateways(shop: Shop) -> None:
    name = f"{shop.namespace}-gateways"
    role = f"{shop.namespace}-gateway"
    shop.cluster.ok("create", "clusterrole", role, "--verb=create", "--resource=tokenreviews.authentication.k8s.io")
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
    }
    shop.cluster.ok("create", "-f", "-", manifest=binding)
    try:
        shop.connection("app-db")
        shop.plan("app-db")
        gateway = shop.world.settings.gateway.model_copy(update={"cluster_role": role})
        shop.world.settings = replace(shop.world.settings, gateways_binding=name, gateway=gateway)
        (wanted,) = clusterwide.plan(shop.world.observed(), shop.world.plans).objects
        shop.server_side(wanted)
        until(lambda: shop.may("create", "tokenreviews.authentication.k8s.io"), "the gateway is bound")
    finally:
        shop.cluster.ok("delete", "clusterrolebinding", name)
        shop.cluster.ok("delete", "clusterrole", role)
