"""Any pipeline, cut in any way: the client sees what it would see without a gateway, and nothing refused goes on."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzzing import Target
from support.model import SECRET, ModelServer, base, messages
from support.pipelines import DENIED, SCRIPTS, Unit, numbered
from support.sessions import Session, through
from support.wire import Message

from ostiary_gateway.protocols.postgres.questions import Stage, Wait
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

PLAN = MaskPlan(detectors=(DetectorMask("Email", Strategy("Redact", replacement="x" * len(SECRET))),))
SIZES = st.lists(st.sampled_from([1, 2, 5, 7, 30, 1000]), min_size=1, max_size=4)
DELAYS = st.lists(st.sampled_from([0, 0, 1, 5, 9, 40, 5000]), min_size=1, max_size=5)


def directly(script: list[bytes]) -> list[Message]:
    """The answers without a gateway; the server itself refuses what the policy would."""
    server = ModelServer(denied=DENIED)
    server.feed(b"".join(script))
    return messages(server.take())


def comparable(found: list[Message], masked: bool) -> list[tuple[str, bytes]]:
    """Messages without the words of errors: a denial's are the gateway's own."""
    shown = []
    for message in found:
        body = message.body
        if message.type == "E":
            # Of a portal whose Bind failed in a transaction the gateway says that it is gone, not that all has failed.
            body = {"34000": b"25P02", "26000": b"25P02"}.get(message.fields["C"], message.fields["C"].encode())
        elif masked:
            body = body.replace(SECRET.encode(), b"x" * len(SECRET))
        shown.append((message.type, body))
    return shown


def check(script: list[Unit], cuts: list[int], back: list[int], masked: bool, describe: bool) -> None:
    sent = numbered(script)
    server = ModelServer(denied=DENIED, direct=False)
    session = Session(denied=DENIED, plan=PLAN if masked else MaskPlan(), describe=describe)
    seen = through(session, server, b"".join(sent), cuts, back)
    found = messages(seen)
    expected = directly(sent)
    assert comparable(found, masked) == comparable(expected, masked)
    assert session.waiting is Wait.READ, "it waits for what never comes"
    assert not session.state.awaited
    assert server.idle
    assert not masked or SECRET.encode() not in seen
    assert b"drop table" not in server.heard
    assert all(session.ended_as.values()), "a request without an end in the record"
    allowed = [text for stage, text, _ in session.asked if stage is Stage.RUN]
    for text in server.ran:
        assert text in allowed, f"ran without being asked: {text}"
    for text, meant in server.meant.items():
        taken_for = session.meant[text] or ""
        assert meant in base(taken_for).removeprefix("declare c cursor for "), f"{text} was taken for {taken_for}"
    for stage, text, path in session.asked:
        if stage is Stage.RUN and text in server.paths:
            assert path == server.paths[text], f"{text}: names resolved by another search_path"


EXAMPLE = given(SCRIPTS, SIZES, DELAYS, st.booleans(), st.booleans())
test_a_session_is_what_it_would_be_without_a_gateway = settings(
    max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)(EXAMPLE(check))

TARGET = Target("sessions", test_a_session_is_what_it_would_be_without_a_gateway.hypothesis.fuzz_one_input)
