"""The plan of a masking: which fields to hide and how. Doing it is the gateway's."""

from __future__ import annotations

from dataclasses import dataclass
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
    key: bytes = b""


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
    """Whatever looks like this in any text value: a built-in detector (`CreditCard`, `Email`, …), or `pattern` (RE2)."""

    detector: str
    strategy: Strategy
    pattern: str = ""


@dataclass(frozen=True, slots=True)
class MaskPlan:
    """All that is to be masked in one response. Falsy if nothing is."""

    columns: tuple[ColumnMask, ...] = ()
    json_paths: tuple[JsonPathMask, ...] = ()
    detectors: tuple[DetectorMask, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.columns or self.json_paths or self.detectors)


NOTHING = MaskPlan()
