"""Jumping over the messages of a large result."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.protocols.postgres import wire
from ostiary_gateway.protocols.postgres._framing import rows_until

ROW = wire.frame(b"D", b"\0\0")


def test_all_whole_rows_are_jumped_over():
    assert rows_until(ROW * 3, 0) == (21, 3)
    assert rows_until(ROW * 3, 7) == (21, 2)


def test_it_stops_at_another_message():
    assert rows_until(ROW + wire.frame(b"C", b"SELECT 1\0") + ROW, 0) == (7, 1)
    assert rows_until(ROW, 0, ord("d")) == (0, 0)


def test_it_stops_at_a_row_that_is_not_whole():
    for cut in range(1, 7):
        assert rows_until(ROW * 2 + ROW[:cut], 0) == (14, 2)


def test_behind_the_end_is_nothing():
    assert rows_until(ROW, 7) == (7, 0)
    assert rows_until(ROW, 700) == (700, 0)
    assert rows_until(b"", 0) == (0, 0)


@pytest.mark.parametrize("length", [0, 3, 0x40000000, 0x80000000, 0xFFFFFFFF])
def test_a_length_that_no_message_has_is_a_violation(length: int):
    with pytest.raises(wire.ProtocolViolation, match=f"of {length} bytes"):
        rows_until(ROW + b"D" + length.to_bytes(4, "big") + b"\0" * 8, 0)


@given(st.lists(st.binary(max_size=40)), st.binary(max_size=12))
def test_it_finds_what_was_framed(bodies: list[bytes], rest: bytes):
    rows = b"".join(wire.frame(b"D", body) for body in bodies)
    assert rows_until(rows + b"Z" + rest, 0) == (len(rows), len(bodies))
