"""Every way around the rules of an approval, tried as the wrong identity with the API server's own admission."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from support.cluster import Cluster
from support.guarded import Guarded, at, condition, counted, guarded

from ostiary_api import admission

pytestmark = pytest.mark.cluster

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[Guarded]:
    with guarded(cluster) as found:
        yield found


def test_the_policies_are_free_of_type_errors(world: Guarded) -> None:
    world.cluster.ok(
        "wait", "--for=jsonpath={.status.typeChecking}", "--timeout=60s", "validatingadmissionpolicies",
        "-l", "app.kubernetes.io/part-of=ostiary",
    )  # fmt: skip
    found = world.cluster.get("validatingadmissionpolicies", "-l", "app.kubernetes.io/part-of=ostiary")["items"]
    assert {each["metadata"]["name"]: each["status"]["typeChecking"] for each in found} == {
        name: {} for name in admission.NAMES
    }


# -- asking


@dataclass(frozen=True)
class Asked:
    """`who` creates a question that differs from a good one by `metadata` and `spec`."""

    name: str
    who: str
    says: str
    metadata: dict[str, Any]
    spec: dict[str, Any]

    def __str__(self) -> str:
        return self.name


def asked(name: str, who: str, says: str, *, metadata: Any = None, **spec: Any) -> Asked:
    return Asked(name, who, says, metadata or {}, spec)


SERVE = "has not the verb serve on connections.ostiary.dev"
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "mine", "uid": "0b8e2d1c-8c1f-4c3b-9d38-1a2b3c4d5e6f"}


@pytest.mark.parametrize(
    "case",
    [
        asked("by an agent that RBAC lets create them", "agent", SERVE),
        asked("by an administrator of the namespace", "mallory", SERVE),
        asked("by the gateway of another Connection", "other", SERVE),
        asked("by a gateway for a Connection that it does not serve", "gateway", SERVE,
              connectionRef={"name": "files"}),
        asked("for a Connection that nobody serves", "gateway", SERVE, connectionRef={"name": "nowhere"}),
        asked("by the operator, which has the verb serve to give it to gateways", "operator",
              "gateways ask; the operator"),
        asked("with an answer inside", "gateway", "asked without answers",
              decisions=[{"approver": "alice", "verdict": "Approve"}]),
        asked("with a finalizer, so that nobody can delete it", "gateway", "no finalizers",
              metadata={"finalizers": ["example.com/stay"]}),
        asked("owned by something that its maker can delete", "gateway", "belongs to its Connection only",
              metadata={"ownerReferences": [OWNER]}),
        asked("owned by another Connection", "gateway", "belongs to its Connection only",
              metadata={"ownerReferences": [{**OWNER, "apiVersion": "ostiary.dev/v1alpha1", "kind": "Connection"}]}),
        asked("larger than the fields may be", "gateway", "Too long",
              request={"hash": "a" * 64, "summary": "x", "evidence": {"type": "Explain", "text": "x" * 70_000}}),
        asked("with no groups, so that anybody might answer", "gateway", "should have at least 1 items",
              approval={"groups": []}),
        asked("with no approvals needed", "gateway", "should be greater than or equal to 1",
              approval={"groups": ["dba"], "minApprovals": 0}),
    ],
    ids=str,
)  # fmt: skip
def test_a_question_is_not_asked(world: Guarded, case: Asked) -> None:
    question = world.question(**case.spec)
    question["metadata"] |= case.metadata
    done = world.run(case.who, "create", "-f", "-", manifest=question)
    assert done.returncode != 0
    assert case.says in done.stderr
    applied = world.run(case.who, "apply", "--server-side", "-f", "-", manifest=question)
    assert case.says in applied.stderr or "forbidden: User" in applied.stderr


def test_a_gateway_asks(world: Guarded) -> None:
    question = world.question()
    uid = "0b8e2d1c-8c1f-4c3b-9d38-1a2b3c4d5e6f"
    owner = {"apiVersion": "ostiary.dev/v1alpha1", "kind": "Connection", "name": "db", "uid": uid}
    question["metadata"]["ownerReferences"] = [owner]
    assert world.run("gateway", "create", "--dry-run=server", "-f", "-", manifest=question).returncode == 0


def test_a_status_that_comes_with_a_question_is_dropped(world: Guarded) -> None:
    question = world.question() | {"status": {"conditions": [condition("Approved")], "grantExpiresAt": at(600)}}
    done = world.run("gateway", "create", "-f", "-", "-o", "json", manifest=question)
    assert "status" not in json.loads(done.stdout)


# -- answering, counting, using, deleting


@dataclass(frozen=True)
class Tried:
    """`who` does something to a question that is `given`; an empty `says`: it is taken."""

    name: str
    who: str
    does: Callable[[Guarded, str, str], Done]
    says: str
    given: str = "Pending"

    def __str__(self) -> str:
        return self.name


def answers(approver: str = "", verdict: str = "Approve") -> Callable[[Guarded, str, str], Done]:
    return lambda world, who, name: world.answer(who, name, approver, verdict)


def patches(patch: Any, kind: str = "merge", *more: str) -> Callable[[Guarded, str, str], Done]:
    return lambda world, who, name: world.patch(who, name, patch, kind, *more)


def writes(**status: Any) -> Callable[[Guarded, str, str], Done]:
    return lambda world, who, name: world.status(who, name, **status)


def deletes(*more: str) -> Callable[[Guarded, str, str], Done]:
    return lambda world, who, name: world.run(who, "delete", "apr", name, "--wait=false", *more)


def applies(decisions: list[dict[str, str]], manager: str = "kubectl") -> Callable[[Guarded, str, str], Done]:
    """Server-side apply of the answers only."""

    def does(world: Guarded, who: str, name: str) -> Done:
        manifest = {
            "apiVersion": "ostiary.dev/v1alpha1", "kind": "ApprovalRequest",
            "metadata": {"name": name, "namespace": world.namespace}, "spec": {"decisions": decisions},
        }  # fmt: skip
        return world.run(who, "apply", "--server-side", "--force-conflicts", f"--field-manager={manager}",
                         "--validate=false", "-f", "-", manifest=manifest)  # fmt: skip

    return does


def replaces(change: Callable[[dict[str, Any]], object]) -> Callable[[Guarded, str, str], Done]:
    def does(world: Guarded, who: str, name: str) -> Done:
        found = world.cluster.get("apr", name)
        change(found)
        return world.run(who, "replace", "-f", "-", manifest=found)

    return does


def yes(approver: str) -> dict[str, str]:
    return {"approver": approver, "verdict": "Approve"}


def used(**more: Any) -> dict[str, Any]:
    """What a gateway writes to use up a grant that `alice` gave."""
    return {"conditions": [condition("Approved"), condition("Consumed")], "consumedAt": at(1), **more}


OWN = "nobody answers what they asked for themselves"
NAME = "answer in your own name"
PEOPLE = "people answer"
VERB = "has not the verb approve on connections.ostiary.dev"
GROUP = "is in none of the groups that may answer: dba"
LATE = "an answer comes too late"
META = "labels, annotations, finalizers and ownerReferences of a question stay"
STATUS = "the operator counts the answers and writes the status"
USE = "a gateway may use up a grant, from Approved to Consumed"
ELSE = "changes nothing else of the status"
GONE = "a question is not deleted"
KEPT = "decisions can be added, not changed or removed"
FINAL = "what is denied, expired or consumed stays so"
FORGED = "an answer is counted that nobody gave"

ANSWERS = [
    Tried("an approver approves", "alice", answers(), ""),
    Tried("an approver denies", "bob", answers(verdict="Deny"), ""),
    Tried("an approver answers by server-side apply", "alice", applies([yes("alice")], "alice"), ""),
    Tried("under another's name", "alice", answers("bob"), "you are alice, and the answer says bob: " + NAME),
    Tried("as the operator, under an approver's name", "operator", answers("alice"), 'cannot patch resource'),
    Tried("as an administrator of the cluster, under an approver's name", "root", answers("alice"), NAME),
    Tried("two at once, one of them forged", "alice",
          patches({"spec": {"decisions": [yes("alice"), yes("bob")]}}), NAME),
    Tried("two at once by server-side apply, one forged", "alice", applies([yes("alice"), yes("bob")]), NAME),
    Tried("by server-side apply as another's field manager", "mallory", applies([yes("alice")], "alice"), NAME),
    Tried("for the approver with a name in another case", "alice", answers("Alice"), NAME),
    Tried("who has the verb, and is of no group", "dave", answers(), GROUP),
    Tried("who is of the group, without the verb", "carol", answers(), VERB),
    Tried("who may patch all, without the verb", "mallory", answers(), VERB),
    Tried("who asks", "planner", answers(), OWN),
    Tried("who asks, with a veto", "planner", answers(verdict="Deny"), OWN),
    Tried("for whom the agent asks", "olga", answers(), OWN),
    Tried("a ServiceAccount with the verb, in the group", "bot", answers(), PEOPLE),
    Tried("a gateway", "gateway", answers(), "cannot patch resource"),
    Tried("who has not logged in", "nobody", answers(), PEOPLE),
    Tried("with kubectl replace of the whole list", "bob",
          replaces(lambda found: found["spec"].update(decisions=[yes("alice")])), NAME),
    *(Tried(f"after it was {state}", "bob", answers(), LATE, state)
      for state in ("Approved", "Denied", "Expired", "Consumed")),
    Tried("a veto after it was approved", "bob", answers(verdict="Deny"), LATE, "Approved"),
]  # fmt: skip

CHANGES = [
    Tried("an answer is flipped by who gave it", "alice",
          patches([{"op": "replace", "path": "/spec/decisions/0/verdict", "value": "Deny"}], "json"), KEPT, "Approved"),
    Tried("an answer is removed by a merge patch", "bob", patches({"spec": {"decisions": []}}), KEPT, "Approved"),
    Tried("an answer is replaced by server-side apply", "bob",
          replaces(lambda found: found["spec"].update(decisions=[yes("bob")])), KEPT, "Denied"),
    Tried("the question is changed by an approver", "alice",
          patches({"spec": {"request": {"summary": "harmless"}}}), "request cannot be changed"),
    Tried("the groups are widened", "mallory",
          patches({"spec": {"approval": {"groups": ["everybody"]}}}), "approval cannot be changed"),
    Tried("the requester is rewritten, so that the own answer counts", "planner",
          patches({"spec": {"requester": {"username": "someone"}}}), "requester cannot be changed"),
    Tried("labels", "alice", patches({"metadata": {"labels": {"ostiary.dev/selfcheck": "true"}}}), META),
    Tried("annotations", "mallory", patches({"metadata": {"annotations": {"note": "approve me"}}}), META),
    Tried("a finalizer", "mallory", patches({"metadata": {"finalizers": ["example.com/stay"]}}), META),
    Tried("an owner whose end would delete it", "mallory", patches({"metadata": {"ownerReferences": [OWNER]}}), META),
    Tried("an update that changes nothing", "mallory", patches({"spec": {"decisions": []}}), ""),
]  # fmt: skip

COUNTS = [
    Tried("an approver writes the status", "alice", writes(observedGeneration=2), "approvalrequests/status"),
    Tried("an administrator of the namespace approves in the status", "mallory",
          writes(conditions=[condition("Approved")], grantExpiresAt=at(600)), STATUS),
    Tried("an agent approves in the status", "agent",
          writes(conditions=[condition("Approved")], grantExpiresAt=at(600)), STATUS),
    Tried("the gateway approves in the status", "gateway",
          writes(conditions=[condition("Approved")], grantExpiresAt=at(600)), USE),
    Tried("the gateway approves and consumes in one write", "gateway", writes(**used(grantExpiresAt=at(600))), USE),
    Tried("the status through the object itself", "mallory",
          replaces(lambda found: found.update(status={"conditions": [condition("Approved")]})), ""),
    Tried("approved in the status by server-side apply", "mallory", lambda world, who, name: world.run(
        who, "apply", "--server-side", "--subresource=status", "--force-conflicts", "-f", "-", manifest={
            "apiVersion": "ostiary.dev/v1alpha1", "kind": "ApprovalRequest",
            "metadata": {"name": name, "namespace": world.namespace},
            "status": {"conditions": [condition("Approved")], "grantExpiresAt": at(600)}}), STATUS),
    Tried("the operator counts an answer that nobody gave", "operator",
          writes(approvals=[counted("alice")]), FORGED),
    Tried("the operator approves without an answer", "operator",
          writes(conditions=[condition("Approved")], grantExpiresAt=at(600)), "only when as many people as it needs"),
    Tried("the operator denies without an answer", "operator",
          writes(conditions=[condition("Denied")]), "only when somebody has denied it"),
    Tried("the operator keeps what receivers were told", "operator",
          writes(told=[{"receiver": "oncall", "steps": ["Asked"], "answers": 0}]), "", "Approved"),
    Tried("an approver says that receivers were told", "alice",
          writes(told=[{"receiver": "oncall", "steps": ["Asked"]}]), "approvalrequests/status"),
    Tried("the operator says that a grant was used", "operator", writes(**used()),
          "a gateway says that a grant was used, nobody else", "Approved"),
    Tried("the operator forgets an answer", "operator", writes(approvals=[]), "stays counted", "Approved"),
    Tried("the operator turns a verdict", "operator", writes(approvals=[counted("alice", "Deny")]), FORGED, "Approved"),
    Tried("the operator makes a grant longer", "operator", writes(grantExpiresAt=at(9000)),
          "neither a question nor a grant is made longer", "Approved"),
    Tried("the operator makes a question longer", "operator", writes(expiresAt=at(9000)),
          "neither a question nor a grant is made longer"),
    Tried("the operator opens it again", "operator", writes(conditions=[condition("Denied", "False")]),
          "a terminal condition that is True stays so", "Denied"),
    Tried("the operator approves after the end", "operator",
          writes(conditions=[condition("Expired"), condition("Approved")], grantExpiresAt=at(600)), FINAL, "Expired"),
    Tried("the operator ends a grant that was not used", "operator",
          writes(conditions=[condition("Approved"), condition("Expired")]), "", "Approved"),
]  # fmt: skip

USES = [
    Tried("the gateway uses a grant", "gateway", writes(**used()), "", "Approved"),
    Tried("the gateway of another Connection uses it", "other", writes(**used()), STATUS, "Approved"),
    Tried("an agent uses it up", "agent", writes(**used()), STATUS, "Approved"),
    Tried("before it is approved", "gateway", writes(conditions=[condition("Consumed")], consumedAt=at(1)), USE),
    *(Tried(f"after it was {state}", "gateway",
            writes(conditions=[condition(state), condition("Consumed")], consumedAt=at(1)), USE, state)
      for state in ("Denied", "Expired")),
    Tried("a second time", "gateway", writes(**used(consumedAt=at(2))), "a grant is consumed once", "Consumed"),
    Tried("a second time, the same words", "gateway", writes(**used(observedGeneration=7)), USE, "Consumed"),
    Tried("used is taken back", "gateway",
          writes(conditions=[condition("Approved")], consumedAt=None), "stays so", "Consumed"),
    Tried("used is taken back by the operator", "operator",
          writes(conditions=[condition("Approved")], consumedAt=None), "stays so", "Consumed"),
    Tried("without the time", "gateway", writes(conditions=[condition("Approved"), condition("Consumed")]),
          "with the time in consumedAt", "Approved"),
    Tried("after the grant has expired", "gateway", writes(**used(consumedAt=at(601))),
          "before it expires", "Approved"),
    Tried("and the grant is made longer", "gateway", writes(**used(grantExpiresAt=at(9000))), ELSE, "Approved"),
    Tried("and what receivers were told is written by it", "gateway",
          writes(**used(told=[{"receiver": "oncall", "steps": ["Asked"]}])), ELSE, "Approved"),
    Tried("and an answer is dropped", "gateway", writes(**used(approvals=[])), ELSE, "Approved"),
    Tried("and an answer is added", "gateway",
          writes(**used(approvals=[counted("alice"), counted("bob")])), ELSE, "Approved"),
    Tried("and the approval's message is rewritten", "gateway",
          writes(**used(conditions=[condition("Approved") | {"message": "by nobody"}, condition("Consumed")])),
          ELSE, "Approved"),
    Tried("and another condition comes with it", "gateway",
          writes(**used(conditions=[condition("Approved"), condition("Consumed"), condition("Expired")])),
          USE, "Approved"),
    Tried("with a stale resourceVersion", "gateway",
          patches({"metadata": {"resourceVersion": "1"}, "status": used()}, "merge", "--subresource=status"),
          "the object has been modified", "Approved"),
]  # fmt: skip

DELETIONS = [
    Tried("by an administrator of the namespace", "mallory", deletes(), GONE),
    Tried("by an agent", "agent", deletes(), GONE),
    Tried("by an approver", "alice", deletes(), "cannot delete resource"),
    Tried("by the gateway", "gateway", deletes(), "cannot delete resource"),
    Tried("in the foreground", "mallory", deletes("--cascade=foreground"), GONE),
    Tried("at once", "mallory", deletes("--now"), GONE),
    Tried("all of the namespace", "mallory", lambda world, who, name: world.run(
        who, "delete", "--raw", f"/apis/ostiary.dev/v1alpha1/namespaces/{world.namespace}/approvalrequests"), GONE),
    Tried("by replacing it by force", "mallory", lambda world, who, name: world.run(
        who, "replace", "--force", "-f", "-", manifest=world.cluster.get("apr", name)), GONE),
    Tried("an open one by the operator", "operator", deletes(), GONE),
    Tried("a grant by the operator", "operator", deletes(), GONE, "Approved"),
    Tried("a used one by an administrator of the namespace", "mallory", deletes(), GONE, "Consumed"),
    Tried("a closed one by the operator", "operator", deletes(), "", "Denied"),
    Tried("by an administrator of the cluster", "root", deletes(), ""),
    Tried("by an administrator of the cluster, in the foreground", "root", deletes("--cascade=foreground"), ""),
]  # fmt: skip


def outcome(world: Guarded, case: Tried) -> None:
    name = world.settled(world.asked(), case.given)
    before = world.cluster.get("apr", name)
    done = case.does(world, case.who, name)
    if not case.says:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode != 0, "it was taken"
    assert case.says in done.stderr
    assert world.cluster.get("apr", name) == before


@pytest.mark.parametrize("case", ANSWERS, ids=str)
def test_who_answers(world: Guarded, case: Tried) -> None:
    outcome(world, case)


@pytest.mark.parametrize("case", CHANGES, ids=str)
def test_what_is_changed(world: Guarded, case: Tried) -> None:
    outcome(world, case)


@pytest.mark.parametrize("case", COUNTS, ids=str)
def test_who_counts(world: Guarded, case: Tried) -> None:
    outcome(world, case)


@pytest.mark.parametrize("case", USES, ids=str)
def test_how_a_grant_is_used(world: Guarded, case: Tried) -> None:
    outcome(world, case)


@pytest.mark.parametrize("case", DELETIONS, ids=str)
def test_who_deletes(world: Guarded, case: Tried) -> None:
    outcome(world, case)


def test_questions_go_with_their_connection(world: Guarded) -> None:
    """The garbage collector may delete them, finalizers of foreground deletion included."""
    connection = {
        "apiVersion": "ostiary.dev/v1alpha1", "kind": "Connection", "metadata": {"name": "db"},
        "spec": {"protocol": "Postgres", "upstream": {"host": "db"}, "listener": {"port": 5432},
                 "credentials": {"static": {"secretRef": {"name": "db"}}}},
    }  # fmt: skip
    made = json.loads(world.cluster.ok("create", "-f", "-", "-o", "json", manifest=connection))
    question = world.question()
    owner = {"apiVersion": made["apiVersion"], "kind": "Connection", "name": "db", "uid": made["metadata"]["uid"]}
    question["metadata"]["ownerReferences"] = [owner | {"blockOwnerDeletion": False}]
    world.run("gateway", "create", "-f", "-", manifest=question)
    world.cluster.ok("delete", "gwconn", "db", "--cascade=foreground", "--timeout=60s")
    name = question["metadata"]["name"]
    world.cluster.ok("wait", "--for=delete", "--timeout=60s", f"apr/{name}")
