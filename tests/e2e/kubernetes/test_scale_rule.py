"""Scaling beyond a threshold asks a person, whatever way an agent takes: the rule reads the resulting object."""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.api_gateway import ApiGateway, Plane, policy, rule
from support.resultings import APPLY, JSON_PATCH, MERGE, PROTOBUF, STRATEGIC, Api
from support.waiting import until

from ostiary_cli.admin_socket import AdminSocket, Item
from ostiary_gateway.protocols.kubernetes import bodies

pytestmark = pytest.mark.cluster


def _grows(*path: str) -> str:
    """CEL: the field is beyond the threshold, and more than it was."""
    steps = [".".join(("spec", *path[:count])) for count in range(len(path) + 1)]
    there, was = (" && ".join(f"has(k8s.{side}.{step})" for step in steps) for side in ("object", "oldObject"))
    field = steps[-1]
    return f"({there} && k8s.object.{field} > 10 && !({was} && k8s.oldObject.{field} >= k8s.object.{field}))"


RULE = (
    "!k8s.readOnly && ("
    + " || ".join((_grows("replicas"), _grows("minReplicas"), _grows("maxReplicas"), _grows("size", "count")))
    + ")"
)
SCALED = (("deployments", "apps"), ("statefulsets", "apps"), ("replicasets", "apps"), ("replicationcontrollers", ""))
GROUP = f"doors-{uuid.uuid4().hex[:6]}.example.com"


@dataclass(frozen=True)
class House:
    """A namespace with things that can be scaled, and the two ways to them: an administrator's and an agent's."""

    gateway: ApiGateway
    api: Api
    """Direct."""
    agent: Api
    """Through the gateway."""
    namespace: str
    directory: Path

    def kubectl(self, *arguments: str, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """As the agent."""
        as_agent = self.gateway.as_agent(namespace=self.namespace)
        as_agent.environment.update(environment)
        return as_agent.kubectl(*arguments, text=text)

    def path(self, resource: str, name: str = "web", group: str = "apps") -> str:
        prefix = f"/apis/{group}/v1" if group else "/api/v1"
        return f"{prefix}/namespaces/{self.namespace}/{resource}/{name}"

    def questions(self) -> list[Item]:
        """Those that are open."""
        found = AdminSocket(self.gateway.data).approvals()
        return [each for each in found if each["state"] == "Pending" and self.namespace in json.dumps(each)]

    def decide(self, item: Item, verdict: str) -> None:
        AdminSocket(self.gateway.data).decide(item["approval"]["metadata"]["name"], verdict, "as the test says")


def scalable(kind: str, replicas: int = 2, api_version: str = "apps/v1", name: str = "web") -> dict[str, Any]:
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": f"{name}-{kind.lower()}"}},
        "template": {
            "metadata": {"labels": {"app": f"{name}-{kind.lower()}"}},
            "spec": {"containers": [{"name": "app", "image": "localhost/shop:1"}]},
        },
    }
    if kind == "StatefulSet":
        spec["serviceName"] = name
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def yaml_of(kind: str, replicas: int) -> str:
    """A manifest as people write it."""
    app = f"web-{kind.lower()}"
    return f"""
apiVersion: apps/v1
kind: {kind}
metadata:
  name: web
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {app}}}}}
  template:
    metadata: {{labels: {{app: {app}}}}}
    spec:
      containers:
      - name: app
        image: localhost/shop:1
"""


@pytest.fixture(scope="module")
def asking(start: Any) -> ApiGateway:
    terms = {"groups": ["dba"], "wait": "0s"}
    asks = rule("many-replicas", RULE, "RequireApproval", approval=terms, message="So many replicas need approval.")
    found = start(policy("scale", asks, rule("rest")))
    assert isinstance(found, ApiGateway)
    return found


@pytest.fixture(scope="module")
def house(asking: ApiGateway, plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("doors")
    name = f"doors-{uuid.uuid4().hex[:6]}"
    with (
        closing(Api.of(plane.cluster.environment["KUBECONFIG"])) as api,
        closing(Api.through(asking.url, asking.ca)) as agent,
    ):
        made = House(asking, api, agent, name, directory)
        api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        _furnish(made)
        yield made
        api.ok("DELETE", f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/widgets.{GROUP}")
        api.ok("DELETE", f"/api/v1/namespaces/{name}")


def _furnish(made: House) -> None:
    api, name = made.api, made.namespace
    # No pod is ever made: what counts is what the objects say.
    api.ok("POST", f"/api/v1/namespaces/{name}/resourcequotas", {
        "metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}},
    })  # fmt: skip
    for kind in ("Deployment", "StatefulSet", "ReplicaSet"):
        api.ok("POST", made.path(f"{kind.lower()}s", "").rstrip("/"), scalable(kind))
    api.ok("POST", made.path("replicationcontrollers", "", "").rstrip("/"), {
        "metadata": {"name": "web"},
        "spec": {**scalable("Old")["spec"], "selector": {"app": "web-old"}},
    })  # fmt: skip
    _define(api)
    widgets = made.path("widgets", "", GROUP).rstrip("/")
    until(lambda: api.send("GET", widgets)[0] == 200, "the definition in force")
    api.ok("POST", widgets, {
        "apiVersion": f"{GROUP}/v1", "kind": "Widget", "metadata": {"name": "web"}, "spec": {"size": {"count": 2}},
    })  # fmt: skip


def _define(api: Api) -> None:
    count = {"type": "object", "properties": {"count": {"type": "integer"}}}
    schema = {
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": {"size": count}}, "status": count},
    }
    scale = {"specReplicasPath": ".spec.size.count", "statusReplicasPath": ".status.count"}
    version = {
        "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
        "subresources": {"scale": scale},
    }  # fmt: skip
    api.ok("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", {
        "metadata": {"name": f"widgets.{GROUP}"},
        "spec": {
            "group": GROUP, "scope": "Namespaced", "versions": [version],
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
        },
    })  # fmt: skip


# -- the doors: each tries to have so many replicas, and says whether it was let do so

Door = Callable[[House, int], bool]
DOORS: dict[str, Door] = {}


def door(function: Door) -> Door:
    DOORS[function.__name__] = function
    return function


def _ran(done: subprocess.CompletedProcess[str]) -> bool:
    assert done.returncode == 0 or "needs approval" in done.stderr or "need approval" in done.stderr, done.stderr
    return done.returncode == 0


def _sent(answer: tuple[int, Any]) -> bool:
    code, said = answer
    assert 200 <= code < 300 or (code == 403 and "need approval" in said["message"]), said
    return code < 300


@door
def kubectl_scale(house: House, count: int) -> bool:
    return _ran(house.kubectl("scale", "deployment/web", f"--replicas={count}"))


@door
def kubectl_edit(house: House, count: int) -> bool:
    editor = house.directory / f"editor-{count}"
    editor.write_text(f'#!/bin/sh\nexec sed -i "s/^  replicas: .*/  replicas: {count}/" "$1"\n')
    editor.chmod(0o755)
    return _ran(house.kubectl("edit", "deployment/web", KUBE_EDITOR=str(editor)))


@door
def kubectl_apply(house: House, count: int) -> bool:
    return _ran(house.kubectl("apply", "-f", "-", text=yaml_of("Deployment", count)))


@door
def kubectl_apply_server_side(house: House, count: int) -> bool:
    arguments = ("apply", "--server-side", "--force-conflicts", "-f", "-")
    return _ran(house.kubectl(*arguments, text=yaml_of("Deployment", count)))


@door
def kubectl_replace(house: House, count: int) -> bool:
    return _ran(house.kubectl("replace", "-f", "-", text=yaml_of("Deployment", count)))


@door
def kubectl_patch(house: House, count: int) -> bool:
    return _ran(house.kubectl("patch", "deployment/web", "-p", f'{{"spec": {{"replicas": {count}}}}}'))


@door
def kubectl_patch_of_the_scale(house: House, count: int) -> bool:
    arguments = ("patch", "deployment/web", "--subresource=scale", "--type=merge", "-p")
    return _ran(house.kubectl(*arguments, f'{{"spec": {{"replicas": {count}}}}}'))


@door
def kubectl_create(house: House, count: int) -> bool:
    name = f"new-{uuid.uuid4().hex[:5]}"
    arguments = ("create", "deployment", name, "--image=localhost/shop:1", f"--replicas={count}")
    return _ran(house.kubectl(*arguments))


@door
def kubectl_autoscale(house: House, count: int) -> bool:
    name = f"auto-{uuid.uuid4().hex[:5]}"
    arguments = ("autoscale", "deployment/web", f"--name={name}", f"--min={count}", f"--max={count}")
    done = house.kubectl(*arguments)
    house.api.send("DELETE", f"{house.path('horizontalpodautoscalers', '', 'autoscaling').rstrip('/')}/{name}")
    # kubectl keeps what it was told for itself, and tries an older API.
    return done.returncode == 0 or "failed to create autoscaling/v2 HPA" not in done.stderr


@door
def a_merge_patch(house: House, count: int) -> bool:
    return _sent(house.agent.send("PATCH", house.path("deployments"), {"spec": {"replicas": count}}, MERGE))


@door
def a_strategic_patch(house: House, count: int) -> bool:
    return _sent(house.agent.send("PATCH", house.path("deployments"), {"spec": {"replicas": count}}, STRATEGIC))


@door
def a_json_patch(house: House, count: int) -> bool:
    operations = [{"op": "replace", "path": "/spec/replicas", "value": count}]
    return _sent(house.agent.send("PATCH", house.path("deployments"), operations, JSON_PATCH))


@door
def a_json_patch_that_copies(house: House, count: int) -> bool:
    """The number is nowhere in the patch."""
    house.api.ok("PATCH", house.path("deployments"), {"spec": {"revisionHistoryLimit": count}}, MERGE)
    operations = [{"op": "copy", "from": "/spec/revisionHistoryLimit", "path": "/spec/replicas"}]
    return _sent(house.agent.send("PATCH", house.path("deployments"), operations, JSON_PATCH))


@door
def an_apply_patch(house: House, count: int) -> bool:
    target = f"{house.path('deployments')}?fieldManager=raw&force=true"
    return _sent(house.agent.send("PATCH", target, scalable("Deployment", count), APPLY))


@door
def an_apply_patch_in_yaml(house: House, count: int) -> bool:
    target = f"{house.path('deployments')}?fieldManager=raw&force=true"
    return _sent(house.agent.send("PATCH", target, yaml_of("Deployment", count).encode(), APPLY))


@door
def a_put(house: House, count: int) -> bool:
    return _sent(house.agent.send("PUT", house.path("deployments"), scalable("Deployment", count)))


@door
def a_put_in_yaml(house: House, count: int) -> bool:
    body = yaml_of("Deployment", count).encode()
    return _sent(house.agent.send("PUT", house.path("deployments"), body, "application/yaml"))


@door
def a_put_in_protobuf(house: House, count: int) -> bool:
    path = house.path("deployments")
    read = house.api.raw("GET", path, headers={"accept": PROTOBUF}).body
    # spec.replicas is the first field of the second one; metadata.resourceVersion is none
    body = bodies.append_to_protobuf(read, b"\x12\x02\x08" + bytes((count,)) + b"\x0a\x02\x32\x00")
    return _sent(house.agent.send("PUT", path, body, PROTOBUF))


def _scale(house: House, count: int) -> dict[str, Any]:
    metadata = {"name": "web", "namespace": house.namespace}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata, "spec": {"replicas": count}}


@door
def a_put_of_the_scale(house: House, count: int) -> bool:
    return _sent(house.agent.send("PUT", f"{house.path('deployments')}/scale", _scale(house, count)))


@door
def a_json_patch_of_the_scale(house: House, count: int) -> bool:
    operations = [{"op": "replace", "path": "/spec/replicas", "value": count}]
    return _sent(house.agent.send("PATCH", f"{house.path('deployments')}/scale", operations, JSON_PATCH))


@door
def a_strategic_patch_of_the_scale(house: House, count: int) -> bool:
    target = f"{house.path('deployments')}/scale"
    return _sent(house.agent.send("PATCH", target, {"spec": {"replicas": count}}, STRATEGIC))


@door
def an_apply_patch_of_the_scale(house: House, count: int) -> bool:
    target = f"{house.path('deployments')}/scale?fieldManager=raw&force=true"
    return _sent(house.agent.send("PATCH", target, _scale(house, count), APPLY))


@door
def a_stateful_set(house: House, count: int) -> bool:
    return _ran(house.kubectl("scale", "statefulset/web", f"--replicas={count}"))


@door
def a_replica_set(house: House, count: int) -> bool:
    return _sent(house.agent.send("PATCH", house.path("replicasets"), {"spec": {"replicas": count}}, MERGE))


@door
def a_replication_controller(house: House, count: int) -> bool:
    target = f"{house.path('replicationcontrollers', group='')}/scale"
    return _sent(house.agent.send("PATCH", target, {"spec": {"replicas": count}}, MERGE))


@door
def a_custom_resource(house: House, count: int) -> bool:
    return _sent(
        house.agent.send("PATCH", house.path("widgets", group=GROUP), {"spec": {"size": {"count": count}}}, MERGE)
    )


@door
def a_custom_resources_scale(house: House, count: int) -> bool:
    return _ran(house.kubectl("scale", f"widgets.{GROUP}/web", f"--replicas={count}"))


@door
def a_deletion_and_a_creation(house: House, count: int) -> bool:
    """What is made anew is looked at like what is changed."""
    name = f"again-{uuid.uuid4().hex[:5]}"
    house.api.ok("POST", house.path("deployments", "").rstrip("/"), scalable("Deployment", 2, name=name))
    assert house.kubectl("delete", "deployment", name).returncode == 0
    made = scalable("Deployment", count, name=name)
    return _sent(house.agent.send("POST", house.path("deployments", "").rstrip("/"), made))


@pytest.fixture
def closed(house: House) -> House:
    """With no question open, and two replicas of everything."""
    _back(house)
    for item in house.questions():
        house.decide(item, "Deny")
    return house


@pytest.mark.parametrize("name", DOORS)
def test_each_door_to_fifty_replicas_asks_a_person(closed: House, name: str) -> None:
    go = DOORS[name]
    assert go(closed, 3), "a few replicas need no approval"
    assert closed.questions() == []

    assert not go(closed, 50)
    asked = closed.questions()
    assert len(asked) == 1, [each["approval"]["spec"]["request"]["summary"] for each in asked]
    request = asked[0]["approval"]["spec"]["request"]
    assert "50" in request["summary"].splitlines()[0] or "eplicas: 50\n" in request["evidence"]["text"], request
    assert request["evidence"]["type"] == "Diff"


CREATING = ("kubectl_create", "kubectl_autoscale", "a_deletion_and_a_creation")
CHANGING = [name for name in DOORS if name not in CREATING]
"""Those that change what is there already, so that it can drift."""


@pytest.mark.parametrize("name", CHANGING)
def test_what_was_approved_goes_through_once(closed: House, name: str) -> None:
    go = DOORS[name]
    assert not go(closed, 50)
    closed.decide(closed.questions()[0], "Approve")
    assert go(closed, 50), "the same request again"
    assert closed.questions() == [], "nothing else was asked"
    _back(closed)
    assert not go(closed, 50), "a grant is used once"


@pytest.mark.parametrize(
    "name", ["kubectl_scale", "kubectl_apply", "a_put", "a_put_in_protobuf", "a_json_patch_of_the_scale"]
)
def test_what_has_drifted_since_is_another_question(closed: House, name: str) -> None:
    go = DOORS[name]
    assert not go(closed, 50)
    closed.decide(closed.questions()[0], "Approve")
    closed.api.ok("PATCH", closed.path("deployments"), {"spec": {"minReadySeconds": 7}}, MERGE)
    assert not go(closed, 50)
    assert closed.api.ok("GET", closed.path("deployments"))["spec"]["replicas"] == 2
    assert len(closed.questions()) == 1
    closed.api.ok("PATCH", closed.path("deployments"), {"spec": {"minReadySeconds": 0}}, MERGE)
    assert go(closed, 50), "as it was when it was approved"


def test_another_number_than_the_approved_one_is_another_question(closed: House) -> None:
    assert not kubectl_scale(closed, 50)
    closed.decide(closed.questions()[0], "Approve")
    assert not kubectl_scale(closed, 51)
    assert closed.api.ok("GET", closed.path("deployments"))["spec"]["replicas"] == 2
    assert kubectl_scale(closed, 50)


def test_what_controllers_write_does_not_void_a_grant(closed: House) -> None:
    assert not kubectl_scale(closed, 50)
    closed.decide(closed.questions()[0], "Approve")
    status = {"status": {"conditions": [{"type": "Progressing", "status": "True", "reason": uuid.uuid4().hex}]}}
    closed.api.ok("PATCH", f"{closed.path('deployments')}/status", status, MERGE)
    assert kubectl_scale(closed, 50)


def _back(house: House) -> None:
    for resource, group in SCALED:
        house.api.ok("PATCH", house.path(resource, group=group), {"spec": {"replicas": 2}}, MERGE)
    house.api.ok("PATCH", house.path("widgets", group=GROUP), {"spec": {"size": {"count": 2}}}, MERGE)


def test_a_replay_knows_the_objects_that_the_rule_read(house: House, tmp_path: Path) -> None:
    """The same policies change nothing; a lower threshold is told from the objects as they were then."""
    began = time.time()
    for replicas in (1, 3, 30, 4):
        house.kubectl("scale", "deployment/web", f"--replicas={replicas}")
    since = datetime.fromtimestamp(began, UTC).isoformat()
    arguments = ("replay", "--since", since, "--base", str(house.gateway.manifests), "--json")
    same = json.loads(house.gateway.run(*arguments, "--policy", str(house.gateway.manifests)))
    assert (same["changes"], same["undecided"]) == ([], [])
    stricter = policy("scale", rule("many-replicas", RULE.replace("> 10", "> 2"), "Deny"), rule("rest"))
    (tmp_path / "new.yaml").write_text(yaml.safe_dump(stricter))
    changed = json.loads(house.gateway.run(*arguments, "--policy", str(tmp_path / "new.yaml")))
    found = {(each["before"]["action"], each["after"]["action"]): each["requests"] for each in changed["changes"]}
    assert found == {("Allow", "Deny"): 2, ("RequireApproval", "Deny"): 1}
    assert changed["undecided"] == []
    assert all(not each["assumed"] for each in changed["changes"])
