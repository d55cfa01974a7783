"""What the chart makes of its values."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from support.helm import CHART, Manifest, helm, pick, refusal, rules, template

from ostiary_api.admission import NAMES as ADMISSION
from ostiary_api.schema import KINDS
from ostiary_operator.reconcile import access
from ostiary_operator.settings import parse_settings

EVERYTHING: Manifest = {
    "images": {"registry": "registry.example.com/team", "pullSecrets": [{"name": "pull"}]},
    "operator": {
        "image": {"tag": "1.2.3"},
        "podLabels": {"team": "data"},
        "podAnnotations": {"note": "one"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "system-cluster-critical",
        "serviceAccount": {"annotations": {"note": "two"}},
        "settings": {"watch": {"staleAfter": "3m"}, "rates": {"workers": 4}},
    },
    "gateway": {
        "image": {"digest": "sha256:" + "a" * 64},
        "networkPolicy": {"monitoringFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}]},
        "autoscaling": {"enabled": True},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "podAnnotations": {"note": "three"},
        "tolerations": [{"key": "agents", "operator": "Exists"}],
    },
    "metrics": {
        "annotations": True,
        "monitors": {"enabled": True, "labels": {"release": "prometheus"}},
        "rules": {"enabled": True, "runbookUrl": "https://wiki.example.com/alerts"},
        "dashboard": {"enabled": True},
    },
}
NARROW: Manifest = {"watchNamespaces": ["shop", "billing"]}


def settings(objects: list[Manifest]) -> str:
    text: str = pick(objects, "ConfigMap", "ostiary-operator")["data"]["operator.yaml"]
    return text


def test_helm_finds_nothing_wrong() -> None:
    for values in ({}, EVERYTHING, NARROW):
        done = helm("lint", "--strict", str(CHART), values=values)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", [{}, EVERYTHING, NARROW], ids=["defaults", "everything", "narrow"])
def test_every_object_is_labelled_and_there_once(values: Manifest) -> None:
    objects = template(values)
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(names) == len(set(names))
    for each in objects:
        assert each["metadata"]["labels"]["app.kubernetes.io/part-of"] == "ostiary", each["metadata"]["name"]


@pytest.mark.parametrize("values", [{}, EVERYTHING, NARROW], ids=["defaults", "everything", "narrow"])
def test_the_operator_understands_what_the_chart_tells_it(values: Manifest) -> None:
    told = parse_settings(settings(template(values)))
    assert told.gateways_binding == "ostiary-gateways"
    assert told.leader_election.lease_name == "ostiary-operator"
    assert list(told.watch_namespaces) == values.get("watchNamespaces", [])


def test_values_of_the_gateway_reach_the_operator() -> None:
    told = yaml.safe_load(settings(template(EVERYTHING)))
    gateway = told["gateway"]
    assert gateway["image"] == "registry.example.com/team/ostiary-gateway@sha256:" + "a" * 64
    assert gateway["imagePullSecrets"] == [{"name": "pull"}]
    assert gateway["drainSeconds"] == 60
    assert gateway["autoscaling"] == {"enabled": True, "maxReplicas": 5, "targetCPUUtilizationPercentage": 70}
    assert gateway["metricsAnnotations"] is True
    assert told["watch"] == {"staleAfter": "3m"}


def test_a_change_of_settings_restarts_the_operator() -> None:
    def mark(values: Manifest) -> str:
        pod = pick(template(values), "Deployment", "ostiary-operator")["spec"]["template"]
        text: str = pod["metadata"]["annotations"]["ostiary.dev/settings"]
        return text

    assert mark({}) == mark({"operator": {"replicas": 1}})
    assert mark({}) != mark({"gateway": {"logLevel": "debug"}})


def test_the_operators_pod_keeps_the_restricted_standard() -> None:
    pod = pick(template(), "Deployment", "ostiary-operator")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["requests"]
        assert container["resources"]["limits"]["memory"]
    assert not pod.get("hostNetwork")
    assert pod["automountServiceAccountToken"] is False


def test_images_go_by_digest_then_tag_then_version() -> None:
    def image(values: Manifest) -> str:
        pod = pick(template(values), "Deployment", "ostiary-operator")["spec"]["template"]["spec"]
        text: str = pod["containers"][0]["image"]
        return text

    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    assert image({}) == f"ostiary-operator:{version}"
    assert image({"images": {"registry": "r.example.com:80/x/"}}) == f"r.example.com:80/x/ostiary-operator:{version}"
    assert image({"operator": {"image": {"tag": "dev"}}}) == "ostiary-operator:dev"
    digest = "sha256:" + "0" * 64
    assert image({"operator": {"image": {"tag": "dev", "digest": digest}}}) == f"ostiary-operator@{digest}"


def test_crds_stay_when_the_release_goes_unless_told_otherwise() -> None:
    crds = {f"{kind.plural}.ostiary.dev" for kind in KINDS}

    def found(values: Manifest) -> dict[str, dict[str, str]]:
        return {
            each["metadata"]["name"]: each["metadata"].get("annotations", {})
            for each in template(values)
            if each["kind"] == "CustomResourceDefinition"
        }

    assert found({}) == {name: {"helm.sh/resource-policy": "keep"} for name in crds}
    assert found({"crds": {"keep": False}}) == {name: {} for name in crds}
    assert found({"crds": {"install": False}}) == {}


def test_admission_guards_approvals_and_knows_the_operator() -> None:
    objects = template()
    for name in ADMISSION:
        policy = pick(objects, "ValidatingAdmissionPolicy", name)
        assert policy["spec"]["failurePolicy"] == "Fail"
        assert pick(objects, "ValidatingAdmissionPolicyBinding", name)["spec"]["validationActions"] == ["Deny"]
    operator = pick(objects, "ClusterRole", "ostiary-operator")["rules"]
    (looks,) = [rule for rule in operator if "validatingadmissionpolicies" in rule["resources"]]
    assert sorted(looks["resourceNames"]) == sorted(ADMISSION)
    assert "'system:serviceaccount:ostiary-system:ostiary-operator'" in yaml.safe_dump(objects, width=10_000)
    elsewhere = template(None, "--namespace", "doors")
    assert "system:serviceaccount:doors:ostiary-operator" in yaml.safe_dump(elsewhere, width=10_000)


def test_no_role_has_a_wildcard() -> None:
    for values in ({}, NARROW):
        for each in template(values):
            if each["kind"] in ("Role", "ClusterRole"):
                assert "*" not in str(each["rules"]), each["metadata"]["name"]


def test_the_operator_cannot_give_itself_more() -> None:
    objects = template()
    verbs = {verb for _, _, verb in rules(pick(objects, "ClusterRole", "ostiary-operator"))}
    assert "escalate" not in verbs
    assert "impersonate" not in verbs
    for rule in pick(objects, "ClusterRole", "ostiary-operator")["rules"]:
        if "bind" in rule["verbs"]:
            assert rule["resourceNames"] == ["ostiary-gateway"]
        if "clusterrolebindings" in rule["resources"]:
            assert rule["resourceNames"] == ["ostiary-gateways"]


def test_the_operator_has_all_that_it_gives_to_gateways() -> None:
    """The API server lets nobody give what they have not themselves."""
    given = access.role({}, config_maps=["a"], secrets=["b"], connections=["c"], accounts=["d"])
    given_in_system = access.system_access("ostiary-system", "shop", "app", ["d"])[0]
    for values, kind, name in (({}, "ClusterRole", "ostiary-operator"), (NARROW, "Role", "ostiary-operator-watched")):
        roles = [each for each in template(values) if (each["kind"], each["metadata"]["name"]) == (kind, name)]
        assert roles
        for role in roles:
            everywhere = [rule for rule in role["rules"] if "resourceNames" not in rule]
            held = set(rules({"rules": everywhere}))
            assert set(rules(given)) | set(rules(given_in_system)) <= held


def test_the_operator_writes_no_secret_and_answers_no_approval() -> None:
    for values in ({}, NARROW):
        for each in template(values):
            if each["kind"] in ("Role", "ClusterRole") and each["metadata"]["name"].startswith("ostiary-operator"):
                granted = rules(each)
                assert {verb for _, resource, verb in granted if resource == "secrets"} <= {"get", "list", "watch"}
                assert ("ostiary.dev", "connections", "approve") not in granted
                assert ("ostiary.dev", "approvalrequests", "update") not in granted
                assert ("ostiary.dev", "approvalrequests", "patch") not in granted


def test_with_namespaces_given_the_operator_sees_secrets_nowhere_else() -> None:
    objects = template(NARROW)
    wide = {resource for _, resource, _ in rules(pick(objects, "ClusterRole", "ostiary-operator"))}
    assert wide.isdisjoint({"secrets", "configmaps", "deployments", "roles", "connections", "approvalrequests"})
    for namespace in ("shop", "billing", "ostiary-system"):
        role = pick(objects, "Role", "ostiary-operator-watched", namespace)
        assert ("", "secrets", "list") in rules(role)
        assert pick(objects, "RoleBinding", "ostiary-operator-watched", namespace)["subjects"] == [
            {"kind": "ServiceAccount", "name": "ostiary-operator", "namespace": "ostiary-system"}
        ]


def test_gateways_share_one_right_and_the_operator_lists_who() -> None:
    objects = template()
    role = pick(objects, "ClusterRole", "ostiary-gateway")
    assert rules(role) == [("authentication.k8s.io", "tokenreviews", "create")]
    binding = pick(objects, "ClusterRoleBinding", "ostiary-gateways")
    assert binding["roleRef"]["name"] == "ostiary-gateway"
    assert "subjects" not in binding


def test_people_see_and_edit_by_the_clusters_roles_and_approve_by_none() -> None:
    objects = template()

    def aggregated(role: Manifest) -> set[str]:
        prefix = "rbac.authorization.k8s.io/aggregate-to-"
        return {label.removeprefix(prefix) for label in role["metadata"]["labels"] if label.startswith(prefix)}

    view, edit, approver = (pick(objects, "ClusterRole", f"ostiary-{name}") for name in ("view", "edit", "approver"))
    assert aggregated(view) == {"view", "edit", "admin"}
    assert aggregated(edit) == {"edit", "admin"}
    assert aggregated(approver) == set()
    assert {verb for _, _, verb in rules(view)} == {"get", "list", "watch"}
    for role in (view, edit):
        assert {"approve", "serve"}.isdisjoint(verb for _, _, verb in rules(role))
        assert {resource for _, resource, verb in rules(role) if verb not in ("get", "list", "watch")} <= {
            "connections", "gatewaypolicies",
        }  # fmt: skip
    assert ("ostiary.dev", "connections", "approve") in rules(approver)
    assert ("ostiary.dev", "approvalrequests", "create") not in rules(approver)
    off = template({"rbac": {"aggregate": False}})
    assert aggregated(pick(off, "ClusterRole", "ostiary-edit")) == set()


def test_one_replica_needs_no_budget_and_no_lease() -> None:
    kinds = [each["kind"] for each in template({"operator": {"replicas": 1, "leaderElection": {"enabled": False}}})]
    assert "PodDisruptionBudget" not in kinds
    assert "Lease" not in kinds
    both = [each["kind"] for each in template()]
    assert both.count("PodDisruptionBudget") == both.count("Lease") == 1


def test_alerts_link_to_their_runbooks() -> None:
    rule = pick(template(EVERYTHING), "PrometheusRule", "ostiary")
    alerts = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    assert alerts
    for alert in alerts:
        expected = f"https://wiki.example.com/alerts#{alert['alert'].lower()}"
        assert alert["annotations"]["runbook_url"] == expected
    assert "{{ $labels" in yaml.safe_dump(rule)


def test_monitors_find_operator_and_gateways() -> None:
    objects = template(EVERYTHING)
    service = pick(objects, "Service", "ostiary-operator")
    monitor = pick(objects, "ServiceMonitor", "ostiary-operator")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert pick(objects, "PodMonitor", "ostiary-gateways")["spec"]["namespaceSelector"] == {"any": True}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"gatway": {}}, "gatway"),
        ({"gateway": {"replicas": 3}}, "replicas"),
        ({"gateway": {"drainSeconds": "60s"}}, "drainSeconds"),
        ({"gateway": {"workers": 2}}, "workers"),
        ({"operator": {"image": {"digest": "sha256:123"}}}, "digest"),
        ({"operator": {"log": {"level": "trace"}}}, "level"),
        ({"operator": {"resyncPeriod": "often"}}, "resyncPeriod"),
        ({"images": {"pullSecrets": ["pull"]}}, "pullSecrets"),
        ({"images": {"registry": "https://registry.example.com"}}, "registry"),
        ({"watchNamespaces": ["Shop"]}, "watchNamespaces"),
        ({"operator": {"leaderElection": {"enabled": False}}}, "set operator.replicas to 1"),
    ],
    ids=str,
)
def test_wrong_values_are_refused_by_name(values: dict[str, Any], says: str) -> None:
    assert says in refusal(values)


def test_versions_are_those_of_the_package() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    package = re.search(r'^version = "(.*)"', (CHART.parents[1] / "pyproject.toml").read_text(), re.MULTILINE)
    assert package
    assert chart["appVersion"] == chart["version"] == package[1]
