"""COPY TO STDOUT through the masks: the same however it is cut; every field as if it were alone."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzzing import Target

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.strategies import compile_strategy
from ostiary_gateway.protocols.postgres.copy import CopyOptions, CopyOutMask, RowTooLarge
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation, frame
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

REDACT = Strategy("Redact")
KEEP_4 = Strategy("Partial", keep_last=4)
PLANS = [
    MaskPlan(detectors=(DetectorMask("CreditCard", KEEP_4), DetectorMask("Email", REDACT))),
    MaskPlan(detectors=(DetectorMask("CreditCard", Strategy("Null")),)),
    MaskPlan(),
    MaskPlan(detectors=(DetectorMask("x", Strategy("Redact", replacement="a\tb\nc\"'\\"), pattern="se+cret"),)),
]
OPTIONS = [
    CopyOptions(), CopyOptions(delimiter=b"|", null=b"NIL"), CopyOptions(delimiter=b"-", header=True),
    CopyOptions("csv", delimiter=b",", null=b""), CopyOptions("csv", delimiter=b";", null=b"NIL", header=True),
    CopyOptions("csv", delimiter=b",", null=b"", quote=b"'", escape=b"\\"), CopyOptions("binary"),
    CopyOptions("csv", delimiter=b"\t", null=b"\\N", quote=b"4", escape=b"@"),
]  # fmt: skip
COLUMNS: list[tuple[int, ...]] = [(25,), (25, 25), (25, 20, 114), ()]
"""The columns' types; () where they are not known, and there are two."""
LIMIT = 400


def new_mask(choice: int) -> CopyOutMask:
    plan = PLANS[choice % 4]
    options = OPTIONS[choice // 4 % 8]
    types = COLUMNS[choice // 32 % 4]
    strategies = {0: REDACT} if choice // 128 or not plan else {}
    return CopyOutMask(plan, options, len(types) or 2, strategies, types, LIMIT)


def masked(choice: int, data: bytes, size: int, *, framed: bool) -> tuple[bytes, str]:
    """What may be sent on, and why it ended early, if it did."""
    mask = new_mask(choice)
    seen = bytearray()
    try:
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            seen += payloads(mask.feed_frames(frame(b"d", piece))) if framed else mask.feed(piece)
        seen += mask.finish()
    except (ProtocolViolation, RowTooLarge) as problem:
        return bytes(seen), str(problem) or "?"
    return bytes(seen), ""


def payloads(frames: bytes) -> bytes:
    found, position = bytearray(), 0
    while position < len(frames):
        assert frames[position] == ord("d")
        length = int.from_bytes(frames[position + 1 : position + 5], "big")
        assert length > 4, "an empty CopyData"
        found += frames[position + 5 : position + 1 + length]
        position += 1 + length
    assert position == len(frames)
    return bytes(found)


def run(data: bytes) -> bytes:
    """The first byte chooses masks, options and columns; the rest is what the server copies out."""
    if len(data) < 2:
        return b""
    choice, stream = data[0], data[1:]
    whole, ended = masked(choice, stream, len(stream), framed=False)
    for size in (1, 5, len(stream)):
        for framed in (False, True):
            seen, ended_too = masked(choice, stream, size, framed=framed)
            # Malformed rows in which nothing could hit may pass unread, so it may end in one way and not in the other.
            if not ended and not ended_too:
                assert seen == whole, f"in pieces of {size}: {seen!r}, not {whole!r}"
    return whole + ended.encode()


TARGET = Target("copies", run)


def test_the_corpus_and_its_mutations() -> None:
    TARGET.replay(4000)


# -- rows of values, written as PostgreSQL writes them

PIECES = st.sampled_from(
    ["4111111111111111", "5555 5555 5555 4444", "bob@example.com", "a", ",", ";", "\t", "\n", "\\", '"', "'", "|", "-",
     "4", "@", "NIL", "\\N", "\\.", "\r", " ", "é", "\b", "\f", "\v", "0", "N"]
)  # fmt: skip
VALUES = st.none() | st.lists(PIECES, max_size=5).map("".join)
_LETTERS = {"\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v"}


def text_row(row: list[str | None], options: CopyOptions) -> bytes:
    """CopyAttributeOutText."""
    delimiter = options.delimiter.decode()
    cells = []
    for value in row:
        if value is None:
            cells.append(options.null.decode())
            continue
        shown = ""
        for char in value:
            if char in _LETTERS and char != delimiter:
                shown += "\\" + _LETTERS[char]
            else:
                shown += "\\" + char if char in ("\\", delimiter) else char
        cells.append(shown)
    return (delimiter.join(cells) + "\n").encode()


def csv_row(row: list[str | None], options: CopyOptions) -> bytes:
    """CopyAttributeOutCSV."""
    delimiter, quote, escape, null = (
        each.decode() for each in (options.delimiter, options.quote, options.escape, options.null)
    )
    cells = []
    for value in row:
        if value is None:
            cells.append(null)
        elif value == null or any(char in value for char in (delimiter, quote, "\n", "\r")) or value == "\\.":
            cells.append(quote + "".join(escape + c if c in (quote, escape) else c for c in value) + quote)
        else:
            cells.append(value)
    return (delimiter.join(cells) + "\n").encode()


def shown_as(value: str | None, column: int, plan: MaskPlan, detectors: Detectors, strategies: bool) -> str | None:
    if value is None:
        return None
    mask = compile_strategy(REDACT) if strategies and column == 0 else detectors.mask
    shown = mask(value.encode()) if strategies or detectors else value.encode()
    return None if shown is None else shown.decode()


@settings(max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(VALUES, VALUES).map(list), min_size=1, max_size=6), st.sampled_from([0, 1, 3]),
    st.sampled_from([0, 1, 3, 5, 7]), st.booleans(), st.sampled_from([1, 3, 10, 1000]), st.booleans(),
)  # fmt: skip
def test_every_field_is_masked_as_if_it_were_alone(
    rows: list[list[str | None]], plan: int, options: int, column: bool, size: int, framed: bool
) -> None:
    choice = plan + options * 4 + 32 + 128 * column
    if OPTIONS[options].format == "text":
        # As PostgreSQL does: what looks like NULL is NULL to whoever reads it.
        rows = [[None if value == OPTIONS[options].null.decode() else value for value in row] for row in rows]
    write = csv_row if OPTIONS[options].format == "csv" else text_row
    detectors = Detectors(PLANS[plan].detectors)
    data = b"".join(write(row, OPTIONS[options]) for row in rows)
    shown, ended = masked(choice, data, size, framed=framed)
    if "larger than" in ended:
        return
    assert not ended
    expected = [
        [shown_as(value, index, PLANS[plan], detectors, column) for index, value in enumerate(row)] for row in rows
    ]
    assert read(shown, OPTIONS[options]) == expected


def read(data: bytes, options: CopyOptions) -> list[list[str | None]]:
    """The values of a COPY in text or csv, character by character, as COPY FROM reads them."""
    text, at = data.decode(), 0
    delimiter, null = options.delimiter.decode(), options.null.decode()
    quote, escape = options.quote.decode(), options.escape.decode()
    csv = options.format == "csv"
    letters = {letter: char for char, letter in _LETTERS.items()}
    rows: list[list[str | None]] = []
    row: list[str | None] = []
    while at < len(text):
        value, raw, quoted, inside = "", at, False, False
        while True:
            char = text[at]
            if csv and inside:
                if char == escape and at + 1 < len(text) and text[at + 1] in (quote, escape):
                    value, at = value + text[at + 1], at + 1
                elif char == quote:
                    inside = False
                else:
                    value += char
            elif csv and char == quote:
                inside = quoted = True
            elif not csv and char == "\\":
                at += 1
                value += letters.get(text[at], text[at]) if text[at] != delimiter else delimiter
            elif char in (delimiter, "\n"):
                break
            else:
                value += char
            at += 1
        row.append(None if not quoted and text[raw:at] == null else value)
        if text[at] == "\n":
            rows.append(row)
            row = []
        at += 1
    return rows
