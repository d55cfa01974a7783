"""Whatever a client sends, in whatever pieces: the inbox gives the same messages or one refusal, and keeps little."""

from __future__ import annotations

from support.fuzzing import Target

from ostiary_gateway.protocols.postgres import wire
from ostiary_gateway.protocols.postgres.inbox import Inbox
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation

LIMIT = 64
"""maxRequestBytes here: small, so that inputs go over it."""

OVERSIZED = b"\0over the limit"

Outcome = tuple[list[tuple[int, bytes]], str]
"""Messages, CopyData joined to one; and why it ended, if it did."""


def taken(data: bytes, cuts: list[int]) -> Outcome:
    """What an inbox makes of `data` in pieces of these lengths, over and over."""
    inbox = Inbox(LIMIT)
    messages: list[tuple[int, bytes]] = []
    position = turn = 0
    try:
        while position < len(data):
            step = cuts[turn % len(cuts)]
            turn += 1
            inbox.feed(data[position : position + step])
            position += step
            while inbox.next():
                kind, body = inbox.kind, inbox.data[inbox.start : inbox.stop]
                if kind == ord("d"):
                    assert body, "a piece of nothing: whoever takes it would never end"
                    if messages and messages[-1][0] == kind:
                        messages[-1] = (kind, messages[-1][1] + body)
                        continue
                else:
                    assert len(body) <= max(LIMIT, wire.MAX_SMALL)
                    parsed(kind, body)
                messages.append((kind, OVERSIZED if inbox.oversized and kind != ord("d") else body))
            assert len(inbox) <= max(LIMIT, wire.MAX_SMALL) + 5 + step, "it holds more than an incomplete message"
    except ProtocolViolation as problem:
        return messages, str(problem)
    return messages, ""


def parsed(kind: int, body: bytes) -> None:
    """Every reader of every body: a message, or a ProtocolViolation."""
    readers = (
        wire.parse_parse, wire.parse_bind, wire.parse_execute, lambda body: wire.parse_target(body, "Close"),
        wire.parse_startup, wire.parse_notice, wire.parse_data_row, wire.parse_parameter_status,
        wire.parse_parameter_description, wire.rows_of_tag,
    )  # fmt: skip
    for read in readers:
        try:
            read(body)
        except ProtocolViolation:
            pass
    if kind == ord("P"):
        rebuilt(body)


def rebuilt(body: bytes) -> None:
    """What was read can be written again, and reads the same: nothing of it is lost or made up."""
    try:
        message = wire.parse_parse(body)
    except ProtocolViolation:
        return
    again = wire.parse_message(message.name, message.text, message.types)[5:]
    assert wire.parse_parse(again) == message
    if len(message.name) < wire.MAX_NAME:
        assert again == body


def run(data: bytes) -> Outcome | None:
    """The first byte tells how the rest is cut."""
    if not data:
        return None
    whole = taken(data[1:], [len(data)])
    assert taken(data[1:], [1]) == whole
    assert taken(data[1:], [data[0] % 7 + 2, data[0] // 7 + 1]) == whole
    return whole


TARGET = Target("wire", run)


def test_the_corpus_and_its_mutations() -> None:
    TARGET.replay(4000)


def test_what_is_over_the_limit_is_never_kept() -> None:
    inbox = Inbox(1 << 20)
    inbox.feed(b"Q" + wire.INT32.pack(wire.MAX_MESSAGE))
    for _ in range(200):
        inbox.feed(bytes(100_000))
        assert not inbox.next()
        assert len(inbox) == 0
        assert len(inbox.data) <= 200_000
