"""RowDescription, and the mask of the DataRows that follow it.

Source: PostgreSQL documentation, "Message Formats". The mask is compiled once per description and result formats;
most rows are passed on without being copied.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from struct import Struct, error

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.strategies import Mask
from ostiary_gateway.protocols.postgres import values
from ostiary_gateway.protocols.postgres._cells import ALWAYS
from ostiary_gateway.protocols.postgres._row_cells import RowCells
from ostiary_gateway.protocols.postgres.native import native
from ostiary_gateway.protocols.postgres.values import BINARY, TEXT
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation
from ostiary_policy.masking import MaskPlan, Strategy, stronger

Found = Callable[[int, int], None]
"""Takes the table OID and attribute number of a column in which a detector found something."""

_COUNT = Struct("!H")
_FIELD = Struct("!IhIhih")


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

    __slots__ = ("_cells", "apply_all")

    apply_all: Callable[[bytes], bytes]
    """A buffer of nothing but whole DataRows; the same object if nothing changed. ProtocolViolation if malformed."""

    def __init__(
        self,
        fields: Sequence[Field],
        strategies: Mapping[int, Strategy],
        detectors: Detectors,
        found: Found | None = None,
    ) -> None:
        masks: list[Mask | None] = [None] * len(fields)
        kinds = bytearray(len(fields))
        for index, field in enumerate(fields):
            strategy = strategies.get(index)
            if strategy is not None:
                masks[index] = values.element_mask(strategy, field.type_oid, field.format, detectors)
                kinds[index] = ALWAYS
                continue
            masks[index] = values.detector_mask(detectors, field.type_oid, field.format)
            if masks[index] is not None:
                kinds[index] = values.cell_kind(detectors, field.type_oid, field.format)
        self._cells = RowCells(bytes(kinds), masks, *native(detectors)) if any(kinds) else None
        if self._cells is not None:
            self.apply_all = self._cells.apply
        if self._cells is not None and found is not None:
            plainly = bytes(field.table_oid > 0 and index not in strategies for index, field in enumerate(fields))
            self._cells.report(plainly, lambda index: found(fields[index].table_oid, fields[index].attnum))

    def __bool__(self) -> bool:
        return self._cells is not None


def compile_row_mask(
    plan: MaskPlan,
    fields: Sequence[Field],
    targets: Mapping[tuple[int, int], Strategy],
    withheld: Mapping[int, Strategy],
    found: Found | None = None,
) -> RowMask | None:
    """The mask of one result; None if nothing in it can be masked.

    `targets`: strategy by table OID and attribute number (`load_column_targets`). `withheld`: strategy by index of
    the result's column, where lineage says that it may carry a masked column (`withheld_columns`). Where both or
    several apply the stronger wins; so it does where a detector hits what a Partial would keep. MaskError if the plan
    cannot be applied.
    `found` is told of the plain columns that detectors hit.
    """
    strategies: dict[int, Strategy] = {}
    for index, field in enumerate(fields):
        by_origin = targets.get((field.table_oid, field.attnum)) if field.table_oid else None
        by_lineage = withheld.get(index)
        if by_origin is not None and by_lineage is not None:
            strategies[index] = stronger(by_origin, by_lineage)
        elif (strategy := by_origin or by_lineage) is not None:
            strategies[index] = strategy
    mask = RowMask(fields, strategies, Detectors(plan.detectors), found)
    return mask if mask else None
