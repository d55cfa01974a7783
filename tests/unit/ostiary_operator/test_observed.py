"""What the API server gives becomes values; what is stored and not valid is told, and stops nothing."""

from __future__ import annotations

from typing import Any

from support.resources import good

from ostiary_operator import observed
from ostiary_operator.gateway_settings import GatewaySettings
from ostiary_operator.observed import ChildKey, Observed, Settings

SETTINGS = Settings(GatewaySettings(image="gateway:1"))


def stored(example: str = "minimal", **metadata: Any) -> dict[str, Any]:
    manifest = good()[example]
    manifest["metadata"] |= {
        "uid": "u1",
        "generation": 1,
        "resourceVersion": "7",
        "namespace": "default",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "managedFields": [{"manager": "kubectl", "fieldsV1": {}}],
        **metadata,
    }
    return manifest


def test_a_stored_object_is_read() -> None:
    seen = observed.read_connection(stored())
    assert (seen.key, seen.uid, seen.generation, seen.deleting) == ("default/minimal", "u1", 1, False)
    assert seen.model is not None
    assert seen.gateway_key == "default/minimal"


def test_what_is_not_valid_is_told_with_its_field() -> None:
    manifest = stored()
    manifest["spec"]["listener"]["port"] = 70_000
    seen = observed.read_connection(manifest)
    assert seen.model is None
    assert [problem.field for problem in seen.problems] == ["spec.listener.port"]
    del manifest["spec"]
    assert str(observed.read_connection(manifest).problems[0]) == "spec: is required"


def test_a_policy_that_is_not_valid_keeps_what_it_says_it_is_for() -> None:
    manifest = stored("expiring")
    manifest["spec"]["match"] = {"protocols": ["Postgres"]}
    manifest["spec"]["rules"] = []
    seen = observed.read_policy(manifest)
    assert (seen.model, seen.raw_match) == (None, {"protocols": ["Postgres"]})


def test_a_change_of_the_status_parses_nothing_again() -> None:
    first = observed.read_connection(stored())
    again = observed.read_connection(stored(resourceVersion="8") | {"status": {"revision": "a"}}, first)
    assert again.model is first.model
    assert again.status == {"revision": "a"}
    assert observed.read_connection(stored(labels={"env": "prod"}), first).model is not first.model
    assert observed.read_connection(stored(generation=2), first).model is not first.model
    assert observed.read_connection(stored(uid="u2"), first).model is not first.model


def pod(**more: Any) -> dict[str, Any]:
    labels = {"ostiary.dev/gateway": "app", "ostiary.dev/gateway-namespace": "default"}
    return {"metadata": {"name": "app-1", "namespace": "default", "uid": "p1", "labels": labels}, "status": more}


def test_a_pod_says_whether_it_is_ready_and_why_it_does_not_run() -> None:
    ready = observed.read_pod(pod(conditions=[{"type": "Ready", "status": "True"}], podIP="10.0.0.1"))
    assert (ready.ready, ready.gateway_key, ready.waiting) == (True, "default/app", "")
    pull = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}
    assert observed.read_pod(pod(containerStatuses=[{"state": pull}])).waiting == "ImagePullBackOff: no such image"
    starting = {"waiting": {"reason": "ContainerCreating"}}
    assert observed.read_pod(pod(containerStatuses=[{"state": starting}])).waiting == ""
    nowhere = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no node"}
    assert observed.read_pod(pod(conditions=[nowhere])).waiting == "Unschedulable: no node"
    assert observed.read_pod(pod(phase="Failed")).deleting


def test_gateways_are_those_that_connections_name_and_those_of_which_children_are_left() -> None:
    shared = stored("minimal", name="a")
    shared["spec"]["gateway"] = {"name": "shared"}
    younger = stored("minimal", name="b", creationTimestamp="2026-01-02T00:00:00Z")
    younger["spec"]["gateway"] = {"name": "shared"}
    going = stored("minimal", name="c", deletionTimestamp="2026-01-02T00:00:00Z")
    labels = {
        "app.kubernetes.io/managed-by": "ostiary-operator",
        "ostiary.dev/gateway": "old",
        "ostiary.dev/gateway-namespace": "default",
    }
    left = {"kind": "Service", "metadata": {"name": "ostiary-old", "namespace": "default", "labels": labels}}
    seen = Observed(
        SETTINGS,
        connections={c.key: c for c in map(observed.read_connection, (younger, going, shared))},
        children={observed.child_key(left): left},
    )
    assert seen.gateway_keys == {"default/shared", "default/old"}
    assert [connection.name for connection in seen.by_gateway["default/shared"]] == ["a", "b"]
    assert seen.children_of == {"default/old": (ChildKey("Service", "default", "ostiary-old"),)}


def labelled(namespace: str, of: str = "bank/db") -> dict[str, Any]:
    owner, _, gateway = of.partition("/")
    labels = {
        "app.kubernetes.io/managed-by": "ostiary-operator",
        "ostiary.dev/gateway": gateway,
        "ostiary.dev/gateway-namespace": owner,
    }
    return {"kind": "Pod", "metadata": {"name": "x", "namespace": namespace, "uid": "u9", "labels": labels}}


def test_a_pod_of_another_namespace_is_not_a_gateways_whatever_its_labels_say() -> None:
    assert observed.read_pod(labelled("bank")).gateway_key == "bank/db"
    assert observed.read_pod(labelled("mallory")).gateway_key == ""
    assert observed.gateway_of(labelled("ostiary-system")) == ""


def test_an_object_of_another_namespace_is_no_child_but_in_the_system_namespace() -> None:
    theirs, ours = ({**labelled(space), "kind": "Role"} for space in ("mallory", "ostiary-system"))
    world = Observed(SETTINGS, children={observed.child_key(each): each for each in (theirs, ours)})
    assert dict(world.children_of) == {"bank/db": (ChildKey("Role", "ostiary-system", "x"),)}
    assert Observed(SETTINGS, children={observed.child_key(theirs): theirs}).gateway_keys == frozenset()
