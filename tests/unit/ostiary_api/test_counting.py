"""How answers count: in time, by different people, one Deny is enough, and what is over stays over."""

from __future__ import annotations

import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parents[2]))

from support.approvals import NOON, question, says
from support.policies import subject

from ostiary_api.approval import ApprovalRequest, ApproverDecision
from ostiary_api.counting import NotGranted, consume, count, state_of, with_answer


def after(request: ApprovalRequest, *steps: ApproverDecision | float) -> ApprovalRequest:
    """The request once these have happened: an answer, or so many seconds passing."""
    now = NOON
    request = counted(request, now)
    for step in steps:
        if isinstance(step, (int, float)):
            now += timedelta(seconds=step)
        else:
            request = with_answer(request, step)
        request = counted(request, now)
    return request


def counted(request: ApprovalRequest, now: datetime) -> ApprovalRequest:
    return request.model_copy(update={"status": count(request, now)})


@pytest.mark.parametrize(
    ("terms", "steps", "state"),
    [
        ({}, [], "Pending"),
        ({}, [says("alice")], "Approved"),
        ({}, [says("alice", "Deny")], "Denied"),
        ({"min_approvals": 2}, [says("alice")], "Pending"),
        ({"min_approvals": 2}, [says("alice"), says("bob")], "Approved"),
        ({"min_approvals": 2}, [says("alice"), says("bob", "Deny")], "Denied"),
        ({}, [899], "Pending"),
        ({}, [900], "Expired"),
        ({}, [900, says("alice")], "Expired"),
        ({"min_approvals": 2}, [says("alice"), 900, says("bob")], "Expired"),
        ({}, [says("alice"), 599], "Approved"),
        ({}, [says("alice"), 600], "Expired"),
        ({}, [says("alice"), says("bob", "Deny")], "Approved"),
        ({}, [says("alice", "Deny"), says("bob")], "Denied"),
        ({}, [says("agent")], "Pending"),
        ({}, [says("agent", "Deny")], "Pending"),
    ],
)
def test_what_becomes_of_a_question(
    terms: dict[str, object], steps: list[ApproverDecision | float], state: str
) -> None:
    assert state_of(after(question(**terms), *steps).status) == state  # type: ignore[arg-type]


def test_the_person_behind_the_agent_does_not_count() -> None:
    asked = question(who=subject("agent", onBehalfOf="carol"))
    assert state_of(after(asked, says("carol")).status) == "Pending"
    assert state_of(after(asked, says("carol"), says("dave")).status) == "Approved"


def test_a_grant_is_used_once() -> None:
    granted = after(question(), says("alice"))
    used = granted.model_copy(update={"status": consume(granted, NOON)})
    assert state_of(used.status) == "Consumed"
    assert used.status is not None
    assert used.status.consumed_at == NOON
    with pytest.raises(NotGranted, match="used already"):
        consume(used, NOON)


@pytest.mark.parametrize(
    ("steps", "why"),
    [([], "not approved"), ([says("alice", "Deny")], "denied"), ([900], "expired"), ([says("alice"), 600], "expired")],
)
def test_without_a_grant_nothing_is_used(steps: list[ApproverDecision | float], why: str) -> None:
    request = after(question(), *steps)
    passed = sum(step for step in steps if isinstance(step, (int, float)))
    with pytest.raises(NotGranted, match=why):
        consume(request, NOON + timedelta(seconds=passed))


answers = st.builds(says, st.sampled_from("abcd"), st.sampled_from(["Approve", "Deny"]))


@given(st.integers(1, 3), st.lists(st.one_of(answers, st.integers(0, 1000)), max_size=12))
def test_what_is_over_stays_over_and_counting_again_changes_nothing(
    needed: int, steps: list[ApproverDecision | float]
) -> None:
    request, now, answered = counted(question(min_approvals=needed), NOON), NOON, set()
    for step in steps:
        before = state_of(request.status)
        if isinstance(step, (int, float)):
            now += timedelta(seconds=step)
        elif step.approver not in answered:
            answered.add(step.approver)
            request = with_answer(request, step)
        request = counted(request, now)
        assert counted(request, now) == request
        assert request.status is not None
        assert request.status.state == state_of(request.status), "kubectl shows what the conditions say"
        after_ = state_of(request.status)
        assert request.status is not None
        if before in ("Denied", "Expired", "Consumed"):
            assert after_ == before
        if before == "Approved":
            assert after_ in ("Approved", "Expired")
        if after_ == "Approved":
            assert len({a.approver for a in request.status.approvals}) >= needed
            assert all(a.verdict == "Approve" for a in request.status.approvals)
