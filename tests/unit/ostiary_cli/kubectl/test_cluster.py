"""What `kubectl ostiary` makes of objects, of who asks, and of what kubectl says."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from support.approvals import question

from ostiary_cli.errors import CommandError
from ostiary_cli.kubectl.cluster import Me, Target, item, refusal, why_not

ALICE = Me("alice", ("dba", "system:authenticated"))


def asked(**spec: Any) -> dict[str, Any]:
    manifest = question().to_manifest()
    manifest["metadata"]["namespace"] = "shop"
    manifest["spec"] |= spec
    return manifest


def conditions(state: str) -> dict[str, Any]:
    condition = {"type": state, "status": "True", "reason": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return {"conditions": [condition]}


@pytest.mark.parametrize(
    ("manifest", "me", "may", "says"),
    [
        (asked(), ALICE, True, ""),
        (asked(), ALICE, False, "you have not the verb approve on the Connection shop/db"),
        (asked(), Me("alice", ("users",)), True, "you are in none of the groups that may answer: dba"),
        (asked(), Me("agent", ("dba",)), True, "nobody answers what they asked for themselves"),
        (asked(requester={"username": "x", "onBehalfOf": "alice"}), ALICE, True, "or what was asked on their behalf"),
        (asked(), Me("system:serviceaccount:ns:bot", ("dba",)), True, "people answer, no ServiceAccounts"),
        (asked(decisions=[{"approver": "alice", "verdict": "Approve"}]), ALICE, True, "you have answered already"),
        (asked() | {"status": conditions("Denied")}, ALICE, True, "it is closed"),
    ],
)
def test_who_cannot_answer_is_told_before_trying(manifest: dict[str, Any], me: Me, may: bool, says: str) -> None:
    found = why_not(item(manifest), me, may)
    assert says in found
    assert bool(says) == bool(found)


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("Error from server (Forbidden): apr.ostiary.dev \"apr-1\" is forbidden: ValidatingAdmissionPolicy "
         "'approvals-answer.ostiary.dev' with binding 'approvals-answer.ostiary.dev' denied request: carol has not the "
         "verb approve", "The API server refuses: carol has not the verb approve."),
        ('The ApprovalRequest "apr-1" is invalid: spec.decisions[1]: Duplicate value: {"approver":"alice"}',
         "You have answered already; an answer is not changed."),
        ("The request is invalid: the server rejected our request due to an error in our request",
         "It is another question now than the one that was read."),
        ('error: the server doesn\'t have a resource type "approvalrequests"',
         "This cluster knows no ApprovalRequests."),
        ('error: context "nowhere" does not exist', 'context "nowhere" does not exist'),
        ('Error from server (Forbidden): User "eve" cannot list resource', 'User "eve" cannot list resource'),
        ("", "kubectl failed and did not say why"),
    ],
)  # fmt: skip
def test_what_kubectl_says_becomes_a_sentence(said: str, message: str) -> None:
    assert refusal(said).message == message


def test_kubectl_is_called_as_the_user_wants_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "kubectl"
    fake.write_text('#!/bin/sh\nprintf "%s " "$@"\n')
    fake.chmod(fake.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    target = Target("shop", more=("--context", "prod"))
    assert target.run("get", "x") == "get x --context prod --namespace shop "
    assert target.run("get", "x", namespace="other") == "get x --context prod --namespace other "
    monkeypatch.setenv("KUBECTL", str(tmp_path / "absent"))
    with pytest.raises(CommandError, match="is not there, and this calls it"):
        target.run("get")
