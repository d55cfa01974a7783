"""kubectl, command by command: through a gateway that allows everything people see what they see directly.

Each test is one session, which is played on both sides, in a namespace each. tests/support/kubectl_pairs.py compares.
"""

from __future__ import annotations

import json
import re

import pytest
from support.api_gateway import ACCOUNT
from support.kubectl_objects import config_map, container, deployment, pod, widgets
from support.kubectl_pairs import Kubectl, same

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

Sides = tuple[Kubectl, Kubectl]


def test_reading(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        for number in range(5):
            labels = {"tier": "odd" if number % 2 else "even"}
            k.ok("create", "-f", "-", manifest=config_map(f"c{number}", labels, number=str(number)))
        k.ok("get", "configmaps")
        k.ok("get", "cm", "-l", "tier=odd", "--show-labels")
        k.ok("get", "cm", "-l", "tier in (even),tier", "-L", "tier", "--no-headers")
        k.ok("get", "cm", "--field-selector=metadata.name=c1", "-o", "wide")
        k.ok("get", "cm", "--chunk-size=2", "--sort-by={.data.number}")
        for form in ("name", "json", "yaml", "jsonpath={.items[*].data}", "custom-columns=N:.metadata.name,D:.data",
                     "go-template={{range .items}}{{.metadata.name}}{{end}}"):  # fmt: skip
            k.ok("get", "cm", "-o", form)
        k.ok("get", "cm/c1", "cm/c2", "sa/default", "--show-kind")
        k.ok("get", "cm", "c1", "-o", "yaml", "--show-managed-fields")
        k.ok("get", "--raw", f"/api/v1/namespaces/{k.namespace}/configmaps/c1")
        k.ok("get", "--raw", "/readyz?verbose")
        k.fails("get", "cm", "missing")
        k.fails("get", "nothings")
        k.ok("get", "cm", "missing", "--ignore-not-found")
        k.fails("get", "cm", "--field-selector=data.number=1")
        k.fails("get", "--raw", "/api/v1/nowhere")
        k.ok("get", "namespace", k.namespace)
        k.ok("get", "nodes")
        k.ok("describe", "cm", "c1")
        k.ok("describe", "namespace", k.namespace)

    same(session, *sides)


def test_discovery(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("api-resources", "-o", "wide", "--sort-by=name")
        k.ok("api-resources", "--api-group=apps", "--verbs=list,watch", "--namespaced=true")
        k.ok("api-versions")
        k.ok("version")
        k.ok("cluster-info")
        for path in ("pods.spec.containers.securityContext", "deployments", "hpa.spec --api-version=autoscaling/v2"):
            k.ok("explain", *path.split())
        k.ok("explain", "configmap", "--recursive")
        k.fails("explain", "pods.spec.nothing")
        k.ok("get", "--raw", "/openapi/v3/apis/apps/v1")

    same(session, *sides)


def test_creating(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        for what in ("configmap settings --from-literal=a=b", "secret generic login --from-literal=password=p",
                     "serviceaccount agent", "role reader --verb=get,list --resource=pods",
                     "rolebinding readers --role=reader --serviceaccount=default:agent",
                     "quota few --hard=secrets=20", "service clusterip door --tcp=80:8080", "priorityclass --help",
                     "ingress way --rule=example.test/*=door:80",
                     "poddisruptionbudget one --selector=a=b --min-available=1",
                     "cronjob often --image=none --schedule=@daily -- true"):  # fmt: skip
            k.ok("create", *what.split())
        k.fails("create", "configmap", "settings", "--from-literal=a=c")
        k.ok("create", "token", "agent", "--help")
        named = config_map("unused", kept="yes")
        named["metadata"] = {"generateName": "made-"}
        made = k.ok("create", "-f", "-", "-o", "name", manifest=named)
        assert made.startswith("configmap/made-")
        k.fails("create", "-f", "-", manifest=config_map("Not_Good"))
        k.fails("create", "-f", "-", manifest=config_map("typed") | {"dataa": {}})
        k.ok("create", "-f", "-", "--validate=warn", manifest=config_map("typed") | {"dataa": {}})
        k.ok("create", "-f", "-", "--dry-run=server", "-o", "yaml", manifest=config_map("never", a="b"))
        k.fails("get", "cm", "never")
        k.ok("run", "one", "--image=none", "--restart=Never", "--dry-run=server")
        k.ok("expose", "service", "door", "--name=other", "--port=81")
        k.ok("get", "all,cm,secrets,sa,roles,rolebindings,quota,ingress,pdb", "-o", "name")

    same(session, *sides)


def test_applying(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        first, second = config_map("settings", a="1", b="1"), config_map("settings", a="2")
        k.ok("apply", "-f", "-", manifest=first)
        k.ok("apply", "-f", "-", manifest=first)
        differs = k("diff", "-f", k.file("second.json", second))
        assert differs.returncode == 1
        k.ok("apply", "-f", "second.json", "--dry-run=server")
        k.ok("apply", "-f", "second.json")
        assert k.get("cm", "settings")["data"] == {"a": "2"}
        k.ok("apply", "view-last-applied", "cm/settings")
        k.ok("apply", "set-last-applied", "-f", "second.json")
        k.ok("apply", "--server-side", "--field-manager=one", "-f", "-", manifest=config_map("shared", a="1"))
        k.file("shared.json", config_map("shared", a="2"))
        as_two = ("apply", "--server-side", "--field-manager=two", "-f", "shared.json")
        assert "conflict" in k.fails(*as_two)
        k.ok(*as_two, "--force-conflicts")
        k.ok("get", "cm", "shared", "-o", "yaml", "--show-managed-fields")
        k.ok("apply", "--prune", "-l", "part=one", "-f", k.file("p.json", config_map("p1", {"part": "one"})))
        k.ok("apply", "--prune", "-l", "part=one", "-f", k.file("p.json", config_map("p2", {"part": "one"})))
        k.fails("get", "cm", "p1")
        k.ok("replace", "-f", "second.json")
        k.ok("replace", "--force", "-f", "second.json")
        stale = k.get("cm", "settings")
        k.ok("label", "cm", "settings", "moved=on")
        assert "Conflict" in k.fails("replace", "-f", "-", manifest=stale)
        kustomization = {"resources": ["base.json"], "namePrefix": "my-", "configMapGenerator": [
            {"name": "made", "literals": ["a=b"]}]}  # fmt: skip
        k.file("kustomized/base.json", config_map("base", a="b"))
        k.file("kustomized/kustomization.yaml", kustomization)
        k.ok("kustomize", "kustomized")
        assert k("diff", "-k", "kustomized").returncode == 1
        k.ok("apply", "-k", "kustomized")
        k.ok("get", "-k", "kustomized")
        k.ok("delete", "-k", "kustomized")

    same(session, *sides)


def test_patching_and_editing(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("create", "-f", "-", manifest=deployment(replicas=0))
        second = {"spec": {"template": {"spec": {"containers": [container("second", "sleep 1000")]}}}}
        k.ok("patch", "deployment", "web", "--type=strategic", "-p", json.dumps(second))
        assert len(k.get("deployment", "web")["spec"]["template"]["spec"]["containers"]) == 2
        k.ok("patch", "deployment", "web", "--type=merge", "-p", '{"metadata": {"labels": {"a": "b", "app": null}}}')
        test, replace = ({"op": op, "path": "/spec/replicas", "value": at} for at, op in enumerate(("test", "replace")))
        k.ok("patch", "deployment", "web", "--type=json", "-p", json.dumps([test, replace]))
        k.fails("patch", "deployment", "web", "--type=json", "-p", json.dumps([test]))
        k.fails("patch", "deployment", "web", "--type=json", "-p", '[{"op": "remove", "path": "/nowhere"}]')
        k.fails("patch", "deployment", "web", "-p", '{"spec": {"replicas": -1}}')
        k.fails("patch", "deployment", "web", "--type=merge", "-p", "{broken")
        k.ok("patch", "deployment", "web", "--subresource=scale", "--type=merge", "-p", '{"spec": {"replicas": 0}}')
        k.ok("patch", "deployment", "web", "--dry-run=server", "-p", '{"spec": {"replicas": 7}}')
        k.ok("edit", "deployment", "web", KUBE_EDITOR="sed -i s/replicas:.0/replicas:\\ 2/")
        assert k.get("deployment", "web")["spec"]["replicas"] == 2
        k.ok("edit", "deployment", "web", KUBE_EDITOR="true")
        k.ok("label", "deployment", "web", "a=c", "--overwrite")
        assert "already has a value" in k.fails("label", "deployment", "web", "a=d")
        k.ok("label", "deployment", "web", "a-")
        k.ok("annotate", "deployment", "web", "note=one two")
        k.ok("annotate", "deployments", "--all", "note=three", "--overwrite")
        k.ok("set", "image", "deployment/web", "web=none:1")
        k.ok("set", "env", "deployment/web", "A=B")
        k.ok("set", "env", "deployment/web", "--list")
        k.ok("set", "resources", "deployment/web", "--limits=cpu=100m")
        k.ok("set", "serviceaccount", "deployment/web", "default")
        k.ok("get", "deployment", "web", "-o", "jsonpath={.spec}{.metadata.labels}{.metadata.annotations.note}")

    same(session, *sides)


def test_scaling_and_rollouts(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("apply", "-f", "-", manifest=deployment(replicas=1))
        _rolled_out(k, "web")
        k.ok("scale", "deployment", "web", "--replicas=2")
        _rolled_out(k, "web")
        k.ok("scale", "deployment/web", "--current-replicas=2", "--replicas=1")
        assert "Expected replicas" in k.fails("scale", "deployment/web", "--current-replicas=7", "--replicas=1")
        k.ok("rollout", "restart", "deployment/web")
        _rolled_out(k, "web")
        k.ok("set", "env", "deployment/web", "STEP=two")
        k.ok("annotate", "deployment/web", "kubernetes.io/change-cause=step two")
        _rolled_out(k, "web")
        k.ok("rollout", "history", "deployment/web")
        k.ok("rollout", "history", "deployment/web", "--revision=2")
        k.ok("rollout", "undo", "deployment/web")
        _rolled_out(k, "web")
        assert "STEP" not in k.ok("set", "env", "deployment/web", "--list")
        k.ok("rollout", "undo", "deployment/web", "--to-revision=1", "--dry-run=server")
        k.ok("rollout", "pause", "deployment/web")
        k.fails("rollout", "pause", "deployment/web")
        k.fails("rollout", "restart", "deployment/web")
        k.ok("rollout", "resume", "deployment/web")
        k.fails("rollout", "status", "deployment/none")
        k.ok("autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu-percent=50")
        k.ok("get", "hpa", "web", "-o", "jsonpath={.spec}")
        k.ok("get", "deployment,replicaset", "-l", "app=web", "-o", "custom-columns=K:.kind,R:.spec.replicas",
             "--sort-by=.spec.replicas")  # fmt: skip
        k.ok("delete", "deployment/web", "hpa/web", "--wait=true")

    same(session, *sides)


def test_deleting(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        for number in range(6):
            k.aside("create", "-f", "-", manifest=config_map(f"c{number}", {"kind": "odd" if number % 2 else "even"}))
        k.ok("delete", "cm", "c0", "--dry-run=server")
        k.ok("delete", "cm", "c0", "c1")
        k.fails("delete", "cm", "c0")
        k.ok("delete", "cm", "c0", "--ignore-not-found")
        k.ok("delete", "cm", "-l", "kind=odd")
        k.ok("get", "cm", "-l", "kind")
        k.ok("delete", "cm", "--field-selector=metadata.name=c2")
        k.ok("delete", "cm", "--all")
        k.fails("delete", "-f", "-", manifest=config_map("c9"))
        k.ok("delete", "--raw", f"/api/v1/namespaces/{k.namespace}/configmaps/kube-root-ca.crt")
        k.ok("create", "-f", "-", manifest=deployment(replicas=1))
        k.until(lambda: k.get("pods")["items"], "there is a pod")
        k.ok("delete", "deployment", "web", "--cascade=orphan")
        k.ok("get", "replicasets", "-o", "jsonpath={.items[*].spec.replicas}")
        k.ok("delete", "replicasets", "--all", "--cascade=foreground")
        k.until(lambda: not k.get("pods")["items"], "the pods are gone")
        k.ok("create", "-f", "-", manifest=pod("alone"))
        k.ok("delete", "pod", "alone", "--grace-period=0", "--force")

    same(session, *sides)


def test_waiting_and_watching(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("create", "-f", "-", manifest=pod("web"))
        k.ok("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
        k.ok("wait", "--for=jsonpath={.status.phase}=Running", "pod/web", "--timeout=60s")
        assert "timed out" in k.fails("wait", "--for=condition=Nothing", "pod/web", "--timeout=1s")
        with k.running("get", "cm", "--watch", "--output-watch-events", "--no-headers", "-l", "watched") as watch:
            for number in range(3):
                k.aside("create", "-f", "-", manifest=config_map(f"w{number}", {"watched": "yes"}))
            k.aside("label", "cm", "w1", "more=yes")
            k.aside("delete", "cm", "w0")
            assert watch.stdout is not None
            lines = [watch.stdout.readline() for _ in range(5)]
        assert [line.split()[0] for line in lines] == ["ADDED", "ADDED", "ADDED", "MODIFIED", "DELETED"]
        k.note(("get", "--watch"), 0, "".join(lines))
        with k.running("wait", "--for=delete", "pod/web", "--timeout=60s") as waiting:
            k.ok("delete", "pod", "web", "--now")
            assert waiting.wait(60) == 0
        k.ok("wait", "--for=create", "cm/w1", "--timeout=10s")
        k.ok("get", "events", "--field-selector=involvedObject.name=web,reason=Scheduled", "-o",
             "custom-columns=T:.type,R:.reason,M:.message")  # fmt: skip
        # Those of one second come in any order; whether a probe was early, and the end is told already, is luck.
        told = k.aside("events", "--for=pod/web", "--types=Normal", "--no-headers").stdout.splitlines()
        reasons = sorted({line.split()[2] for line in told} - {"Killing"})
        k.note(("events", "--for=pod/web"), 0, " ".join(reasons))

    same(session, *sides)


def test_who_one_is_and_what_one_may(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("auth", "can-i", "create", "pods")
        k.ok("auth", "can-i", "get", "pods/log", "--subresource=log")
        k.ok("auth", "can-i", "get", "/healthz")
        rights = k.aside("auth", "can-i", "--list")
        k.note(("auth", "can-i", "--list"), rights.returncode, rights.stdout)
        role = {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "reader", "namespace": k.namespace},
            "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
        }  # fmt: skip
        k.ok("auth", "reconcile", "-f", "-", manifest=role)

    same(session, *sides)
    direct, gateway = sides
    account = f"system:serviceaccount:default:{ACCOUNT}"
    assert account in direct.ok("auth", "whoami")
    # The agent, and whom the API server takes it for.
    shown = gateway.ok("auth", "whoami")
    assert re.search(r"^Username +planner$", shown, re.MULTILINE)
    assert re.search(rf"upstream-user +\[{account}\]", shown)
    assert "policies of the gateway may say more" in gateway.aside("auth", "can-i", "--list").stderr
    assert "Impersonation headers are not taken from agents." in gateway.fails("get", "pods", "--as=somebody")


def test_a_node_is_drained(sides: Sides) -> None:
    """Of the pods of this test only; the node takes pods again at once."""

    def session(k: Kubectl) -> None:
        labels = {"drained": k.namespace}
        k.ok("create", "-f", "-", manifest=pod("goes", labels=labels))
        k.ok("wait", "--for=condition=Ready", "pod/goes", "--timeout=120s")
        (node,) = [each["metadata"]["name"] for each in k.get("nodes")["items"]]
        k.ok("cordon", node, "--dry-run=server")
        selector = f"--pod-selector=drained={k.namespace}"
        assert "cannot delete" in k.fails("drain", node, selector)
        try:
            k.ok("drain", node, selector, "--force", "--timeout=120s")
        finally:
            k.ok("uncordon", node)
        k.fails("get", "pod", "goes")
        budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "stay"},
                  "spec": {"minAvailable": 1, "selector": {"matchLabels": labels}}}  # fmt: skip
        k.ok("create", "-f", "-", manifest=budget)
        k.ok("create", "-f", "-", manifest=pod("stays", labels=labels))
        k.ok("wait", "--for=condition=Ready", "pod/stays", "--timeout=120s")
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "stays"}}
        path = f"/api/v1/namespaces/{k.namespace}/pods/stays/eviction"
        k.until(lambda: k.get("pdb", "stay")["status"].get("currentHealthy") == 1, "the budget counts the pod")
        assert "disruption budget" in k.fails("create", "--raw", path, "-f", k.file("evict.json", eviction))
        k.ok("taint", "node", node, "e2e=here:PreferNoSchedule", "--dry-run=server")
        k.ok("label", "node", node, "e2e=here", "--dry-run=server")
        k.ok("delete", "pod/stays", "--now")

    same(session, *sides)


def test_descriptions(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("create", "-f", "-", manifest=pod("web", labels={"app": "web"}))
        k.ok("create", "service", "clusterip", "web", "--tcp=80:8080")
        k.ok("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
        described = k.aside("describe", "pod", "web").stdout
        # Events come when they come.
        k.note(("describe", "pod", "web"), 0, described.partition("Events:")[0])
        k.ok("describe", "service", "web")
        assert "Roles:" in k.aside("describe", "node").stdout
        k.ok("get", "pod", "web", "-o", "wide")
        k.fails("describe", "pod", "none")
        # There is no metrics server: the same error.
        k.fails("top", "pods")
        k.fails("top", "nodes")

    same(session, *sides)


def test_custom_resources(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        group = f"{k.namespace}.example"
        k.ok("apply", "-f", "-", manifest=widgets(group))
        k.ok("wait", "--for=condition=Established", f"crd/widgets.{group}", "--timeout=60s")
        widget = {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": 1}}
        try:
            k.until(lambda: k.aside("get", f"widgets.{group}").returncode == 0, "the kind is served")
            k.ok("apply", "-f", "-", manifest=widget)
            k.ok("apply", "-f", "-", manifest=widget | {"spec": {"size": 2, "colour": "red"}})
            k.ok("get", f"widgets.{group}")
            k.ok("scale", f"widgets.{group}/w", "--replicas=3")
            k.ok("patch", f"widgets.{group}/w", "--subresource=status", "--type=merge", "-p", '{"status": {"size": 3}}')
            k.fails("patch", f"widgets.{group}/w", "-p", '{"spec": {"size": 4}}', "--type=strategic")
            k.ok("get", f"widgets.{group}/w", "-o", "yaml")
            k.fails("create", "-f", "-", manifest=widget | {"spec": {"size": "many"}})
            k.ok("delete", f"widgets.{group}/w")
        finally:
            k.ok("delete", "crd", f"widgets.{group}")

    same(session, *sides)


def _rolled_out(k: Kubectl, name: str) -> None:
    """The last line only: what is told before depends on how fast pods begin. Then until old pods are gone."""
    k.note(("rollout", "status"), 0, k.aside("rollout", "status", f"deployment/{name}").stdout.splitlines()[-1])
    wanted = k.get("deployment", name)["spec"]["replicas"]
    k.until(lambda: len(k.get("pods", "-l", f"app={name}")["items"]) == wanted, "old pods are gone")
