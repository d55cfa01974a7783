"""The packs for the Kubernetes API: accepted as they are, their own cases hold, and what they let through they do."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from support.packs import ALLOWING, KUBERNETES, PACKS, lets_requests_through, pack
from support.policies import CLIENT, NOON, bound, bundle, subject

from ostiary_api.cases import KubernetesTest
from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy
from ostiary_cli.main import cli
from ostiary_gateway.protocols.kubernetes.offline import offline_facts
from ostiary_policy.decision import Decision

ALLOW_ALL = {
    "metadata": {"name": "allow-all"},
    "spec": {
        "match": {"protocols": ["Kubernetes"]},
        "rules": [{"name": "everything", "action": "Allow", "expression": "true"}],
    },
}
CASES = [(name, case) for name in KUBERNETES for case in lets_requests_through(name)]


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, arguments, prog_name="ostiary")
    return result.exit_code, result.output


def decide(case: dict[str, Any], *packs: str, **enforcement: str) -> Decision:
    """What comes out of packs at one Connection, beside a policy that allows everything unless one of them allows."""
    manifests: list[Any] = [pack(name) for name in packs]
    for manifest in manifests:
        for rule in manifest["spec"]["rules"]:
            if rule["name"].replace("-", "_") in enforcement:
                rule["enforcement"] = enforcement[rule["name"].replace("-", "_")]
    if not set(packs) & set(ALLOWING):
        manifests.append(ALLOW_ALL)
    policies = [GatewayPolicy.model_validate(manifest) for manifest in manifests]
    labels = {f"packs.ostiary.dev/{name}": "enabled" for name in packs}
    who = subject("planner", "agents")
    cluster = Connection.model_validate({
        "metadata": {"name": "cluster", "namespace": "default", "labels": labels},
        "spec": {
            "protocol": "Kubernetes",
            "upstream": {"server": "https://cluster.example"},
            "credentials": {"static": {"secretRef": {"name": "cluster"}}},
            "listener": {"port": 6443},
        },
    })  # fmt: skip
    found = bound(bundle(*policies, connections=[cluster]), "cluster", "default").for_subject(who, CLIENT)
    now = "2026-01-01T12:00:00Z"
    counts = dict.fromkeys(("requests", "rowsRead", "bytesRead", "rowsWritten"), 0)
    request = {
        "time": now,
        "connection": dict(found.connection),
        "subject": dict(who),
        "client": dict(CLIENT),
        "session": {"id": "s", "startedAt": now, **counts},
    }
    facts = offline_facts(KubernetesTest.model_validate(case))
    decided = found.decide({"request": request, "k8s": dict(facts)}, NOON, final=True)
    assert isinstance(decided, Decision)
    return decided


def yamls(text: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize("name", KUBERNETES)
def test_a_pack_is_accepted_and_its_cases_hold(name: str) -> None:
    code, output = run("lint", str(PACKS / name))
    assert code == 0, output
    code, output = run("test", "--json", str(PACKS / name))
    assert code == 0, output
    found = json.loads(output)
    assert len(found) >= 12
    assert all(case["passed"] for case in found)


@pytest.mark.parametrize("name", KUBERNETES)
def test_a_pack_is_written_for_agents_and_their_platform(name: str) -> None:
    spec = pack(name)["spec"]
    assert spec["match"]["connectionSelector"]["matchLabels"] == {f"packs.ostiary.dev/{name}": "enabled"}
    assert spec["match"]["protocols"] == ["Kubernetes"]
    for rule in spec["rules"]:
        if rule["action"] in ("Deny", "RequireApproval"):
            assert rule["message"]
            assert rule["hint"]
    assert any(rule["action"] == "Allow" for rule in spec["rules"]) == (name in ALLOWING)
    tested = {test.get("rule") for test in spec["tests"]}
    deciding = [rule for rule in spec["rules"] if rule["action"] != "Mask" and rule.get("enforcement") != "Audit"]
    assert {rule["name"] for rule in deciding} <= tested
    readme = (PACKS / name / "README.md").read_text()
    for heading in ("## What it stops", "## What it lets through", "## How to tune it", "## Known limits"):
        assert heading in readme
    assert len(readme.splitlines()) <= 80


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{name}: {str(case)[:70]}" for name, case in CASES])
def test_what_a_pack_says_it_lets_through_it_does(name: str, case: dict[str, Any]) -> None:
    decision = decide(case, name)
    rule = "kubernetes-read-only#read" if name in ALLOWING else "allow-all#everything"
    assert (decision.action, decision.message) == ("Allow", f"Allowed by rule default/{rule}.")


POD = yamls("{apiVersion: v1, kind: Pod, metadata: {name: web-0, namespace: shop}}")


@pytest.mark.parametrize(
    ("pod", "root"),
    [
        ("{}", True),
        ("{runAsNonRoot: true}", False),
        ("{runAsNonRoot: false}", True),
    ],
)
@pytest.mark.parametrize(("container", "decides"), [("{}", None), ("{runAsNonRoot: true}", False)])
def test_containers_that_could_run_as_root_are_denied_if_wanted(
    pod: str, root: bool, container: str, decides: bool | None
) -> None:
    spec = {"securityContext": yamls(pod), "containers": [{"name": "a", "securityContext": yamls(container)}]}
    case = {"verb": "create", "object": {**POD, "spec": spec}}
    assert decide(case, "kubernetes-no-privileged-pods").action == "Allow"
    decision = decide(case, "kubernetes-no-privileged-pods", not_as_root="Enforce")
    assert decision.action == ("Deny" if (root if decides is None else decides) else "Allow")


def test_together_the_strictest_decides() -> None:
    everything = [name for name in KUBERNETES if name != "kubernetes-read-only"]
    web = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {replicas: %d}}"
    large = {"verb": "patch", "object": yamls(web % 50), "oldObject": yamls(web % 3)}
    for case, action, rule in (
        ({"verb": "list", "resource": "pods", "namespace": "shop"}, "Allow", "everything"),
        ({**large, "object": yamls(web % 5)}, "Allow", "everything"),
        (large, "RequireApproval", "scale"),
        ({"verb": "list", "resource": "pods"}, "Deny", "nothing-over-all"),
        ({"verb": "list", "resource": "secrets", "namespace": "shop"}, "Deny", "no-secrets"),
    ):
        decision = decide(case, *everything)
        assert decision.rule is not None
        assert (decision.action, decision.rule.rule) == (action, rule)
    read = decide(large, *KUBERNETES)
    assert read.rule is not None
    assert (read.action, read.rule.rule) == ("Deny", "only-reads")
