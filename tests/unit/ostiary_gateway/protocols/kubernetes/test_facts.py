"""What policies call a request, and what its URL says of it."""

from __future__ import annotations

import pytest

from ostiary_gateway.protocols.kubernetes.facts import kubernetes_facts
from ostiary_gateway.protocols.kubernetes.request_info import request_info
from ostiary_policy.facts import KubernetesFacts
from ostiary_policy.schema import BY_PATH


def facts(line: str, *, dry_run: bool = False) -> KubernetesFacts:
    method, target = line.split(" ")
    return kubernetes_facts(request_info(method, target.encode()), dry_run=dry_run)


POD = "/api/v1/namespaces/shop/pods/web-0"
OWN_VERBS = {
    f"POST {POD}/exec?command=ls": ("connect", "create"),
    f"GET {POD}/exec?command=ls": ("connect", "get"),
    f"POST {POD}/attach": ("connect", "create"),
    f"GET {POD}/attach": ("connect", "get"),
    f"POST {POD}/portforward": ("connect", "create"),
    f"GET {POD}/portforward?ports=80": ("connect", "get"),
    f"GET {POD}/proxy/admin": ("connect", "get"),
    f"DELETE {POD}/proxy": ("connect", "delete"),
    "PATCH /api/v1/namespaces/shop/services/https:web:443/proxy/a": ("connect", "patch"),
    "GET /api/v1/nodes/n1/proxy/logs/": ("connect", "get"),
    "POST /api/v1/nodes/n1:10250/proxy/run/shop/web-0/app": ("connect", "create"),
    "GET /api/v1/proxy/nodes/n1": ("connect", "proxy"),
    "POST /api/v1/proxy/namespaces/shop/pods/web-0/exec": ("connect", "proxy"),
    "GET /apis/subresources.example.com/v1/namespaces/shop/machines/m/portforward/22": ("connect", "get"),
    f"POST {POD}/eviction": ("evict", "create"),
    f"PATCH {POD}/ephemeralcontainers": ("debug", "patch"),
    f"PUT {POD}/ephemeralcontainers": ("debug", "update"),
    "POST /api/v1/namespaces/shop/serviceaccounts/robot/token": ("token", "create"),
    f"GET {POD}/ephemeralcontainers": ("get", "get"),
    "GET /api/v1/namespaces/shop/serviceaccounts/robot/token": ("get", "get"),
    "POST /apis/example.com/v1/namespaces/shop/pods/web-0/eviction": ("create", "create"),
    f"GET {POD}/log": ("get", "get"),
    f"POST {POD}/binding": ("create", "create"),
    "PUT /apis/apps/v1/namespaces/shop/deployments/web/scale": ("update", "update"),
    "DELETE /api/v1/namespaces/shop/pods": ("deletecollection", "deletecollection"),
    "GET /api/v1/watch/namespaces/shop/secrets": ("watch", "watch"),
    "POST /apis/apps/v1/namespaces/shop/deployments": ("create", "create"),
    "PUT /healthz": ("put", "put"),
}


@pytest.mark.parametrize("line", OWN_VERBS)
def test_a_request_has_the_verb_of_what_it_does(line: str) -> None:
    found = facts(line)
    assert (found["verb"], found["rbacVerb"]) == OWN_VERBS[line]


@pytest.mark.parametrize(
    ("line", "is_"),
    [
        ("GET /api", True),
        ("GET /api/", True),
        ("GET /api/v1", True),
        ("HEAD /apis", True),
        ("GET /apis/apps", True),
        ("GET /apis/apps/v1", True),
        ("GET /openapi/v3/apis/apps/v1?hash=1", True),
        ("GET /version", True),
        ("POST /api/v1", False),
        ("GET /api/v1/pods", False),
        ("GET /apis/apps/v1/deployments", False),
        ("GET /healthz", False),
        ("GET /apisfoo", False),
        ("GET /version/more", False),
        ("GET /metrics", False),
        ("GET /logs/kube-apiserver.log", False),
        ("GET /", False),
    ],
)
def test_discovery_is_what_names_no_object(line: str, is_: bool) -> None:
    assert facts(line)["discovery"] is is_


@pytest.mark.parametrize(
    "line",
    [
        f"GET {POD}",
        f"HEAD {POD}",
        f"GET {POD}/log?follow=true",
        "GET /api/v1/pods",
        "GET /api/v1/pods?watch=true",
        "GET /apis/apps/v1/namespaces/shop/deployments/web/scale",
        "GET /apis/example.com/v1/widgets/a/status",
        "GET /readyz/etcd",
        "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "POST /apis/authorization.k8s.io/v1/namespaces/shop/localsubjectaccessreviews",
        "POST /apis/authorization.k8s.io/v1/selfsubjectrulesreviews",
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
        "POST /apis/authentication.k8s.io/v1/tokenreviews",
    ],
)
def test_what_is_known_to_change_nothing_reads(line: str) -> None:
    assert facts(line)["readOnly"] is True


@pytest.mark.parametrize(
    "line",
    [
        f"GET {POD}/exec?command=cat",
        f"GET {POD}/attach",
        f"GET {POD}/portforward",
        f"GET {POD}/proxy/delete-everything",
        "GET /api/v1/proxy/nodes/n1",
        "GET /apis/subresources.example.com/v1/namespaces/shop/machines/m/console",
        "POST /api/v1/namespaces/shop/serviceaccounts/robot/token",
        "POST /api/v1/pods",
        "PATCH /api/v1/nodes/n1",
        "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews/x/y",
        "POST /apis/example.com/v1/selfsubjectaccessreviews",
        "DELETE /apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "PUT /debug/flags/v",
        "POST /api",
    ],
)
def test_what_may_change_something_does_not_read(line: str) -> None:
    assert facts(line)["readOnly"] is False


def test_the_command_is_read_as_the_api_server_reads_it() -> None:
    line = f"GET {POD}/exec?command=sh&command=-c&command=echo+a%20b%26c&container=app&container=other&stdin=1&tty"
    assert facts(line)["exec"] == {
        "container": "app",
        "command": ["sh", "-c", "echo a b&c"],
        "stdin": True,
        "tty": True,
    }


@pytest.mark.parametrize(
    ("query", "on"),
    [("tty=true", True), ("tty=", True), ("tty=no", True), ("tty=0", False), ("tty=FALSE", False), ("", False)]
    + [("tty=false&tty=true", False), ("tty=1&tty=0", True), ("TTY=1", False)],
)
def test_a_flag_is_on_unless_it_is_0_or_false(query: str, on: bool) -> None:
    assert facts(f"GET {POD}/exec?{query}")["exec"]["tty"] is on


def test_attach_runs_no_command_of_the_agent() -> None:
    assert facts(f"POST {POD}/attach?command=ls&stdin=true&container=app")["exec"] == {
        "container": "app",
        "command": [],
        "stdin": True,
        "tty": False,
    }


def test_only_exec_and_attach_have_a_command() -> None:
    assert facts(f"GET {POD}/log?command=ls&container=app")["exec"]["container"] == ""
    assert facts("GET /exec?command=ls")["exec"]["command"] == []


@pytest.mark.parametrize(
    ("line", "honoured"),
    [
        ("POST /api/v1/namespaces/shop/pods", True),
        (f"DELETE {POD}", True),
        (f"POST {POD}/eviction", True),
        (f"PATCH {POD}/ephemeralcontainers", True),
        ("POST /api/v1/namespaces/shop/serviceaccounts/robot/token", False),  # it is issued all the same
        (f"POST {POD}/exec", False),
        (f"GET {POD}", False),
        ("POST /healthz", False),
    ],
)
def test_a_dry_run_is_one_only_where_the_api_server_makes_it_one(line: str, honoured: bool) -> None:
    assert facts(line, dry_run=True)["dryRun"] is honoured
    assert facts(line, dry_run=False)["dryRun"] is False


def test_a_request_has_all_facts_but_the_costly_ones() -> None:
    fields = BY_PATH["k8s"].fields
    assert set(facts("GET /api/v1/pods")) == {name for name, fact in fields.items() if not fact.doc.costly}


def test_paths_and_selectors_are_there_as_sent() -> None:
    query = "labelSelector=app%3Dweb&fieldSelector=metadata.name%3Da"
    found = facts(f"GET /apis/apps/v1/namespaces/shop/deployments?{query}")
    assert (found["path"], found["labelSelector"], found["fieldSelector"], found["name"]) == (
        "/apis/apps/v1/namespaces/shop/deployments",
        "app=web",
        "metadata.name=a",
        "a",
    )
