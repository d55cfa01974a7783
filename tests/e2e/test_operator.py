"""The operator as it runs: a real process with the rights of the chart, before a real API server."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from support.cluster import Cluster
from support.operator import Operator, Release, eventually, operator
from support.operator_objects import (
    CHILDREN,
    EXPECTED,
    Manifest,
    accepted,
    condition,
    connection,
    create,
    names,
    policy,
    revision,
    secret,
)

from ostiary_api.gateway_state import STATE_PORT, GatewayState

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def running(release: Release) -> Iterator[Operator]:
    """One replica, for the tests that end none."""
    with operator(release, "shared") as found:
        eventually(lambda: found.leads and found.ready, why=found.tail)
        yield found


def test_a_connection_gets_its_gateway_and_loses_it_with_its_end(running: Operator, shop: Cluster) -> None:
    create(shop, secret(), connection(), policy())
    eventually(lambda: names(shop) >= EXPECTED, why=running.tail)
    eventually(lambda: accepted(shop), why=running.tail)
    eventually(lambda: condition(shop, "gatewaypolicy", "readers", "Accepted")["status"] == "True", why=running.tail)

    def policies() -> list[str]:
        return [each["name"] for each in shop.get("connection", "app")["status"].get("policies", ())]

    eventually(lambda: policies() == ["readers"], why=running.tail)
    status = shop.get("connection", "app")["status"]
    assert status["endpoint"] == {"host": f"ostiary-app.{shop.namespace}.svc", "port": 6432}
    metadata = shop.get("connection", "app")["metadata"]
    assert "finalizers" not in metadata
    assert not any("kopf" in name for name in metadata.get("annotations", {}))
    shop.ok("delete", "connection", "app")
    eventually(lambda: not names(shop), why=running.tail)


def test_two_replicas_get_a_disruption_budget(running: Operator, shop: Cluster) -> None:
    create(shop, secret(), connection(gateway={"replicas": 2}))
    eventually(lambda: "poddisruptionbudget.policy/ostiary-app" in names(shop), why=running.tail)
    create(shop, connection(gateway={"replicas": 1}))
    eventually(lambda: "poddisruptionbudget.policy/ostiary-app" not in names(shop), why=running.tail)


def test_a_child_that_was_deleted_is_made_again(running: Operator, shop: Cluster) -> None:
    create(shop, secret(), connection())
    eventually(lambda: names(shop) >= EXPECTED, why=running.tail)
    for child in sorted(EXPECTED):
        before = shop.ok("get", child, "-o", "jsonpath={.metadata.uid}")
        shop.ok("delete", child)

        def anew(child: str = child, before: str = before) -> bool:
            return shop.kubectl("get", child, "-o", "jsonpath={.metadata.uid}").stdout not in ("", before)

        eventually(anew, why=running.tail)


def test_a_child_that_somebody_edited_is_put_right(running: Operator, shop: Cluster) -> None:
    create(shop, secret(), connection())
    eventually(lambda: names(shop) >= EXPECTED, why=running.tail)
    right = revision(shop)
    shop.ok("patch", "configmap", "ostiary-app", "--type=merge", "-p", '{"data": {"revision": "forged"}}')
    eventually(lambda: revision(shop) == right, why=running.tail)
    rules = shop.get("role", "ostiary-app")["rules"]
    wide = json.dumps({"rules": [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]}]})
    # An administrator may do that; it must not stay.
    shop.ok("patch", "role", "ostiary-app", "--type=merge", "-p", wide)
    eventually(lambda: shop.get("role", "ostiary-app")["rules"] == rules, why=running.tail)
    shop.ok("label", "service", "ostiary-app", "app.kubernetes.io/instance=other", "--overwrite")

    def instance() -> object:
        return shop.get("service", "ostiary-app")["metadata"]["labels"]["app.kubernetes.io/instance"]

    eventually(lambda: instance() == "app", why=running.tail)


def test_a_secret_that_changes_changes_the_bundle_and_its_data_is_nowhere(running: Operator, shop: Cluster) -> None:
    create(shop, secret(password="hunter-one"), connection())
    eventually(lambda: revision(shop), why=running.tail)
    before = revision(shop)
    create(shop, secret(password="hunter-two"))
    eventually(lambda: revision(shop) not in ("", before), why=running.tail)
    every = shop.ok("get", f"{CHILDREN},connection", "-o", "yaml") + running.log.read_text()
    assert "hunter" not in every
    assert "aHVudGVy" not in every  # in base64
    version = shop.get("secret", "app-db")["metadata"]["resourceVersion"]
    assert version in shop.get("configmap", "ostiary-app")["data"]["bundle.jsonl"]


def test_a_secret_that_is_not_there_is_told_until_it_is(running: Operator, shop: Cluster) -> None:
    create(shop, connection())

    def resolved() -> Manifest:
        return condition(shop, "connection", "app", "ResolvedRefs")

    eventually(lambda: resolved()["status"] == "False", why=running.tail)
    assert "app-db" in resolved()["message"]
    create(shop, secret())
    eventually(lambda: resolved()["status"] == "True", why=running.tail)


def test_a_policy_that_is_wrong_says_where_and_stops_nobody_else(running: Operator, shop: Cluster) -> None:
    create(shop, secret(), connection(), policy("wrong", "sql.statemens.size() > 0"), policy("right"))
    wrong = "gatewaypolicy", "wrong", "Accepted"
    eventually(lambda: condition(shop, *wrong)["status"] == "False", why=running.tail)
    expressions = shop.get("gatewaypolicy", "wrong")["status"]["expressions"]
    assert expressions[0]["field"] == "spec.rules[0].expression"
    eventually(lambda: condition(shop, "gatewaypolicy", "right", "Accepted")["status"] == "True", why=running.tail)
    eventually(lambda: accepted(shop), why=running.tail)


def test_what_is_not_ours_is_never_overwritten_and_told(running: Operator, shop: Cluster) -> None:
    theirs = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "ostiary-app", "labels": {"team": "web"}},
        "spec": {"ports": [{"port": 80}], "selector": {"app": "web"}},
    }
    create(shop, theirs, secret(), connection())

    def told() -> bool:
        conditions = shop.get("connection", "app").get("status", {}).get("conditions", ())
        return any("ostiary-app" in each["message"] and each["status"] == "False" for each in conditions)

    eventually(told, why=running.tail)
    service = shop.get("service", "ostiary-app")
    assert service["spec"]["selector"] == {"app": "web"}
    assert service["metadata"]["labels"] == {"team": "web"}
    shop.ok("delete", "service", "ostiary-app")
    eventually(lambda: "service/ostiary-app" in names(shop), why=running.tail)
    eventually(lambda: not told() or condition(shop, "connection", "app", "Accepted")["status"] == "True")


def test_events_tell_transitions_once(running: Operator, shop: Cluster) -> None:
    create(shop, secret(), connection())

    def told() -> list[Manifest]:
        found: list[Manifest] = shop.get("events.events.k8s.io")["items"]
        return [each for each in found if each["regarding"]["name"] == "app" and each["action"] == "Accepted"]

    eventually(told, why=running.tail)
    for count in range(3):  # changes that change no condition
        create(shop, secret(password=f"p{count}"))
    before = revision(shop)
    eventually(lambda: revision(shop) != before or running.metric("ostiary_operator_queue_depth") == 0)
    assert len(told()) == 1


class Pod(ThreadingHTTPServer):
    """Answers /state in the place of a pod: there is no kubelet to run one."""

    daemon_threads = True
    state = GatewayState()
    allow_reuse_address = True


class _State(BaseHTTPRequestHandler):
    server: Pod

    def do_GET(self) -> None:
        state = self.server.state
        if self.headers.get("If-None-Match") == state.etag():
            threading.Event().wait(0.1)
        self.send_response(200)
        self.send_header("ETag", state.etag())
        self.end_headers()
        self.wfile.write(state.to_json().encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Silence."""


@contextmanager
def pod_at(address: str) -> Iterator[Pod]:
    """Something that answers at a pod's address."""
    with Pod((address, STATE_PORT), _State) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def test_programmed_is_what_every_ready_pod_has_loaded(running: Operator, shop: Cluster) -> None:
    create(shop, secret(), connection(), policy())
    selector = ("-l", "ostiary.dev/gateway=app")
    eventually(lambda: shop.get("pods", *selector)["items"], why=running.tail)
    name = shop.get("pods", *selector)["items"][0]["metadata"]["name"]
    address = "127.41.7.9"
    with pod_at(address) as server:
        ready = {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}
        shop.ok("patch", "pod", name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status}))

        def programmed() -> Manifest:
            return condition(shop, "connection", "app", "Programmed")

        eventually(lambda: running.metric("ostiary_operator_gateway_polls", state="ok") >= 1, why=running.tail)
        eventually(lambda: programmed()["status"] == "False", why=running.tail)
        server.state = GatewayState(instance=name, revision=revision(shop), connections=(
            {"namespace": shop.namespace, "name": "app", "listening": True, "upstream": {"state": "Reachable"}},
        ))  # fmt: skip
        eventually(lambda: programmed()["status"] == "True", why=running.tail)
        eventually(lambda: condition(shop, "connection", "app", "UpstreamReachable")["status"] == "True")
        before = running.metric("ostiary_operator_propagation_seconds_count")
        create(shop, policy(expression="sql.statements.all(s, s.readOnly && !s.opaque)"))
        eventually(lambda: programmed()["status"] == "False", why=running.tail)
        server.state = server.state.model_copy(update={"revision": revision(shop)})
        eventually(lambda: programmed()["status"] == "True", why=running.tail)
        eventually(lambda: running.metric("ostiary_operator_propagation_seconds_count") > before, why=running.tail)


