"""What a gateway does when the API server fails in the middle. What it does when all is well: tests/e2e."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.approvals import NOON, question, says
from support.kube import Drop, Say, ScriptedServer, Stream, listed, scripted, status

from ostiary_api.approval import ApprovalRequest
from ostiary_api.counting import consumed, count, state_of, with_answer
from ostiary_gateway.approvals import objects
from ostiary_gateway.approvals.cluster import ClusterApprovals
from ostiary_gateway.approvals.store import ApprovalsError, Transition
from ostiary_gateway.kube.client import KubeClient

Manifest = dict[str, Any]
PATCH = "PATCH /apis/ostiary.dev/v1alpha1/namespaces/default/approvalrequests/apr-1/status"
GET = "GET /apis/ostiary.dev/v1alpha1/namespaces/default/approvalrequests/apr-1"


def stored(request: ApprovalRequest, version: str = "7") -> Manifest:
    """As the API server has it."""
    found = request.to_manifest()
    found["metadata"] |= {"uid": "u", "resourceVersion": version}
    return found


def approved() -> ApprovalRequest:
    request = with_answer(question(), says("alice"))
    return request.model_copy(update={"status": count(request, NOON)})


def used(session: str, version: str = "8") -> Manifest:
    request = approved()
    status = consumed(request, NOON, by=f"session {session}")
    return stored(request.model_copy(update={"status": status}), version)


class Told(list[Transition]):
    """What a store tells."""


@asynccontextmanager
async def following(*there: Manifest) -> AsyncIterator[tuple[ClusterApprovals, ScriptedServer, Told]]:
    """A store that knows these objects and watches. Further answers go into the server's script."""
    told = Told()
    async with scripted(listed("7", *there), Stream(then="silence")) as server, KubeClient(server.access) as client:
        store = ClusterApprovals(client, "default", "main", tell=told.append, clock=lambda: NOON.timestamp() + 5)
        store.start()
        await server.until_asked(2)
        try:
            yield store, server, told
        finally:
            await store.close()


def known() -> ApprovalRequest:
    found = objects.parsed(stored(approved()))
    assert found is not None
    return found


async def test_a_grant_is_used_by_a_write_that_names_what_it_changes() -> None:
    async with following(stored(approved())) as (store, server, told):
        server.script.append(Say(used("s1")))
        found = await store.take(known(), "s1")
        assert found is not None
        assert state_of(found.status) == "Consumed"
        assert [each.step for each in told] == ["Consumed"]
        asked = server.asked[2]
        assert str(asked) == PATCH
        assert asked.body["metadata"] == {"uid": "u", "resourceVersion": "7"}
        # What stands is sent word for word, and nothing else is sent.
        assert asked.body["status"]["conditions"][0] == stored(approved())["status"]["conditions"][0]
        assert sorted(asked.body["status"]) == ["conditions", "consumedAt", "state"]


async def test_a_lost_answer_counts_if_the_object_says_that_it_was_us() -> None:
    async with following(stored(approved())) as (store, server, told):
        server.script.extend((Drop(), Say(used("s1"))))
        assert await store.take(known(), "s1") is not None
        assert server.told[2:] == [PATCH, GET]
        assert [each.by for each in told] == ["s1"]


@pytest.mark.parametrize("then", [stored(approved()), used("another")], ids=["not used yet", "used by another"])
async def test_a_lost_answer_lets_nothing_through_otherwise(then: Manifest) -> None:
    async with following(stored(approved())) as (store, server, told):
        server.script.extend((Drop(), Say(then)))
        with pytest.raises(ApprovalsError, match="did not say whether the grant apr-1 was used, and it may be"):
            await store.take(known(), "s1")
        assert not told


async def test_who_meets_another_s_write_looks_again() -> None:
    conflict = Say(status(409, "Conflict", "the object has been modified"), 409)
    async with following(stored(approved())) as (store, server, _):
        server.script.extend((conflict, Say(stored(approved(), "9")), Say(used("s1", "10"))))
        assert await store.take(known(), "s1") is not None
        assert server.asked[4].body["metadata"]["resourceVersion"] == "9"
    async with following(stored(approved())) as (store, server, told):
        server.script.extend((conflict, Say(used("another"))))
        assert await store.take(known(), "s1") is None
        assert not told


async def test_a_question_that_is_gone_grants_nothing() -> None:
    gone = Say(status(404, "NotFound"), 404)
    async with following(stored(approved())) as (store, server, _):
        server.script.extend((gone, gone))
        assert await store.take(known(), "s1") is None


async def test_what_the_api_server_refuses_is_said() -> None:
    denied = Say(status(403, "Forbidden", "a gateway may use up a grant, and write nothing else"), 403)
    async with following(stored(approved())) as (store, server, _):
        server.script.extend((denied, Say(stored(approved()))))
        with pytest.raises(ApprovalsError, match="the grant cannot be used, the API server refuses: a gateway may use"):
            await store.take(known(), "s1")


async def test_an_approval_that_nobody_gave_is_not_used() -> None:
    forged = approved().model_copy(update={"spec": question().spec})
    async with following(stored(forged)) as (store, server, _):
        found = objects.parsed(stored(forged))
        assert found is not None
        with pytest.raises(ApprovalsError, match="says that it is approved, but its status counts an answer that is"):
            await store.take(found, "s1")
        assert len(server.asked) == 2


async def test_a_grant_is_over_by_the_gateway_s_clock_too() -> None:
    late = approved()
    assert late.status is not None
    ended = late.status.model_copy(update={"grant_expires_at": NOON})
    over = stored(late.model_copy(update={"status": ended}))
    async with following(over) as (store, server, _):
        found = objects.parsed(over)
        assert found is not None
        assert await store.take(found, "s1") is None
        assert len(server.asked) == 2
