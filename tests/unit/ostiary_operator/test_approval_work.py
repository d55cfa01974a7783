"""What is sent to the API server about an ApprovalRequest, and what becomes of refusals. With a real one: tests/e2e."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from support.approvals import NOON, question, says

from ostiary_api.counting import with_answer
from ostiary_operator.approval_work import Approving, Manifest
from ostiary_operator.kube.client import ApiError
from ostiary_operator.reconcile.approvals import Retention


class Server:
    """Takes everything, or refuses it with a status."""

    def __init__(self, refuses: int = 0) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self._refuses = refuses

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None,
        content_type: str = "application/json", headers: Mapping[str, str] | None = None,
    ) -> Any:  # fmt: skip
        self.asked.append((method, path.rpartition("/namespaces/")[2], body))
        if self._refuses:
            raise ApiError(self._refuses, "Refused", f"status {self._refuses}")


def stored(*answers: str, namespace: str = "shop", name: str = "apr-1") -> Manifest:
    request = question(name)
    for approver in answers:
        request = with_answer(request, says(approver))
    found = request.to_manifest()
    found["metadata"] |= {"namespace": namespace, "uid": "u", "resourceVersion": "7"}
    return found


def approving(server: Server, now: datetime = NOON, **more: Any) -> Approving:
    return Approving(server, "ostiary-system", Retention(timedelta(days=7), 0), clock=lambda: now, **more)


async def test_a_status_is_written_for_the_version_that_was_read() -> None:
    server, told = Server(), list[tuple[str, str]]()
    work = approving(server, tell=lambda request, step, by: told.append((step, by)))
    assert await work(stored("alice")) == 600
    [(method, path, body)] = server.asked
    assert (method, path) == ("PATCH", "shop/approvalrequests/apr-1/status")
    assert body["metadata"] == {"uid": "u", "resourceVersion": "7"}
    assert body["status"]["state"] == "Approved"
    assert told == [("Answered", "alice"), ("Approved", "alice")]


@pytest.mark.parametrize("status", [404, 409])
async def test_who_was_quicker_is_looked_at_again_and_nothing_is_told(status: int) -> None:
    told: list[str] = []
    work = approving(Server(status), tell=lambda request, step, by: told.append(step))
    assert await work(stored("alice")) == 1.0
    assert told == []


async def test_what_the_api_server_cannot_do_is_raised_for_the_queue() -> None:
    with pytest.raises(ApiError):
        await approving(Server(500))(stored("alice"))


async def test_a_closed_one_is_deleted_only_as_it_was_read() -> None:
    closed = stored("alice")
    first = Server()
    await approving(first)(closed)
    closed["status"] = first.asked[0][2]["status"] | {"state": "Expired"}
    closed["status"]["conditions"][0]["type"] = "Expired"
    server = Server()
    assert await approving(server, NOON + timedelta(days=8))(closed) is None
    [(method, path, body)] = server.asked
    assert (method, path) == ("DELETE", "shop/approvalrequests/apr-1")
    assert body["preconditions"] == {"uid": "u", "resourceVersion": "7"}
    for status in (404, 409):
        assert await approving(Server(status), NOON + timedelta(days=8))(closed) is None
    assert await approving(server).sweep([closed, stored(name="apr-2")]) == 1


async def test_the_operator_s_own_request_is_let_be() -> None:
    server = Server()
    own = stored("alice", namespace="ostiary-system", name="ostiary-selfcheck")
    assert await approving(server)(own) is None
    assert await approving(server).sweep([own]) == 0
    assert server.asked == []
