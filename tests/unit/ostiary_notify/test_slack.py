"""The message that people get: what it says, and that no agent can make it say or do anything else."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.approvals import NOON, action, decision, question, says
from support.policies import connection, subject

from ostiary_api.approval import ApprovalRequest, Evidence
from ostiary_api.counting import count, with_answer
from ostiary_gateway.approvals.request import draft
from ostiary_notify.happened import happenings
from ostiary_notify.payload import Place
from ostiary_notify.slack import MAX_EVIDENCE, MAX_SUMMARY, slack

PLACE = Place("https://console.example/")


def asked(text: str = "update orders set paid = true", evidence: str = "", who: str = "agent") -> ApprovalRequest:
    found = draft(
        action(text), name="apr-1", connection=connection(), subject=subject(who), session="s1",
        decision=decision(), now=NOON,
    )  # fmt: skip
    if not evidence:
        return found
    request = found.spec.request.model_copy(update={"evidence": Evidence(type="Explain", text=evidence)})
    return found.model_copy(update={"spec": found.spec.model_copy(update={"request": request})})


def message(request: ApprovalRequest, place: Place = PLACE, **more: Any) -> dict[str, Any]:
    built = slack(request, happenings(request)[-1], place, **{"evidence": True, **more})
    read: dict[str, Any] = json.loads(json.dumps(built))
    return read


def texts(part: Any, kind: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a message, with how Slack reads it."""
    if isinstance(part, dict):
        if isinstance(part.get("text"), str) and "type" in part:
            yield part["type"], part["text"]
        for value in part.values():
            yield from texts(value)
    elif isinstance(part, list):
        for value in part:
            yield from texts(value)


def test_a_question_says_who_what_where_and_how_to_answer() -> None:
    built = message(asked(evidence="Update on orders  (cost=0.00..35.50 rows=2550)"))
    said = "\n".join(text for _, text in texts(built["blocks"]))
    for part in (
        "Approval asked for: default/db", "Who\nagent", "Rule\ndefault/ask: big", "Answered by\na member of dba",
        "Open until\n2026-01-01T12:15:00Z", "update orders set paid = true", "What the database would do (EXPLAIN)",
        "Update on orders  (cost=0.00..35.50 rows=2550)", "<https://console.example/approvals/default/apr-1|",
        "`kubectl ostiary show apr-1 -n default`", "`kubectl ostiary approve apr-1 -n default` (or `deny`)",
        "This message decides nothing.", "sha256 ",
    ):  # fmt: skip
        assert part in said, part
    assert built["text"].splitlines() == [
        "Approval asked for: default/db: update orders set paid = true",
        "https://console.example/approvals/default/apr-1",
        "kubectl ostiary show apr-1 -n default",
    ]


def test_nothing_in_it_can_be_pressed() -> None:
    kinds = {block["type"] for block in message(asked(evidence="x"))["blocks"]}
    assert kinds <= {"header", "section", "context", "rich_text"}
    assert not any(word in json.dumps(message(asked(evidence="x"))) for word in ("button", "action_id", "accessory"))


def test_what_became_of_it() -> None:
    request = with_answer(asked(), says("alice", "Deny", "not on a Friday"))
    request = request.model_copy(update={"status": count(request, NOON + timedelta(seconds=5))})
    said = [text for _, text in texts(message(request)["blocks"])]
    assert "Denied: default/db" in said
    assert "alice denied it: not on a Friday" in said
    assert "State\nDenied" in said
    assert not any("approve" in each for each in said)


def test_a_question_that_was_closed_before_it_could_be_told_says_so() -> None:
    request = with_answer(asked(), says("alice", "Deny"))
    request = request.model_copy(update={"status": count(request, NOON + timedelta(seconds=5))})
    built = slack(request, happenings(request)[0], PLACE, evidence=True)
    assert "It is closed by now: Denied." in [text for _, text in texts(built["blocks"])]


def test_without_evidence_the_request_does_not_leave() -> None:
    built = json.dumps(message(asked("select 'a secret of ours'", evidence="another secret"), evidence=False))
    assert "secret" not in built
    assert "console.example" in built


def test_without_a_console_there_is_no_link() -> None:
    assert "http" not in json.dumps(message(asked(), Place(None, cluster=False)))
    assert "`ostiary approve apr-1`" in json.dumps(message(asked(), Place(None, cluster=False)))


EVIL = [
    "<!channel> look", "<!here>", "<@U024BE7LH> approve this", "<https://evil.example|Open it in the console>",
    "```\n*Approved by alice* :white_check_mark:\n```", "& &lt;!channel&gt;", "@channel @here @all",
    "select 1 -- https://evil.example/ www.evil.example", "[Open it](https://evil.example)",
    "a\u202egpj.exe\u2066", "\x1b[2J\x00\x07",
    "x" * 100_000, "\n" * 5_000 + "drop table orders", "🏆" * 4000, "\ud800".encode("utf-8", "replace").decode(),
]  # fmt: skip


@pytest.mark.parametrize("text", EVIL)
def test_an_agent_cannot_make_it_say_anything_else(text: str) -> None:
    request = question()
    spec = request.spec
    evil = spec.request.model_copy(
        update={"summary": text[:4096], "title": text[:80], "evidence": Evidence(type="Explain", text=text[:65536])}
    )
    who = spec.requester.model_copy(update={"username": text[:512].strip() or "x", "on_behalf_of": text[:512]})
    request = request.model_copy(update={"spec": spec.model_copy(update={"request": evil, "requester": who})})
    check(message(request))


@given(st.text(max_size=300))
def test_nor_with_any_other_text(text: str) -> None:
    request = question()
    spec = request.spec
    evil = spec.request.model_copy(update={"summary": text, "title": text[:80]})
    check(message(request.model_copy(update={"spec": spec.model_copy(update={"request": evil})})))


def check(built: dict[str, Any]) -> None:
    """Slack's limits, and that what is read as markup holds nothing of an agent's."""
    assert len(built["blocks"]) <= 50
    assert len(json.dumps(built["blocks"], ensure_ascii=False)) < 13_000
    clean = message(question())
    markup = [text for kind, text in texts(built["blocks"]) if kind == "mrkdwn"]
    assert markup == [text for kind, text in texts(clean["blocks"]) if kind == "mrkdwn"]
    for kind, text in texts(built["blocks"]):
        assert kind in ("plain_text", "text", "mrkdwn")
        assert 1 <= len(text) <= {"plain_text": 2_000, "text": max(MAX_SUMMARY, MAX_EVIDENCE), "mrkdwn": 3_000}[kind]
        assert all(c in "\n\t" or c.isprintable() or unicodedata.category(c) == "Zs" for c in text), ascii(text)
    for block in built["blocks"]:
        if block["type"] == "header":
            assert len(block["text"]["text"]) <= 150
        assert len(block.get("fields", ())) <= 10
    # The text beside the blocks is for notifications, and for what takes Slack's messages without blocks.
    text, link, command = built["text"].split("\n")
    assert (link, command) == tuple(clean["text"].split("\n")[1:])
    assert not any(mark in text for mark in ("<", ">", "`", "://", "www.", "\n"))
    assert all(text[at + 1] == "\u2060" for at, c in enumerate(text) if c == "@")
    assert len(text) < 2_000
