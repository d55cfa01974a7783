"""A Kubernetes Connection in a cluster: kubectl in an agent's pod, its projected token, the gateway of the operator."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator

import pytest
from support.full_cluster import FullCluster
from support.kubectl_pods import kubectl, kubectl_pods
from support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(release: FullCluster) -> Iterator[FullCluster]:
    with kubectl_pods(release) as made:
        yield made


def test_the_conditions_say_that_all_is_well(world: FullCluster) -> None:
    status = world.get("gwconn", "cluster")["status"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions == dict.fromkeys(["Accepted", "ResolvedRefs", "Programmed", "UpstreamReachable"], "True")
    assert status["endpoint"] == {"host": f"ostiary-cluster.{world.namespace}.svc", "port": 443}


def test_the_gateway_may_make_tokens_of_that_account_and_of_no_other(world: FullCluster) -> None:
    gateway = f"--as=system:serviceaccount:{world.namespace}:ostiary-cluster"
    assert (
        world.kubectl("auth", "can-i", "create", "serviceaccounts/worker", "--subresource=token", gateway).stdout
        == "yes\n"
    )
    for other in ("planner", "ostiary-cluster", "default"):
        done = world.kubectl("auth", "can-i", "create", f"serviceaccounts/{other}", "--subresource=token", gateway)
        assert done.stdout == "no\n"
    assert world.kubectl("auth", "can-i", "impersonate", "serviceaccounts", gateway).stdout == "no\n"


def test_an_agent_works_with_kubectl_and_acts_as_the_worker(world: FullCluster) -> None:
    told = json.loads(kubectl(world, "auth", "whoami", "-o", "json").stdout)["status"]["userInfo"]
    assert told["username"] == f"system:serviceaccount:{world.namespace}:planner"
    assert told["extra"]["ostiary.dev/upstream-user"] == [f"system:serviceaccount:{world.namespace}:worker"]
    assert "web" in kubectl(world, "get", "deployments").stdout
    done = kubectl(world, "scale", "deployment/web", "--replicas=2")
    assert done.returncode == 0, done.stderr
    assert world.get("deployment", "web")["spec"]["replicas"] == 2


def test_rbac_of_the_worker_holds_behind_the_gateway(world: FullCluster) -> None:
    assert 'cannot list resource "secrets"' in kubectl(world, "get", "secrets").stderr
    assert kubectl(world, "auth", "can-i", "get", "secrets").stdout.startswith("no")


def test_policy_holds_where_rbac_would_allow_it(world: FullCluster) -> None:
    done = kubectl(world, "set", "image", "deployment/web", "*=evil")
    assert "Only the number of replicas may be changed here." in done.stderr
    assert kubectl(world, "auth", "can-i", "patch", "deployments").stdout == "yes\n"


def test_another_account_logs_in_and_may_nothing(world: FullCluster) -> None:
    assert "(Forbidden)" in kubectl(world, "get", "deployments", who="stranger").stderr
    assert kubectl(world, "auth", "can-i", "get", "pods", who="stranger").returncode != 0


def test_a_big_scale_waits_for_a_person_and_then_runs(world: FullCluster) -> None:
    scale = ["kubectl", "scale", "deployment/web", "--replicas=6"]
    asking = subprocess.Popen(
        ["kubectl", "-n", world.namespace, "exec", "planner", "--", *scale],
        env=world.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: bool(world.get("apr")["items"]), seconds=60)
    name = world.get("apr")["items"][0]["metadata"]["name"]
    decision = {"approver": "olga", "verdict": "Approve", "reason": "the sale begins"}
    patch = [{"op": "add", "path": "/spec/decisions/-", "value": decision}]
    world.ok(
        "patch", "apr", name, "--type=json", "-p", json.dumps(patch),
        "--as=olga", "--as-group=ops", "--as-group=system:authenticated",
    )  # fmt: skip
    _, errors = asking.communicate(timeout=90)
    assert asking.returncode == 0, errors
    assert world.get("deployment", "web")["spec"]["replicas"] == 6


def test_a_missing_right_is_told_with_the_commands_that_give_it(world: FullCluster) -> None:
    other = f"{world.namespace}-other"
    world.ok("create", "namespace", other)
    try:
        there = world.within(other)
        there.ok("create", "serviceaccount", "worker")
        found = world.get("gwconn", "cluster")
        spec = found["spec"] | {"credentials": {"serviceAccountToken": {"name": "worker", "namespace": other}}}
        manifest = {
            "apiVersion": found["apiVersion"],
            "kind": "Connection",
            "metadata": {"name": "elsewhere"},
            "spec": spec,
        }
        world.ok("apply", "-f", "-", manifest=manifest)

        def told() -> str:
            conditions = world.get("gwconn", "elsewhere").get("status", {}).get("conditions", [])
            return next((each["message"] for each in conditions if each["type"] == "UpstreamReachable"), "")

        until(lambda: "it may not" in told(), seconds=180)
        commands = "kubectl create role" + told().partition("kubectl create role")[2].rstrip(".")
        assert f"--serviceaccount={world.namespace}:ostiary-elsewhere" in commands
        for command in commands.split(" && "):
            world.ok(*command.split()[1:])
        world.ok("wait", "--for=condition=UpstreamReachable", "connection/elsewhere", "--timeout=120s")
    finally:
        world.ok("delete", "namespace", other, "--wait=false")
