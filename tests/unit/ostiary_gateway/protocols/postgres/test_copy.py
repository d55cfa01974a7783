"""COPY OUT through the mask, cut into CopyData in every way."""

from __future__ import annotations

import csv
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.masking.strategies import MaskError
from ostiary_gateway.protocols.postgres.copy import (
    CopyOptions,
    CopyOutMask,
    RowTooLarge,
    options_from,
    parse_copy_response,
)
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation, frame
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

KEEP_4 = Strategy("Partial", keep_last=4)
REDACT = Strategy("Redact")
DETECT = MaskPlan(detectors=(DetectorMask("CreditCard", KEEP_4), DetectorMask("Email", REDACT)))
TEXT, CSV, BINARY = options_from({}), options_from({"format": "csv"}), options_from({"format": "binary"})
VISA = b"4111111111111111"


def copied(
    options: CopyOptions,
    *payloads: bytes,
    columns: int = 2,
    masks: dict[int, Strategy] | None = None,
    types: tuple[int, ...] = (),
    plan: MaskPlan = DETECT,
) -> bytes:
    mask = CopyOutMask(plan, options, columns, masks or {}, types)
    return b"".join([*(mask.feed(payload) for payload in payloads), mask.finish()])


def pieces(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def test_text_is_masked_by_value_and_keeps_its_escapes() -> None:
    data = b"1\tbob@example.com\n2\ta\\tb\\\\ " + VISA + b"\n\\N\t\\N\n"
    assert copied(TEXT, data) == b"1\t[redacted]\n2\ta\\\tb\\\\ ************1111\n\\N\t\\N\n"


def test_text_is_masked_by_column() -> None:
    assert copied(TEXT, b"1\tx\n2\t\\N\n", masks={1: REDACT}) == b"1\t[redacted]\n2\t\\N\n"
    assert copied(TEXT, b"1\tx\n", masks={0: REDACT}, types=(23, 25)) == b"\\N\tx\n"


def test_a_masks_text_is_escaped() -> None:
    odd = Strategy("Redact", replacement="a\tb\\c\nd")
    assert copied(TEXT, b"1\tx\n", masks={1: odd}) == b"1\ta\\\tb\\\\c\\nd\n"
    assert copied(CSV, b"1,x\n", masks={1: Strategy("Redact", replacement='say "x", y')}) == b'1,"say ""x"", y"\n'


def test_rows_without_hits_pass_as_they_are() -> None:
    mask = CopyOutMask(DETECT, TEXT, 2, {})
    data = b"1\tnothing\\t\n"
    assert mask.feed(data) is data


def test_a_delimiter_inside_a_card_does_not_hide_it() -> None:
    options = options_from({"delimiter": "-"})
    assert copied(options, b"1-4111\\-1111\\-1111\\-1111\n") == b"1-****\\-****\\-****\\-1111\n"


def test_csv_with_everything_it_has() -> None:
    options = options_from({"format": "CSV", "header": None, "null": "NIL", "delimiter": ";"})
    data = b'id;note\n1;"line\nbreak; ""bob@example.com"""\n2;NIL\n"";"' + VISA + b'"\n'
    assert copied(options, data) == b'id;note\n1;"line\nbreak; ""[redacted]"""\n2;NIL\n"";"************1111"\n'


def test_csv_with_another_quote_and_escape() -> None:
    options = options_from({"format": "csv", "quote": "'", "escape": "\\"})
    data = b"1,'it\\'s bob@example.com \\\\'\n"
    for size in range(1, len(data) + 1):
        assert copied(options, *pieces(data, size)) == b"1,'it\\'s [redacted] \\\\'\n"


def test_the_header_is_not_masked() -> None:
    options = options_from({"format": "csv", "header": "true"})
    assert copied(options, b"id,email\n1,x\n", masks={1: REDACT}) == b'id,email\n1,"[redacted]"\n'
    text = options_from({"header": "match"})
    assert copied(text, b"id\temail\n", b"1\tx\n", masks={1: REDACT}) == b"id\temail\n1\t[redacted]\n"


HEADER = b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 0, 0)


def tuples(*rows: tuple[bytes | None, ...]) -> bytes:
    out = HEADER
    for row in rows:
        out += struct.pack("!h", len(row))
        out += b"".join(struct.pack("!i", -1) if v is None else struct.pack("!i", len(v)) + v for v in row)
    return out + struct.pack("!h", -1)


def test_binary_is_masked_with_the_types_of_the_catalog() -> None:
    data = tuples((b"a@b.de", struct.pack("!q", 7)), (None, struct.pack("!q", int(VISA))))
    expected = tuples((b"[redacted]", struct.pack("!q", 7)), (None, None))
    for size in (1, 7, 19, 25, len(data)):
        assert copied(BINARY, *pieces(data, size), types=(25, 20)) == expected


def test_binary_without_known_types_is_withheld_where_it_hits() -> None:
    assert copied(BINARY, tuples((b"a@b.de", b"x"))) == tuples((None, b"x"))
    assert copied(BINARY, tuples((b"a", b"x")), masks={1: REDACT}) == tuples((b"a", None))


def framed(*payloads: bytes) -> bytes:
    return b"".join(frame(b"d", payload) for payload in payloads)


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (TEXT, [b"1\tx\n", b"2\tbob@example.com\n"]),
        (CSV, [b'1,"a\n""b"""\n', b"2,bob@example.com\n"]),
        (CSV, [b'1,"a\n', b'bob@example.com"\n', b'2,"\n', b'"\n']),
        (TEXT, [b"1\t41111111", b"11111111\n", b"2\tx\n"]),
    ],
)
def test_a_buffer_of_messages_is_masked_like_its_messages(options: CopyOptions, rows: list[bytes]) -> None:
    mask = CopyOutMask(DETECT, options, 2, {})
    shown = mask.feed_frames(framed(*rows))
    assert b"".join(part[5:] for part in split(shown)) == copied(options, *rows)
    clean = framed(b"7\t7\n", b"8\t8\n") if options is TEXT else framed(b"7,7\n", b'8,"8\n"\n')
    assert mask.feed_frames(clean) is clean


def split(frames: bytes) -> list[bytes]:
    parts = []
    while frames:
        size = 1 + int.from_bytes(frames[1:5], "big")
        parts.append(frames[:size])
        frames = frames[size:]
    return parts


def test_a_cut_buffer_of_messages_is_a_violation() -> None:
    for size in (3, 7):
        with pytest.raises(ProtocolViolation, match="CopyData"):
            CopyOutMask(DETECT, TEXT, 2, {}).feed_frames(framed(b"1\tx\n")[:size])


@pytest.mark.parametrize(
    ("options", "data"),
    [
        (TEXT, b"1\t2\t3\n"),
        (TEXT, b"1\n"),
        (TEXT, b"1\tx"),
        (CSV, b'1,"x\n'),
        (CSV, b'1,"x"y\n'),
        (BINARY, b"PGCOPY" + b"\0" * 20),
        (BINARY, HEADER + struct.pack("!h", 3)),
        (BINARY, HEADER + struct.pack("!hi", 2, -5)),
        (BINARY, tuples((b"1", b"2"))[:-2]),
        (BINARY, tuples((b"1", b"2")) + b"\0\0\0"),
        (BINARY, b"PGCOPY\n\xff\r\n\0" + struct.pack("!ii", 1 << 16, 0)),
    ],
)
def test_what_is_not_in_the_format_is_a_violation(options: CopyOptions, data: bytes) -> None:
    with pytest.raises(ProtocolViolation, match="COPY"):
        copied(options, data, masks={1: REDACT})


@pytest.mark.parametrize("options", [TEXT, CSV, BINARY])
def test_a_row_over_the_limit_is_refused_and_nothing_of_it_passed_on(options: CopyOptions) -> None:
    mask = CopyOutMask(DETECT, options, 1, {}, limit=1000)
    start = HEADER + struct.pack("!hi", 1, 5000) if options is BINARY else b""
    sent = mask.feed(start)
    with pytest.raises(RowTooLarge, match="larger than the 1000 bytes"):
        for _ in range(20):
            sent += mask.feed(b"x" * 100)
    assert b"x" not in sent


def test_a_table_without_columns_is_copied() -> None:
    assert copied(TEXT, b"\n\n", columns=0) == b"\n\n"


def test_no_mask_is_falsy() -> None:
    assert not CopyOutMask(MaskPlan(), TEXT, 2, {})
    assert not CopyOutMask(DETECT, TEXT, 2, {}, (16, 2950))


@pytest.mark.parametrize(
    "written", [{"format": "parquet"}, {"encoding": "GB18030"}, {"encoding": "Shift_JIS"}, {"delimiter": "::"}]
)
def test_options_that_cannot_be_masked_are_refused(written: dict[str, str | None]) -> None:
    with pytest.raises(MaskError):
        options_from(written)


def test_a_copy_response_is_read_strictly() -> None:
    assert parse_copy_response(b"\x01\x00\x02\x00\x01\x00\x01") == (1, (1, 1))
    for broken in (b"", b"\x00\x00\x01", b"\x02\x00\x00", b"\x00\x00\x00\x00"):
        with pytest.raises(ProtocolViolation):
            parse_copy_response(broken)


WORDS = st.text(alphabet='ab",;\n\\\t\r1 é', max_size=8) | st.sampled_from(
    ["a@b.de", "x 4111-1111-1111-1111", VISA.decode()]
)


@given(st.lists(st.tuples(WORDS, WORDS), max_size=6), st.integers(1, 9))
def test_csv_means_the_same_after_the_mask_however_it_is_cut(rows: list[tuple[str, str]], size: int) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    data = out.getvalue().encode()
    masked = copied(CSV, *pieces(data, size), masks={0: REDACT})
    assert masked == copied(CSV, data, masks={0: REDACT})
    shown = list(csv.reader(io.StringIO(masked.decode(), newline=""), strict=True))
    assert [row[0] for row in shown] == ["[redacted]"] * len(rows)
    for row, (_, second) in zip(shown, rows, strict=True):
        expected = second.replace("a@b.de", "[redacted]").replace(VISA.decode(), "************1111")
        assert row[1] == expected.replace("4111-1111-1111-1111", "****-****-****-1111")


@given(st.lists(st.tuples(WORDS, WORDS), max_size=6), st.integers(1, 9))
def test_text_means_the_same_after_the_mask_however_it_is_cut(rows: list[tuple[str, str]], size: int) -> None:
    def escaped(value: str) -> str:
        for char, shown in (("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
            value = value.replace(char, shown)
        return value

    data = "".join("\t".join(map(escaped, row)) + "\n" for row in rows).encode()
    masked = copied(TEXT, *pieces(data, size), masks={0: REDACT})
    assert masked == copied(TEXT, data, masks={0: REDACT})
    assert masked.count(b"\n") == len(rows)
    assert b"a@b.de" not in masked
    assert VISA not in masked


@given(st.sampled_from([TEXT, CSV, BINARY]), st.lists(st.binary(max_size=40), max_size=6))
def test_no_bytes_crash_the_copy_mask(options: CopyOptions, payloads: list[bytes]) -> None:
    try:
        copied(options, *payloads)
    except ProtocolViolation:
        pass
