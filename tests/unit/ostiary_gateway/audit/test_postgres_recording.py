"""Recorded bytes to rows, tags and errors, whatever pieces they come in."""

from __future__ import annotations

import itertools
import struct

from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.audit import postgres_recording as recording
from ostiary_gateway.audit.postgres_recording import (
    Broken,
    Column,
    Columns,
    Complete,
    CopyChunk,
    CopyStarted,
    Item,
    Notification,
    Report,
    Row,
    decode,
)


def message(kind: str, body: bytes) -> bytes:
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def description(*columns: Column) -> bytes:
    body = struct.pack("!H", len(columns))
    for column in columns:
        body += column.name.encode() + b"\0" + struct.pack("!IHIhih", 0, 0, column.oid, 4, -1, column.format)
    return message("T", body)


def row(*values: bytes | None) -> bytes:
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message("D", body)


READY = message("Z", b"I")
SELECT = (
    description(Column("id", 23, 1), Column("name", 25, 0))
    + row(b"\0\0\0\7", "Ada é".encode())
    + row(None, b"")
    + message("C", b"SELECT 2\0")
    + READY
)
SELECTED: list[Item] = [
    Columns((Column("id", 23, 1), Column("name", 25, 0))),
    Row(("7", "Ada é")),
    Row((None, "")),
    Complete("SELECT 2"),
]


def test_a_result_is_columns_rows_and_a_tag() -> None:
    assert list(decode([SELECT])) == SELECTED


@given(st.lists(st.integers(0, len(SELECT)), max_size=20))
def test_pieces_make_no_difference(cuts: list[int]) -> None:
    ends = [0, *sorted(cuts), len(SELECT)]
    assert list(decode(SELECT[a:b] for a, b in itertools.pairwise(ends))) == SELECTED


def test_every_other_message_that_a_reader_wants() -> None:
    stream = (
        message("N", b"SNOTICE\0C00000\0Mcareful\0\0")
        + message("E", b"SERROR\0C42501\0Mno\0Drule x\0\0")
        + message("H", b"\0\0\1\0\0")
        + message("d", b"a\tb\n")
        + message("c", b"")
        + message("A", b"\0\0\0\1channel\0payload\0")
        + message("I", b"")
        + message("s", b"")
        + message("1", b"")
    )
    assert list(decode([stream])) == [
        Report(False, {"S": "NOTICE", "C": "00000", "M": "careful"}),
        Report(True, {"S": "ERROR", "C": "42501", "M": "no", "D": "rule x"}),
        CopyStarted("out", False),
        CopyChunk(b"a\tb\n"),
        Notification("channel", "payload"),
        Complete(""),
        Complete("(more rows were not asked for)"),
    ]


def test_rows_without_their_description_use_the_columns_given() -> None:
    (item,) = decode([row(b"\0\0\0\7")], [Column("id", 23, 1)])
    assert item == Row(("7",))


def test_rows_that_nothing_describes_are_text_or_bytes() -> None:
    (item,) = decode([row(b"\0\0\0\7", b"text")])
    assert item == Row(("\\x00000007", "text"))


def test_rows_past_the_limit_are_counted_not_decoded() -> None:
    items = list(decode([row(b"a") * 5 + message("C", b"SELECT 5\0")], rows=2))
    assert items == [Row(("a",)), Row(("a",)), Row(()), Row(()), Row(()), Complete("SELECT 5")]


def test_a_recording_that_was_cut_says_so() -> None:
    *whole, last = decode([SELECT[: len(SELECT) - 10]])
    assert whole == SELECTED[:3]
    assert isinstance(last, Broken)


def test_a_huge_value_is_shown_by_its_beginning() -> None:
    limit = recording.MAX_MESSAGE
    big = row(b"x" * (limit + 1000), b"after") + message("C", b"SELECT 1\0")
    pieces = [big[start : start + 100_000] for start in range(0, len(big), 100_000)]
    first, second = decode(pieces)
    assert isinstance(first, Row)
    value, after = first.values
    assert value is not None
    assert value.endswith("x…")
    assert after == "…"
    assert second == Complete("SELECT 1")


def test_a_row_that_lies_about_its_values_is_broken_and_the_rest_goes_on() -> None:
    lying = message("D", struct.pack("!Hi", 1, 100) + b"short")
    first, second = decode([lying + message("C", b"SELECT 1\0")])
    assert isinstance(first, Broken)
    assert second == Complete("SELECT 1")


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_garbage_is_no_crash(chunks: list[bytes]) -> None:
    for _ in decode(chunks):
        pass


@given(st.sampled_from("DTCENHGWAd"), st.binary(max_size=60))
def test_garbage_inside_a_frame_is_no_crash(kind: str, body: bytes) -> None:
    assert len(list(decode([message(kind, body)]))) <= 1
