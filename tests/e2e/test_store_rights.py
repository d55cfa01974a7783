"""The store and the console at a real API server: who may review, what their accounts may, and that pods are taken."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.cluster import Cluster
from support.operator import Release, install
from support.world import World, child

from ostiary_operator.observed import Manifest

pytestmark = pytest.mark.cluster

VALUES = (
    "store.enabled=true", "store.url.secretRef.name=database", "store.anchors[0].configMap=SYSTEM/seals",
    "console.enabled=true", "console.url=https://ostiary.example.com",
)  # fmt: skip
AUTHORITY = "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def stored(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The chart with both, in a namespace that takes restricted pods only."""
    system = f"ostiary-{uuid.uuid4().hex[:6]}"
    there = install(
        cluster, system, tmp_path_factory.mktemp("stored"), *(each.replace("SYSTEM", system) for each in VALUES)
    )
    cluster.ok("label", "namespace", system, "pod-security.kubernetes.io/enforce=restricted")
    yield there
    for kind in ("clusterrolebinding", "clusterrole"):
        names = [each for each in cluster.ok("get", kind, "-o", "name").split() if system in each]
        if names:
            cluster.ok("delete", *names)
    cluster.ok("delete", "namespace", system, "--wait=false")


def may(cluster: Cluster, who: str, verb: str, what: str, *more: str) -> bool:
    return cluster.kubectl("auth", "can-i", verb, what, f"--as={who}", *more).stdout.strip() == "yes"


def test_recordings_are_for_whom_one_names(stored: Release, shop: Cluster) -> None:
    for role, who in (("view", "vera"), ("edit", "eva"), ("admin", "ada"), (f"{stored.system}-reviewer", "rosa")):
        shop.ok("create", "rolebinding", who, f"--clusterrole={role}", f"--user={who}")
    everything = "connections.ostiary.dev"
    assert [who for who in ("vera", "eva", "ada", "rosa") if may(shop, who, "review", everything)] == ["rosa"]
    assert not may(shop, "rosa", "terminate", everything)
    assert not may(shop, "rosa", "approve", everything)
    elsewhere = replace(shop, namespace="default")
    assert not may(elsewhere, "rosa", "review", everything)


def test_one_connection_can_be_given_alone(stored: Release, shop: Cluster) -> None:
    shop.ok("create", "role", "orders", "--verb=review", "--resource=connections.ostiary.dev", "--resource-name=orders")
    shop.ok("create", "rolebinding", "orders", "--role=orders", "--user=olga")
    assert may(shop, "olga", "review", "connections.ostiary.dev/orders")
    assert not may(shop, "olga", "review", "connections.ostiary.dev/payroll")
    assert not may(shop, "olga", "review", "connections.ostiary.dev")


def test_an_admin_cannot_give_what_they_have_not(stored: Release, shop: Cluster) -> None:
    shop.ok("create", "rolebinding", "ada", "--clusterrole=admin", "--user=ada")
    role = f"--clusterrole={stored.system}-reviewer"
    done = shop.kubectl("create", "rolebinding", "self", role, "--user=ada", "--as=ada")
    assert done.returncode != 0
    assert "attempting to grant RBAC permissions not currently held" in done.stderr


def test_sessions_are_ended_by_who_may_delete_the_connection_or_is_named(stored: Release, shop: Cluster) -> None:
    for role, who in (("view", "vera"), (f"{stored.system}-edit", "eva"), (f"{stored.system}-terminator", "tom")):
        shop.ok("create", "rolebinding", who, f"--clusterrole={role}", f"--user={who}")
    ends = [who for who in ("vera", "eva", "tom") if may(shop, who, "terminate", "connections.ostiary.dev")]
    assert ends == ["eva", "tom"]
    assert not may(shop, "tom", "delete", "connections.ostiary.dev")


def test_the_accounts_have_what_they_need_and_no_more(stored: Release, shop: Cluster) -> None:
    system = replace(shop, namespace=stored.system)
    store, console = (f"system:serviceaccount:{stored.system}:{stored.system}-{part}" for part in ("store", "console"))
    assert may(system, store, "create", "tokenreviews.authentication.k8s.io")
    assert may(system, store, "update", "configmaps/seals")
    assert not may(system, store, "update", "configmaps/other")
    assert not may(system, store, "delete", "configmaps/seals")
    own = f"serviceaccounts/{stored.system}-console"
    assert may(system, console, "create", own, "--subresource=token")
    assert not may(system, console, "create", f"serviceaccounts/{stored.system}-operator", "--subresource=token")
    for who in (store, console):
        for verb, what in (
            ("get", "secrets"), ("list", "connections.ostiary.dev"), ("review", "connections.ostiary.dev"),
            ("patch", "approvalrequests.ostiary.dev"), ("impersonate", "users"), ("create", "pods"),
        ):  # fmt: skip
            assert not may(system, who, verb, what), (who, verb, what)
            assert not may(shop, who, verb, what), (who, verb, what)


@pytest.mark.parametrize("part", ["store", "console", "operator"])
def test_its_pods_are_taken_where_only_restricted_ones_are(stored: Release, shop: Cluster, part: str) -> None:
    system = replace(shop, namespace=stored.system)
    made = system.get("deployment", f"{stored.system}-{part}")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **made, "metadata": {**made["metadata"], "name": f"try-{part}"}}
    done = system.kubectl("create", "--dry-run=server", "-f", "-", manifest=pod)
    assert done.returncode == 0, done.stderr
    assert "violate" not in done.stderr


def test_a_gateways_pod_shows_the_store_a_token_of_its_audience(stored: Release, shop: Cluster) -> None:
    """Made as the pod's own kubelet would: the API server says whose it is, and only for that audience."""
    shop.ok("label", "namespace", shop.namespace, "pod-security.kubernetes.io/enforce=restricted")
    pod = gateway_pod()
    done = shop.kubectl("create", "--dry-run=server", "-f", "-", manifest=pod)
    assert done.returncode == 0, done.stderr
    shop.ok("create", "serviceaccount", "ostiary-app-db")
    token = shop.ok("create", "token", "ostiary-app-db", "--audience=ostiary-store").strip()

    def reviewed(audience: str) -> dict[str, Any]:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        store = f"--as=system:serviceaccount:{stored.system}:{stored.system}-store"
        text = shop.ok("create", "--validate=false", "-o", "json", "-f", "-", store, manifest=review)
        found: dict[str, Any] = json.loads(text)["status"]
        return found

    assert reviewed("ostiary-store")["user"]["username"] == f"system:serviceaccount:{shop.namespace}:ostiary-app-db"
    assert not reviewed("ostiary").get("authenticated")


def gateway_pod() -> Manifest:
    world = World(store={"url": "https://ostiary-store.ostiary-system.svc:8443"}, consoleAccount="a/b")
    world.settings = replace(world.settings, store_ca=AUTHORITY)
    world.connection()
    made = child(world.plan(), "Deployment")["spec"]["template"]
    spec = {key: value for key, value in made["spec"].items() if key != "serviceAccountName"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {**made["metadata"], "name": "gateway"}, "spec": spec}
