"""What is due about an ApprovalRequest: what is written, when it is looked at again, what is deleted."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from support.approvals import NOON, question, says

from ostiary_api.approval import ApprovalRequest, ApproverDecision
from ostiary_api.counting import with_answer
from ostiary_operator.reconcile.approvals import Retention, is_question, settle, surplus

KEEP = Retention(timedelta(days=7), 2)
Manifest = dict[str, Any]


def after(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def asked(*answers: ApproverDecision, name: str = "apr-1", **terms: object) -> Manifest:
    request: ApprovalRequest = question(name, **terms)
    for each in answers:
        request = with_answer(request, each)
    return request.to_manifest()


def written(manifest: Manifest, now: datetime = NOON) -> Manifest:
    """The object once what is due was written."""
    status = settle(manifest, now, KEEP).status
    return manifest | {"status": status} if status is not None else manifest


def test_a_new_question_gets_its_end_and_is_looked_at_then() -> None:
    due = settle(asked(), NOON, KEEP)
    assert due.status == {
        "observedGeneration": 1, "state": "Pending", "approvals": [], "expiresAt": "2026-01-01T12:15:00Z",
    }  # fmt: skip
    assert due.recheck_at == after(900)
    assert due.steps == ()


@pytest.mark.parametrize(
    ("manifest", "state", "again", "steps"),
    [
        (asked(says("alice")), "Approved", 600, (("Answered", "alice"), ("Approved", "alice"))),
        (asked(says("alice", "Deny")), "Denied", 7 * 86400, (("Answered", "alice"), ("Denied", "alice"))),
        (asked(says("alice"), min_approvals=2), "Pending", 900, (("Answered", "alice"),)),
        (asked(says("alice"), says("bob"), min_approvals=2), "Approved", 600,
         (("Answered", "alice"), ("Answered", "bob"), ("Approved", "alice, bob"))),
        (asked(says("agent")), "Pending", 900, ()),
    ],
    ids=["approved", "denied", "one of two", "two of two", "an answer of who asked"],
)  # fmt: skip
def test_answers_are_counted(manifest: Manifest, state: str, again: float, steps: object) -> None:
    due = settle(manifest, NOON, KEEP)
    assert due.status is not None
    assert due.status["state"] == state
    assert due.recheck_at == after(again)
    assert due.steps == steps


def test_what_was_written_is_not_written_again() -> None:
    manifest = written(asked(says("alice")))
    again = settle(manifest, after(1.7), KEEP)
    assert (again.status, again.steps, again.recheck_at) == (None, (), after(600))


def test_what_stands_is_kept_word_for_word() -> None:
    """The API server takes a status only if it keeps what was counted, as it was written."""
    manifest = written(asked(says("alice"), min_approvals=2))
    first = manifest["status"]["approvals"][0]
    manifest["spec"]["decisions"].append({"approver": "bob", "verdict": "Approve", "reason": ""})
    status = settle(manifest, after(5), KEEP).status
    assert status is not None
    assert status["approvals"][0] == first
    assert status["expiresAt"] == manifest["status"]["expiresAt"]


@pytest.mark.parametrize(
    ("manifest", "seconds"), [(asked(), 900), (asked(says("alice")), 600)], ids=["a question", "a grant"]
)
def test_it_expires_on_the_second(manifest: Manifest, seconds: float) -> None:
    manifest = written(manifest)
    assert settle(manifest, after(seconds - 1), KEEP).status is None
    due = settle(manifest, after(seconds), KEEP)
    assert due.status is not None
    assert (due.status["state"], due.steps) == ("Expired", (("Expired", ""),))


def test_a_closed_one_is_deleted_when_it_was_kept_long_enough() -> None:
    manifest = written(asked(says("alice", "Deny")))
    assert settle(manifest, after(7 * 86400 - 1), KEEP).recheck_at == after(7 * 86400)
    assert settle(manifest, after(7 * 86400), KEEP).delete
    assert not settle(written(asked()), after(800), KEEP).delete


def test_one_that_is_being_deleted_or_not_understood_is_let_be() -> None:
    manifest = asked(says("alice"))
    manifest["metadata"]["deletionTimestamp"] = "2026-01-01T12:00:00Z"
    assert settle(manifest, NOON, KEEP).status is None
    manifest = asked(says("alice"))
    manifest["spec"]["mode"] = "new"
    due = settle(manifest, NOON, KEEP)
    assert (due.status, due.delete) == (None, False)
    assert "nothing in it is counted" in due.problem


def test_of_one_connection_the_last_closed_ones_are_kept_and_all_open_ones() -> None:
    closed = [written(asked(says("alice", "Deny"), name=f"apr-{n}"), after(n)) for n in range(4)]
    open_ = [written(asked(name=f"apr-open-{n}")) for n in range(4)]
    other = written(asked(says("alice", "Deny"), name="apr-other"))
    other["spec"]["connectionRef"]["name"] = "files"
    assert surplus([*closed, *open_, other], NOON, KEEP) == [("default", "apr-0"), ("default", "apr-1")]


def test_the_operator_s_own_request_is_no_question() -> None:
    def named(namespace: str, name: str) -> Manifest:
        return {"metadata": {"namespace": namespace, "name": name}}

    assert not is_question(named("ostiary-system", "ostiary-selfcheck"), "ostiary-system")
    # Whoever names theirs so elsewhere gets it counted like any other.
    assert is_question(named("shop", "ostiary-selfcheck"), "ostiary-system")
    assert is_question(named("ostiary-system", "apr-1"), "ostiary-system")
