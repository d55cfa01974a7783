"""kubectl through a gateway: allowed, denied, unknown, recorded."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from dataclasses import replace
from typing import Any

import pytest
from support.api_gateway import ApiGateway, Plane, policy, rule
from support.gateway import TOKEN

pytestmark = pytest.mark.cluster

DISCOVERY = rule("discovery", "k8s.discovery")


def test_objects_are_applied_read_and_deleted(gateway: ApiGateway, namespace: str) -> None:
    manifest = _config_map("settings", color="blue")

    assert gateway.ok("apply", "-f", "-", manifest=manifest, namespace=namespace) == "configmap/settings created\n"
    assert gateway.get("configmap", "settings", namespace=namespace)["data"] == {"color": "blue"}

    manifest["data"]["color"] = "green"
    assert "configured" in gateway.ok("apply", "-f", "-", manifest=manifest, namespace=namespace)
    assert "settings" in gateway.ok("get", "configmaps", namespace=namespace)
    assert "deleted" in gateway.ok("delete", "configmap", "settings", namespace=namespace)
    assert "NotFound" in gateway.kubectl("get", "configmap", "settings", namespace=namespace).stderr


def test_a_denial_is_a_sentence_with_rule_hint_and_record(start: Any, namespace: str) -> None:
    gateway = start(
        policy(
            "readers",
            DISCOVERY,
            rule("reads", "k8s.readOnly"),
            rule(
                "no-deletes", "k8s.verb == 'delete'", "Deny", message="Nothing may be deleted.", hint="Scale it to 0."
            ),
        )
    )

    denied = gateway.kubectl("delete", "configmap", "kube-root-ca.crt", namespace=namespace)

    assert denied.returncode == 1
    assert "Error from server (Forbidden): Nothing may be deleted." in denied.stderr
    assert "(rule default/readers#no-deletes) Scale it to 0. [" in denied.stderr
    assert "kube-root-ca.crt" in gateway.ok("get", "configmaps", namespace=namespace)
    undecided = gateway.kubectl("create", "configmap", "new", namespace=namespace)
    assert "No rule allows this." in undecided.stderr


def test_every_request_shows_a_token_that_counts(gateway: ApiGateway) -> None:
    for path in ("/healthz", "/version", "/api/v1/namespaces"):
        status, answer, headers = _get(gateway, path, token="")
        assert (status, answer["reason"]) == (401, "Unauthorized")
        assert "shows no token" in answer["message"]
    status, answer, headers = _get(gateway, "/api", token="wrong")
    assert status == 401
    status, answer, headers = _get(gateway, "/version", token=TOKEN)
    assert status == 200
    assert headers["ostiary-request"]


def test_an_agent_is_nobody_else_and_says_nothing_for_the_gateway(gateway: ApiGateway) -> None:
    impersonating = gateway.kubectl("get", "pods", "--as", "system:admin")

    assert "Impersonation headers are not taken" in impersonating.stderr


def test_requests_decisions_and_responses_are_recorded(gateway: ApiGateway, namespace: str) -> None:
    gateway.ok("apply", "-f", "-", manifest=_config_map("kept", a="b"), namespace=namespace)
    gateway.ok("get", "configmap", "kept", "-o", "json", namespace=namespace)
    gateway.kubectl("get", "configmap", "absent", namespace=namespace)

    events = gateway.records()

    path = f"/api/v1/namespaces/{namespace}/configmaps"
    begun = {event["text"].partition("?")[0]: event for event in events if event["type"] == "request"}
    assert begun[f"POST {path}"]["detail"]["body"]["data"] == {"a": "b"}
    assert begun[f"GET {path}/kept"]["detail"]["verb"] == "get"


def test_values_of_secrets_are_not_recorded(gateway: ApiGateway, plane: Plane, namespace: str) -> None:
    gateway.ok("create", "secret", "generic", "door", "--from-literal=key=swordfish", namespace=namespace)
    assert gateway.get("secret", "door", namespace=namespace)["data"] == {"key": "c3dvcmRmaXNo"}
    token = gateway.ok("create", "token", "default", namespace=namespace).strip()

    record = gateway.run("export") + "".join(
        path.read_bytes().decode("latin-1") for path in gateway.data.glob("audit*")
    )

    assert "POST /api/v1/namespaces/" in record
    for value in ("swordfish", "c3dvcmRmaXNo", token, TOKEN, plane.token):
        assert value not in record


def _get(gateway: ApiGateway, path: str, token: str) -> tuple[int, Any, dict[str, str]]:
    context = ssl.create_default_context(cafile=str(gateway.ca))
    request = urllib.request.Request(gateway.url + path)
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, context=context, timeout=20) as answer:
            return answer.status, json.load(answer), {key.lower(): value for key, value in answer.headers.items()}
    except urllib.error.HTTPError as failure:
        with failure:
            return failure.code, json.load(failure), {key.lower(): value for key, value in failure.headers.items()}


def _config_map(name: str, **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_masked_values_are_hidden_and_do_not_come_back(start: Any, plane: Plane, namespace: str) -> None:
    hide = rule("hide", action="Mask", masking=[{"jsonPath": "$.data.password", "strategy": {"type": "Redact"}}])
    del hide["expression"]
    gateway = start(policy("all", rule("everything"), hide))
    given = _config_map("db", password="swordfish", user="app")
    given["metadata"]["namespace"] = namespace
    replace(plane.cluster, namespace=namespace).ok("apply", "-f", "-", manifest=given)

    assert gateway.get("configmap", "db", namespace=namespace)["data"] == {"password": "[redacted]", "user": "app"}
    listed = gateway.get("configmaps", namespace=namespace)["items"]
    assert [item["data"].get("password") for item in listed if item["metadata"]["name"] == "db"] == ["[redacted]"]
    returned = gateway.kubectl(
        "apply", "-f", "-", manifest=_config_map("db", password="[redacted]", user="other"), namespace=namespace
    )
    assert "data.password is masked for you, and the request would write the text '[redacted]'" in returned.stderr
    assert "swordfish" not in gateway.run("export")


def test_a_watch_ends_when_its_policies_would_deny_it_now(start: Any, namespace: str) -> None:
    gateway = start()
    watching = _get_stream(gateway, f"/api/v1/namespaces/{namespace}/configmaps?watch=true")
    first = watching.readline()

    gateway.configure(policy("all", rule("no-watching", "k8s.verb == 'watch'", "Deny"), rule("everything")))

    assert json.loads(first)["object"]["metadata"]["name"] == "kube-root-ca.crt"
    assert watching.read() == b""


def _get_stream(gateway: ApiGateway, path: str) -> Any:
    context = ssl.create_default_context(cafile=str(gateway.ca))
    request = urllib.request.Request(gateway.url + path, headers={"Authorization": f"Bearer {TOKEN}"})
    return urllib.request.urlopen(request, context=context, timeout=20)
