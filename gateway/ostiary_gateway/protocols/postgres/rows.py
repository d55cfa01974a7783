"""RowDescription, and the mask of the DataRows that follow it.

Source: PostgreSQL documentation, "Message Formats". The mask is compiled once per description and result formats;
most rows are passed on without being copied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from struct import Struct, error

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.strategies import Mask, stronger
from ostiary_gateway.protocols.postgres import values
from ostiary_gateway.protocols.postgres.values import BINARY, TEXT
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation
from ostiary_policy.masking import MaskPlan, Strategy

_COUNT = Struct("!H")
_FIELD = Struct("!IhIhih")
_LENGTH = Struct("!i")
_HEADER = Struct("!ciH")
_TEXT_JSON = frozenset((114, 199))
GROUP = 16
"""DataRows that are looked at together before they are looked at one by one."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a result. `table_oid` and `attnum` are 0 if it is not plainly a column of one relation."""

    name: str
    table_oid: int
    attnum: int
    type_oid: int
    typlen: int
    typmod: int
    format: int
    """0 text, 1 binary. After Describe of a statement it is always 0: see `with_formats`."""


def parse_row_description(payload: bytes) -> tuple[Field, ...]:
    """The body of a RowDescription ('T'). ProtocolViolation if a length or a format does not fit."""
    if len(payload) < 2:
        raise ProtocolViolation("RowDescription: it ends before the number of its columns")
    (count,) = _COUNT.unpack_from(payload)
    position = 2
    fields: list[Field] = []
    for _ in range(count):
        end = payload.find(b"\0", position)
        if end < 0:
            raise ProtocolViolation("RowDescription: a column's name has no end")
        try:
            table, attnum, oid, typlen, typmod, form = _FIELD.unpack_from(payload, end + 1)
        except error:
            raise ProtocolViolation("RowDescription: it ends in the middle of a column") from None
        if form not in (TEXT, BINARY):
            raise ProtocolViolation(f"RowDescription: unknown format {form}")
        name = payload[position:end].decode("utf-8", "surrogateescape")
        fields.append(Field(name, table, attnum, oid, typlen, typmod, form))
        position = end + 1 + _FIELD.size
    if position != len(payload):
        raise ProtocolViolation(f"RowDescription: {len(payload) - position} bytes too many")
    return tuple(fields)


def with_formats(fields: Sequence[Field], formats: Sequence[int]) -> tuple[Field, ...]:
    """The same columns in the formats that Bind asked for: none is text, one is for all, else one each."""
    if len(formats) > 1 and len(formats) != len(fields):
        raise ProtocolViolation(f"Bind: {len(formats)} result formats for {len(fields)} columns")
    if any(form not in (TEXT, BINARY) for form in formats):
        raise ProtocolViolation("Bind: a result format that is neither text nor binary")
    each = list(formats) if len(formats) > 1 else [formats[0] if formats else TEXT] * len(fields)
    paired = zip(fields, each, strict=True)
    return tuple(field if field.format == form else replace(field, format=form) for field, form in paired)


class RowMask:
    """What happens to the DataRows of one result. Made by `compile_row_mask`."""

    __slots__ = ("_always", "_columns", "_count", "_detectors", "_escaped", "_every")

    def __init__(self, fields: Sequence[Field], strategies: Mapping[int, Strategy], detectors: Detectors) -> None:
        self._count = len(fields)
        self._detectors = detectors
        columns: list[Mask | None] = [None] * len(fields)
        every: list[Mask | None] = [None] * len(fields)
        self._always = False
        self._escaped = False
        for index, field in enumerate(fields):
            strategy = strategies.get(index)
            if strategy is not None:
                columns[index] = every[index] = values.element_mask(strategy, field.type_oid, field.format)
                continue
            every[index] = values.detector_mask(detectors, field.type_oid, field.format)
            if every[index] is not None:
                self._always = self._always or not values.verbatim(field.type_oid, field.format)
                if field.type_oid in _TEXT_JSON or (not detectors.verbatim and field.type_oid not in values.TEXTUAL):
                    self._escaped = True
        self._columns = _trimmed(columns)
        self._every = _trimmed(every)

    def __bool__(self) -> bool:
        return bool(self._every)

    def could_hit(self, buffer: bytes) -> bool:
        """False only if `apply` would change none of the whole DataRows in this buffer."""
        return bool(self._columns) or self._detected(buffer)

    def apply(self, frame: bytes) -> bytes:
        """One whole DataRow with its header; the same object if nothing changed. ProtocolViolation if malformed."""
        masks = self._every if self._detected(frame) else self._columns
        return self._rewrite(frame, masks) if masks else frame

    def apply_all(self, buffer: bytes) -> bytes:
        """A buffer of nothing but whole DataRows; the same object if nothing changed."""
        if not self.could_hit(buffer):
            return buffer
        bounds = _frames(buffer)
        pieces: list[bytes] = []
        copied = 0
        for first in range(0, len(bounds) - 1, GROUP):
            last = min(first + GROUP, len(bounds) - 1)
            if not self.could_hit(buffer[bounds[first] : bounds[last]]):
                continue
            for index in range(first, last):
                frame = buffer[bounds[index] : bounds[index + 1]]
                masked = self.apply(frame)
                if masked is not frame:
                    pieces += (buffer[copied : bounds[index]], masked)
                    copied = bounds[index + 1]
        if not pieces:
            return buffer
        pieces.append(buffer[copied:])
        return b"".join(pieces)

    def _detected(self, buffer: bytes) -> bool:
        if len(self._every) == 0 or not self._detectors:
            return False
        return self._always or self._detectors.could_hit(buffer) or (self._escaped and values.escapes(buffer))

    def _rewrite(self, frame: bytes, masks: Sequence[Mask | None]) -> bytes:
        size = len(frame)
        if size < 7:
            raise ProtocolViolation("DataRow: it ends before the number of its columns")
        kind, length, count = _HEADER.unpack_from(frame)
        if kind != b"D" or length != size - 1:
            raise ProtocolViolation("DataRow: its length does not fit")
        if count != self._count:
            raise ProtocolViolation(f"DataRow: {count} columns, but RowDescription announced {self._count}")
        pieces: list[bytes] = []
        copied = position = 7
        for mask in masks:
            if position + 4 > size:
                raise ProtocolViolation("DataRow: it ends in the middle of a length")
            (length,) = _LENGTH.unpack_from(frame, position)
            start = position + 4
            if length < 0:
                if length != -1:
                    raise ProtocolViolation(f"DataRow: a value of {length} bytes")
                position = start
                continue
            end = start + length
            if end > size:
                raise ProtocolViolation("DataRow: a value is longer than the message")
            if mask is not None:
                value = frame[start:end]
                shown = mask(value)
                if shown is None:
                    pieces += (frame[copied:position], b"\xff\xff\xff\xff")
                    copied = end
                elif shown is not value:
                    pieces += (frame[copied:position], _LENGTH.pack(len(shown)), shown)
                    copied = end
            position = end
        if not pieces:
            return frame
        pieces.append(frame[copied:])
        body = b"".join(pieces)
        return b"D" + _LENGTH.pack(len(body) + 6) + frame[5:7] + body


def compile_row_mask(
    plan: MaskPlan,
    fields: Sequence[Field],
    targets: Mapping[tuple[int, int], Strategy],
    withheld: Mapping[int, Strategy],
) -> RowMask | None:
    """The mask of one result; None if nothing in it can be masked.

    `targets`: strategy by table OID and attribute number (`load_column_targets`). `withheld`: strategy by index of
    the result's column, where lineage says that it may carry a masked column (`withheld_columns`). Where both or
    several apply the stronger wins; a column's mask wins over the detectors. MaskError if the plan cannot be applied.
    """
    strategies: dict[int, Strategy] = {}
    for index, field in enumerate(fields):
        by_origin = targets.get((field.table_oid, field.attnum)) if field.table_oid else None
        by_lineage = withheld.get(index)
        if by_origin is not None and by_lineage is not None:
            strategies[index] = stronger(by_origin, by_lineage)
        elif (strategy := by_origin or by_lineage) is not None:
            strategies[index] = strategy
    mask = RowMask(fields, strategies, Detectors(plan.detectors))
    return mask if mask else None


def _trimmed(masks: list[Mask | None]) -> tuple[Mask | None, ...]:
    """Without the columns behind the last that is masked: nobody has to look at them."""
    while masks and masks[-1] is None:
        masks.pop()
    return tuple(masks)


def _frames(buffer: bytes) -> list[int]:
    bounds = [0]
    position, size = 0, len(buffer)
    unpack = _LENGTH.unpack_from
    while position + 5 <= size:
        length = unpack(buffer, position + 1)[0]
        if length < 4:
            raise ProtocolViolation("DataRow: a message shorter than its own length")
        position += 1 + length
        bounds.append(position)
    if position != size:
        raise ProtocolViolation("DataRow: a buffer that does not end with a message")
    return bounds
