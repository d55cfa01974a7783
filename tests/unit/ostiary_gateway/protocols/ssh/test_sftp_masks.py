"""Masks over files: lengths are kept, and a piece shows the same whatever stands around it was cut to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.file_talks import EMAIL

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.protocols.ssh.sftp_masks import CONTEXT, InOrder, masked
from ostiary_policy.masking import DetectorMask, Strategy

KEY = b"-----BEGIN PRIVATE KEY-----\nMIIB\nAAAA\n-----END PRIVATE KEY-----\n"
KEYS = Detectors([DetectorMask("PrivateKey", Strategy("Redact"))])
WORDS = st.sampled_from([b"a@b.example", b"someone@example.org", b"\n", b"\r\n", b" ", b"x", b"\0", b"@", KEY])


def whole(data: bytes, detectors: Detectors) -> bytes:
    return masked(data, detectors, 0, len(data))


@pytest.mark.parametrize(
    ("strategy", "shown"),
    [
        (Strategy("Redact"), b"[redacted]*********"),
        (Strategy("Redact", replacement="-"), b"-" + b"*" * 18),
        (Strategy("Redact", replacement="x" * 30), b"*" * 19),
        (Strategy("Partial", keep_last=4), b"*" * 15 + b".org"),
        (Strategy("Null"), b"*" * 19),
        (Strategy("Pseudonym", key=b"0123456789abcdef"), b"*" * 19),
    ],
)
def test_what_is_shown_is_as_long_as_what_is_hidden(strategy: Strategy, shown: bytes) -> None:
    detectors = Detectors([DetectorMask("Email", strategy)])
    assert whole(b"to someone@example.org.\n", detectors) == b"to " + shown + b".\n"


def test_a_key_is_hidden_over_its_lines() -> None:
    hidden = whole(b"x\n" + KEY + b"y\n", KEYS)
    assert hidden.translate(None, b"*") == b"x\n\n\n\n\ny\n"
    assert len(hidden) == len(KEY) + 4
    begun = KEY[:40]
    assert whole(begun, KEYS).translate(None, b"*\n") == b""
    assert whole(KEY[35:] + b"y\n", KEYS).translate(None, b"*\n") == b"y"


@given(st.lists(WORDS, max_size=30).map(b"".join), st.integers(0, 300), st.integers(0, 300))
def test_a_piece_shows_what_the_whole_shows(data: bytes, begin: int, size: int) -> None:
    for detectors in (EMAIL, KEYS):
        assert masked(data, detectors, begin, begin + size) == whole(data, detectors)[begin : begin + size]
        assert len(whole(data, detectors)) == len(data)


@given(st.lists(WORDS, max_size=30).map(b"".join), st.integers(1, 50))
def test_in_order_it_is_the_same(data: bytes, size: int) -> None:
    data = data + b"." * CONTEXT + data + b"\n" + b"." * CONTEXT * 2 + data
    order = InOrder(EMAIL)
    shown = b"".join(order.feed(data[at : at + size * 100]) for at in range(0, len(data), size * 100))
    assert shown + order.finish() == whole(data, EMAIL)
