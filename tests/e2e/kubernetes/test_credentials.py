"""How a gateway logs in for agents, what they hear of their rights, and the kubeconfig that they use: with kubectl."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.api_gateway import ApiGateway, policy, rule
from support.cluster import Cluster
from support.gateway import AGENT, TOKEN

from .conftest import StartApiGateway

pytestmark = pytest.mark.cluster

POLICY = policy(
    "agents",
    rule("no-secrets", "k8s.resource == 'secrets'", "Deny", message="Secrets are not read.", hint="Ask for a mount."),
    rule("no-exec", "k8s.verb == 'connect'", "Deny", message="No way into pods."),
    rule(
        "scale", "k8s.resource == 'deployments' && !k8s.readOnly && k8s.object.spec.replicas > 20", "RequireApproval",
        approval={"groups": ["ops"]},
    ),
    rule("deletes", "k8s.verb == 'delete'", "RequireApproval", approval={"groups": ["ops"]}),
    rule("rest"),
)  # fmt: skip


def kubeconfig(gateway: ApiGateway, *more: str) -> Cluster:
    """kubectl with what `ostiary kubeconfig` writes."""
    token, out = gateway.directory / "agents-token", gateway.directory / "agent.kubeconfig"
    token.write_text(TOKEN)
    gateway.run(
        "kubeconfig", "cluster", str(gateway.directory / "manifests"), "--data", str(gateway.directory / "data"),
        "--token-file", str(token), "--out", str(out), *more,
    )  # fmt: skip
    settings = {"KUBECONFIG": str(out), "KUBECACHEDIR": str(gateway.directory / "kubectl-cache")}
    return Cluster(gateway.plane.cluster.environment | settings, gateway.plane.cluster.namespace)


@pytest.fixture(scope="module")
def gateway(start: StartApiGateway) -> ApiGateway:
    return start(POLICY)


def can_i(agent: Cluster, *question: str) -> tuple[str, int]:
    done = agent.kubectl("auth", "can-i", *question)
    return done.stdout.strip(), done.returncode


def test_a_kubeconfig_of_ostiary_is_all_that_kubectl_needs(gateway: ApiGateway) -> None:
    agent = kubeconfig(gateway, "--default-namespace", gateway.plane.cluster.namespace)
    agent.ok("create", "configmap", "hello", "--from-literal=a=b")
    done = subprocess.run(
        ["kubectl", "get", "configmap", "hello", "-o", "jsonpath={.data.a}"],
        env=agent.environment, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "b", done.stderr
    path = Path(agent.environment["KUBECONFIG"])
    assert TOKEN not in path.read_text()
    assert path.stat().st_mode & 0o077 == 0


def test_a_token_that_is_written_anew_is_used_without_another_kubeconfig(gateway: ApiGateway) -> None:
    agent = kubeconfig(gateway)
    agent.ok("get", "configmaps")  # kubectl knows the API then, and shows what is said of this request
    (gateway.directory / "agents-token").write_text("somebody-else's-token-of-no-use-here")
    refused = agent.kubectl("get", "configmaps").stderr
    assert "The bearer token is no token that is known for the Connection cluster. Send the agent's token" in refused
    (gateway.directory / "agents-token").write_text(TOKEN)
    agent.ok("get", "configmaps")


def test_the_python_client_takes_it_too(gateway: ApiGateway) -> None:
    kubernetes = pytest.importorskip("kubernetes")
    agent = kubeconfig(gateway)
    client = kubernetes.config.new_client_from_config(agent.environment["KUBECONFIG"])
    found = kubernetes.client.CoreV1Api(client).list_namespace()
    assert gateway.plane.cluster.namespace in {each.metadata.name for each in found.items}


def test_can_i_tells_of_policies_what_rbac_does_not_know(gateway: ApiGateway) -> None:
    agent = kubeconfig(gateway)
    assert can_i(agent, "get", "pods") == ("yes", 0)
    assert can_i(agent, "create", "deployments.apps") == ("yes", 0)
    assert can_i(agent, "delete", "pods") == ("yes", 0)
    for question in (("get", "secrets"), ("list", "secrets", "-A")):
        said, code = can_i(agent, *question)
        assert said.startswith("no - Secrets are not read. (rule default/agents#no-secrets) Ask for a mount."), said
        assert code == 1
    assert can_i(agent, "create", "pods", "--subresource=exec")[0].startswith("no - No way into pods.")
    assert can_i(agent, "*", "*")[0].startswith("no - Policies decide about each kind")
    assert can_i(agent, "get", "/healthz") == ("yes", 0)


def test_a_review_says_what_depends_on_the_object_and_what_waits_for_a_person(gateway: ApiGateway) -> None:
    agent = kubeconfig(gateway)

    def asked(verb: str, group: str, resource: str) -> Any:
        attributes = {"verb": verb, "group": group, "resource": resource, "namespace": agent.namespace}
        review = {
            "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }  # fmt: skip
        return json.loads(agent.ok("create", "-o", "json", "-f", "-", manifest=review))["status"]

    assert "rules read k8s.object" in asked("patch", "apps", "deployments")["reason"]
    assert "waits for approval by a member of ops" in asked("delete", "", "pods")["reason"]


def test_the_list_of_rights_is_said_to_be_incomplete(gateway: ApiGateway) -> None:
    done = kubeconfig(gateway).kubectl("auth", "can-i", "--list")
    assert done.returncode == 0
    assert "may be incomplete" in done.stderr
    assert "can-i VERB RESOURCE" in done.stderr


def test_whoami_is_who_the_gateway_knows(gateway: ApiGateway) -> None:
    told = json.loads(kubeconfig(gateway).ok("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert told["username"] == AGENT
    assert told["groups"] == ["agents"]
    assert told["extra"]["ostiary.dev/upstream-user"][0].startswith("system:serviceaccount:")


def test_reviews_are_recorded_like_any_other_request(gateway: ApiGateway) -> None:
    kubeconfig(gateway).kubectl("auth", "can-i", "get", "pods")
    texts = {each.get("text", "") for each in gateway.records()}
    assert any("POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews" in text for text in texts)


def test_nobody_answers_an_approval_through_a_gateway(start: StartApiGateway) -> None:
    gateway = start()
    path = f"/apis/ostiary.dev/v1alpha1/namespaces/{gateway.plane.cluster.namespace}/approvalrequests"
    done = gateway.kubectl("create", "--raw", path, "-f", "-", manifest={"kind": "ApprovalRequest"})
    assert "Approvals are answered by people, and not through a gateway." in done.stderr


# -- credentials


def test_tokens_of_a_service_account_act_and_are_nowhere_to_be_found(start: StartApiGateway, namespace: str) -> None:
    credentials = {"serviceAccountToken": {"name": "worker", "namespace": namespace, "secretRef": {"name": "api"}}}
    gateway = start(credentials=credentials)
    there = replace(gateway.plane.cluster, namespace=namespace)
    there.ok("create", "serviceaccount", "worker")
    there.ok("create", "rolebinding", "worker", "--clusterrole=view", f"--serviceaccount={namespace}:worker")
    told = json.loads(gateway.ok("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert told["extra"]["ostiary.dev/upstream-user"] == [f"system:serviceaccount:{namespace}:worker"]
    gateway.ok("get", "configmaps", namespace=namespace)
    denied = gateway.kubectl("create", "configmap", "no", namespace=namespace)
    assert "cannot create resource" in denied.stderr, "RBAC of the ServiceAccount holds"
    for path in gateway.directory.rglob("*"):
        if path.is_file():
            assert b"eyJhbGci" not in path.read_bytes() or path.name.endswith((".yaml", ".kubeconfig")), path


def test_an_agent_that_is_impersonated_has_its_own_rights(start: StartApiGateway, namespace: str) -> None:
    gateway = start(credentials={"impersonate": {"secretRef": {"name": "api"}}})
    there = replace(gateway.plane.cluster, namespace=namespace)
    assert "cannot list resource" in gateway.kubectl("get", "configmaps", namespace=namespace).stderr
    there.ok("create", "rolebinding", "agents", "--clusterrole=view", "--group=agents")
    gateway.ok("get", "configmaps", namespace=namespace)
    told = json.loads(gateway.ok("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert told == {"username": AGENT, "groups": ["agents"]}
    refused = gateway.kubectl("get", "configmaps", "--as=system:admin", "--as-group=system:masters")
    assert refused.returncode != 0


def test_what_is_wrong_with_the_credential_is_told_and_is_not_the_agents_fault(start: StartApiGateway) -> None:
    credentials = {"serviceAccountToken": {"name": "nobody", "secretRef": {"name": "api"}}}
    gateway = start(credentials=credentials)
    done = gateway.kubectl("get", "configmaps")
    assert "(ServiceUnavailable)" in done.stderr
    assert "make it (kubectl create serviceaccount nobody -n default)" in gateway.log_text()
