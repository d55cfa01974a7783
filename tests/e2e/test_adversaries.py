"""What a tenant tries who may do everything in a namespace of its own, with a real API server and a real operator."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from support.cluster import Cluster
from support.guarded import no_release
from support.operator import Operator, Release, eventually, install, operator
from support.operator_objects import condition, connection, create, policy, secret

from ostiary_api import admission
from ostiary_api.bundle_feed import Header, manifest_line, pack
from ostiary_api.connection import Connection

pytestmark = pytest.mark.cluster
Manifest = dict[str, Any]
MALLORY = ("--as", "mallory", "--as-group", "system:authenticated")


@pytest.fixture(scope="module")
def release(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The chart with its admission policies, as they are in a cluster."""
    no_release(cluster)
    made = install(cluster, f"system-{uuid.uuid4().hex[:6]}", tmp_path_factory.mktemp("release"))
    account = f"system:serviceaccount:{made.system}:{made.system}-operator"
    policies = {"apiVersion": "v1", "kind": "List", "items": admission.manifests(account)}
    cluster.ok("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=policies)
    yield made
    cluster.ok("delete", "--ignore-not-found", "-f", "-", manifest=policies)
    cluster.ok("delete", "namespace", made.system, "--wait=false")


@pytest.fixture(scope="module")
def running(release: Release) -> Iterator[Operator]:
    with operator(release, "one") as made:
        eventually(lambda: made.leads, why=made.tail)
        yield made


def namespace(cluster: Cluster) -> Cluster:
    """A namespace where mallory is admin, as Kubernetes has it, and may write Connections and policies."""
    made = replace(cluster, namespace=f"tenant-{uuid.uuid4().hex[:6]}")
    cluster.ok("create", "namespace", made.namespace)
    made.ok("create", "rolebinding", "mallory", "--clusterrole=admin", "--user=mallory")
    return made


@pytest.fixture
def bank(cluster: Cluster) -> Iterator[Cluster]:
    made = namespace(cluster)
    yield made
    cluster.ok("delete", "namespace", made.namespace)


@pytest.fixture
def den(cluster: Cluster) -> Iterator[Cluster]:
    made = namespace(cluster)
    yield made
    cluster.ok("delete", "namespace", made.namespace)


def forged(where: Cluster, labelled: bool) -> Manifest:
    """A bundle without any policy of the system namespace."""
    found = where.get("gwconn", "app")
    model = Connection.model_validate({key: found[key] for key in ("apiVersion", "kind", "spec")} | {
        "metadata": {key: found["metadata"][key] for key in ("name", "namespace", "uid", "generation")}})  # fmt: skip
    packed = pack(Header(where.namespace, "app", "system", {where.namespace: {}}), [manifest_line(model)])
    labels = {"app.kubernetes.io/managed-by": "ostiary-operator"} if labelled else {}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ostiary-app", "labels": labels},
            "data": packed.config_maps("app")["ostiary-app"]}  # fmt: skip


def test_a_bundle_is_written_by_nobody_but_the_operator(bank: Cluster, running: Operator) -> None:
    create(bank, secret(), connection(), policy())
    eventually(lambda: bank.kubectl("get", "configmap", "ostiary-app").returncode == 0, why=running.tail)
    name = ("configmap", "ostiary-app")
    merge = ("--type=merge", "-p")
    tries = (
        bank.kubectl("replace", *MALLORY, "-f", "-", manifest=forged(bank, labelled=True)),
        bank.kubectl("replace", *MALLORY, "-f", "-", manifest=forged(bank, labelled=False)),
        bank.kubectl("patch", *MALLORY, *name, *merge, json.dumps({"data": forged(bank, True)["data"]})),
        bank.kubectl("label", *MALLORY, *name, "app.kubernetes.io/managed-by-"),
        bank.kubectl("delete", *MALLORY, *name),
        bank.kubectl("delete", *MALLORY, "configmaps", "--all"),
        bank.kubectl(
            "apply", *MALLORY, "--server-side", "--force-conflicts", "--field-manager=ostiary-operator", "-f", "-",
            manifest=forged(bank, labelled=True),
        ),
    )  # fmt: skip
    for done in tries:
        assert done.returncode != 0, done.stdout
        assert "ValidatingAdmissionPolicy 'bundles.ostiary.dev'" in done.stderr
        assert "written by the operator only" in done.stderr
    mine = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "data": {"a": "b"}}
    bank.ok("create", *MALLORY, "-f", "-", manifest=mine)
    bank.ok("delete", *MALLORY, "configmap", "mine")
    bank.ok("delete", *MALLORY, "gwconn", "app")
    eventually(lambda: bank.kubectl("get", *name).returncode != 0, why=running.tail)


def test_a_pod_of_another_namespace_says_nothing_of_a_gateway(bank: Cluster, den: Cluster, running: Operator) -> None:
    create(bank, secret(), connection())
    eventually(lambda: condition(bank, "gwconn", "app", "Programmed")["status"] == "False", why=running.tail)
    labels = {
        "app.kubernetes.io/name": "ostiary-gateway", "app.kubernetes.io/managed-by": "ostiary-operator",
        "ostiary.dev/gateway": "app", "ostiary.dev/gateway-namespace": bank.namespace,
    }  # fmt: skip
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "forged", "labels": labels},
           "spec": {"containers": [{"name": "c", "image": "none"}]}}  # fmt: skip
    den.ok("create", *MALLORY, "-f", "-", manifest=pod)
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    status = {"status": {"phase": "Running", "podIP": "127.99.99.99", "podIPs": [{"ip": "127.99.99.99"}],
                         "conditions": [ready]}}  # fmt: skip
    den.ok("patch", "pod", "forged", "--subresource=status", "--type=merge", "-p", json.dumps(status))
    polls = running.metric("ostiary_operator_gateway_polls")
    bank.ok("label", "gwconn", "app", "look=again")
    eventually(lambda: "forged" not in condition(bank, "gwconn", "app", "Programmed")["message"], why=running.tail)
    assert running.metric("ostiary_operator_gateway_polls") == polls


def test_a_name_that_was_cut_is_not_had_by_asking_for_it(bank: Cluster, running: Operator) -> None:
    name = "a" * 50
    long = connection(name)
    create(bank, secret(), long)
    eventually(lambda: services(bank), why=running.tail)
    (service,) = services(bank)
    squatter = connection(service.removeprefix("ostiary-"))
    create(bank, squatter)
    eventually(lambda: len(services(bank)) == 2, why=running.tail)
    assert service in services(bank)
    owners = bank.get("service", service)["metadata"]["ownerReferences"]
    assert [each["name"] for each in owners] == [name]


def services(where: Cluster) -> set[str]:
    names = {each["metadata"]["name"] for each in where.get("services")["items"]}
    return {name for name in names if not name.endswith("-peers")}


def test_objects_that_are_labelled_like_children_elsewhere_are_left_alone(
    bank: Cluster, den: Cluster, running: Operator
) -> None:
    create(bank, secret(), connection())
    eventually(lambda: bank.kubectl("get", "deployment", "ostiary-app").returncode == 0, why=running.tail)
    copied = bank.get("serviceaccount", "ostiary-app")
    copied["metadata"] = {key: copied["metadata"][key] for key in ("name", "labels")}
    den.ok("create", *MALLORY, "-f", "-", manifest=copied)
    create(den, secret(), connection("mark"))
    eventually(lambda: den.kubectl("get", "deployment", "ostiary-mark").returncode == 0, why=running.tail)
    assert den.kubectl("get", "serviceaccount", "ostiary-app").returncode == 0


def test_a_policy_that_takes_long_is_refused_and_stops_nobody(bank: Cluster, den: Cluster, running: Operator) -> None:
    create(bank, secret(), connection())
    bomb = "lists.range(1000).map(x, lists.range(1000).map(y, sql.text)).size() > 0"
    heavy = policy("bomb", bomb)
    heavy["spec"]["rules"] = [{"name": f"r{n}", "action": "Allow", "expression": bomb} for n in range(128)]
    heavy["spec"]["tests"] = [{"name": f"t{n}", "sql": "select 1", "expect": "Allow"} for n in range(64)]
    create(den, secret(), connection(), heavy)
    create(bank, policy())
    eventually(lambda: condition(bank, "gwpol", "readers", "Accepted")["status"] == "True", why=running.tail)
    eventually(lambda: condition(den, "gwpol", "bomb", "Accepted")["status"] == "False", why=running.tail)
    assert "take too long" in condition(den, "gwpol", "bomb", "Accepted")["message"]
