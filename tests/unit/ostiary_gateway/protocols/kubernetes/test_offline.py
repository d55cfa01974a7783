"""The facts of tests: a request as people write it is the request that a client would send."""

from __future__ import annotations

from typing import Any

import pytest

from ostiary_api.cases import KubernetesTest
from ostiary_gateway.protocols.kubernetes.offline import offline_facts
from ostiary_policy.facts import KubernetesFacts

POD: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-0", "namespace": "shop"}}
WEB: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {"replicas": 3},
}


def facts(**case: Any) -> KubernetesFacts:
    return offline_facts(KubernetesTest.model_validate(case))


def url(**case: Any) -> str:
    return facts(**case)["path"]


PATHS: list[tuple[str, dict[str, Any]]] = [
    ("/api/v1/namespaces/shop/pods/web-0", {"verb": "get", "resource": "pods", "namespace": "shop", "name": "web-0"}),
    ("/api/v1/pods", {"verb": "list", "resource": "pods"}),
    ("/api/v1/pods", {"verb": "watch", "resource": "pods"}),
    ("/apis/apps/v1/namespaces/shop/deployments/web", {"verb": "patch", "object": WEB}),
    ("/apis/apps/v1/namespaces/shop/deployments/web", {"verb": "delete", "oldObject": WEB}),
    ("/apis/apps/v1/namespaces/shop/deployments", {"verb": "create", "object": WEB}),
    ("/apis/apps/v1/namespaces/shop/deployments", {"verb": "deletecollection", "oldObjects": [WEB]}),
    ("/apis/apps/v1/namespaces/shop/deployments/web/scale", {"verb": "update", "subresource": "scale", "object": WEB}),
    ("/apis/apps/v1/deployments", {"verb": "list", "resource": "deployments"}),
    ("/api/v1/events", {"verb": "list", "resource": "events"}),
    ("/apis/events.k8s.io/v1/events", {"verb": "list", "resource": "events", "group": "events.k8s.io"}),
    ("/apis/autoscaling/v1/namespaces/a/horizontalpodautoscalers/h", {
        "verb": "update", "name": "h", "namespace": "a",
        "object": {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler"},
    }),
    ("/api/v1/namespaces/shop", {"verb": "get", "resource": "namespaces", "name": "shop"}),
    ("/api/v1/namespaces/shop/status", {
        "verb": "update", "resource": "namespaces", "name": "shop", "subresource": "status"}),
    ("/api/v1/nodes/n1/proxy", {"verb": "connect", "resource": "nodes", "name": "n1", "subresource": "proxy"}),
    ("/api/v1/namespaces/shop/pods/web-0/exec", {"verb": "connect", "subresource": "exec", "oldObject": POD}),
    ("/api/v1/namespaces/shop/pods/web-0/exec", {"verb": "create", "subresource": "exec", "oldObject": POD}),
    ("/api/v1/namespaces/shop/pods/web-0/exec", {"verb": "get", "subresource": "exec", "oldObject": POD}),
    ("/api/v1/namespaces/shop/pods/web-0/eviction", {"verb": "evict", "oldObject": POD}),
    ("/api/v1/namespaces/shop/pods/web-0/ephemeralcontainers", {"verb": "debug", "object": POD}),
    ("/api/v1/namespaces/shop/serviceaccounts/robot/token", {"verb": "token", "namespace": "shop", "name": "robot"}),
    ("/apis/example.com/v1/namespaces/shop/gizmos/a", {
        "verb": "patch", "object": {"apiVersion": "example.com/v1", "kind": "Gizmo",
                                    "metadata": {"name": "a", "namespace": "shop"}},
    }),
    ("/apis/example.com/v1/policies/a", {
        "verb": "delete", "oldObject": {"apiVersion": "example.com/v1", "kind": "Policy", "metadata": {"name": "a"}},
    }),
    ("/apis/example.com/v1beta1/gizmos", {
        "verb": "list", "group": "example.com", "version": "v1beta1", "resource": "gizmos"}),
    ("/openapi/v3", {"verb": "get", "path": "/openapi/v3"}),
    ("/apis/apps/v1/namespaces/shop/deployments/web/scale", {
        "verb": "patch", "path": "/apis/apps/v1/namespaces/shop/deployments/web/scale", "object": WEB}),
    ("/api/v1/secrets", {"verb": "list", "path": "/api/v1/secrets?limit=500"}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "case"), PATHS)
def test_a_test_becomes_the_url_of_a_request(path: str, case: dict[str, Any]) -> None:
    assert url(**case) == path


def test_group_and_version_follow_from_the_resource() -> None:
    found = facts(verb="list", resource="horizontalpodautoscalers")
    assert (found["group"], found["version"]) == ("autoscaling", "v2")


def test_verbs_are_given_as_rbac_or_as_policies_have_them() -> None:
    as_rbac = facts(verb="create", resource="pods", subresource="exec", namespace="shop", name="web-0")
    as_policy = facts(verb="connect", resource="pods", subresource="exec", namespace="shop", name="web-0")
    assert as_rbac == as_policy
    assert (as_policy["verb"], as_policy["rbacVerb"]) == ("connect", "create")


EMPTY: dict[str, Any] = {"object": {}, "oldObject": {}, "oldObjects": [], "affected": 0}
AROUND: dict[str, Any] = {"resource": "deployments", "namespace": "shop", "name": "web"}
OBJECTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a read has none": ({"verb": "get", **AROUND}, EMPTY),
    "nor has a list": ({"verb": "list", "resource": "secrets"}, EMPTY),
    "nor what is about no resource": ({"verb": "post", "path": "/healthz"}, EMPTY),
    "nor a review": ({"verb": "create", "resource": "selfsubjectaccessreviews"}, EMPTY),
    "what is created had none": (
        {"verb": "create", "object": WEB},
        {"object": WEB, "oldObject": {}, "oldObjects": [], "affected": 1},
    ),
    "what is deleted has none": (
        {"verb": "delete", "oldObject": WEB},
        {"object": {}, "oldObject": WEB, "oldObjects": [WEB], "affected": 1},
    ),
    "what is evicted has none": (
        {"verb": "evict", "oldObject": POD},
        {"object": {}, "oldObject": POD, "oldObjects": [POD], "affected": 1},
    ),
    "a change has both": (
        {"verb": "patch", "object": WEB, "oldObject": WEB},
        {"object": WEB, "oldObject": WEB, "oldObjects": [WEB], "affected": 1},
    ),
    "what apply makes had none": (
        {"verb": "patch", "object": WEB, "oldObject": {}},
        {"object": WEB, "oldObject": {}, "oldObjects": [], "affected": 1},
    ),
    "what was not said is not known": ({"verb": "patch", **AROUND, "object": WEB}, {"object": WEB, "affected": 1}),
    "what runs is not changed": (
        {"verb": "connect", "subresource": "exec", "oldObject": POD},
        {"object": POD, "oldObject": POD, "oldObjects": [POD], "affected": 1},
    ),
    "a token is of a ServiceAccount": (
        {"verb": "token", "namespace": "shop", "name": "robot"},
        {"object": {}, "affected": 1},
    ),
    "a collection has those that go": (
        {"verb": "deletecollection", "oldObjects": [POD, POD]},
        {"object": {}, "oldObjects": [POD, POD], "affected": 2},
    ),
    "or only how many": (
        {"verb": "deletecollection", "resource": "pods", "namespace": "shop", "affected": 900},
        {"object": {}, "affected": 900},
    ),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_those_that_a_gateway_would_work_out(name: str) -> None:
    case, expected = OBJECTS[name]
    found = facts(**case)
    assert {key: found[key] for key in EMPTY if key in found} == expected  # type: ignore[literal-required]


def test_an_object_has_the_kind_name_and_namespace_of_its_url() -> None:
    found = facts(verb="patch", **AROUND, object={"spec": {"replicas": 50}})
    assert found["object"] == {**WEB, "spec": {"replicas": 50}}


def test_a_command_is_given_as_it_is_run() -> None:
    run = {"command": ["sh", "-c", "echo a & b=c +%"], "container": "app", "stdin": True}
    found = facts(verb="connect", subresource="exec", object=POD, exec=run)
    assert found["exec"] == {**run, "tty": False}


IMPOSSIBLE: list[tuple[str, dict[str, Any]]] = [
    ("there is no verb 'apply'", {"verb": "apply", "object": WEB}),
    ("say what it is about: resource, or an object", {"verb": "list"}),
    ("say deployments, not deploy", {"verb": "list", "resource": "deploy"}),
    ("gizmos is nothing that Kubernetes itself has: say its group", {"verb": "list", "resource": "gizmos"}),
    ("which version of example.com?", {"verb": "list", "resource": "gizmos", "group": "example.com"}),
    ("the core group has no deployments", {"verb": "list", "resource": "deployments", "group": ""}),
    ("resource is pods, but a Deployment is one of deployments", {"verb": "patch", "resource": "pods", "object": WEB}),
    ("name is api, but the object's metadata has web", {"verb": "patch", "name": "api", "object": WEB}),
    ("namespace is x, but the object's metadata has shop", {"verb": "patch", "namespace": "x", "object": WEB}),
    ("pods are in a namespace: say which", {"verb": "get", "resource": "pods", "name": "web-0"}),
    ("nodes are in no namespace", {"verb": "get", "resource": "nodes", "name": "n", "namespace": "shop"}),
    ("a namespace has its name in name", {"verb": "get", "resource": "namespaces", "namespace": "shop"}),
    ("a get is of one object", {"verb": "get", "resource": "pods", "namespace": "shop"}),
    ("a delete is of one object", {"verb": "delete", "resource": "pods", "namespace": "shop"}),
    ("the verb is get, not list", {"verb": "list", "resource": "pods", "namespace": "shop", "name": "web-0"}),
    ("what is created has no name in the URL", {"verb": "create", **AROUND}),
    ("pods/exec is of one object", {
        "verb": "connect", "resource": "pods", "subresource": "exec", "namespace": "shop"}),
    ("connect is one of the subresources attach", {"verb": "connect", **AROUND}),
    ("evict is pods/eviction, not deployments/eviction", {"verb": "evict", **AROUND}),
    ("the one that is scaled", {
        "verb": "update", **AROUND, "subresource": "scale",
        "object": {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 5}}}),
    ("a get has no object", {"verb": "get", **AROUND, "object": WEB}),
    ("a delete has no object", {"verb": "delete", **AROUND, "object": WEB}),
    ("a create has no oldObject", {"verb": "create", "oldObject": WEB}),
    ("a deletecollection has no oldObject", {"verb": "deletecollection", "oldObject": WEB}),
    ("connect changes no object", {"verb": "connect", "subresource": "exec", "object": POD,
                                   "oldObject": {**POD, "spec": {"nodeName": "n"}}}),
    ("oldObjects and affected are for deletecollection", {"verb": "patch", **AROUND, "oldObjects": [WEB]}),
    ("labelSelector is for", {"verb": "get", **AROUND, "labelSelector": "a=b"}),
    ("exec is for the subresources exec and attach", {"verb": "get", **AROUND, "exec": {"command": ["ls"]}}),
    ("the API server knows no dry run of token", {"verb": "token", "namespace": "a", "name": "b", "dryRun": True}),
    ("cannot be a part of a URL", {"verb": "get", "resource": "pods", "namespace": "a/b", "name": "c"}),
    ("cannot be a part of a URL", {"verb": "get", "resource": "pods", "namespace": "..", "name": "c"}),
    ("namespace stand in the path already", {"verb": "get", "path": "/api/v1/pods", "namespace": "a"}),
    ("a path begins with /", {"verb": "get", "path": "api/v1/pods"}),
]  # fmt: skip


@pytest.mark.parametrize(("says", "case"), IMPOSSIBLE)
def test_what_no_request_can_be_is_refused(says: str, case: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as refused:
        facts(**case)
    assert says in str(refused.value)
