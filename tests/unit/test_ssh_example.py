"""examples/ssh as it stands: it loads, its tests pass, and its parts name each other rightly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import asyncssh
import pytest
import yaml

from ostiary_api.names import child_name
from ostiary_gateway.feed.fact_sources import fact_sources
from ostiary_gateway.feed.loading import Loaded, load
from ostiary_gateway.identity.service_account import AUDIENCE

EXAMPLE = Path(__file__).parents[2] / "examples" / "ssh"


def objects(directory: str) -> list[dict[str, Any]]:
    files = sorted((EXAMPLE / directory).glob("*.yaml"))
    return [item for file in files for item in yaml.safe_load_all(file.read_text())]


def found(kind: str, name: str) -> dict[str, Any]:
    return next(item for item in objects("cluster") if (item["kind"], item["metadata"]["name"]) == (kind, name))


@pytest.mark.parametrize(("directory", "namespace"), [("laptop", "default"), ("cluster", "demo")])
def test_the_manifests_load_without_a_problem_and_their_tests_pass(directory: str, namespace: str) -> None:
    in_cluster = directory == "cluster"
    outcome = load([EXAMPLE / directory], complete=False, fact_sources=fact_sources(), in_cluster=in_cluster)
    assert isinstance(outcome, Loaded), outcome
    assert outcome.problems == ()
    # Secrets are not kept beside an example.
    assert {notice.field for notice in outcome.notices} <= {
        "", "spec.credentials.sshCertificate.caSecretRef", "spec.listener.hostKeyRef",
    }  # fmt: skip
    bound = outcome.bundle.connections[namespace, "web"]
    assert [policy.key[0] for policy in bound.policies] == [namespace]
    for key in bound.connection.spec.upstream.host_keys:
        assert asyncssh.import_public_key(key).get_algorithm() == "ssh-ed25519"


def test_both_have_the_same_rules() -> None:
    specs = [
        next(item["spec"] for item in objects(directory) if item["kind"] == "GatewayPolicy")
        for directory in ("laptop", "cluster")
    ]
    assert specs[0]["rules"] == specs[1]["rules"]
    assert specs[0]["variables"] == specs[1]["variables"]


def test_everything_is_in_the_namespace_that_comes_first() -> None:
    first, *others = objects("cluster")
    assert (first["kind"], first["metadata"]["name"]) == ("Namespace", "demo")
    assert {item["metadata"]["namespace"] for item in others} == {"demo"}


def test_the_agent_connects_where_the_operator_puts_the_service() -> None:
    scripts = found("ConfigMap", "deployer-scripts")["data"]
    service = f"{child_name('web')}.demo.svc"
    assert f"HostName {service}\n" in scripts["ssh_config"]
    assert scripts["known_hosts"].startswith(f"{service} ssh-ed25519 ")
    spec = found("Connection", "web")["spec"]
    assert spec["listener"]["port"] == 22
    assert f"User {spec['credentials']['sshCertificate']['principals'][0]}\n" in scripts["ssh_config"]


def test_the_agent_holds_a_token_for_the_gateway_and_nothing_else() -> None:
    agent = found("Deployment", "deployer")["spec"]["template"]["spec"]
    assert agent["automountServiceAccountToken"] is False
    sources = [source for volume in agent["volumes"] for source in volume.get("projected", {}).get("sources", ())]
    assert sources == [{"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": 3600, "path": "token"}}]
    assert not any("secret" in volume for volume in agent["volumes"])
    environment = {item["name"]: item["value"] for item in agent["containers"][0]["env"]}
    assert environment["SSH_ASKPASS"] == "/scripts/token"
    assert "/var/run/secrets/ostiary/token" in found("ConfigMap", "deployer-scripts")["data"]["token"]


def test_the_policy_is_for_the_agents_service_account_and_asks_who_may_answer() -> None:
    spec = found("GatewayPolicy", "deployers")["spec"]
    assert spec["match"]["subjects"] == [{"kind": "ServiceAccount", "namespace": "demo", "name": "deployer"}]
    assert found("Deployment", "deployer")["spec"]["template"]["spec"]["serviceAccountName"] == "deployer"
    asking = next(rule for rule in spec["rules"] if rule["action"] == "RequireApproval")
    bound = {subject["name"] for subject in found("RoleBinding", "web-approver")["subjects"]}
    assert bound == set(asking["approval"]["groups"])
    rules = found("Role", "web-approver")["rules"]
    assert {"apiGroups": ["ostiary.dev"], "resources": ["connections"], "resourceNames": ["web"],
            "verbs": ["get", "approve"]} in rules  # fmt: skip
