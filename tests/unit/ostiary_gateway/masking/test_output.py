"""Output of a command, masked as it streams: what waits, what goes at once, and what typing gives away."""

from __future__ import annotations

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.output import INTERACTIVE, PLAIN, MaskedOutput
from ostiary_gateway.masking.streaming import StreamMask
from ostiary_policy.masking import DetectorMask, Strategy

DETECTORS = Detectors([DetectorMask("CreditCard", Strategy("Redact"))])


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def made(clock: Clock, *, tty: bool) -> MaskedOutput:
    return MaskedOutput(lambda: StreamMask(DETECTORS), tty=tty, now=clock)


def test_what_may_be_the_beginning_of_something_waits_for_a_moment() -> None:
    for tty, window in ((True, INTERACTIVE), (False, PLAIN)):
        clock = Clock()
        output = made(clock, tty=tty)
        assert output.stdout(b"one\n$ ") == b"one\n"
        assert output.due == clock.now + window
        assert not output.overdue
        clock.now += window
        assert output.overdue
        assert output.release() == (b"$ ", b"")
        assert output.due is None


def test_what_was_typed_comes_back_at_once() -> None:
    output = made(Clock(), tty=True)
    output.typed(b"ls\r")
    assert output.stdout(b"l") == b"l"
    assert output.stdout(b"s\r\nfile") == b"s\r\n"
    assert output.held == 4


def test_without_a_terminal_nothing_is_echo() -> None:
    output = made(Clock(), tty=False)
    output.typed(b"abc")
    assert output.stdout(b"abc") == b""


def test_who_types_the_beginning_of_a_secret_does_not_get_its_rest() -> None:
    output = made(Clock(), tty=True)
    output.typed(b"4")
    shown = output.stdout(b"4111 1111 1111 1111\r\n")
    assert b"1111" not in shown
    assert shown.endswith(b"\r\n")


def test_both_streams_are_looked_at_each_by_itself() -> None:
    output = made(Clock(), tty=False)
    assert output.stdout(b"4111 1111 ") == b""
    assert output.stderr(b"1111 1111\n") == b"1111 1111\n"
    assert output.stdout(b"1111 1111\n") == b"[redacted]\n"


def test_the_end_of_a_stream_waits_for_nothing() -> None:
    output = made(Clock(), tty=False)
    assert output.stdout(b"no newline", last=True) == b"no newline"
    assert output.held == 0
