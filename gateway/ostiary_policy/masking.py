"""The plan of a masking: which fields to hide and how. Doing it is the gateway's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

StrategyType = Literal["Redact", "Partial", "Pseudonym", "Null"]

STRENGTH: dict[StrategyType, int] = {"Null": 4, "Redact": 3, "Pseudonym": 2, "Partial": 1}
"""Where two masks meet on one field, the stronger wins."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How a value is replaced.

    Redact: the whole value becomes `replacement`. Partial: all but the first `keep_first` and the last `keep_last`
    characters become `char`, one for one. Pseudonym: HMAC of the value under `key` (deterministic). Null: NULL.
    """

    type: StrategyType
    keep_first: int = 0
    keep_last: int = 0
    char: str = "*"
    replacement: str = "[redacted]"
    key: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ColumnMask:
    """A column of a relation, by its name in the catalog. `*` is any schema, table or column."""

    schema: str
    table: str
    column: str
    strategy: Strategy


@dataclass(frozen=True, slots=True)
class JsonPathMask:
    """A path in a JSON document (Kubernetes objects)."""

    path: str
    strategy: Strategy


@dataclass(frozen=True, slots=True)
class DetectorMask:
    """What looks like this in any text value: a built-in detector (`CreditCard`, `Email` …), or `pattern` (RE2)."""

    detector: str
    strategy: Strategy
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """All that is to be masked in one response. Falsy if nothing is.

    No target stands twice; targets may still overlap (`*`, a detector in a masked column): the stronger wins there too.
    """

    columns: tuple[ColumnMask, ...] = ()
    json_paths: tuple[JsonPathMask, ...] = ()
    detectors: tuple[DetectorMask, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.columns or self.json_paths or self.detectors)


NOTHING = MaskPlan()

MaskCheck = Callable[[ColumnMask | JsonPathMask | DetectorMask], tuple[str, str] | None]
"""Says of a mask why it could not be applied: which field below it is at fault, and what is wrong. None if it could."""


def stronger(one: Strategy, other: Strategy) -> Strategy:
    """What shows no more than either: the stronger of two types, the first of two that are the same.

    Of two Partials only what both keep: who masks the last characters must not see them because somebody else's mask
    keeps these, and fewer of them.
    """
    if one.type != other.type:
        return one if STRENGTH[one.type] > STRENGTH[other.type] else other
    if one.type == "Partial" and (other.keep_first < one.keep_first or other.keep_last < one.keep_last):
        kept = min(one.keep_first, other.keep_first), min(one.keep_last, other.keep_last)
        return replace(one, keep_first=kept[0], keep_last=kept[1])
    return one


def combine(plans: Iterable[MaskPlan]) -> MaskPlan:
    """All of the plans: each target once, with its strongest strategy. The order is that of first appearance."""
    columns: dict[tuple[str, str, str], ColumnMask] = {}
    json_paths: dict[str, JsonPathMask] = {}
    detectors: dict[tuple[str, str], DetectorMask] = {}
    for plan in plans:
        for column in plan.columns:
            name = column.schema, column.table, column.column
            known = columns.setdefault(name, column)
            columns[name] = replace(known, strategy=stronger(known.strategy, column.strategy))
        for path in plan.json_paths:
            known_path = json_paths.setdefault(path.path, path)
            json_paths[path.path] = replace(known_path, strategy=stronger(known_path.strategy, path.strategy))
        for detector in plan.detectors:
            # A pattern is what it matches; a built-in detector is its name.
            key = ("", detector.pattern) if detector.pattern else (detector.detector, "")
            known_detector = detectors.setdefault(key, detector)
            detectors[key] = replace(known_detector, strategy=stronger(known_detector.strategy, detector.strategy))
    return MaskPlan(tuple(columns.values()), tuple(json_paths.values()), tuple(detectors.values()))
