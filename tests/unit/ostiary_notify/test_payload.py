"""The JSON of a webhook: its schema, which docs/notifications.md describes."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

from support.approvals import NOON, question, says

from ostiary_api.counting import count, with_answer
from ostiary_notify.happened import happenings
from ostiary_notify.payload import Place, webhook

PAGE = Path(__file__).parents[3] / "docs" / "notifications.md"


def test_every_field_of_a_question() -> None:
    request = question()
    built = webhook(request, happenings(request)[0], Place("https://console.example"), evidence=True)
    hash = request.spec.request.hash
    assert json.loads(json.dumps(built)) == {
        "type": "approval.asked",
        "timestamp": "2026-01-01T12:00:00Z",
        "data": {
            "v": 1,
            "approval": {"namespace": "default", "name": "apr-1", "uid": ""},
            "step": "Asked",
            "at": "2026-01-01T12:00:00Z",
            "by": "agent",
            "state": "Pending",
            "connection": "default/db",
            "requester": {"username": "agent", "onBehalfOf": "", "session": "s1"},
            "request": {
                "hash": hash, "summary": "update orders", "title": "update orders", "evidence": None,
                "truncated": False, "redacted": False,
            },
            "approvers": {"groups": ["dba"], "minApprovals": 1},
            "answers": [],
            "rules": [{"namespace": "default", "policy": "ask", "rule": "big"}],
            "expiresAt": "2026-01-01T12:15:00Z",
            "grantExpiresAt": None,
            "link": "https://console.example/approvals/default/apr-1",
            "command": "kubectl ostiary show apr-1 -n default",
        },
    }  # fmt: skip


def test_an_answer_has_its_verdict_and_reason() -> None:
    request = with_answer(question(), says("alice", "Approve", "as agreed"))
    request = request.model_copy(update={"status": count(request, NOON + timedelta(seconds=5))})
    _, answered, approved = (
        webhook(request, each, Place(), evidence=False)["data"] for each in happenings(request)
    )
    assert isinstance(answered, dict)
    assert isinstance(approved, dict)
    assert (answered["verdict"], answered["reason"], answered["state"]) == ("Approve", "as agreed", "Approved")
    assert "verdict" not in approved
    assert approved["grantExpiresAt"] == "2026-01-01T12:10:05Z"
    assert approved["answers"] == [
        {"approver": "alice", "verdict": "Approve", "reason": "as agreed", "at": "2026-01-01T12:00:05Z"}
    ]
    assert set(approved["request"]) == {"hash", "truncated", "redacted"}


def test_the_page_describes_every_field() -> None:
    request = with_answer(question(), says("alice"))
    request = request.model_copy(update={"status": count(request, NOON)})
    data = webhook(request, happenings(request)[1], Place(), evidence=True)["data"]
    assert isinstance(data, dict)
    described = set(re.findall(r"`([A-Za-z]+)`", PAGE.read_text()))
    assert set(data) <= described
