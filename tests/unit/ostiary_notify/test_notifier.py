"""Who is told what, in which order, and that it is not told again: by this process, or by the next one."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast

from support.approvals import NOON, question, says

from ostiary_api.approval import ApprovalRequest
from ostiary_api.counting import count, with_answer
from ostiary_notify.notifier import Notifier
from ostiary_notify.sender import Message, Result, Sender
from ostiary_notify.settings import Notifications

EVERY = ["Asked", "Answered", "Approved", "Denied", "Expired", "Consumed"]
SETTINGS = Notifications.model_validate(
    {
        "receivers": [
            {"name": "oncall", "type": "Slack", "url": "https://a.example"},
            {"name": "bot", "type": "Webhook", "url": "https://b.example", "secretEnvs": ["A"], "steps": EVERY},
        ]
    }
)


class Post:
    """Takes messages and delivers them when told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, Message, Callable[[Result], None]]] = []
        self.full = False

    def offer(self, receiver: str, message: Message, done: Callable[[Result], None]) -> bool:
        if not self.full:
            self.waiting.append((receiver, message, done))
        return not self.full

    def deliver(self, result: Result = "sent") -> list[str]:
        """All that waits now."""
        now, self.waiting = self.waiting, []
        for _, _, done in now:
            done(result)
        return [f"{receiver}: {message.about.split()[0]}" for receiver, message, _ in now]


class Desk:
    """A question, and the notifier that looks at it; `stores` what it says."""

    def __init__(self, request: ApprovalRequest, now: datetime = NOON) -> None:
        self.request = request
        self.post = Post()
        self.woken: list[str] = []
        self.now = now
        self.start()

    def start(self) -> None:
        """A new process."""
        self.post = Post()
        self.notifier = Notifier(
            SETTINGS, cast(Sender, self.post), self.woken.append, cluster=True, clock=lambda: self.now
        )

    def look(self, *, stores: bool = True) -> None:
        told = self.notifier.look(self.request)
        if told is not None and stores:
            status = count(self.request, NOON).model_copy(update={"told": told})
            self.request = self.request.model_copy(update={"status": status})

    def settle(self, *, stores: bool = True) -> list[str]:
        """All that is told until nothing is left."""
        heard: list[str] = []
        self.look(stores=stores)
        while self.post.waiting:
            heard += self.post.deliver()
            self.look(stores=stores)
        return heard


def approved() -> ApprovalRequest:
    request = with_answer(question(), says("alice"))
    return request.model_copy(update={"status": count(request, NOON)})


def test_each_receiver_hears_what_it_wants_in_order() -> None:
    desk = Desk(approved())
    heard = desk.settle()
    assert [each for each in heard if each.startswith("oncall")] == ["oncall: Asked", "oncall: Approved"]
    assert [each for each in heard if each.startswith("bot")] == ["bot: Asked", "bot: Answered", "bot: Approved"]
    assert desk.request.status is not None
    assert [(each.receiver, each.steps, each.answers) for each in desk.request.status.told] == [
        ("oncall", ("Asked", "Approved"), 0), ("bot", ("Asked", "Approved"), 1),
    ]  # fmt: skip
    assert set(desk.woken) == {"default/apr-1"}


def test_what_is_stored_is_not_told_by_the_next_process() -> None:
    desk = Desk(question())
    assert desk.settle() == ["oncall: Asked", "bot: Asked"]
    desk.start()
    assert desk.settle() == []


def test_what_could_not_be_stored_is_not_told_again_by_this_process() -> None:
    desk = Desk(question())
    assert desk.settle(stores=False) == ["oncall: Asked", "bot: Asked"]
    assert desk.settle(stores=False) == []
    desk.look()
    assert desk.request.status is not None
    assert len(desk.request.status.told) == 2


def test_what_was_on_its_way_when_the_process_ended_is_told_with_the_same_id() -> None:
    desk = Desk(question())
    desk.look()
    first = [message.id for _, message, _ in desk.post.waiting]
    desk.start()
    desk.look()
    assert [message.id for _, message, _ in desk.post.waiting] == first


def test_what_is_on_its_way_is_not_offered_again() -> None:
    desk = Desk(question())
    for _ in range(3):
        desk.look()
    assert len(desk.post.waiting) == 2


def test_what_is_given_up_is_over() -> None:
    desk = Desk(question())
    desk.look()
    desk.post.deliver("given up")
    assert desk.settle() == []


def test_when_too_many_wait_it_is_offered_later() -> None:
    desk = Desk(question())
    desk.post.full = True
    desk.look()
    desk.post.full = False
    assert desk.settle() == ["oncall: Asked", "bot: Asked"]


def test_old_questions_are_not_told() -> None:
    desk = Desk(approved(), NOON + timedelta(hours=3))
    assert desk.settle() == []
    assert desk.request.status is not None
    assert desk.request.status.told == ()


def test_the_two_kinds_of_message() -> None:
    desk = Desk(question())
    desk.look()
    bodies: list[dict[str, Any]] = [json.loads(message.body) for _, message, _ in desk.post.waiting]
    assert "blocks" in bodies[0]
    assert bodies[1]["type"] == "approval.asked"
