"""What became of a question, and what of it somebody still has to hear."""

from __future__ import annotations

from datetime import timedelta

from support.approvals import NOON, question, says

from ostiary_api.approval import ApprovalRequest, ToldReceiver
from ostiary_api.counting import consume, count, with_answer
from ostiary_notify.happened import happenings, merged, message_id, next_untold, of_receiver, with_told
from ostiary_notify.settings import Receiver

HOUR = 3600.0
EVERY = ("Asked", "Answered", "Approved", "Denied", "Expired", "Consumed")


def receiver(**more: object) -> Receiver:
    return Receiver.model_validate({"name": "oncall", "type": "Slack", "url": "https://hooks.example/x", **more})


def counted(request: ApprovalRequest, seconds: float = 60) -> ApprovalRequest:
    return request.model_copy(update={"status": count(request, NOON + timedelta(seconds=seconds))})


def answered(*answers: tuple[str, str], **terms: object) -> ApprovalRequest:
    request = question(**terms)  # type: ignore[arg-type]
    for who, verdict in answers:
        request = with_answer(request, says(who, verdict, "as agreed"))
    return counted(request)


def told_of(request: ApprovalRequest, where: Receiver) -> list[str]:
    """Everything, one after the other, as a receiver hears it."""
    heard, told = list[str](), None
    while (due := next_untold(request, where, told, NOON + timedelta(minutes=2), HOUR)) is not None:
        heard.append(f"{due.step} {due.by}".strip())
        told = with_told(told, where.name, due)
    return heard


def test_a_question_that_waits_was_asked() -> None:
    assert told_of(question(), receiver()) == ["Asked agent"]


def test_answers_come_before_what_follows_from_them() -> None:
    request = answered(("alice", "Approve"), ("bob", "Approve"), min_approvals=2)
    assert told_of(request, receiver(steps=EVERY)) == [
        "Asked agent", "Answered alice", "Answered bob", "Approved alice, bob",
    ]  # fmt: skip
    assert told_of(request, receiver()) == ["Asked agent", "Approved alice, bob"]


def test_a_denial_says_who_and_why() -> None:
    request = answered(("alice", "Approve"), ("bob", "Deny"), min_approvals=2)
    last = happenings(request)[-1]
    assert (last.step, last.by, last.verdict, last.reason) == ("Denied", "bob", "Deny", "as agreed")


def test_a_grant_is_used_or_expires() -> None:
    request = answered(("alice", "Approve"))
    used = request.model_copy(update={"status": consume(request, NOON + timedelta(seconds=90))})
    assert told_of(used, receiver(steps=EVERY)) == ["Asked agent", "Answered alice", "Approved alice", "Consumed"]
    assert [each.step for each in happenings(counted(request, 60 * 60))] == ["Asked", "Answered", "Approved", "Expired"]
    assert [each.step for each in happenings(counted(question(), 60 * 60))] == ["Asked", "Expired"]


def test_what_is_old_is_no_news() -> None:
    """A receiver that is set up today hears of no question of yesterday, but of its answer of now."""
    where = receiver()
    late = NOON + timedelta(hours=5)
    assert next_untold(question(), where, None, late, HOUR) is None
    request = with_answer(question(pending_ttl=86400.0), says("alice"))
    request = request.model_copy(update={"status": count(request, late)})
    due = next_untold(request, where, None, late, HOUR)
    assert due is not None
    assert due.step == "Approved"


def test_only_of_its_connections() -> None:
    for connections, hears in (
        ([], True), (["default/db"], True), (["default/*"], True), (["default/files"], False), (["other/*"], False),
    ):  # fmt: skip
        assert (next_untold(question(), receiver(connections=connections), None, NOON, HOUR) is not None) is hears


def test_the_id_of_a_message_is_of_the_step_alone() -> None:
    request = answered(("alice", "Approve"), ("bob", "Approve"), min_approvals=2)
    ids = [message_id(request, each) for each in happenings(request)]
    assert len(set(ids)) == len(ids)
    again = answered(("alice", "Approve"), ("bob", "Approve"), min_approvals=2)
    assert [message_id(again, each) for each in happenings(again)] == ids
    other = question("apr-2")
    assert message_id(other, happenings(other)[0]) not in ids


def test_what_two_know_was_told_is_told() -> None:
    one = ToldReceiver(receiver="oncall", steps=("Asked",), answers=2)
    other = ToldReceiver(receiver="oncall", steps=("Asked", "Approved"), answers=1)
    assert merged(one, other) == ToldReceiver(receiver="oncall", steps=("Asked", "Approved"), answers=2)
    assert merged(None, other) is other
    assert merged(None, None) is None
    assert of_receiver(None, "oncall") is None
