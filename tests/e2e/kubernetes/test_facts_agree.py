"""What kubectl's commands are decided on, through a gateway, is what a policy test of the same says without a cluster.

The policy allows everything and reads every fact; what it read is its message, which is in the record. The tests' cases
are decided by the same policy, and must give the same message.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from support.api_gateway import ApiGateway, Plane, policy, rule
from support.policies import CLIENT, NOON, bound, bundle, subject

from ostiary_api.cases import KubernetesTest
from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy
from ostiary_gateway.protocols.kubernetes.offline import offline_facts
from ostiary_policy.decision import Decision

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

_TEXTS = "verb rbacVerb group version resource subresource namespace name path labelSelector fieldSelector"
_FLAGS = ("dryRun", "discovery", "readOnly", "exec.stdin", "exec.tty")


def _shown(fact: str) -> str:
    """Kind, namespace, name and copies of an object, in CEL."""
    it = f"k8s.{fact}"
    copies = f"has({it}.spec) && has({it}.spec.replicas) ? string({it}.spec.replicas) : '-'"
    space = f"has({it}.metadata.namespace) ? {it}.metadata.namespace : ''"
    what = f"[{it}.kind, {space}, {it}.metadata.name, {copies}].join('/')"
    return f"has({it}) ? ({it} == {{}} ? 'none' : {what}) : 'unknown'"


VALUES = {
    **{name: f"k8s.{name}" for name in _TEXTS.split()},
    **{name: f"string(k8s.{name})" for name in _FLAGS},
    "container": "k8s.exec.container",
    "command": "k8s.exec.command.join(' ')",
    "object": _shown("object"),
    "oldObject": _shown("oldObject"),
    "oldObjects": "has(k8s.oldObjects) ? string(size(k8s.oldObjects)) : 'unknown'",
    "affected": "has(k8s.affected) ? string(k8s.affected) : 'unknown'",
}
SAYS = "[" + ", ".join(f"'{name}=' + ({value})" for name, value in VALUES.items()) + "].join('; ')"
READS_ALL = "has(k8s.object) || has(k8s.oldObject) || has(k8s.oldObjects) || has(k8s.affected) || true"
TELLING = policy("telling", rule("all", READS_ALL, messageExpression=SAYS))

COMMANDS: list[tuple[str, str]] = [
    # Reading.
    ("get pods", "{verb: list, resource: pods, namespace: NS}"),
    ("get pods -A", "{verb: list, resource: pods}"),
    ("get pod web-0", "{verb: get, resource: pods, namespace: NS, name: web-0}"),
    ("get pods -l app=web,tier!=db", "{verb: list, resource: pods, namespace: NS, labelSelector: 'app=web,tier!=db'}"),
    ("get pods --field-selector metadata.name=web-0",
     "{verb: list, resource: pods, namespace: NS, fieldSelector: metadata.name=web-0}"),
    ("get secrets", "{verb: list, resource: secrets, namespace: NS}"),
    ("get deploy many -o yaml", "{verb: get, resource: deployments, namespace: NS, name: many}"),
    ("get statefulset/db", "{verb: get, resource: statefulsets, namespace: NS, name: db}"),
    ("get nodes", "{verb: list, resource: nodes}"),
    ("get node NODE", "{verb: get, resource: nodes, name: NODE}"),
    ("get namespace NS", "{verb: get, resource: namespaces, name: NS}"),
    ("get events", "{verb: list, resource: events, namespace: NS}"),
    ("get deploy many --subresource=scale",
     "{verb: get, resource: deployments, namespace: NS, name: many, subresource: scale}"),
    ("get --raw /version", "{verb: get, path: /version}"),
    ("get --raw /openapi/v3", "{verb: get, path: /openapi/v3}"),
    ("get --raw /readyz?verbose", "{verb: GET, path: '/readyz?verbose'}"),
    ("get --raw /metrics", "{verb: get, path: /metrics}"),
    ("get --raw /api/v1/namespaces/NS/pods?limit=1", "{verb: list, path: '/api/v1/namespaces/NS/pods?limit=1'}"),
    ("get --raw /api/v1/watch/namespaces/NS/pods?timeoutSeconds=1",
     "{verb: watch, path: '/api/v1/watch/namespaces/NS/pods?timeoutSeconds=1'}"),
    ("api-resources --cached=false", "{verb: get, path: /apis}"),
    ("logs web-0", "{verb: get, resource: pods, namespace: NS, name: web-0, subresource: log}"),
    ("rollout status deploy/many --timeout=1s",
     "{verb: watch, resource: deployments, namespace: NS, fieldSelector: metadata.name=many}"),
    ("auth can-i list pods", "{verb: create, resource: selfsubjectaccessreviews}"),
    ("auth can-i --list", "{verb: create, resource: selfsubjectrulesreviews}"),
    ("auth whoami", "{verb: create, resource: selfsubjectreviews}"),
    # Making.
    ("create configmap made --from-literal=a=b",
     "{verb: create, object: {apiVersion: v1, kind: ConfigMap, metadata: {name: made, namespace: NS}}}"),
    ("create deployment made --image=x --replicas=20",
     "{verb: create, object: {apiVersion: apps/v1, kind: Deployment, metadata: {name: made, namespace: NS},"
     " spec: {replicas: 20}}}"),
    ("create serviceaccount made",
     "{verb: create, object: {apiVersion: v1, kind: ServiceAccount, metadata: {name: made, namespace: NS}}}"),
    ("create secret generic made --from-literal=a=b",
     "{verb: create, object: {apiVersion: v1, kind: Secret, metadata: {name: made, namespace: NS}}}"),
    ("create service clusterip made --tcp=80",
     "{verb: create, object: {apiVersion: v1, kind: Service, metadata: {name: made, namespace: NS}}}"),
    ("create role made --verb=get --resource=pods",
     "{verb: create, object: {apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: made,"
     " namespace: NS}}}"),
    ("create rolebinding made --role=made --serviceaccount=NS:made",
     "{verb: create, object: {apiVersion: rbac.authorization.k8s.io/v1, kind: RoleBinding, metadata: {name: made,"
     " namespace: NS}}}"),
    ("create clusterrole made-NS --verb=get --resource=pods",
     "{verb: create, object: {apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name:"
     " made-NS}}}"),
    ("create job made --image=x",
     "{verb: create, object: {apiVersion: batch/v1, kind: Job, metadata: {name: made, namespace: NS}}}"),
    ("create cronjob made --image=x --schedule='0 0 1 1 *'",
     "{verb: create, object: {apiVersion: batch/v1, kind: CronJob, metadata: {name: made, namespace: NS}}}"),
    ("create quota made --hard=pods=100",
     "{verb: create, object: {apiVersion: v1, kind: ResourceQuota, metadata: {name: made, namespace: NS}}}"),
    ("create ingress made --rule=a.example/=web:80",
     "{verb: create, object: {apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: made, namespace:"
     " NS}}}"),
    ("create poddisruptionbudget made --selector=a=b --min-available=1",
     "{verb: create, object: {apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: made,"
     " namespace: NS}}}"),
    ("create priorityclass made-NS --value=1",
     "{verb: create, object: {apiVersion: scheduling.k8s.io/v1, kind: PriorityClass, metadata: {name: made-NS}}}"),
    ("run made --image=x", "{verb: create, object: {apiVersion: v1, kind: Pod, metadata: {name: made, namespace:"
     " NS}}}"),
    ("expose deploy many --port=80 --name=exposed",
     "{verb: create, object: {apiVersion: v1, kind: Service, metadata: {name: exposed, namespace: NS}}}"),
    ("autoscale deploy many --max=20",
     "{verb: create, object: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: many,"
     " namespace: NS}}}"),
    ("create configmap tried --from-literal=a=b --dry-run=server",
     "{verb: create, dryRun: true, object: {apiVersion: v1, kind: ConfigMap, metadata: {name: tried, namespace: NS}}}"),
    ("create token robot",
     "{verb: token, oldObject: {apiVersion: v1, kind: ServiceAccount, metadata: {name: robot, namespace: NS}}}"),
    # Changing.
    ("apply --server-side -f - <applied", "{verb: patch, oldObject: {}, object: {apiVersion: v1, kind: ConfigMap,"
     " metadata:"
     " {name: applied, namespace: NS}}}"),
    ("apply -f - <applied-2", "{verb: create, object: {apiVersion: v1, kind: ConfigMap, metadata: {name: applied-2,"
     " namespace: NS}}}"),
    ("apply -f - <there", "{verb: patch, object: &there {apiVersion: v1, kind: ConfigMap, metadata: {name: there,"
     " namespace: NS}}, oldObject: *there}"),
    ("replace -f - <there-2", "{verb: update, object: &there {apiVersion: v1, kind: ConfigMap, metadata: {name:"
     " there-2,"
     " namespace: NS}}, oldObject: *there}"),
    ("label pod web-0 a=b", "{verb: patch, object: &pod {apiVersion: v1, kind: Pod, metadata: {name: web-0,"
     " namespace: NS}},"
     " oldObject: *pod}"),
    ("annotate service web a=b", "{verb: patch, object: &web {apiVersion: v1, kind: Service, metadata: {name: web,"
     " namespace: NS}}, oldObject: *web}"),
    ("taint node NODE a=b:NoSchedule", "{verb: patch, object: &node {apiVersion: v1, kind: Node, metadata: {name:"
     " NODE}},"
     " oldObject: *node}"),
    ("label namespace NS a=b", "{verb: patch, resource: namespaces, name: NS, object: &ns {apiVersion: v1, kind:"
     " Namespace,"
     " metadata: {name: NS}}, oldObject: *ns}"),
    # Taking away, and going in.
    ("delete configmap gone --wait=false",
     "{verb: delete, oldObject: {apiVersion: v1, kind: ConfigMap, metadata: {name: gone, namespace: NS}}}"),
    ("delete configmap kept --dry-run=server",
     "{verb: delete, dryRun: true, oldObject: {apiVersion: v1, kind: ConfigMap, metadata: {name: kept, namespace:"
     " NS}}}"),
    ("delete --raw /api/v1/namespaces/NS/configmaps?labelSelector=batch%3Done",
     "{verb: deletecollection, resource: configmaps, namespace: NS, labelSelector: batch=one,"
     " oldObjects: [{metadata: {name: a}}, {metadata: {name: b}}, {metadata: {name: c}}]}"),
    ("drain NODE --force --timeout=2s",
     "{verb: evict, oldObject: {apiVersion: v1, kind: Pod, metadata: {name: drained, namespace: NS}}}"),
    ("cordon NODE-2", "{verb: patch, object: &node {apiVersion: v1, kind: Node, metadata: {name: NODE-2}},"
     " oldObject: *node}"),
    ("exec web-0 -c app -- ls -l '/a b'",
     "{verb: get, subresource: exec, oldObject: {apiVersion: v1, kind: Pod, metadata: {name: web-0, namespace: NS}},"
     " exec: {container: app, command: [ls, -l, /a b]}}"),
    ("exec web-0 -i -- sh -c 'echo a&b=c'",
     "{verb: get, subresource: exec, oldObject: {apiVersion: v1, kind: Pod, metadata: {name: web-0, namespace: NS}},"
     " exec: {container: app, command: [sh, -c, 'echo a&b=c'], stdin: true}}"),
    ("get --raw /api/v1/nodes/NODE/proxy/pods",
     "{verb: GET, path: /api/v1/nodes/NODE/proxy/pods, oldObject: {apiVersion: v1, kind: Node, metadata: {name:"
     " NODE}}}"),
    ("get --raw /api/v1/namespaces/NS/services/web:80/proxy/",
     "{verb: GET, path: '/api/v1/namespaces/NS/services/web:80/proxy/', oldObject: {apiVersion: v1, kind: Service,"
     " metadata: {name: web, namespace: NS}}}"),
    ("debug web-0 --image=x --container=looking --attach=false",
     "{verb: debug, object: &pod {apiVersion: v1, kind: Pod, metadata: {name: web-0, namespace: NS}}, oldObject:"
     " *pod}"),
    ("debug web-0 --image=x --copy-to=copied --attach=false",
     "{verb: create, object: {apiVersion: v1, kind: Pod, metadata: {name: copied, namespace: NS}}}"),
    ("debug node/NODE --image=x --attach=false", "{verb: get, resource: nodes, name: NODE}"),
]  # fmt: skip
CHANGED = {
    "scale deploy IT --replicas=50": ("patch", "scale", 50),
    "scale deploy IT --current-replicas=1 --replicas=40": ("update", "scale", 40),
    "patch deploy IT -p '{\"spec\":{\"replicas\":30}}'": ("patch", "", 30),
    "patch deploy IT --type=merge -p '{\"spec\":{\"replicas\":31}}'": ("patch", "", 31),
    "patch deploy IT --type=json -p '[{\"op\":\"add\",\"path\":\"/spec/replicas\",\"value\":32}]'": ("patch", "", 32),
    "patch deploy IT --subresource=scale --type=merge -p '{\"spec\":{\"replicas\":33}}'": ("patch", "scale", 33),
    "set image deploy IT app=y": ("patch", "", 1),
    "set env deploy IT A=b": ("patch", "", 1),
    "set serviceaccount deploy IT robot": ("patch", "", 1),
    "rollout restart deploy IT": ("patch", "", 1),
    "rollout pause deploy IT": ("patch", "", 1),
    "label deploy IT a=b": ("patch", "", 1),
    "edit deploy IT": ("patch", "", 21),
    "apply --server-side --force-conflicts -f - <deployment:34": ("patch", "", 34),
    "patch deploy IT --dry-run=server --type=merge -p '{\"spec\":{\"replicas\":35}}'": ("patch", "", 35),
}
"""On a Deployment of its own, of one copy: verb, subresource, and the copies afterwards."""


def _deployment(name: str, replicas: int) -> dict[str, Any]:
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "app", "image": "x"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def _config_map(name: str, value: str = "b", **labels: str) -> dict[str, Any]:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a": value}}


def _pod(name: str, **spec: Any) -> dict[str, Any]:
    spec = {"containers": [{"name": "app", "image": "x"}], **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _all_commands() -> list[tuple[str, str]]:
    found = list(COMMANDS)
    for number, (command, (verb, sub, replicas)) in enumerate(CHANGED.items()):
        of = f"apiVersion: apps/v1, kind: Deployment, metadata: {{name: its-{number}, namespace: NS}}"
        more = f"subresource: {sub}, " if sub else "dryRun: true, " if "dry-run" in command else ""
        case = f"object: {{{of}, spec: {{replicas: {replicas}}}}}, oldObject: {{{of}, spec: {{replicas: 1}}}}"
        found.append((command.replace("IT", f"its-{number}"), f"{{verb: {verb}, {more}{case}}}"))
    return found


ALL = _all_commands()


@pytest.fixture(scope="module")
def space(plane: Plane) -> Iterator[str]:
    """The namespace of all commands, with what they are about."""
    name = f"{plane.cluster.namespace}-facts"
    cluster = plane.cluster
    cluster.ok("create", "namespace", name)
    there: list[dict[str, Any]] = [
        _pod("web-0"),
        _pod("drained", nodeName=f"{name}-node"),
        _deployment("many", 1),
        {**_deployment("db", 1), "kind": "StatefulSet"},
        *(_deployment(f"its-{number}", 1) for number in range(len(CHANGED))),
        *(_config_map(each) for each in ("there", "there-2", "gone", "kept")),
        *(_config_map(each, batch="one") for each in ("a", "b", "c")),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "robot"}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}},
    ]
    nodes = [f"{name}-node", f"{name}-node-2"]
    for node in nodes:
        cluster.ok("create", "-f", "-", manifest={"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    for each in there:
        cluster.ok("create", "--namespace", name, "-f", "-", manifest=each)
    yield name
    for node in nodes:
        cluster.ok("delete", "node", node, "--wait=false")
    cluster.kubectl("delete", "clusterrole,priorityclass", f"made-{name}")
    cluster.ok("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def decided(start: Any, space: str, tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What all the commands were decided on."""
    gateway: ApiGateway = start(TELLING, recording="Metadata")
    editor = tmp_path_factory.mktemp("editor") / "editor"
    editor.write_text("#!/bin/sh\nexec sed -i 's/replicas: 1$/replicas: 21/' \"$1\"\n")
    editor.chmod(0o700)
    agent = gateway.as_agent(namespace=space)
    agent.environment["KUBE_EDITOR"] = str(editor)
    for command, _ in ALL:
        line, _, given = _named(command, space).partition(" <")
        manifest: dict[str, Any] | None = None
        if given.startswith("deployment:"):
            number = next(n for n, each in enumerate(CHANGED) if "<deployment" in each)
            manifest = _deployment(f"its-{number}", int(given.partition(":")[2]))
        elif given:
            manifest = _config_map(given, "changed")
        agent.kubectl(*shlex.split(line), manifest=manifest)
    events = [event for event in gateway.records() if event["type"] == "request"]
    return {event["decision"]["message"].removesuffix(" (rule default/telling#all)") for event in events}


def _named(text: str, space: str) -> str:
    return text.replace("NODE", f"{space}-node").replace("NS", space)


def _offline(case: str, space: str) -> str:
    """What the policy reads from the case of a test."""
    cluster = Connection.model_validate({
        "metadata": {"name": "cluster", "namespace": "default"},
        "spec": {
            "protocol": "Kubernetes",
            "upstream": {"server": "https://cluster.example"},
            "credentials": {"static": {"secretRef": {"name": "cluster"}}},
            "listener": {"port": 6443},
        },
    })  # fmt: skip
    built = bundle(GatewayPolicy.model_validate(TELLING), connections=[cluster])
    policies = bound(built, "cluster").for_subject(subject(), CLIENT)
    facts = offline_facts(KubernetesTest.model_validate(yaml.safe_load(_named(case, space))))
    decision = policies.decide({"k8s": dict(facts)}, NOON, final=True)
    assert isinstance(decision, Decision)
    assert decision.action == "Allow", decision.message
    return decision.message.removesuffix(" (rule default/telling#all)")


def test_there_are_enough_commands() -> None:
    assert len(ALL) >= 75


@pytest.mark.parametrize(("command", "case"), ALL, ids=[command for command, _ in ALL])
def test_a_command_is_decided_on_what_its_test_says(command: str, case: str, decided: set[str], space: str) -> None:
    expected = _offline(case, space)
    about = {message for message in decided if expected.split("; namespace=")[0] in message}
    assert expected in decided, "\n".join([expected, "but the gateway decided on:", *sorted(about)])
