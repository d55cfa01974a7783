"""DataRows of any bytes through the masks: what a column-by-column reference gives, and no card comes through."""

from __future__ import annotations

import re
from struct import Struct

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzzing import Target

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.protocols.postgres import values, wire
from ostiary_gateway.protocols.postgres.rows import Field, RowMask, compile_row_mask
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation, frame
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

KEEP_4 = Strategy("Partial", keep_last=4)
REDACT = Strategy("Redact")
PLANS = [
    MaskPlan(detectors=(DetectorMask("CreditCard", KEEP_4), DetectorMask("Email", REDACT))),
    MaskPlan(detectors=(DetectorMask("CreditCard", Strategy("Null")),)),
    MaskPlan(detectors=(DetectorMask("Email", Strategy("Pseudonym", key=b"k" * 16)), DetectorMask("IBAN", KEEP_4))),
    MaskPlan(detectors=(DetectorMask("x", Strategy("Redact", replacement="<x>"), pattern=r"se+cret|^a+$"),)),
    MaskPlan(),
    MaskPlan(detectors=tuple(DetectorMask(name, Strategy("Redact")) for name in ("JWT", "PrivateKey", "Phone"))),
    MaskPlan(detectors=(DetectorMask("CreditCard", Strategy("Partial", keep_first=6, keep_last=4, char="é")),)),
]
COLUMNS = [
    ((25, 0),), ((25, 0), (25, 1)), ((20, 0), (25, 0), (20, 1)), ((114, 0), (3802, 0), (3802, 1)), ((23, 1), (25, 0)),
    ((17, 0), (17, 1)), ((1009, 0), (1009, 1), (25, 0)), ((16, 1), (2950, 1), (25, 0)), ((1700, 0), (1700, 1)),
    ((2249, 0), (2249, 1)), ((99_999, 0), (99_999, 1)), ((25, 0),) * 12,
]  # fmt: skip
"""(type OID, format) of each column."""
SHOWN = [{}, {0: REDACT}, {0: Strategy("Null"), 1: KEEP_4}, {0: KEEP_4}]
"""Columns that are masked as a whole."""
_LENGTH = Struct("!i")


class Subject:
    """One mask and its reference."""

    def __init__(self, choice: int) -> None:
        self.plan = PLANS[choice % len(PLANS)]
        kinds = COLUMNS[choice // len(PLANS) % len(COLUMNS)]
        chosen = SHOWN[choice // (len(PLANS) * len(COLUMNS)) % len(SHOWN)]
        self.strategies = {index: strategy for index, strategy in chosen.items() if index < len(kinds)}
        self.fields = tuple(Field(f"c{i}", 0, 0, oid, -1, -1, form) for i, (oid, form) in enumerate(kinds))
        self.binary = any(oid != 25 for oid, _ in kinds)
        self.mask: RowMask | None = compile_row_mask(self.plan, self.fields, {}, self.strategies)
        detectors = Detectors(self.plan.detectors)
        self.columns = [
            values.element_mask(self.strategies[index], field.type_oid, field.format, detectors)
            if index in self.strategies
            else values.detector_mask(detectors, field.type_oid, field.format)
            for index, field in enumerate(self.fields)
        ]

    def cells(self, row: list[bytes | None]) -> list[bytes | None]:
        """Every value through its column's mask."""
        pairs = zip(row, self.columns, strict=True)
        return [value if value is None or mask is None else mask(value) for value, mask in pairs]

    def reference(self, frames: bytes) -> bytes:
        return b"".join(data_row(self.cells(row)) for row in rows_of(frames))


def rows_of(frames: bytes) -> list[list[bytes | None]]:
    """The values of whole DataRows. Raises ProtocolViolation."""
    found: list[list[bytes | None]] = []
    position = 0
    while position < len(frames):
        if frames[position] != ord("D") or len(frames) < position + 5:
            raise ProtocolViolation("the backend gives whole DataRows only")
        end = position + 1 + _LENGTH.unpack_from(frames, position + 1)[0]
        found.append(list(wire.parse_data_row(frames[position + 5 : end])))
        position = end
    return found


def data_row(cells: list[bytes | None]) -> bytes:
    body = len(cells).to_bytes(2, "big")
    for cell in cells:
        body += b"\xff\xff\xff\xff" if cell is None else _LENGTH.pack(len(cell)) + cell
    return frame(b"D", body)


_SUBJECTS: dict[int, Subject] = {}


def subject(choice: int) -> Subject:
    if choice not in _SUBJECTS:
        _SUBJECTS[choice] = Subject(choice)
    return _SUBJECTS[choice]


def run(data: bytes) -> bytes:
    """The first byte chooses masks and columns; the rest is what the server sent."""
    if len(data) < 2:
        return b""
    chosen, frames = subject(data[0]), data[1:]
    if chosen.mask is None:
        return b""
    try:
        shown = chosen.mask.apply_all(frames)
    except ProtocolViolation as problem:
        return b"!" + str(problem).encode()
    try:
        given_rows, shown_rows = rows_of(frames), rows_of(shown)
    except ProtocolViolation:
        return shown  # a row that nothing in it could hit may pass unread
    for row, seen in zip(given_rows, shown_rows, strict=True):
        if len(row) != len(chosen.columns):
            continue
        for value, cell, expected in zip(row, seen, chosen.cells(row), strict=True):
            # A binary value that is not what its type promises becomes NULL where something else in sight is a hit.
            unread = chosen.binary and expected is None and cell == value
            assert cell == expected or unread, f"{value!r} is shown as {cell!r}, not as {expected!r}"
    return shown


TARGET = Target("rows", run)


def test_the_corpus_and_its_mutations() -> None:
    TARGET.replay(6000)


PIECES = st.sampled_from(
    [b"4111111111111111", b"4111-1111 1111-1111", b"5555555555554444", b"378282246310005", b"4111111111111112", b"41",
     b"1", b" ", b"-", b"a", b".", b"bob@example.com", b"@", b"\xc3\xa9", b"\xff", b"0", b"4", b"x" * 30, b"\\", b'"']
)  # fmt: skip
VALUES = st.lists(PIECES, max_size=6).map(b"".join) | st.binary(max_size=30)
CARD = re.compile(rb"(?<![0-9A-Za-z -])(?<![0-9]\.)(?:4111111111111111|5555555555554444)(?![0-9A-Za-z -])")


@settings(max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(st.none() | VALUES, min_size=2, max_size=2), max_size=40), st.sampled_from([0, 1, 2, 6]))
def test_every_value_is_masked_as_if_it_were_alone(rows: list[list[bytes | None]], plan: int) -> None:
    chosen = subject(len(PLANS) + plan)
    assert chosen.mask is not None
    frames = b"".join(data_row(row) for row in rows)
    shown = chosen.mask.apply_all(frames)
    assert shown == chosen.reference(frames)
    if plan != 2:
        assert not [value for row in rows_of(shown) for value in row if value is not None and CARD.search(value)]
