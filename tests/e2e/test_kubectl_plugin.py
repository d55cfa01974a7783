"""`kubectl ostiary`, as kubectl runs it: what an approver sees, and what the API server's refusals look like."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.counting_operator import counting
from support.guarded import Guarded, guarded

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def world(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """With the plugin on PATH, where kubectl finds it."""
    folder = tmp_path_factory.mktemp("plugin")
    plugin = folder / "kubectl-ostiary"
    plugin.write_text(f'#!/bin/sh\nexec {sys.executable} -m ostiary_cli.kubectl "$@"\n')
    plugin.chmod(0o755)
    root = Path(__file__).parents[2]
    paths = os.pathsep.join(str(root / name) for name in ("crds", "gateway", "operator"))
    environment = cluster.environment | {
        "PATH": f"{folder}{os.pathsep}{cluster.environment['PATH']}", "PYTHONPATH": paths, "COLUMNS": "140",
    }  # fmt: skip
    with guarded(replace(cluster, environment=environment)) as found:
        yield found


@pytest.fixture
async def operator(world: Guarded) -> AsyncIterator[None]:
    async with counting(world.access("operator"), world.namespace, world.system):
        yield


def run(world: Guarded, who: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["kubectl", "ostiary", *arguments, "-n", world.namespace, *world.as_(who)], env=world.cluster.environment,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


async def ok(world: Guarded, who: str, *arguments: str) -> str:
    done = await asyncio.to_thread(run, world, who, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


async def refused(world: Guarded, who: str, *arguments: str) -> str:
    done = await asyncio.to_thread(run, world, who, *arguments)
    assert done.returncode == 3
    return " ".join(done.stderr.split())


REQUEST = {
    "hash": "ab" * 32, "summary": "update orders set status = 'delivered'\nwhere id <= 4000",
    "facts": {"sql": {"estimatedRows": 4000, "params": ["4000", None]}},
    "evidence": {"type": "Explain", "text": "Update on orders  (rows=4000)\n  ->  Seq Scan on orders"},
}  # fmt: skip


async def test_what_waits_is_listed(world: Guarded, operator: None) -> None:
    name = world.asked(request=REQUEST)
    listed = await ok(world, "alice", "list")
    assert re.search(rf"{name}\s+Pending\s+\d+ s\s+.*planner\s+dba\s+update orders set status", listed)
    assert world.namespace in await ok(world, "root", "list", "-A")
    assert json.loads((await ok(world, "alice", "list", "--json")).splitlines()[0])["state"] == "Pending"


async def test_everything_that_one_needs_to_decide_is_shown(world: Guarded, operator: None) -> None:
    name = world.asked(request=REQUEST)
    shown = await ok(world, "alice", "show", name)
    for part in (
        "planner on behalf of olga (agents)", f"{world.namespace}/db", "one person of dba", "where id <= 4000",
        "about 4,000 rows", "$1 = 4000", "$2 = NULL", "->  Seq Scan on orders", "You are alice, and may answer:",
        f"kubectl ostiary approve {name} -n {world.namespace}",
    ):  # fmt: skip
        assert part in " ".join(shown.split()) or part in shown
    assert json.loads(await ok(world, "alice", "show", name, "--json"))["metadata"]["name"] == name


WRITE = {
    "hash": "cd" * 32,
    "title": "Deployment shop/web: spec.replicas 3 → 50",
    "summary": "Deployment shop/web: spec.replicas 3 → 50\nPATCH /apis/apps/v1/namespaces/shop/deployments/web",
    "facts": {"k8s": {"verb": "patch", "resource": "deployments", "namespace": "shop", "name": "web"}},
    "evidence": {"type": "Diff", "text": "--- now\n+++ then\n@@ -8,3 +8,3 @@\n spec:\n-  replicas: 3\n+  replicas: 50"},
}


async def test_a_write_to_kubernetes_is_shown_as_what_it_changes(world: Guarded, operator: None) -> None:
    name = world.asked(request=WRITE)
    listed = await ok(world, "alice", "list")
    assert re.search(rf"{name}\s+Pending.*Deployment shop/web: spec.replicas 3 → 50", listed)
    assert "PATCH" not in listed
    shown = await ok(world, "alice", "show", name)
    assert "What the API server says it would change (a dry run; nothing was done)" in shown
    assert "PostgreSQL" not in shown
    assert re.search(r"spec: *\n +-  replicas: 3 *\n +\+  replicas: 50", shown), shown
    columns = await asyncio.to_thread(world.cluster.ok, "get", "apr", name)
    assert "Deployment shop/web: spec.replicas 3 → 50 " in columns


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ("carol", "you have not the verb approve on the Connection"),
        ("dave", "you are in none of the groups that may answer: dba"),
        ("planner", "nobody answers what they asked for themselves"),
        ("olga", "nobody answers what they asked for themselves"),
        ("bot", "people answer, no ServiceAccounts"),
    ],
)
async def test_who_cannot_answer_is_told_why(world: Guarded, operator: None, who: str, why: str) -> None:
    shown = await ok(world, who, "show", world.asked())
    assert why in " ".join(shown.split())
    assert "kubectl ostiary approve" not in shown


async def test_an_approver_approves(world: Guarded, operator: None) -> None:
    name = world.asked()
    # The beginning of a name will do.
    said = await ok(world, "alice", "approve", name.removeprefix("apr-")[:9], "--reason", "the migration of today")
    assert f"✓ approved  {name}" in said
    assert "planner may run it once, in the next 9 min" in said
    stored = world.cluster.get("apr", name)
    assert stored["status"]["state"] == "Approved"
    answer = {"approver": "alice", "verdict": "Approve", "reason": "the migration of today"}
    assert stored["spec"]["decisions"] == [answer]


async def test_of_two_approvals_the_first_is_not_enough(world: Guarded, operator: None) -> None:
    name = world.asked(approval={"groups": ["dba"], "minApprovals": 2})
    assert "your approval counts: 1 of 2" in await ok(world, "alice", "approve", name)
    assert "approved" in await ok(world, "bob", "approve", name)


async def test_a_denial_says_why(world: Guarded, operator: None) -> None:
    name = world.asked()
    assert f"✗ denied  {name}" in await ok(world, "bob", "deny", name, "--reason", "not today")
    assert "not today" in await ok(world, "alice", "show", name)
    assert name not in await ok(world, "alice", "list")
    assert name in await ok(world, "alice", "list", "--all")


@pytest.mark.parametrize(
    ("who", "says"),
    [
        ("carol", "has not the verb approve on connections.ostiary.dev"),
        ("dave", "dave is in none of the groups that may answer: dba"),
        ("planner", "nobody answers what they asked for themselves"),
        ("bot", "people answer: no ServiceAccount"),
    ],
)
async def test_a_refusal_is_said_in_the_words_of_admission(world: Guarded, operator: None, who: str, says: str) -> None:
    said = await refused(world, who, "approve", world.asked())
    assert said.startswith("Error: The API server refuses:")
    assert says in said
    assert "Next: `kubectl ostiary show NAME` says who may answer" in said


async def test_an_answer_that_comes_too_late_or_twice(world: Guarded, operator: None) -> None:
    name = world.asked()
    await ok(world, "alice", "approve", name)
    assert "it is closed (Approved): an answer comes too late" in await refused(world, "bob", "deny", name)
    two = world.asked(approval={"groups": ["dba"], "minApprovals": 2})
    await ok(world, "alice", "approve", two)
    assert "You have answered already" in await refused(world, "alice", "deny", two)


async def test_names_that_are_none_or_several(world: Guarded, operator: None) -> None:
    missing = await refused(world, "alice", "approve", "apr-nowhere")
    assert "There is no approval apr-nowhere in the namespace" in missing
    assert "'../x' is no name of an approval" in await refused(world, "alice", "show", "../x")
    world.asked()
    world.asked()
    assert "may be one of several" in await refused(world, "alice", "show", "apr-")


def test_what_kubectl_says_is_passed_on(world: Guarded) -> None:
    done = run(world, "root", "list", "--context", "nowhere")
    assert done.returncode == 3
    assert 'context "nowhere" does not exist' in done.stderr
    done = run(world, "root", "list", "--as", "somebody-new")
    assert "cannot list resource" in done.stderr


async def test_without_the_operator_the_answer_is_kept(world: Guarded) -> None:
    said = await refused(world, "alice", "approve", world.asked())
    assert "the operator has not counted it yet" in said
