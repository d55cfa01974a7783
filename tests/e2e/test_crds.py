"""A real API server takes the CRDs, and keeps the rules that they state."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
from support.cluster import Cluster
from support.guarded import no_release
from support.resources import SCALARS, Manifest, Refused, change, good, refused

from ostiary_api.manifests import RESOURCES
from ostiary_api.meta import GROUP, VERSION
from ostiary_api.schema import KINDS

pytestmark = pytest.mark.cluster

CRDS = [f"{kind.plural}.ostiary.dev" for kind in KINDS]


@pytest.mark.parametrize("name", CRDS)
def test_the_crd_is_established_and_structural(cluster: Cluster, name: str) -> None:
    status = cluster.get("crd", name)["status"]
    conditions = {condition["type"]: condition["status"] for condition in status["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    assert status["storedVersions"] == ["v1alpha1"]


def create(cluster: Cluster, manifest: Manifest, *arguments: str) -> Any:
    return json.loads(cluster.ok("create", "--validate=strict", *arguments, "-o", "json", "-f", "-", manifest=manifest))


@pytest.mark.parametrize("name", sorted(good()))
def test_a_good_object_is_taken_and_means_the_same_as_in_a_file(cluster: Cluster, name: str) -> None:
    manifest = good()[name]
    model = RESOURCES[manifest["kind"]]
    stored = model.model_validate(create(cluster, manifest, "--dry-run=server"))
    from_file = model.model_validate(manifest)
    assert stored.revision == from_file.revision
    assert stored.metadata.uid


@pytest.mark.parametrize("name", sorted(good()))
def test_an_object_that_a_model_wrote_is_taken(cluster: Cluster, name: str) -> None:
    manifest = good()[name]
    create(cluster, RESOURCES[manifest["kind"]].model_validate(manifest).to_manifest(), "--dry-run=server")


@pytest.mark.parametrize("case", refused(), ids=str)
def test_what_is_wrong_is_refused_with_its_reason(cluster: Cluster, case: Refused) -> None:
    done = cluster.kubectl("create", "--dry-run=server", "--validate=strict", "-f", "-", manifest=case.manifest)
    assert done.returncode != 0
    assert case.server in done.stderr


def test_kubectl_reads_scalars_as_the_models_do(cluster: Cluster) -> None:
    manifest = good()["expiring"]
    manifest["spec"]["tests"] = [{"name": "a", "ssh": {}, "expect": "Deny", "as": {"claims": {"values": ["HERE"]}}}]
    text = json.dumps(manifest).replace('"HERE"', ", ".join(written for written, _ in SCALARS))
    stored = json.loads(cluster.ok("create", "--dry-run=server", "-o", "json", "-f", "-", text=text))
    values = stored["spec"]["tests"][0]["as"]["claims"]["values"]
    assert values == [read_as for _, read_as in SCALARS]


def test_defaults_are_filled_in(cluster: Cluster) -> None:
    spec = create(cluster, good()["minimal"], "--dry-run=server")["spec"]
    assert (spec["recording"], spec["audit"]) == ("Full", "Strict")
    assert spec["limits"] == {
        "maxSessions": 100,
        "idleTimeout": "15m",
        "maxRequestBytes": "1Mi",
        "maxRecordedBytes": "1Gi",
    }
    assert spec["upstream"]["tls"] == {"mode": "VerifyFull"}
    assert spec["listener"]["tls"] == {"mode": "Require"}
    assert spec["gateway"] == {"replicas": 1}
    request = create(cluster, good()["apr-1"], "--dry-run=server")["spec"]
    assert request["decisions"] == []


@pytest.fixture
def approval(cluster: Cluster) -> Manifest:
    """A stored ApprovalRequest with one answer."""
    no_release(cluster)
    manifest = good()["apr-1"]
    del manifest["metadata"]["name"]
    manifest["metadata"]["generateName"] = "apr-"
    manifest["spec"]["decisions"] = [{"approver": "bob", "verdict": "Approve", "reason": "fine"}]
    stored: Manifest = create(cluster, manifest)
    return stored


def replace(cluster: Cluster, manifest: Manifest, *arguments: str) -> str:
    """What the API server says to a change; empty if it takes it."""
    return cluster.kubectl("replace", *arguments, "-f", "-", manifest=manifest).stderr


def test_the_protocol_of_a_connection_cannot_be_changed(cluster: Cluster) -> None:
    stored = create(cluster, good()["minimal"])
    change(stored, "spec.audit", "Relaxed")
    assert replace(cluster, stored) == ""
    stored = cluster.get("connection", "minimal")
    change(stored, "spec.protocol", "SSH")
    change(stored, "spec.upstream.hostKeys", ["ssh-ed25519 AAAA"])
    assert "protocol cannot be changed; make another Connection" in replace(cluster, stored)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("spec.request.summary", "something harmless", "request cannot be changed"),
        ("spec.request.hash", "0" * 64, "request cannot be changed"),
        ("spec.request.facts.sql.estimatedRows", 1, "request cannot be changed"),
        ("spec.request.facts.more", {}, "request cannot be changed"),
        ("spec.request.evidence.text", "nothing", "request cannot be changed"),
        ("spec.request.truncated", True, "request cannot be changed"),
        ("spec.connectionRef.name", "other", "connectionRef cannot be changed"),
        ("spec.connectionRef.uid", "other", "connectionRef cannot be changed"),
        ("spec.requester.username", "other", "requester cannot be changed"),
        ("spec.requester.groups", ["admins"], "requester cannot be changed"),
        ("spec.approval.minApprovals", 1, "approval cannot be changed"),
        ("spec.approval.groups", ["everybody"], "approval cannot be changed"),
        ("spec.approval.grantTTL", "1h", "approval cannot be changed"),
        ("spec.policies.0.revision", "other", "policies cannot be changed"),
        ("spec.decisions", [], "decisions can be added, not changed or removed"),
        ("spec.decisions.0.verdict", "Deny", "decisions can be added, not changed or removed"),
        ("spec.decisions.0.reason", "never", "decisions can be added, not changed or removed"),
        ("spec.decisions.0.approver", "eve", "decisions can be added, not changed or removed"),
    ],
)
def test_a_question_stays_as_it_was_asked(
    cluster: Cluster, approval: Manifest, path: str, value: object, says: str
) -> None:
    change(approval, path, value)
    assert says in replace(cluster, approval)


@pytest.mark.parametrize(
    "path",
    ["spec.request.evidence", "spec.request.facts", "spec.connectionRef.uid", "spec.requester.onBehalfOf"],
)
def test_nothing_of_a_question_can_be_taken_away(cluster: Cluster, approval: Manifest, path: str) -> None:
    *above, last = path.split(".")
    parent = approval
    for part in above:
        parent = parent[part]
    del parent[last]
    assert "cannot be changed" in replace(cluster, approval)


def test_answers_can_be_added(cluster: Cluster, approval: Manifest) -> None:
    approval["spec"]["decisions"].append({"approver": "carol", "verdict": "Deny"})
    assert replace(cluster, approval) == ""
    name = approval["metadata"]["name"]
    patch = '[{"op": "add", "path": "/spec/decisions/-", "value": {"approver": "dave", "verdict": "Approve"}}]'
    cluster.ok("patch", "apr", name, "--type=json", "-p", patch)
    decisions = cluster.get("apr", name)["spec"]["decisions"]
    assert [decision["approver"] for decision in decisions] == ["bob", "carol", "dave"]


def conditions(**statuses: str) -> list[Manifest]:
    return [
        {
            "type": kind,
            "status": status,
            "reason": "Test",
            "message": "",
            "observedGeneration": 1,
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        }
        for kind, status in statuses.items()
    ]


def test_a_terminal_condition_never_flips_back(cluster: Cluster, approval: Manifest) -> None:
    def status(**fields: object) -> str:
        stored = cluster.get("apr", approval["metadata"]["name"])
        stored["status"] = fields
        return replace(cluster, stored, "--subresource=status")

    assert status(conditions=conditions(Approved="False", Denied="False")) == ""
    assert status(conditions=conditions(Approved="True"), grantExpiresAt="2026-01-01T00:10:00Z") == ""
    flipped = "a terminal condition that is True stays so"
    assert flipped in status(conditions=conditions(Approved="False"))
    assert flipped in status(conditions=conditions(Denied="True"))
    assert flipped in status(conditions=[])
    assert flipped in status(expiresAt="2026-01-01T00:10:00Z")
    used = conditions(Approved="True", Consumed="True")
    assert status(conditions=used, consumedAt="2026-01-01T00:05:00Z") == ""
    assert "a grant is consumed once" in status(conditions=used, consumedAt="2026-01-01T00:06:00Z")
    assert "a grant is consumed once" in status(conditions=used)
    assert flipped in status(conditions=conditions(Approved="True"), consumedAt="2026-01-01T00:05:00Z")
    assert status(conditions=used, consumedAt="2026-01-01T00:05:00Z") == ""


def test_the_status_is_written_through_its_subresource_only(cluster: Cluster, approval: Manifest) -> None:
    before = copy.deepcopy(cluster.get("apr", approval["metadata"]["name"]))
    approval["status"] = {"conditions": conditions(Approved="True")}
    assert replace(cluster, approval) == ""
    assert cluster.get("apr", approval["metadata"]["name"]).get("status") == before.get("status")


def test_kubectl_get_shows_what_matters(cluster: Cluster, approval: Manifest) -> None:
    postgres = good()["postgres"]
    create(cluster, postgres)
    create(cluster, good()["shop"])

    def row(*arguments: str) -> dict[str, str]:
        header, line, *_ = cluster.ok("get", *arguments).splitlines()
        starts = [match.start() for match in re.finditer(r"\S+", header)]
        ends = [*starts[1:], None]
        return {header[a:b].strip(): line[a:b].strip() for a, b in zip(starts, ends, strict=True)}

    connection = row("gwconn", "postgres")
    assert [*connection] == ["NAME", "PROTOCOL", "ENDPOINT", "PORT", "POLICIES", "ACCEPTED", "PROGRAMMED", "AGE"]
    assert (connection["PROTOCOL"], connection["PORT"]) == ("Postgres", "")
    assert row("gwconn", "postgres", "-o", "wide")["UPSTREAM"] == "db.prod.svc"
    stored = cluster.get("gwconn", "postgres")
    stored["status"] = {
        "conditions": conditions(Accepted="True", ResolvedRefs="False", Programmed="False", UpstreamReachable="True"),
        "endpoint": {"host": "ostiary-postgres.prod.svc", "port": 6432},
        "policyCount": 2,
    }
    stored["status"]["conditions"][1]["message"] = "there is no Secret db"
    assert replace(cluster, stored, "--subresource=status") == ""
    connection = row("gwconn", "postgres", "-o", "wide")
    assert (connection["ENDPOINT"], connection["PORT"], connection["POLICIES"]) == (
        "ostiary-postgres.prod.svc", "6432", "2",
    )  # fmt: skip
    assert (connection["ACCEPTED"], connection["PROGRAMMED"], connection["REACHABLE"]) == ("True", "False", "True")
    assert connection["PROBLEM"] == "there is no Secret db", "the first that does not hold"
    policy = row("gwpol", "shop")
    assert [*policy] == ["NAME", "ENFORCEMENT", "PRIORITY", "CONNECTIONS", "ACCEPTED", "PROGRAMMED", "AGE"]
    assert (policy["ENFORCEMENT"], policy["PRIORITY"]) == ("Enforce", "10")
    request = row("apr", approval["metadata"]["name"])
    assert [*request] == ["NAME", "REQUESTER", "CONNECTION", "STATE", "REQUEST", "AGE"]
    assert (request["REQUESTER"], request["CONNECTION"]) == ("planner", "postgres")
    assert request["REQUEST"] == "update orders set paid = true"
    stored = cluster.get("apr", approval["metadata"]["name"])
    stored["status"] = {"conditions": conditions(Approved="True"), "state": "Approved"}
    assert replace(cluster, stored, "--subresource=status") == ""
    assert row("apr", approval["metadata"]["name"])["STATE"] == "Approved"


def test_the_category_lists_all_of_them(cluster: Cluster, approval: Manifest) -> None:
    assert f"approvalrequest.ostiary.dev/{approval['metadata']['name']}" in cluster.ok("get", "ostiary", "-o", "name")


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("connection", "how the gateway authenticates to it"),
        ("connection.spec.upstream.tls.mode", "VerifyFull: its chain and its name are checked."),
        ("gatewaypolicy.spec.rules.action", "The strictest of a priority wins"),
        ("gatewaypolicy.spec.rules.masking.detector", "CreditCard IBAN Email"),
        ("approvalrequest.spec.decisions", "Approvers append theirs"),
        ("approvalrequest.status.grantExpiresAt", "When the grant can no longer be used."),
    ],
)
def test_kubectl_explain_shows_the_documentation(cluster: Cluster, path: str, says: str) -> None:
    # kubectl breaks lines.
    assert says in " ".join(cluster.ok("explain", path).split())


def test_what_the_api_server_publishes_describes_every_field(cluster: Cluster) -> None:
    """`kubectl explain` reads this document; metadata is described by Kubernetes."""
    document = json.loads(cluster.ok("get", "--raw", f"/openapi/v3/apis/{GROUP}/{VERSION}"))
    schemas = document["components"]["schemas"]
    bare: list[str] = []

    def walk(schema: Manifest, path: str) -> None:
        for name, item in schema.get("properties", {}).items():
            if name != "metadata" and not item.get("description"):
                bare.append(f"{path}.{name}")
            if name != "metadata":
                walk(item, f"{path}.{name}")
        for inner in (schema.get("items"), schema.get("additionalProperties")):
            if isinstance(inner, dict):
                walk(inner, path)

    found = [name for name in schemas if name.rpartition(".")[2] in {kind.__name__ for kind in KINDS}]
    assert len(found) == 3
    for name in found:
        assert schemas[name]["description"]
        walk(schemas[name], name.rpartition(".")[2])
    assert bare == []
