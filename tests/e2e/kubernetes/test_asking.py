"""Asking people about Kubernetes requests: the held response, its evidence, the answer, and what goes through."""

from __future__ import annotations

import http.client
import json
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
from support.api_gateway import ApiGateway, Plane, policy, rule
from support.resultings import JSON_PATCH, MERGE, Api
from support.waiting import until

from ostiary_cli.admin_socket import AdminSocket, Item

pytestmark = pytest.mark.cluster

TERMS = {"groups": ["dba"], "wait": "60s"}
POLICY = policy(
    "people",
    rule("data", "k8s.resource == 'configmaps' && has(k8s.object.data)", "RequireApproval", approval=TERMS),
    rule("secrets", "k8s.resource == 'secrets' && !k8s.readOnly", "RequireApproval", approval={**TERMS, "wait": "0s"}),
    rule("masses", "!k8s.readOnly && k8s.affected > 2", "RequireApproval", approval={**TERMS, "wait": "0s"}),
    rule("tokens", "k8s.verb == 'token'", "RequireApproval", approval={**TERMS, "wait": "0s"}),
    rule("rest"),
)


@pytest.fixture(scope="module")
def asking(start: Any) -> ApiGateway:
    found = start(POLICY, recording="Full")
    assert isinstance(found, ApiGateway)
    return found


@pytest.fixture
def agent(asking: ApiGateway) -> Iterator[Api]:
    with closing(Api.through(asking.url, asking.ca)) as found:
        yield found


@pytest.fixture
def api(plane: Plane) -> Iterator[Api]:
    with closing(Api.of(plane.cluster.environment["KUBECONFIG"])) as found:
        yield found


@pytest.fixture
def note(api: Api, namespace: str) -> str:
    """The path of an object in a namespace of this test."""
    maps = f"/api/v1/namespaces/{namespace}/configmaps"
    api.ok("POST", maps, {"metadata": {"name": "note"}, "data": {"size": "1"}})
    return f"{maps}/note"


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def questions(gateway: ApiGateway, text: str) -> list[Item]:
    found = AdminSocket(gateway.data).approvals()
    return [each for each in found if each["state"] == "Pending" and text in json.dumps(each)]


def question(gateway: ApiGateway, text: str) -> str:
    """The name of the one question about this text, once it is asked."""
    found: list[Item] = until(lambda: questions(gateway, text), f"a question about {text}")
    assert len(found) == 1
    return str(found[0]["approval"]["metadata"]["name"])


def decide(gateway: ApiGateway, name: str, verdict: str = "Approve", reason: str = "looks right") -> None:
    AdminSocket(gateway.data).decide(name, verdict, reason)


def size(count: int | str) -> dict[str, Any]:
    return {"data": {"size": str(count)}}


def test_a_response_is_held_until_a_person_approves(
    asking: ApiGateway, agent: Api, api: Api, note: str, threads: ThreadPoolExecutor
) -> None:
    held = threads.submit(agent.raw, "PATCH", note, json.dumps(size(50)).encode(), {"content-type": MERGE})
    name = question(asking, note)
    assert api.ok("GET", note)["data"] == {"size": "1"}
    decide(asking, name)
    answer = held.result(timeout=90)
    assert answer.status == 200
    warning = dict(answer.headers)[b"warning"].decode()
    assert warning.startswith('299 ostiary "approved by ')
    assert name in warning
    assert api.ok("GET", note)["data"] == {"size": "50"}
    begun = [each for each in asking.records() if each["type"] == "request" and each["text"] == f"PATCH {note}"]
    assert begun[-1]["detail"]["diff"] == "-data.size: 1\n+data.size: 50"
    assert begun[-1]["detail"]["approval"]["name"] == name


def test_a_person_who_says_no_is_heard(
    asking: ApiGateway, namespace: str, note: str, threads: ThreadPoolExecutor
) -> None:
    held = threads.submit(asking.kubectl, "patch", "configmap/note", "-p", json.dumps(size(50)), namespace=namespace)
    decide(asking, question(asking, note), "Deny", "not on a Friday")
    told = held.result(timeout=90).stderr
    assert "denied it: not on a Friday" in told
    assert "(rule default/people#data)" in told


def test_what_a_person_sees(asking: ApiGateway, namespace: str, note: str, threads: ThreadPoolExecutor) -> None:
    held = threads.submit(asking.kubectl, "patch", "configmap/note", "-p", json.dumps(size(50)), namespace=namespace)
    name = question(asking, note)
    shown = asking.run("approval", name)
    assert f"ConfigMap {namespace}/note: data.size 1 → 50" in shown
    assert f"PATCH {note}" in shown
    assert "What the API server says it would change" in shown
    assert re.search(r"-  size: '1' *\n  \+  size: '50'", shown), shown
    assert "ConfigMap" in asking.run("approvals")
    decide(asking, name, "Deny")
    held.result(timeout=90)


def test_a_client_that_goes_leaves_its_question_open(asking: ApiGateway, api: Api, note: str) -> None:
    with closing(Api.through(asking.url, asking.ca)) as gone:
        waiting = threading.Thread(target=_ignored, args=(gone, note))
        waiting.start()
        name = question(asking, note)
        gone.hang_up()
        waiting.join(20)
    assert not waiting.is_alive()
    decide(asking, name)
    assert api.ok("GET", note)["data"] == {"size": "1"}, "approved, and nobody there to do it"
    with closing(Api.through(asking.url, asking.ca)) as again:
        assert again.send("PATCH", note, size(50), MERGE)[0] == 200, "the grant was kept"


def _ignored(agent: Api, note: str) -> None:
    try:
        agent.send("PATCH", note, size(50), MERGE)
    except (OSError, http.client.HTTPException):
        pass


def test_what_drifts_while_a_person_thinks_is_asked_again(
    asking: ApiGateway, agent: Api, api: Api, note: str, threads: ThreadPoolExecutor
) -> None:
    held = threads.submit(agent.send, "PATCH", note, size(50), MERGE)
    first = question(asking, note)
    api.ok("PATCH", note, {"data": {"other": "x"}}, MERGE)
    decide(asking, first)
    second = question(asking, note)
    assert second != first
    decide(asking, second)
    assert held.result(timeout=90)[0] == 200
    assert api.ok("GET", note)["data"] == {"size": "50", "other": "x"}


def test_of_many_at_once_one_uses_the_grant(
    asking: ApiGateway, api: Api, note: str, threads: ThreadPoolExecutor
) -> None:
    patch = [{"op": "add", "path": "/data/size", "value": "50"}]

    def send() -> int:
        with closing(Api.through(asking.url, asking.ca)) as own:
            return int(own.send("PATCH", note, patch, JSON_PATCH)[0])

    held = [threads.submit(send) for _ in range(4)]
    name = question(asking, note)
    decide(asking, name)
    until(lambda: sum(each.done() for each in held) == 1 or questions(asking, note), "one that ran, others that ask")
    for each in until(lambda: questions(asking, note), "the question of the others"):
        decide(asking, each["approval"]["metadata"]["name"], "Deny")
    assert sorted(each.result(timeout=90) for each in held) == [200, 403, 403, 403]
    assert api.ok("GET", note)["data"] == {"size": "50"}


def test_no_value_of_a_secret_reaches_a_question(asking: ApiGateway, agent: Api, api: Api, namespace: str) -> None:
    secrets = f"/api/v1/namespaces/{namespace}/secrets"
    api.ok("POST", secrets, {"metadata": {"name": "door"}, "stringData": {"key": "swordfish"}})
    assert agent.send("PATCH", f"{secrets}/door", {"stringData": {"key": "haddock"}}, MERGE)[0] == 403
    (found,) = questions(asking, namespace)
    told = json.dumps(found) + asking.run("approval", found["approval"]["metadata"]["name"])
    for value in ("swordfish", "haddock", "c3dvcmRmaXNo", "aGFkZG9jaw"):
        assert value not in told
    assert "data.key [secret] → [secret] (changed)" in found["approval"]["spec"]["request"]["summary"]


def test_a_deletion_of_many_is_counted_and_the_approved_ones_go(
    asking: ApiGateway, agent: Api, api: Api, namespace: str
) -> None:
    pods = f"/api/v1/namespaces/{namespace}/services"
    for number in range(3):
        api.ok("POST", pods, {"metadata": {"name": f"s{number}"}, "spec": {"ports": [{"port": 80}]}})
    assert agent.send("DELETE", pods)[0] == 403
    (found,) = questions(asking, namespace)
    request = found["approval"]["spec"]["request"]
    assert request["summary"].startswith(f"delete 3 services in {namespace}\n")
    assert request["evidence"]["text"].splitlines() == [f"-{namespace}/s{number}" for number in range(3)]
    decide(asking, found["approval"]["metadata"]["name"])
    assert agent.send("DELETE", pods)[0] == 200
    assert api.ok("GET", pods)["items"] == []


def test_a_token_is_asked_for_without_being_issued(asking: ApiGateway, agent: Api, namespace: str) -> None:
    target = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
    code, said = agent.send("POST", target, body)
    assert (code, "token" in said) == (403, False)
    (found,) = questions(asking, namespace)
    assert found["approval"]["spec"]["request"]["summary"].startswith(
        f"issue a token of ServiceAccount {namespace}/default\n"
    )
    decide(asking, found["approval"]["metadata"]["name"])
    code, said = agent.send("POST", target, body)
    assert (code, bool(said["status"]["token"])) == (201, True)
    assert agent.send("POST", target, body)[0] == 403, "once"


def test_a_dry_run_in_the_body_of_a_deletion_is_one(start: Any, api: Api, note: str) -> None:
    gateway = start(policy("tries", rule("tries", "k8s.readOnly || k8s.dryRun")))
    with closing(Api.through(gateway.url, gateway.ca)) as agent:
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions"}
        assert agent.send("DELETE", f"{note}?dryRun=All", options)[0] == 403, "it would really delete"
        assert agent.send("DELETE", note, {**options, "dryRun": ["All"]})[0] == 200
        assert agent.send("DELETE", f"{note}?dryRun=All")[0] == 200
    assert api.ok("GET", note)


def test_writes_go_through_while_the_object_changes_all_the_time(start: Any, api: Api, plane: Plane, note: str) -> None:
    """Conflicts with the gateway's own precondition are not the client's matter."""
    gateway = start(policy("small", rule("small", "k8s.readOnly || size(k8s.oldObject) >= 0 && size(k8s.object) > 0")))
    stop = threading.Event()
    churned: list[int] = []

    def churn() -> None:
        with closing(Api.of(plane.cluster.environment["KUBECONFIG"])) as other:
            while not stop.is_set():
                churned.append(other.send("PATCH", note, {"data": {"churn": uuid.uuid4().hex}}, MERGE)[0])
                time.sleep(0.2)

    worker = threading.Thread(target=churn)
    worker.start()
    try:
        with closing(Api.through(gateway.url, gateway.ca)) as agent:
            codes = [agent.send("PATCH", note, size(number), MERGE)[0] for number in range(30)]
    finally:
        stop.set()
        worker.join()
    assert codes == [200] * 30
    assert len(churned) > 1
    assert api.ok("GET", note)["data"]["size"] == "29"


def test_the_api_servers_own_refusal_is_told_as_it_is(asking: ApiGateway, namespace: str, note: str) -> None:
    done: subprocess.CompletedProcess[str] = asking.kubectl(
        "patch", "configmap/note", "-p", '{"data": {"not a key": "x"}}', namespace=namespace
    )
    assert 'The ConfigMap "note" is invalid: data[not a key]: Invalid value' in done.stderr
    assert questions(asking, note) == []
