"""examples/kubernetes as it stands: every object is complete, and its parts name each other rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from ostiary_api.names import child_name
from ostiary_gateway.feed.fact_sources import fact_sources
from ostiary_gateway.feed.loading import Loaded, load
from ostiary_gateway.identity.service_account import AUDIENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "kubernetes"
FILES = sorted((EXAMPLE / "shop").glob("*.yaml"))


def objects() -> list[dict[str, Any]]:
    return [item for file in FILES for item in yaml.safe_load_all(file.read_text())]


def found(kind: str, name: str) -> dict[str, Any]:
    return next(item for item in objects() if (item["kind"], item["metadata"]["name"]) == (kind, name))


def test_the_manifests_load_without_a_problem_and_their_tests_pass() -> None:
    outcome = load([EXAMPLE / "shop"], fact_sources=fact_sources(), in_cluster=True)
    assert isinstance(outcome, Loaded), outcome
    assert (outcome.problems, outcome.notices) == ((), ())
    bound = outcome.bundle.connections["demo", "shop"]
    assert {policy.key for policy in bound.policies} == {
        ("demo", "guard-rails"), ("demo", "planner"), ("demo", "personal-data"),
    }  # fmt: skip


def test_the_connection_to_the_api_server_and_its_policy_are_good_too() -> None:
    outcome = load([EXAMPLE / "cluster"], complete=False, fact_sources=fact_sources(), in_cluster=True)
    assert isinstance(outcome, Loaded), outcome
    assert (outcome.problems, outcome.notices) == ((), ())
    made = yaml.safe_load_all((EXAMPLE / "cluster" / "cluster.yaml").read_text())
    named = {(item["kind"], item["metadata"]["name"]) for item in made}
    account = outcome.bundle.connections["demo", "cluster"].connection.spec.credentials.service_account_token
    assert account is not None
    assert ("ServiceAccount", account.name) in named


def test_kustomize_takes_what_kubectl_takes() -> None:
    listed = yaml.safe_load((EXAMPLE / "kustomization.yaml").read_text())["resources"]
    assert [EXAMPLE / name for name in listed] == FILES


def test_everything_is_in_the_namespace_that_comes_first() -> None:
    first, *others = objects()
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", "demo")
    assert {item["metadata"]["namespace"] for item in others} == {"demo"}


def test_the_agent_connects_where_the_operator_puts_the_service() -> None:
    agent = found("Deployment", "planner")["spec"]["template"]["spec"]
    environment = {item["name"]: item["value"] for item in agent["containers"][0]["env"]}
    assert environment["PGHOST"] == f"{child_name('shop')}.demo.svc"
    assert found("Connection", "shop")["spec"]["listener"]["port"] == 5432
    assert environment["PGDATABASE"] == found("Connection", "shop")["spec"]["upstream"]["database"]


def test_the_agent_holds_a_token_for_the_gateway_and_nothing_else() -> None:
    agent = found("Deployment", "planner")["spec"]["template"]["spec"]
    assert agent["automountServiceAccountToken"] is False
    sources = [source for volume in agent["volumes"] for source in volume.get("projected", {}).get("sources", ())]
    assert sources == [
        {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"}}
    ]
    assert not any("secret" in volume for volume in agent["volumes"])
    assert "/var/run/secrets/ostiary/token" in found("ConfigMap", "planner-scripts")["data"]["shop"]


def test_the_policy_is_for_the_agents_service_account_and_asks_who_may_answer() -> None:
    spec = found("GatewayPolicy", "planner")["spec"]
    assert spec["match"]["subjects"] == [{"kind": "ServiceAccount", "namespace": "demo", "name": "planner"}]
    assert found("Deployment", "planner")["spec"]["template"]["spec"]["serviceAccountName"] == "planner"
    asking = next(rule for rule in spec["rules"] if rule["action"] == "RequireApproval")
    bound = {subject["name"] for subject in found("RoleBinding", "shop-approver")["subjects"]}
    assert bound == set(asking["approval"]["groups"])
    rules = found("Role", "shop-approver")["rules"]
    assert {"apiGroups": ["ostiary.dev"], "resources": ["connections"], "resourceNames": ["shop"],
            "verbs": ["get", "approve"]} in rules  # fmt: skip


@pytest.mark.parametrize("name", ["database", "planner"])
def test_pods_run_with_the_restricted_pod_security(name: str) -> None:
    pod = found("Deployment", name)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["limits"]["memory"]
