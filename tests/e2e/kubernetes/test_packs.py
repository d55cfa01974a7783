"""Each pack for the Kubernetes API before a real API server: what it stops, and what it lets through."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import yaml
from support.api_gateway import ALLOW_ALL, ApiGateway, Plane
from support.gateway import Manifest
from support.packs import ALLOWING, pack

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

SPEC = "{containers: [{name: app, image: x}]}"
SECRET_FILE = "{volumes: [{name: v, secret: {secretName: db}}], containers: [{name: app, image: x}]}"
SECRET_VARIABLE = "{containers: [{name: app, image: x, envFrom: [{secretRef: {name: db}}]}]}"
PRIVILEGED = "{containers: [{name: app, image: x, securityContext: {privileged: true}}]}"
HOST_FILES = "{volumes: [{name: v, hostPath: {path: /}}], containers: [{name: app, image: x}]}"


def pod(name: str, spec: str = SPEC, **labels: str) -> Manifest:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": yaml.safe_load(spec)}


def deployment(name: str, spec: str = SPEC, replicas: int = 1, kind: str = "Deployment", **labels: str) -> Manifest:
    template = {"metadata": {"labels": {"app": name, **labels}}, "spec": yaml.safe_load(spec)}
    inside: dict[str, Any] = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    if kind == "DaemonSet":
        del inside["replicas"]
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": inside}


THERE: list[Manifest] = [
    {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": "pw-4711-secret"}},
    {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"a": "b", "PASSWORD": "pw-4711-map"}},
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}},
    pod("plain"),
    pod("prod", environment="production"),
    pod("with-file", SECRET_FILE),
    pod("privileged", PRIVILEGED),
    deployment("web"),
    deployment("with-variable", SECRET_VARIABLE),
    deployment("agent", PRIVILEGED, kind="DaemonSet"),
    deployment("large", replicas=20),
    deployment("shown", environment="production"),
]
"""What a platform has made, not through the gateway."""
BASE = "-f -"
Step = tuple[str, Manifest | None, str]
"""A command, what it is given, and the rule that stops it; empty if nothing does."""
STEPS: dict[str, list[Step]] = {
    "kubernetes-no-secrets": [
        ("get secrets", None, "no-secrets"),
        ("get secret db -o yaml", None, "no-secrets"),
        ("get --raw /api/v1/namespaces/NS/secrets/db", None, "no-secrets"),
        ("get --raw /api/v1/watch/namespaces/NS/secrets", None, "no-secrets"),
        ("patch secret db -p {}", None, "no-secrets"),
        ("create token robot", None, "no-tokens"),
        ("create secret generic new --from-literal=a=b", None, ""),
        (f"create {BASE}", pod("a", SECRET_FILE), "no-secret-volumes"),
        (f"apply --server-side {BASE}", deployment("a", SECRET_VARIABLE), "no-secret-environment"),
        (f"apply {BASE}", pod("b"), ""),
        (f"apply {BASE}", deployment("b"), ""),
        ("set env deploy/b --from=secret/db", None, "no-secrets"),
        ("set image deploy/with-variable app=evil", None, "no-secret-environment"),
        ("set image deploy/web app=y", None, ""),
        ("scale deploy/with-variable --replicas=2", None, ""),
        ("rollout restart deploy/with-variable", None, ""),
        ("label deploy with-variable a=b", None, ""),
        ("label pod with-file a=b", None, ""),
        ("set serviceaccount deploy/web robot", None, "no-other-accounts"),
        ("exec with-file -- cat /v/password", None, "no-secret-volumes"),
        ("debug with-file --image=x --attach=false", None, "no-secret-volumes"),
        ("debug with-file --image=x --copy-to=copy --attach=false", None, "no-secret-volumes"),
        ("debug plain --image=x --attach=false", None, ""),
        ("delete pod with-file --wait=false", None, ""),
        ("get pods", None, ""),
        ("get configmap c", None, ""),
    ],
    "kubernetes-scale-approval": [
        ("scale deploy/web --replicas=11", None, "scale"),
        ("scale deploy/web --replicas=10", None, ""),
        ("patch deploy web -p '{\"spec\":{\"replicas\":50}}'", None, "scale"),
        ("patch deploy web --type=json -p '[{\"op\":\"add\",\"path\":\"/spec/replicas\",\"value\":50}]'", None,
         "scale"),
        (f"apply --server-side --force-conflicts {BASE}", deployment("web", replicas=50), "scale"),
        (f"replace {BASE}", deployment("web", replicas=50), "scale"),
        (f"create {BASE}", deployment("many", replicas=50), "scale"),
        (f"create {BASE}", deployment("many", replicas=50, kind="StatefulSet"), "scale"),
        ("create deployment many --image=x --replicas=50", None, "scale"),
        ("autoscale deploy web --max=50", None, "failed to create autoscaling/v2 HPA"),  # kubectl says no more
        ("get hpa web", None, "NotFound"),
        ("autoscale deploy web --max=10", None, ""),
        ("patch hpa web -p '{\"spec\":{\"maxReplicas\":50}}'", None, "scale"),
        ("label deploy large a=b", None, ""),
        ("rollout restart deploy/large", None, ""),
        ("scale deploy/large --replicas=15", None, ""),
        ("scale deploy/large --replicas=16", None, "scale"),
        ("delete deploy large --wait=false", None, ""),
        ("create configmap new --from-literal=a=b", None, ""),
    ],
    "kubernetes-no-privileged-pods": [
        (f"create {BASE}", pod("a", PRIVILEGED), "no-privileged"),
        (f"apply {BASE}", deployment("a", PRIVILEGED), "no-privileged"),
        (f"apply --server-side {BASE}", deployment("a", HOST_FILES, kind="DaemonSet"), "no-host-files"),
        (f"create {BASE}", pod("a", "{hostNetwork: true, containers: [{name: a, image: x}]}"), "no-host-namespaces"),
        ("run a --image=x --privileged", None, "no-privileged"),
        ("run a --image=x", None, ""),
        (f"apply {BASE}", deployment("a"), ""),
        ("create job a --image=x", None, ""),
        ("create cronjob a --image=x --schedule='0 0 1 1 *'", None, ""),
        ("patch deploy web --type=json -p "
         "'[{\"op\":\"add\",\"path\":\"/spec/template/spec/hostPID\",\"value\":true}]'", None, "no-host-namespaces"),
        ("set image ds/agent app=evil", None, "no-privileged"),
        ("rollout restart ds/agent", None, ""),
        ("annotate ds agent a=b", None, ""),
        ("label pod privileged a=b", None, ""),
        ("exec privileged -- ls", None, "no-privileged"),
        ("debug privileged --image=x --attach=false", None, "no-privileged"),
        ("debug plain --image=x --profile=sysadmin --attach=false", None, "no-privileged"),
        ("debug plain --image=x --attach=false", None, "no-capabilities"),
        ("debug plain --image=x --profile=baseline --attach=false", None, ""),
        ("get --raw /api/v1/nodes/n1/proxy/pods", None, "no-kubelet"),
        ("delete pod privileged --wait=false", None, ""),
        ("scale deploy/web --replicas=2", None, ""),
    ],
    "kubernetes-no-exec": [
        ("exec prod -- ls", None, "no-entry-by-label"),
        ("debug prod --image=x --attach=false", None, "no-entry-by-label"),
        ("label pod prod environment-", None, "no-relabelling"),
        ("label pod prod environment=test --overwrite", None, "no-relabelling"),
        ("label pod prod a=b", None, ""),
        ("label pod plain a=b", None, ""),
        ("patch deploy shown --type=json -p "
         "'[{\"op\":\"remove\",\"path\":\"/spec/template/metadata/labels/environment\"}]'", None,
         "no-relabelled-templates"),
        ("rollout restart deploy/shown", None, ""),
        ("debug plain --image=x --attach=false", None, ""),
        ("exec web-0 -n prod-eu -- ls", None, "NotFound"),
        ("get --raw /api/v1/namespaces/prod-eu/services/web:80/proxy/", None, "no-entry"),
        ("get --raw /api/v1/nodes/n1/proxy/pods", None, "no-nodes"),
        ("get pods", None, ""),
    ],
    "kubernetes-read-only": [
        ("get pods", None, ""),
        ("get all", None, ""),
        ("describe deploy web", None, ""),
        ("get --raw /readyz", None, ""),
        ("auth whoami", None, ""),
        ("api-resources", None, ""),
        ("explain pods.spec", None, ""),
        ("get secrets", None, "no-secrets"),
        ("get --raw /metrics", None, "No rule allows this"),
        ("scale deploy/web --replicas=2", None, "only-reads"),
        ("label pod plain a=b", None, "only-reads"),
        ("delete pod plain", None, "only-reads"),
        ("exec plain -- ls", None, "only-reads"),
        ("create configmap new --from-literal=a=b", None, "only-reads"),
        ("create configmap new --from-literal=a=b --dry-run=server", None, "only-reads"),
        ("create token robot", None, "only-reads"),
    ],
    "kubernetes-namespaces": [
        ("get pods", None, ""),
        ("get pods -A", None, "nothing-over-all"),
        ("get pods -n kube-system", None, "no-other-namespace"),
        ("get nodes", None, "nothing-over-all"),
        ("get namespace NS", None, ""),
        ("get namespace default", None, "no-other-namespace"),
        ("label namespace NS a=b", None, "no-fence-moving"),
        ("create configmap new --from-literal=a=b", None, ""),
        ("create configmap new -n default --from-literal=a=b", None, "no-other-namespace"),
        ("create rolebinding mine --clusterrole=view --serviceaccount=NS:robot", None, ""),
        ("create rolebinding other --clusterrole=view --serviceaccount=default:a", None, "no-one-elses-rights"),
        ("create rolebinding all --clusterrole=view --group=system:authenticated", None, "no-one-elses-rights"),
        ("auth can-i list pods", None, ""),
        ("api-resources", None, ""),
    ],
}  # fmt: skip


@pytest.fixture
def space(plane: Plane, namespace: str) -> str:
    """A namespace in which the platform has made things."""
    for manifest in THERE:
        plane.cluster.ok("create", "--namespace", namespace, "-f", "-", manifest=manifest)
    return namespace


def served(start: Any, name: str, namespace: str) -> ApiGateway:
    """A gateway with a pack in force, beside a policy that allows everything unless the pack allows."""
    manifest = pack(name)
    del manifest["spec"]["match"]["connectionSelector"]
    for variable in manifest["spec"].get("variables", ()):
        if variable["name"] == "namespaces":
            variable["expression"] = f"['{namespace}']"
    manifest["spec"].pop("tests")
    for rule in manifest["spec"]["rules"]:
        if "approval" in rule:
            rule["approval"]["wait"] = "0s"
    started: ApiGateway = start(manifest, *([] if name in ALLOWING else [ALLOW_ALL]))
    return started


@pytest.mark.parametrize("name", STEPS)
def test_a_pack_stops_what_it_says_and_nothing_else(name: str, start: Any, space: str) -> None:
    gateway = served(start, name, space)
    wrong: list[str] = []
    for command, manifest, stopped in STEPS[name]:
        line = command.replace("NS", space)
        done = gateway.kubectl(*shlex.split(line), manifest=manifest, namespace=space)
        if stopped and stopped not in done.stderr:
            wrong.append(f"{command}: {stopped} did not stop it: {done.stdout} {done.stderr}")
        elif not stopped and done.returncode:
            wrong.append(f"{command}: {done.stderr}")
    assert not wrong, "\n".join(wrong)


def test_secrets_are_seen_without_their_values(start: Any, space: str) -> None:
    gateway = served(start, "kubernetes-mask-secrets", space)
    for command in ("get secrets -o yaml", "get secret db -o json", "get configmaps -o yaml", "get configmap c -o json",
                    "patch secret db -o yaml -p {}", "label secret db a=b -o yaml",
                    "get all,secrets,configmaps -o json", "get --raw /api/v1/namespaces/NS/secrets"):  # fmt: skip
        done = gateway.kubectl(*shlex.split(command.replace("NS", space)), namespace=space)
        assert done.returncode == 0, done.stderr
        assert "cHctNDcxMS1" not in done.stdout  # base64 of what follows
        assert "pw-4711" not in done.stdout
