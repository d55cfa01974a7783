"""The native scan gives what the masks of the values give one by one: in rows, and in every format of COPY."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ostiary_gateway.masking.detectors import BUILT_IN, Detectors
from ostiary_gateway.masking.strategies import Mask
from ostiary_gateway.protocols.postgres import values
from ostiary_gateway.protocols.postgres.copy import CopyOptions, CopyOutMask
from ostiary_gateway.protocols.postgres.rows import Field, compile_row_mask
from ostiary_gateway.protocols.postgres.wire import frame
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

STRATEGIES = (
    Strategy("Redact"), Strategy("Partial", keep_last=4), Strategy("Partial", keep_first=2, keep_last=3, char="•"),
    Strategy("Partial", keep_first=40), Strategy("Null"), Strategy("Pseudonym", key=b"k" * 16),
    Strategy("Redact", replacement='a\t"b\\c\n|'), Strategy("Partial", keep_first=1, char="|"),
)  # fmt: skip

CARDS = (
    "4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111", "378282246310005", "6759649826438453",
    "4111111111111112", "1693526400123456789", "4111  1111 1111 1111", "12 4111 1111 1111 1111 03", "4222222222222",
    "5555555555554444 4111111111111111", "0.4111111111111111", "a4111111111111111", "4111111111111111b",
    "2026-11-23 03:11:18.123456", "550e8400-e29b-41d4-a716-446655440000", "4111 1111 1111 1111 4111 1111",
)  # fmt: skip
MAILS = (
    "bob@example.com", "a@b.co", "jörg@münchen.de", "x@[10.0.0.1]", "a@b", "@", "a@@b.de", "a@b.de@c.fr", "a@-b.de",
    "a@b-.de", "a@b.c-d", "a@b.cde-", "4111111111111111@example.com", "bob@" + "x" * 64 + ".de", "a@b." + "c" * 70,
)  # fmt: skip
OTHERS = ("EMP-123456", "+49 170 1234567", "123-45-6789", "DE89 3704 0044 0532 0130 00", "10.1.2.3", "2001:db8::1", "")

PIECES = st.one_of(
    st.sampled_from(CARDS), st.sampled_from(MAILS), st.sampled_from(OTHERS),
    st.text("0123456789 -.@ab|\\\"\n\t,;{}\r", max_size=12),
)  # fmt: skip
TEXTS = st.lists(PIECES, max_size=4).map(lambda pieces: " ".join(pieces[:2]) + "".join(pieces[2:]))


@st.composite
def plans(draw: st.DrawFn) -> MaskPlan:
    names = draw(st.sampled_from((("CreditCard",), ("Email",), ("CreditCard", "Email"), tuple(BUILT_IN))))
    masks = [DetectorMask(name, draw(st.sampled_from(STRATEGIES))) for name in names]
    pattern = draw(st.sampled_from(("", "", "EMP-[0-9]{6}", "^[0-9]+$", "[0-9]{2} [a-z]+", "(?i)emp")))
    if pattern:
        masks.append(DetectorMask("custom", draw(st.sampled_from(STRATEGIES)), pattern))
    return MaskPlan(detectors=tuple(masks))


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace(
        "\r", "\\r"
    ) + '"'  # fmt: skip


def number(value: int) -> bytes:
    """A whole number as numeric in binary."""
    groups: list[int] = []
    rest = abs(value)
    while rest:
        groups.insert(0, rest % 10_000)
        rest //= 10_000
    weight = len(groups) - 1
    while groups and groups[-1] == 0:
        groups.pop()
    return struct.pack(f"!HhHH{len(groups)}H", len(groups), weight, 0x4000 if value < 0 else 0, 0, *groups)


DIGITS = st.one_of(
    st.sampled_from((4111111111111111, -4111111111111111, 4111111111111112, 378282246310005, 2**63 - 1, -(2**63), 0)),
    st.integers(-(2**63), 2**63 - 1),
)
KINDS: dict[tuple[int, int], st.SearchStrategy[bytes]] = {
    (25, 0): TEXTS.map(str.encode),
    (1043, 1): TEXTS.map(str.encode),
    (114, 0): TEXTS.map(lambda text: f'{{{quoted(text)}: [1, {quoted("x" + text)}, null]}}'.encode()),
    (3802, 0): DIGITS.map(lambda value: f'{{"a": {value}, "b": {value % 1000}}}'.encode()),
    (1009, 0): TEXTS.map(lambda text: f'{{{quoted(text)},NULL,"-"}}'.encode()),
    (20, 0): DIGITS.map(lambda value: str(value).encode()),
    (20, 1): DIGITS.map(lambda value: value.to_bytes(8, "big", signed=True)),
    (1700, 0): DIGITS.map(lambda value: f"{value}.25".encode()),
    (1700, 1): DIGITS.map(number),
    (701, 1): st.one_of(DIGITS.map(float), st.floats()).map(lambda value: struct.pack("!d", value)),
    (700, 1): st.floats(width=32).map(lambda value: struct.pack("!f", value)),
    (23, 0): st.integers(-(2**31), 2**31 - 1).map(lambda value: str(value).encode()),
    (600_000, 1): TEXTS.map(str.encode),
    (2950, 0): st.uuids().map(lambda value: str(value).encode()),
}


def reference(detectors: Detectors, oid: int, form: int) -> Mask:
    mask = values.detector_mask(detectors, oid, form)
    return mask if mask is not None else lambda value: value


def data_row(cells: list[bytes | None]) -> bytes:
    body = b"".join(b"\xff\xff\xff\xff" if c is None else struct.pack("!i", len(c)) + c for c in cells)
    return frame(b"D", struct.pack("!H", len(cells)) + body)


@settings(max_examples=150)
@given(st.data(), plans(), st.lists(st.sampled_from(sorted(KINDS)), min_size=1, max_size=4))
def test_rows_are_masked_as_their_values_are(data: st.DataObject, plan: MaskPlan, kinds: list[tuple[int, int]]) -> None:
    detectors = Detectors(plan.detectors)
    rows = data.draw(st.lists(st.tuples(*(st.one_of(st.none(), KINDS[kind]) for kind in kinds)), max_size=6))
    mask = compile_row_mask(plan, [Field("x", 0, 0, oid, -1, -1, form) for oid, form in kinds], {}, {})
    masks = [reference(detectors, oid, form) for oid, form in kinds]
    buffer = b"".join(data_row(list(row)) for row in rows)
    expected = b"".join(
        data_row([None if cell is None else one(cell) for one, cell in zip(masks, row, strict=True)]) for row in rows
    )
    assert (buffer if mask is None else mask.apply_all(buffer)) == expected


OPTIONS = (
    CopyOptions(),
    CopyOptions(delimiter=b"|", null=b"none@example.com"),
    CopyOptions(delimiter=b"-"),
    CopyOptions("csv", b",", b""),
    CopyOptions("csv", b";", b"4111111111111111", header=True),
    CopyOptions("csv", b",", b"", b"'", b"\\"),
    CopyOptions("csv", b" ", b"\\N", b'"', b'"'),
    CopyOptions("binary"),
)


def written(options: CopyOptions, cells: tuple[str | None, ...]) -> bytes:
    """A row as PostgreSQL writes it."""
    if options.format == "binary":
        data = [None if cell is None else cell.encode() for cell in cells]
        body = b"".join(b"\xff\xff\xff\xff" if c is None else struct.pack("!i", len(c)) + c for c in data)
        return struct.pack("!h", len(cells)) + body
    shown: list[bytes] = []
    for cell in cells:
        if cell is None:
            shown.append(options.null)
            continue
        value = cell.encode()
        if options.format == "text":
            for char, escape in ((b"\\", b"\\\\"), (b"\n", b"\\n"), (b"\t", b"\\t"), (b"\r", b"\\r")):
                value = value.replace(char, escape)
            if options.delimiter != b"\t":
                value = value.replace(options.delimiter, b"\\" + options.delimiter)
        elif value == options.null or any(c in value for c in (options.delimiter, options.quote, b"\n", b"\r")):
            if options.escape != options.quote:
                value = value.replace(options.escape, options.escape * 2)
            value = options.quote + value.replace(options.quote, options.escape + options.quote) + options.quote
        shown.append(value)
    return options.delimiter.join(shown) + b"\n"


def unframed(frames: bytes) -> bytes:
    shown, position = b"", 0
    while position < len(frames):
        length = struct.unpack_from("!i", frames, position + 1)[0]
        shown += frames[position + 5 : position + 1 + length]
        position += 1 + length
    return shown


@settings(max_examples=60)
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: f"{options.format} {options.delimiter.decode()!r}")
@given(
    plan=plans(),
    rows=st.lists(st.tuples(st.one_of(st.none(), TEXTS), st.one_of(st.none(), TEXTS), st.none()), max_size=5),
    types=st.sampled_from(((25, 25, 25), (25, 25, 23), ())),
    together=st.integers(1, 3),
    strategies=st.sampled_from(({}, {}, {1: Strategy("Redact")}, {2: Strategy("Null")})),
)
@example(
    MaskPlan(detectors=(DetectorMask("CreditCard", STRATEGIES[0]),)),
    [("4111111111111111 \\", "", None)], (25, 25, 25), 1, {},
)
@example(MaskPlan(detectors=(DetectorMask("Email", STRATEGIES[6]),)), [("a@b.de", "\t", None)], (25, 25, 25), 1, {})
def test_copy_is_the_same_in_whole_rows_and_in_any_pieces(
    options: CopyOptions,
    plan: MaskPlan,
    rows: list[tuple[str | None, str | None, None]],
    types: tuple[int, ...],
    together: int,
    strategies: dict[int, Strategy],
) -> None:
    """Whole rows go through the native scan; what is cut elsewhere is put together and masked in Python."""
    lines = [written(options, row) for row in rows]
    if options.header:
        lines.insert(0, options.delimiter.join((b"a@b.de", b"b", b"c")) + b"\n")
    if options.format == "binary":
        lines = [b"PGCOPY\n\xff\r\n\0" + b"\0" * 8, *lines, b"\xff\xff"]
    payloads = [b"".join(lines[i : i + together]) for i in range(0, len(lines), together)]
    natively = CopyOutMask(plan, options, 3, strategies, types)
    slowly = CopyOutMask(plan, options, 3, strategies, types)
    shown = natively.feed_frames(b"".join(frame(b"d", payload) for payload in payloads))
    whole = b"".join(lines)
    expected = b"".join(slowly.feed(whole[i : i + 7]) for i in range(0, len(whole), 7))
    assert unframed(shown) + natively.finish() == expected + slowly.finish()
