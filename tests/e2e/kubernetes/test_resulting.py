"""What requests would do, as a real API server says; and that the forwarded one does exactly that, or nothing."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from support.api_gateway import Plane
from support.resultings import (
    APPLY,
    JSON,
    JSON_PATCH,
    MERGE,
    PROTOBUF,
    STRATEGIC,
    Api,
    asked,
    changed,
)

from ostiary_gateway.protocols.kubernetes import bodies
from ostiary_gateway.protocols.kubernetes.dry_runs import DryRuns
from ostiary_gateway.protocols.kubernetes.resulting import AFFECTED, Refused, drifted

pytestmark = pytest.mark.cluster

REPLACE = [{"op": "replace", "path": "/spec/replicas", "value": 50}]
FIFTY = {"spec": {"replicas": 50}}
SCALE = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web"}, **FIFTY}


def deployment(replicas: int = 2, name: str = "web") -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            # Nothing writes its status, so that it stays the version that was looked at.
            "paused": True,
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "localhost/shop:1"}]},
            },
        },
    }


@pytest.fixture(scope="module")
def api(plane: Plane) -> Iterator[Api]:
    with closing(Api.of(plane.cluster.environment["KUBECONFIG"])) as found:
        yield found


@pytest.fixture
def space(api: Api) -> Iterator[str]:
    """The path of a namespace's objects of the core group, which is this test's only."""
    name = f"resulting-{uuid.uuid4().hex[:6]}"
    api.ok("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield f"/api/v1/namespaces/{name}"
    api.ok("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def note(api: Api, space: str) -> str:
    """An object that no controller touches."""
    api.ok("POST", f"{space}/configmaps", {"metadata": {"name": "note"}, "data": {"by": "a"}})
    return f"{space}/configmaps/note"


@pytest.fixture
def sets(api: Api, space: str) -> str:
    """A ReplicaSet of no replicas, once its controller has seen it."""
    path = space.replace("/api/v1", "/apis/apps/v1") + "/replicasets"
    made = deployment()
    made["kind"] = "ReplicaSet"
    del made["spec"]["paused"]
    made["spec"]["replicas"] = 0
    api.ok("POST", path, made)
    for _ in range(100):
        if api.ok("GET", f"{path}/web").get("status", {}).get("observedGeneration"):
            break
    return f"{path}/web"


# -- the same object through every door


@pytest.mark.parametrize(
    ("method", "suffix", "body", "content_type"),
    [
        ("PATCH", "", REPLACE, JSON_PATCH),
        ("PATCH", "", FIFTY, MERGE),
        ("PATCH", "", FIFTY, STRATEGIC),
        ("PATCH", "/scale", REPLACE, JSON_PATCH),
        ("PATCH", "/scale", FIFTY, MERGE),
        ("PATCH", "/scale", FIFTY, STRATEGIC),
        ("PATCH", "/scale?fieldManager=t&force=true", SCALE, APPLY),
        ("PUT", "/scale", SCALE, JSON),
    ],
)
def test_fifty_replicas_are_seen_before_they_are_there(
    api: Api, sets: str, method: str, suffix: str, body: object, content_type: str
) -> None:
    if isinstance(body, dict) and body is SCALE:
        body = changed(SCALE, metadata__namespace=sets.split("/")[5])
    made, _ = api.work_out(asked(method, f"{sets}{suffix}", body, content_type))
    assert made.missing == {}
    assert made.object is not None
    assert made.old is not None
    assert made.object["kind"] == made.old["kind"] == "ReplicaSet"
    assert made.object["spec"] == {**made.old["spec"], "replicas": 50}  # type: ignore[dict-item]
    assert api.ok("GET", sets)["spec"]["replicas"] == 0, "nothing has happened"


@pytest.mark.parametrize(
    ("method", "body", "content_type"),
    [
        ("PATCH", [{"op": "replace", "path": "/data/by", "value": "b"}], JSON_PATCH),
        ("PATCH", {"data": {"by": "b"}}, MERGE),
        ("PATCH", {"data": {"by": "b"}}, STRATEGIC),
        ("PUT", {"metadata": {"name": "note"}, "data": {"by": "b"}}, JSON),
        (
            "PATCH",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "note"}, "data": {"by": "b"}},
            APPLY,
        ),
    ],
)  # fmt: skip
def test_what_is_forwarded_happens_once_and_to_that_version_only(
    api: Api, note: str, method: str, body: object, content_type: str
) -> None:
    query = "?fieldManager=t&force=true" if content_type == APPLY else ""
    made, asked_for = api.work_out(asked(method, note + query, body, content_type))
    assert asked_for == [f"GET {note}", f"{method} {note}{query or '?'}{'&' if query else ''}dryRun=All"]
    api.ok("PATCH", note, {"metadata": {"labels": {"changed": "meanwhile"}}}, MERGE)
    code, answer = api.forward(made)
    assert code in (409, 422)
    assert drifted(made, code, _bytes(answer))
    assert api.ok("GET", note)["data"]["by"] == "a"
    made, _ = api.work_out(asked(method, note + query, body, content_type))
    assert api.forward(made)[0] == 200
    assert api.ok("GET", note)["data"]["by"] == "b"


def test_a_precondition_is_appended_to_protobuf(api: Api, note: str, sets: str) -> None:
    def protobuf(path: str) -> bytes:
        return api.raw("GET", path, headers={"accept": PROTOBUF}).body

    body = bodies.append_to_protobuf(protobuf(f"{sets}/scale"), b"\x12\x02\x08\x32")  # spec.replicas: 50
    made, _ = api.work_out(asked("PUT", f"{sets}/scale", body, PROTOBUF))
    assert made.object is not None
    assert made.object["spec"]["replicas"] == 50  # type: ignore[index]
    # data.by: b; metadata.resourceVersion: none, so that the client has no precondition
    body = bodies.append_to_protobuf(protobuf(note), b"\x12\x07\x0a\x02by\x12\x01b\x0a\x02\x32\x00")
    made, _ = api.work_out(asked("PUT", note, body, PROTOBUF))
    api.ok("PATCH", note, {"metadata": {"labels": {"changed": "meanwhile"}}}, MERGE)
    assert api.forward(made)[0] == 409
    assert api.ok("GET", note)["data"]["by"] == "a"
    made, _ = api.work_out(asked("PUT", note, body, PROTOBUF))
    assert api.forward(made)[0] == 200
    assert api.ok("GET", note)["data"]["by"] == "b"


def test_the_status_is_a_write_to_the_object(api: Api, space: str) -> None:
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    api.ok("POST", f"{space}/services", {"metadata": {"name": "s"}, "spec": spec})
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}
    made, _ = api.work_out(asked("PATCH", f"{space}/services/s/status", status, MERGE))
    assert made.object is not None
    assert made.object["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.1"  # type: ignore[index]
    assert made.guarded


def test_an_ephemeral_container_is_seen_in_the_pod(api: Api, space: str) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "localhost/shop:1"}]}}
    api.ok("POST", f"{space}/pods", pod)
    body = {"spec": {"ephemeralContainers": [{"name": "debug", "image": "localhost/shop:1"}]}}
    ask = asked("PATCH", f"{space}/pods/p/ephemeralcontainers", body, STRATEGIC)
    assert ask.verb == "debug"
    made, _ = api.work_out(ask)
    assert made.object is not None
    assert made.object["spec"]["ephemeralContainers"][0]["name"] == "debug"  # type: ignore[index]


# -- what is created


def test_a_made_up_name_is_seen_and_nothing_is_made(api: Api, space: str) -> None:
    made, _ = api.work_out(asked("POST", f"{space}/configmaps", {"metadata": {"generateName": "list-"}}))
    assert made.object is not None
    assert made.object["metadata"]["name"].startswith("list-")  # type: ignore[index]
    names = [each["metadata"]["name"] for each in api.ok("GET", f"{space}/configmaps")["items"]]
    assert not any(name.startswith("list-") for name in names)


@pytest.mark.parametrize(
    ("method", "resource", "body", "content_type"),
    [
        ("PUT", "services", {"metadata": {"name": "new"}, "spec": {"ports": [{"port": 80}]}}, JSON),
        (
            "PATCH", "configmaps",
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "new"}, "data": {"by": "apply"}}, APPLY,
        ),
    ],
)  # fmt: skip
def test_what_creates_does_not_overwrite_what_came_first(
    api: Api, space: str, method: str, resource: str, body: dict[str, Any], content_type: str
) -> None:
    path = f"{space}/{resource}/new"
    ask = asked(method, f"{path}?fieldManager=t", body, content_type)
    made, _ = api.work_out(ask)
    assert made.old == {}
    first = {**body, "metadata": {"name": "new", "labels": {"came": "first"}}, "data": {"other": "a"}}
    api.ok("POST", f"{space}/{resource}", first)
    code, answer = api.forward(made)
    assert (code, drifted(made, code, _bytes(answer))) == (409, True)
    api.ok("DELETE", path)
    assert api.forward(api.work_out(ask)[0])[0] == 201


# -- the traps


def test_a_deletion_with_a_body_is_not_tried_with_a_dry_run(api: Api, note: str) -> None:
    """A dryRun in the query does not count then: it would really delete."""
    options = {"kind": "DeleteOptions", "apiVersion": "v1"}
    made, asked_for = api.work_out(asked("DELETE", f"{note}?dryRun=All", options))
    assert asked_for == [f"GET {note}"]
    assert api.ok("GET", note)
    api.ok("PATCH", note, {"metadata": {"labels": {"changed": "meanwhile"}}}, MERGE)
    code, answer = api.forward(made)
    assert (code, drifted(made, code, _bytes(answer))) == (409, True)
    made, _ = api.work_out(asked("DELETE", f"{note}?dryRun=All", options))
    assert api.forward(made)[0] == 200
    assert api.send("GET", note)[0] == 404, "the query's dryRun does not count"


def test_a_deletion_without_a_body_is_of_that_version_only(api: Api, note: str) -> None:
    made, _ = api.work_out(asked("DELETE", note))
    api.ok("PATCH", note, {"metadata": {"labels": {"changed": "meanwhile"}}}, MERGE)
    assert api.forward(made)[0] == 409
    made, _ = api.work_out(asked("DELETE", note))
    assert api.forward(made)[0] == 200
    with pytest.raises(Refused) as refused:
        api.work_out(asked("DELETE", note))
    assert refused.value.status == 404


def test_a_deletion_keeps_the_dry_run_of_its_query(api: Api, note: str) -> None:
    made, _ = api.work_out(asked("DELETE", f"{note}?dryRun=All"))
    assert api.forward(made)[0] == 200
    assert api.ok("GET", note)


def test_no_token_is_issued_to_find_out(api: Api, space: str) -> None:
    api.ok("POST", f"{space}/serviceaccounts", {"metadata": {"name": "agent"}})
    made, asked_for = api.work_out(asked("POST", f"{space}/serviceaccounts/agent/token", {"spec": {}}))
    assert asked_for == [f"GET {space}/serviceaccounts/agent"]
    assert made.object == {}


def test_a_pod_that_changed_is_not_evicted(api: Api, space: str) -> None:
    pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "app", "image": "localhost/shop:1"}]}}
    api.ok("POST", f"{space}/pods", pod)
    ask = asked(
        "POST", f"{space}/pods/p/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    )
    made, asked_for = api.work_out(ask)
    assert asked_for == [f"GET {space}/pods/p"]
    api.ok("PATCH", f"{space}/pods/p", {"metadata": {"labels": {"changed": "meanwhile"}}}, MERGE)
    assert api.forward(made)[0] == 409
    assert api.forward(api.work_out(ask)[0])[0] == 201


def test_a_collection_deletes_what_was_counted_and_nothing_that_came_later(api: Api, space: str) -> None:
    maps = f"{space}/configmaps"
    for n in range(3):
        api.ok("POST", maps, {"metadata": {"name": f"m{n}", "labels": {"of": "test"}}})
    ask = asked("DELETE", f"{maps}?labelSelector=of%3Dtest")
    made, _ = api.work_out(ask)
    assert (made.affected, len(made.olds or ())) == (3, 3)
    assert api.work_out(ask, frozenset({AFFECTED}))[0].affected == 3
    api.ok("POST", maps, {"metadata": {"name": "later", "labels": {"of": "test"}}})
    assert api.forward(made)[0] == 200
    left = api.ok("GET", f"{maps}?labelSelector=of%3Dtest")["items"]
    assert [each["metadata"]["name"] for each in left] == ["later"]


@pytest.mark.parametrize("options", [None, {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}])
def test_a_dry_run_of_a_collection_stays_one(api: Api, space: str, options: object) -> None:
    maps = f"{space}/configmaps"
    api.ok("POST", maps, {"metadata": {"name": "m", "labels": {"of": "test"}}})
    query = "labelSelector=of%3Dtest" + ("" if options else "&dryRun=All")
    made, _ = api.work_out(asked("DELETE", f"{maps}?{query}", options))
    assert api.forward(made)[0] == 200
    assert len(api.ok("GET", f"{maps}?labelSelector=of%3Dtest")["items"]) == 1


def test_a_page_of_a_collection_is_that_page(api: Api, space: str) -> None:
    maps = f"{space}/configmaps"
    for n in range(4):
        api.ok("POST", maps, {"metadata": {"name": f"m{n}", "labels": {"of": "test"}}})
    made, _ = api.work_out(asked("DELETE", f"{maps}?labelSelector=of%3Dtest&limit=2"))
    assert made.affected == 2
    assert api.forward(made)[0] == 200
    left = api.ok("GET", f"{maps}?labelSelector=of%3Dtest")["items"]
    assert [each["metadata"]["name"] for each in left] == ["m2", "m3"]


def test_a_selector_that_cannot_be_read_is_the_api_servers_error(api: Api, space: str) -> None:
    with pytest.raises(Refused) as refused:
        api.work_out(asked("DELETE", f"{space}/configmaps?labelSelector=a%3D%3D%3Db"))
    assert refused.value.status == 400


def test_what_is_not_valid_is_refused_as_the_request_itself_would_be(api: Api, sets: str) -> None:
    body = {"spec": {"replicas": -1}}
    with pytest.raises(Refused) as refused:
        api.work_out(asked("PATCH", sets, body, MERGE))
    code, said = api.send("PATCH", sets, body, MERGE)
    assert (refused.value.status, refused.value.message) == (code, said["message"])


# -- custom resources


@pytest.fixture
def widgets(api: Api, space: str) -> Iterator[str]:
    group = f"g{uuid.uuid4().hex[:6]}.example.com"
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    count = {"count": {"type": "integer"}}
    scale = {"specReplicasPath": ".spec.size.count", "statusReplicasPath": ".status.count"}
    api.ok("POST", crds, {
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
            "versions": [{
                "name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {
                        "spec": {**schema, "properties": {"size": {"type": "object", "properties": count}}},
                        "status": {**schema, "properties": count},
                    },
                }}, "subresources": {"scale": scale, "status": {}},
            }],
        },
    })  # fmt: skip
    path = space.replace("/api/v1", f"/apis/{group}/v1") + "/widgets"
    for _ in range(500):
        if api.send("GET", path)[0] == 200:
            break
    api.ok("POST", path, {
        "apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": {"size": {"count": 2}},
    })  # fmt: skip
    yield f"{path}/w"
    api.ok("DELETE", f"{crds}/widgets.{group}")


def test_a_custom_resource_is_decided_on_like_any_other(api: Api, widgets: str) -> None:
    known = DryRuns()
    made, asked_for = api.work_out(asked("PATCH", widgets, {"spec": {"size": {"count": 50}}}, MERGE), known=known)
    assert asked_for[0].startswith("GET /openapi/v3/apis/g"), "it was never seen before"
    assert made.object is not None
    assert made.object["spec"] == {"size": {"count": 50}}
    assert api.forward(made)[0] == 200
    assert len(api.work_out(asked("PATCH", widgets, {"spec": {"a": 1}}, MERGE), known=known)[1]) == 2


@pytest.mark.parametrize(
    ("method", "body", "content_type"),
    [("PATCH", FIFTY, MERGE), ("PATCH", [{"op": "replace", "path": "/spec/replicas", "value": 50}], JSON_PATCH)],
)
def test_a_custom_resources_scale_is_read_in_its_definition(
    api: Api, widgets: str, method: str, body: object, content_type: str
) -> None:
    made, _ = api.work_out(asked(method, f"{widgets}/scale", body, content_type))
    assert made.object is not None
    assert (made.object["kind"], made.object["spec"]) == ("Widget", {"size": {"count": 50}})
    assert api.forward(made)[0] == 200
    assert api.ok("GET", widgets)["spec"]["size"]["count"] == 50


def _bytes(document: object) -> bytes:
    return json.dumps(document).encode()
