"""kubectl through masks: what people see of Secrets by every way that kubectl has, and what does not get written."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from dataclasses import replace
from typing import Any

import pytest
from support.api_gateway import ApiGateway, Plane, policy, rule
from support.cluster import Cluster

pytestmark = pytest.mark.cluster

VALUE = "hunter2-of-the-shop"
ENCODED = base64.b64encode(VALUE.encode()).decode()
MASKED = base64.b64encode(b"[redacted]").decode()
MAIL = "bob@shop.example"

MASKS = policy(
    "masks",
    rule("all"),
    rule("values", "k8s.resource in ['secrets', 'configmaps']", "Mask", masking=[
        {"jsonPath": "$.data.*", "strategy": {"type": "Redact"}},
    ]),
    rule("mails", "true", "Mask", masking=[{"detector": "Email", "strategy": {"type": "Redact"}}]),
)  # fmt: skip


def direct(plane: Plane, namespace: str) -> Cluster:
    """kubectl beside the gateway."""
    return replace(plane.cluster, namespace=namespace)


@pytest.fixture(scope="module")
def masked(start: Any) -> ApiGateway:
    return start(MASKS)  # type: ignore[no-any-return]


@pytest.fixture
def secret(plane: Plane, namespace: str) -> str:
    """A Secret that was applied beside the gateway, so that it has kubectl's annotation."""
    manifest = {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "annotations": {"owner": MAIL}},
        "stringData": {"password": VALUE},
    }  # fmt: skip
    direct(plane, namespace).ok("apply", "-f", "-", manifest=manifest)
    return namespace


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "secret", "db", "-o", "yaml", "--show-managed-fields"), ("get", "secret", "db", "-o", "json"),
        ("get", "secrets", "-o", "yaml"), ("get", "secrets", "-o", "wide"), ("get", "secrets", "--show-labels"),
        ("get", "secrets", "-A", "-o", "json"), ("get", "secret", "db", "-o", "jsonpath={.data}"),
        ("get", "secret", "db", "-o", "jsonpath={.metadata.annotations}"), ("get", "all,secrets", "-o", "json"),
        ("get", "secret", "db", "-o", "custom-columns=X:.data.password,Y:.metadata.annotations"),
        ("get", "secret", "db", "-o", "go-template={{.data.password | base64decode}}"), ("describe", "secret", "db"),
        ("describe", "secrets"), ("get", "--raw", "/api/v1/namespaces/{ns}/secrets/db"),
        ("get", "--raw", "/api/v1/namespaces/{ns}/secrets"), ("get", "--raw", "/api/v1/secrets?limit=1"),
        ("apply", "view-last-applied", "secret", "db"), ("label", "secret", "db", "a=b", "-o", "json"),
        ("annotate", "secret", "db", "x=y", "-o", "yaml"),
        ("patch", "secret", "db", "-p", '{"metadata":{"labels":{"c":"d"}}}', "-o", "json"),
        ("patch", "secret", "db", "--type", "merge", "-p", '{"metadata":{"labels":{"e":"f"}}}', "-o", "yaml"),
        ("patch", "secret", "db", "--type", "json", "-o", "json", "-p",
         '[{"op":"add","path":"/metadata/labels","value":{}}]'),
        ("create", "secret", "generic", "db", "--from-literal=a=b"), ("delete", "secret", "db", "-o", "name"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_no_way_of_kubectls_shows_a_value(masked: ApiGateway, secret: str, arguments: tuple[str, ...]) -> None:
    done = masked.kubectl(*(each.replace("{ns}", secret) for each in arguments), namespace=secret)
    shown = done.stdout + done.stderr
    assert shown
    for text in (VALUE, ENCODED, MAIL):
        assert text not in shown


def test_what_is_shown_is_still_base64(masked: ApiGateway, secret: str) -> None:
    found = masked.get("secret", "db", namespace=secret)
    assert found["data"] == {"password": MASKED}
    assert found["metadata"]["annotations"]["owner"] == "[redacted]"
    assert "password:  10 bytes" in masked.ok("describe", "secret", "db", namespace=secret)
    assert masked.ok("get", "secrets", namespace=secret).splitlines()[1].split()[:3] == ["db", "Opaque", "1"]


def test_each_event_of_a_watch_is_masked(masked: ApiGateway, plane: Plane, secret: str) -> None:
    for output in ("json", "wide"):
        agent = masked.as_agent(namespace=secret)
        command = ["kubectl", "-n", secret, "get", "secrets", "-w", "-o", output, "--output-watch-events"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=agent.environment) as watching:
            assert watching.stdout is not None
            seen = watching.stdout.readline()
            direct(plane, secret).ok("annotate", "--overwrite", "secret", "db", f"seen={output}")
            deadline = time.monotonic() + 60
            while "MODIFIED" not in seen and time.monotonic() < deadline:
                seen += watching.stdout.readline()
            watching.terminate()
            seen += watching.stdout.read()
        assert "MODIFIED" in seen
        assert ENCODED not in seen
        assert MAIL not in seen


def test_a_masked_secret_is_not_written_back(masked: ApiGateway, plane: Plane, secret: str) -> None:
    read = masked.ok("get", "secret", "db", "-o", "json", namespace=secret)
    for command in (["apply"], ["replace"], ["apply", "--server-side", "--force-conflicts"]):
        done = masked.kubectl(*command, "-f", "-", text=read, namespace=secret)
        assert done.returncode == 1, command
        assert "data.password is masked for you" in done.stderr
    other = json.loads(read)
    other["metadata"] = {"name": "copy"}
    assert "is masked for you" in masked.kubectl("create", "-f", "-", text=json.dumps(other), namespace=secret).stderr
    for patch in (
        [{"op": "copy", "from": "/data/password", "path": "/metadata/annotations/leak"}],
        [{"op": "test", "path": "/data/password", "value": ENCODED}],
        [{"op": "move", "from": "/data", "path": "/stringData"}],
    ):
        done = masked.kubectl("patch", "secret", "db", "--type", "json", "-p", json.dumps(patch), namespace=secret)
        assert "masked for you" in done.stderr
    kept = direct(plane, secret).get("secret", "db")
    assert kept["data"] == {"password": ENCODED}


def test_own_values_are_written(masked: ApiGateway, plane: Plane, secret: str) -> None:
    manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"password": "my-own"}}
    assert "configured" in masked.ok("apply", "-f", "-", manifest=manifest, namespace=secret)
    kept = direct(plane, secret).get("secret", "db")
    assert base64.b64decode(kept["data"]["password"]) == b"my-own"


def test_an_editor_that_changes_a_label_changes_no_value(masked: ApiGateway, plane: Plane, secret: str) -> None:
    agent = masked.as_agent(namespace=secret)
    done = subprocess.run(
        ["kubectl", "-n", secret, "edit", "secret", "db"], capture_output=True, text=True, timeout=60,
        env={**agent.environment, "KUBE_EDITOR": "sed -i 's/^  name: db/  labels: {edited: \"yes\"}\\n  name: db/'"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = direct(plane, secret).get("secret", "db")
    assert kept["metadata"]["labels"] == {"edited": "yes"}
    assert kept["data"] == {"password": ENCODED}


def test_an_error_quotes_no_value(masked: ApiGateway, secret: str) -> None:
    bad = '{"data":{"other":"no base64!"},"type":"kubernetes.io/tls"}'
    for kind in ("merge", "strategic"):
        done = masked.kubectl("patch", "secret", "db", "--type", kind, "-p", bad, namespace=secret)
        assert done.returncode == 1
        assert ENCODED not in done.stderr
        assert VALUE not in done.stderr


def test_the_record_holds_no_value(masked: ApiGateway, secret: str) -> None:
    masked.ok("get", "secret", "db", "-o", "json", namespace=secret)
    recorded = json.dumps(masked.records())
    assert ENCODED not in recorded
    assert VALUE not in recorded
