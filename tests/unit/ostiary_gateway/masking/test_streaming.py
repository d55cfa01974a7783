"""Detectors over a stream: what spans pieces is found, what is nothing goes on, and nothing waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.streaming import LONGEST, StreamMask
from ostiary_policy.masking import DetectorMask, Strategy

REDACT = Strategy("Redact")
KEY = b"-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----"


def stream(*names: str, strategy: Strategy = REDACT) -> StreamMask:
    return StreamMask(Detectors([DetectorMask(name, strategy) for name in names]))


def fed(mask: StreamMask, *pieces: bytes) -> bytes:
    return b"".join(map(mask.feed, pieces)) + mask.finish()


LINES = [
    b"hello",
    b"from bob@example.com to carol@example.org",
    b"4111 1111 1111 1111",
    b"",
    b"\xff\x00\x1b[0m",
    KEY,
    b"x" * 300,
]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=6), st.integers(1, 60))
def test_pieces_do_not_matter(lines: list[bytes], size: int) -> None:
    text = b"\r\n".join(lines)
    names = ("Email", "CreditCard", "PrivateKey")
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    shown = fed(stream(*names), *pieces)
    assert shown == fed(stream(*names), text)
    for secret in (b"bob@", b"carol@", b"4111", b"MIIE", b"abcd"):
        assert secret not in shown
    assert shown == text.replace(b"bob@example.com", b"[redacted]").replace(
        b"carol@example.org", b"[redacted]"
    ).replace(b"4111 1111 1111 1111", b"[redacted]").replace(KEY, b"[redacted]")


def test_whole_lines_go_at_once() -> None:
    mask = stream("Email")
    assert mask.feed(b"one\ntwo\nthr") == b"one\ntwo\n"
    assert mask.held == 3
    assert mask.feed(b"ee\n") == b"three\n"
    assert mask.held == 0
    assert not mask.touched


def test_a_prompt_goes_when_the_deadline_comes() -> None:
    mask = stream("Email")
    assert mask.feed(b"password: ") == b""
    assert mask.flush() == b"password: "
    assert mask.held == 0
    assert mask.flush() == b""


@pytest.mark.parametrize("strategy", [REDACT, Strategy("Partial", keep_last=4), Strategy("Null")])
def test_what_a_deadline_cuts_is_hidden_in_its_rest(strategy: Strategy) -> None:
    mask = stream("CreditCard", strategy=strategy)
    shown = mask.feed(b"card 4111 1111") + mask.flush() + mask.feed(b" 1111 1111 ok\n") + mask.finish()
    assert shown.startswith(b"card 4111 1111")
    assert b"1111 1111" not in shown[len(b"card 4111 1111") :]
    assert shown.endswith(b" ok\n")
    assert mask.touched


def test_a_line_without_an_end_goes_on() -> None:
    mask = stream("Email", "CreditCard")
    shown = b""
    for _ in range(40):
        shown += mask.feed(b"some words and bob@example.com again " * 40)
        assert mask.held <= 2 * LONGEST
    assert b"bob@" not in shown + mask.finish()


def test_a_key_without_an_end_is_hidden_to_the_end() -> None:
    shown = fed(stream("PrivateKey"), b"a\n-----BEGIN PRIVATE KEY-----\n", b"MIIE\n" * 10)
    assert shown == b"a\n[redacted]"


def test_a_key_that_is_longer_than_keys_are_does_not_stop_the_stream() -> None:
    mask = stream("PrivateKey")
    shown = mask.feed(b"-----BEGIN PRIVATE KEY-----\n") + b"".join(mask.feed(b"MIIEabc\n") for _ in range(20_000))
    assert mask.held <= 80_000
    assert b"MIIE" not in shown + mask.finish()


def test_what_a_deadline_cuts_is_hidden_however_its_rest_comes() -> None:
    mask = stream("CreditCard")
    shown = mask.feed(b"card 4111 1111") + mask.flush()
    for piece in (b" ", b"1", b"111 ", b"11", b"11 ok", b"\n"):
        shown += mask.feed(piece)
    assert shown == b"card 4111 1111" + b"*" * 10 + b" ok\n"


def test_what_went_past_the_mask_is_the_beginning_of_what_follows() -> None:
    mask = stream("CreditCard")
    mask.seen(b"4111 ")
    assert mask.feed(b"1111 1111 1111\n") == b"*" * 14 + b"\n"


def test_what_went_past_it_before_a_line_ended_is_over() -> None:
    mask = stream("CreditCard")
    mask.seen(b"4111 1111\r\n")
    assert mask.feed(b"1111 1111\n") == b"1111 1111\n"
