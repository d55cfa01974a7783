"""The self-check where the API server does not behave. With a real one, and policies weakened: tests/e2e."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ostiary_api.admission import manifests
from ostiary_operator.kube.client import ApiError
from ostiary_operator.selfcheck import SelfCheck, difference

OPERATOR = "system:serviceaccount:ostiary-system:ostiary-operator"
POLICY = {"approvalrequests": {"POST": "ask", "PATCH": "answer", "DELETE": "delete"}, "status": {"PATCH": "status"}}


class Server:
    """An API server with the policies. `takes` lets forgeries of these methods through; `breaks`: it fails there."""

    def __init__(self, takes: str = "", breaks: str = "", words: str = "") -> None:
        self.tried: list[tuple[str, str, Any, str]] = []
        self._takes, self._breaks, self._words = takes, breaks, words

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None,
        content_type: str = "application/json", headers: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        if path.endswith("selfsubjectreviews"):
            if self._breaks == "login":
                raise OSError("connection refused")
            return {"status": {"userInfo": {"username": OPERATOR}}}
        if "admissionregistration" in path:
            kind = "ValidatingAdmissionPolicyBinding" if "bindings" in path else "ValidatingAdmissionPolicy"
            name = path.rpartition("/")[2]
            return next(m for m in manifests(OPERATOR) if (m["kind"], m["metadata"]["name"]) == (kind, name))
        if method == "GET":
            return {"metadata": {"uid": "u"}}
        dry = (query or {}).get("dryRun", "")
        self.tried.append((method, dry, body, (headers or {}).get("Impersonate-User", "")))
        if method == self._takes:
            return {}
        policy = POLICY["status" if path.endswith("/status") else "approvalrequests"][method]
        said = f"ValidatingAdmissionPolicy 'approvals-{policy}.ostiary.dev' with binding 'x' denied request: no"
        raise ApiError(403, "Forbidden", self._words or said)


async def test_every_try_is_a_dry_run_as_an_account_that_has_nothing_else() -> None:
    server = Server()
    assert (await SelfCheck(server, "ostiary-system").run()).usable
    assert [method for method, *_ in server.tried] == ["POST", "PATCH", "PATCH", "PATCH", "DELETE"]
    assert {dry for _, dry, *_ in server.tried} == {"All"}
    assert {who for *_, who in server.tried} == {"system:serviceaccount:ostiary-system:ostiary-selfcheck"}
    # With a body, the API server takes dryRun from there and not from the URL.
    assert server.tried[-1][2]["dryRun"] == ["All"]


@pytest.mark.parametrize(
    ("takes", "says"),
    [
        ("POST", "the API server takes a question that is asked by nobody's gateway"),
        ("PATCH", "the API server takes an answer under another's name"),
        ("DELETE", "the API server takes the deletion of an open question"),
    ],
)
async def test_a_forgery_that_gets_through_switches_approvals_off(takes: str, says: str) -> None:
    found = await SelfCheck(Server(takes), "ostiary-system").run()
    assert not found.usable
    assert says in found.reason


async def test_a_refusal_for_another_reason_proves_nothing() -> None:
    server = Server(words="User cannot create resource approvalrequests")
    found = await SelfCheck(server, "ostiary-system").run()
    assert "it could not be tried whether approvals-ask.ostiary.dev refuses" in found.reason
    assert "cannot create resource" in found.reason


async def test_without_an_answer_nothing_is_believed() -> None:
    found = await SelfCheck(Server(breaks="login"), "ostiary-system").run()
    assert found.reason == (
        "approvals are switched off, since it cannot be checked who answers: connection refused"
    )


@pytest.mark.parametrize(
    ("found", "where"),
    [
        ({"a": 1, "b": [{"c": 2}]}, ""),
        ({"a": 1, "b": [{"c": 3}]}, "spec.b[0].c"),
        ({"a": 1, "b": []}, "spec.b"),
        ({"a": 1}, "spec.b"),
        ({"a": 1, "b": [{"c": 2}], "matchConditions": []}, "spec.matchConditions"),
    ],
)
def test_the_first_difference_is_named(found: object, where: str) -> None:
    assert difference({"a": 1, "b": [{"c": 2}]}, found, "spec") == where
