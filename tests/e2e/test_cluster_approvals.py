"""Approvals as objects of a cluster: replicas of a gateway, the operator's counting, people; a real API server."""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.approvals import action, decision, write
from support.cluster import Cluster
from support.counting_operator import counting, requests
from support.guarded import Guarded, guarded
from support.policies import connection, subject

from ostiary_api import admission
from ostiary_api.admission import SELFCHECK
from ostiary_api.approval import ApprovalRequest, Evidence
from ostiary_api.connection import Connection
from ostiary_api.counting import state_of
from ostiary_gateway.approvals.cluster import ClusterApprovals
from ostiary_gateway.approvals.local import MAX_OPEN
from ostiary_gateway.approvals.request import draft
from ostiary_gateway.approvals.store import ApprovalsError, TooManyQuestions, Transition
from ostiary_gateway.kube.access import Access
from ostiary_gateway.kube.client import KubeClient
from ostiary_operator.reconcile.approvals import Retention
from ostiary_operator.selfcheck import SelfCheck

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[Guarded]:
    with guarded(cluster) as found:
        yield found


class Replica(ClusterApprovals):
    """A gateway's approvals, with what it tells."""

    told: list[Transition]


@asynccontextmanager
async def replica(world: Guarded, who: str = "gateway", gateway: str = "") -> AsyncIterator[Replica]:
    told: list[Transition] = []
    async with KubeClient(world.access(who)) as client:
        store = Replica(client, world.namespace, gateway or who, tell=told.append)
        store.told = told
        store.start()
        try:
            yield store
        finally:
            await store.close()
    await asyncio.sleep(0.1)  # TLS connections say good-bye


@pytest.fixture
async def operator(world: Guarded) -> AsyncIterator[None]:
    async with counting(world.access("operator"), world.namespace, world.system):
        yield


def at(world: Guarded, name: str = "db") -> Connection:
    return connection(name, namespace=world.namespace)


def question(world: Guarded, text: str = "", who: str = "planner", on: str = "db", **terms: object) -> ApprovalRequest:
    """About a text of its own, if none is given."""
    return draft(
        action(text or f"update orders -- {uuid.uuid4().hex}"), name="unused", connection=at(world, on),
        subject=subject(who), session="s1", decision=decision(**terms), now=datetime.now(UTC),
    )  # fmt: skip


async def answered(world: Guarded, who: str, request: ApprovalRequest, verdict: str = "Approve") -> None:
    done = await asyncio.to_thread(world.answer, who, request.metadata.name, "", verdict)
    assert done.returncode == 0, done.stderr


async def granted(world: Guarded, store: Replica, wanted: ApprovalRequest) -> ApprovalRequest:
    """Asked, approved by alice, and known to be."""
    asked = await store.ask(wanted)
    await answered(world, "alice", asked)
    found = await store.wait(asked, 60)
    assert state_of(found.status) == "Approved"
    return found


def stored(world: Guarded, request: ApprovalRequest) -> Any:
    return world.cluster.get("apr", request.metadata.name)


async def test_a_question_is_asked_answered_and_used_once(world: Guarded, operator: None) -> None:
    async with replica(world) as store:
        wanted = question(world)
        assert await store.find(at(world), wanted.spec.request.hash) is None
        asked = await store.ask(wanted)
        assert (state_of(asked.status), store.pending) == ("Pending", 1)
        assert asked.status is not None
        assert asked.status.expires_at is not None
        waiting = asyncio.create_task(store.wait(asked, 60))
        await answered(world, "alice", asked)
        approved = await waiting
        assert state_of(approved.status) == "Approved"
        found = await store.find(at(world), wanted.spec.request.hash)
        assert found is not None
        assert found.metadata.uid == asked.metadata.uid
        used = await store.take(found, "session-1")
        assert used is not None
        assert state_of(used.status) == "Consumed"
        assert await store.take(found, "session-2") is None
        assert await store.find(at(world), wanted.spec.request.hash) is None
    status = stored(world, asked)["status"]
    assert status["state"] == "Consumed"
    assert status["conditions"][-1]["message"].endswith("session session-1.")
    assert [(each.step, each.by) for each in store.told] == [
        ("Asked", "planner"), ("Answered", "alice"), ("Approved", "alice"), ("Consumed", "session-1"),
    ]  # fmt: skip


async def test_a_write_to_kubernetes_is_asked_with_its_change_and_granted_once(world: Guarded, operator: None) -> None:
    async with replica(world) as store:
        wanted = draft(
            write(), name="unused", connection=at(world), subject=subject("planner"), session="s1", decision=decision(),
            now=datetime.now(UTC),
        )  # fmt: skip
        approved = await granted(world, store, wanted)
        request = stored(world, approved)["spec"]["request"]
        assert request["title"] == "Deployment shop/web: spec.replicas 3 → 50"
        assert request["evidence"]["type"] == "Diff"
        assert request["facts"]["k8s"].items() >= {("verb", "patch"), ("namespace", "shop")}
        assert "subresource" not in request["facts"]["k8s"], "what is empty tells nothing"
        used = await store.take(approved, "session-1")
        assert used is not None
        assert await store.take(approved, "session-2") is None


async def test_replicas_that_ask_at_once_make_one_question(world: Guarded) -> None:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(replica(world)) for _ in range(4)]
        wanted = question(world)
        asked = await asyncio.gather(*(store.ask(wanted) for store in stores for _ in range(3)))
        assert len({each.metadata.uid for each in asked}) == 1
        assert [each.step for store in stores for each in store.told] == ["Asked"]
        found = await stores[-1].find(at(world), wanted.spec.request.hash)
        assert found is not None
        assert found.metadata.uid == asked[0].metadata.uid


async def test_of_many_that_want_a_grant_exactly_one_gets_it(world: Guarded, operator: None) -> None:
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(replica(world)) for _ in range(3)]
        for _ in range(5):
            approved = await granted(world, stores[0], question(world))
            tries = (store.take(approved, f"s{at}-{n}") for at, store in enumerate(stores) for n in range(4))
            won = [each for each in await asyncio.gather(*tries) if each is not None]
            assert len(won) == 1
            assert stored(world, approved)["status"]["state"] == "Consumed"
        assert [each.step for store in stores for each in store.told].count("Consumed") == 5


async def test_one_deny_is_enough_whoever_has_approved_before(world: Guarded, operator: None) -> None:
    async with replica(world) as store:
        asked = await store.ask(question(world, min_approvals=2))
        await answered(world, "alice", asked)
        await answered(world, "bob", asked, "Deny")
        denied = await store.wait(asked, 60)
        assert state_of(denied.status) == "Denied"
        assert await store.take(denied, "s") is None


async def test_as_many_as_it_needs_must_approve(world: Guarded, operator: None) -> None:
    async with replica(world) as store:
        asked = await store.ask(question(world, min_approvals=2))
        await answered(world, "alice", asked)
        first = await store.wait(asked, 1)
        assert state_of(first.status) == "Pending"
        await answered(world, "bob", asked)
        assert state_of((await store.wait(asked, 60)).status) == "Approved"


async def test_a_question_and_a_grant_expire(world: Guarded, operator: None) -> None:
    async with replica(world) as store:
        approved = await granted(world, store, question(world, grant_ttl=10.0))
        asked = await store.ask(question(world, pending_ttl=10.0))
        assert state_of((await store.wait(asked, 60)).status) == "Expired"
        late = await asyncio.to_thread(world.answer, "alice", asked.metadata.name)
        assert "an answer comes too late" in late.stderr
        async with asyncio.timeout(60):
            while state_of((now := store._known[world.namespace, approved.metadata.name]).status) == "Approved":
                await asyncio.sleep(0.1)
        assert state_of(now.status) == "Expired"
        assert await store.take(now, "s") is None
        assert [each.step for each in store.told].count("Expired") == 2


async def test_what_was_denied_can_be_asked_again(world: Guarded, operator: None) -> None:
    async with replica(world) as store, replica(world) as other:
        wanted = question(world)
        first = await store.ask(wanted)
        await answered(world, "bob", first, "Deny")
        await store.wait(first, 60)
        again = await store.ask(wanted)
        assert again.metadata.name == f"{first.metadata.name}-2"
        assert (await other.ask(wanted)).metadata.uid == again.metadata.uid


async def test_a_question_of_another_connection_with_the_same_hash_is_not_ours(world: Guarded, operator: None) -> None:
    """Who may ask at `files` cannot have it approved there what then runs at `db`."""
    async with replica(world) as store, replica(world, "other", "gateway") as other:
        wanted = question(world)
        ref = wanted.spec.connection_ref.model_copy(update={"name": "files"})
        forged = wanted.model_copy(update={"spec": wanted.spec.model_copy(update={"connection_ref": ref})})
        planted = await other.ask(forged)
        assert planted.spec.request.hash == wanted.spec.request.hash
        assert await store.find(at(world), wanted.spec.request.hash) is None
        asked = await store.ask(wanted)
        assert asked.metadata.name == f"{planted.metadata.name}-2"
        assert asked.spec.connection_ref.name == "db"


async def test_a_gateway_cannot_use_the_grant_of_another(world: Guarded, operator: None) -> None:
    async with replica(world) as store, replica(world, "other", "gateway") as other:
        approved = await granted(world, store, question(world))
        with pytest.raises(ApprovalsError, match="the operator counts the answers and writes the status"):
            await other.take(approved, "s")
        assert stored(world, approved)["status"]["state"] == "Approved"
        with pytest.raises(ApprovalsError, match="has not the verb serve"):
            await other.ask(question(world))


async def test_a_subject_has_a_limited_number_of_open_questions(world: Guarded) -> None:
    async with replica(world) as store:
        who = f"eager-{uuid.uuid4().hex[:6]}"
        await asyncio.gather(*(store.ask(question(world, who=who)) for _ in range(MAX_OPEN)))
        with pytest.raises(TooManyQuestions, match=f"{who} has 50 open questions at db"):
            await store.ask(question(world, who=who))
        await store.ask(question(world, who="somebody-else"))


async def test_a_large_question_fits_into_the_api_server(world: Guarded) -> None:
    wanted = question(world)
    request = wanted.spec.request.model_copy(
        update={"summary": "\x01" * 4096, "facts": {"sql": {"text": "\x02" * 60_000}},
                "evidence": Evidence(type="Explain", text="\x03" * 65_536)}
    )  # fmt: skip
    wanted = wanted.model_copy(update={"spec": wanted.spec.model_copy(update={"request": request})})
    async with replica(world) as store:
        asked = await store.ask(wanted)
    assert asked.spec.request.truncated
    assert len(json.dumps(stored(world, asked))) < 1_000_000


async def test_without_the_api_server_nothing_is_let_through(world: Guarded, operator: None) -> None:
    async with replica(world) as store:
        approved = await granted(world, store, question(world))
        store._client.server = "https://127.0.0.1:9"
        with pytest.raises(ApprovalsError, match="the grant cannot be used"):
            await store.take(approved, "s")
        with pytest.raises(ApprovalsError, match="the question cannot be put"):
            await store.ask(question(world))
    async with KubeClient(Access("https://127.0.0.1:9")) as nowhere:
        store = Replica(nowhere, world.namespace, "gateway")
        store.start()
        with pytest.raises(ApprovalsError, match="the API server does not say what is asked already"):
            await store.find(at(world), "0" * 64)
        await store.close()


async def test_where_answers_could_be_forged_nobody_is_asked(world: Guarded, operator: None) -> None:
    async with replica(world) as store:
        approved = await granted(world, store, question(world))
        store.unusable = "approvals are switched off, since answers could be forged: somebody has weakened it"
        with pytest.raises(ApprovalsError, match="somebody has weakened it"):
            await store.ask(question(world))
        with pytest.raises(ApprovalsError, match="somebody has weakened it"):
            await store.take(approved, "s")
        with pytest.raises(ApprovalsError, match="somebody has weakened it"):
            await store.find(at(world), approved.spec.request.hash)


async def test_closed_questions_are_deleted_after_a_time_and_beyond_a_number(world: Guarded) -> None:
    access = world.access("operator")
    async with replica(world) as store:
        async with counting(access, world.namespace, world.system):
            asked = [await store.ask(question(world, who="cleaner")) for _ in range(3)]
            for each in asked:
                await answered(world, "bob", each, "Deny")
                await store.wait(each, 60)
        async with requests(access) as api, counting(access, world.namespace, world.system) as approving:
            approving._retention = Retention(timedelta(days=7), 0)
            path = f"/apis/ostiary.dev/v1alpha1/namespaces/{world.namespace}/approvalrequests"
            there = [
                each for each in (await api.request("GET", path))["items"]
                if each["spec"]["requester"]["username"] == "cleaner"
            ]  # fmt: skip
            assert await approving.sweep(there[:2]) == 2
            approving._retention = Retention(timedelta(0))
            await approving(there[2])
        left = world.cluster.get("apr")["items"]
        assert not [each for each in left if each["spec"]["requester"]["username"] == "cleaner"]


# -- the operator's self-check


async def test_the_self_check_is_content_with_the_chart_s_policies(world: Guarded) -> None:
    async with requests(world.access("operator")) as api:
        check = SelfCheck(api, world.system)
        assert (await check.run()).reason == ""
        assert (await check.run()).usable
    canary = world.cluster.get("apr", SELFCHECK, "--namespace", world.system)
    assert canary["spec"]["decisions"] == []
    assert "status" not in canary
    assert canary["metadata"]["ownerReferences"][0]["kind"] == "ServiceAccount"


@pytest.mark.parametrize(
    ("kind", "name", "patch", "says"),
    [
        ("validatingadmissionpolicybinding", admission.ANSWER,
         [{"op": "replace", "path": "/spec/validationActions", "value": ["Audit"]}],
         r"approvals-answer.ostiary.dev is not as the chart .* spec.validationActions\[0\] differs"),
        ("validatingadmissionpolicybinding", admission.STATUS,
         [{"op": "add", "path": "/spec/matchResources",
           "value": {"namespaceSelector": {"matchLabels": {"guarded": "yes"}}}}],
         "spec.matchResources differs"),
        ("validatingadmissionpolicy", admission.ANSWER,
         [{"op": "replace", "path": "/spec/failurePolicy", "value": "Ignore"}], "spec.failurePolicy differs"),
        ("validatingadmissionpolicy", admission.ASK,
         [{"op": "add", "path": "/spec/matchConditions", "value": [{"name": "never", "expression": "false"}]}],
         "spec.matchConditions differs"),
        ("validatingadmissionpolicy", admission.STATUS,
         [{"op": "replace", "path": "/spec/validations/0/expression", "value": "true"}],
         r"spec.validations\[0\].expression differs"),
        ("validatingadmissionpolicy", admission.DELETE,
         [{"op": "replace", "path": "/spec/matchConstraints/resourceRules/0/operations", "value": ["CONNECT"]}],
         "operations.* differs"),
    ],
    ids=["audit only", "narrowed to some namespaces", "fails open", "never matches", "a rule is true", "no deletes"],
)  # fmt: skip
async def test_a_weakened_policy_switches_approvals_off(
    world: Guarded, kind: str, name: str, patch: list[dict[str, Any]], says: str
) -> None:
    before = world.cluster.get(kind, name)
    world.cluster.ok("patch", kind, name, "--type=json", "-p", json.dumps(patch))
    try:
        async with requests(world.access("operator")) as api:
            found = await SelfCheck(api, world.system).run()
    finally:
        current = world.cluster.get(kind, name)
        world.cluster.ok("replace", "-f", "-", manifest=current | {"spec": before["spec"]})
    assert not found.usable
    assert found.reason.startswith("approvals are switched off, since answers could be forged")
    assert re.search(says, found.reason)


async def content_again(world: Guarded) -> None:
    """The API server takes a moment to see a policy that is back."""
    async with asyncio.timeout(120), requests(world.access("operator")) as api:
        while not (await SelfCheck(api, world.system).run()).usable:
            await asyncio.sleep(0.2)


async def test_a_policy_that_is_gone_switches_approvals_off(world: Guarded) -> None:
    before = world.cluster.get("validatingadmissionpolicybinding", admission.ANSWER)
    world.cluster.ok("delete", "validatingadmissionpolicybinding", admission.ANSWER)
    try:
        async with requests(world.access("operator")) as api:
            found = await SelfCheck(api, world.system).run()
    finally:
        del before["metadata"]["resourceVersion"], before["metadata"]["uid"]
        world.cluster.ok("create", "-f", "-", manifest=before)
    assert "is not there; install the chart again" in found.reason


async def test_a_self_check_that_cannot_try_does_not_pass(world: Guarded) -> None:
    async with requests(world.access("gateway")) as api:
        found = await SelfCheck(api, world.system).run()
    assert not found.usable
    assert "it cannot be checked who answers" in found.reason


async def test_a_forgery_that_is_taken_switches_approvals_off(world: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything compares well, and still a forgery gets through: the tries find it."""
    await content_again(world)
    world.cluster.ok("delete", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": [
        each for each in admission.manifests(world.operator) if each["metadata"]["name"] == admission.STATUS
    ]})  # fmt: skip

    async def content(self: SelfCheck, wanted: object) -> None:
        pass

    monkeypatch.setattr(SelfCheck, "_compare", content)
    try:
        async with asyncio.timeout(120):
            async with requests(world.access("operator")) as api:
                while (found := await SelfCheck(api, world.system).run()).usable:
                    await asyncio.sleep(0.2)
    finally:
        policies = {"apiVersion": "v1", "kind": "List", "items": admission.manifests(world.operator)}
        world.cluster.ok("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=policies)
    assert "the API server takes a status that says approved: approvals-status.ostiary.dev does not act" in found.reason
