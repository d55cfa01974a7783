"""Durations (`15m`), sizes (`1Mi`) and times in resources: parsed, bounded, written back, and their schemas."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, ValidationInfo, WithJsonSchema

# Durations

MANIFEST = "manifest"
"""Context of a validation of what stands in a file: only what the API server takes is taken, no Python values."""

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"


def parse_duration(text: str) -> float:
    """Seconds of a duration like `15m`, `1h30m` or `500ms`. Raises ValueError."""
    if len(text) > 32 or not _DURATION.fullmatch(text):
        raise ValueError("not a duration; write it like 30s, 15m, 1h30m or 500ms")
    return sum(float(number) * _MILLISECONDS[unit] for number, unit in _DURATION_PART.findall(text)) / 1000


def format_duration(seconds: float) -> str:
    """The shortest text of a duration: 900.0 is `15m`, 5400.0 is `1h30m`. Whole milliseconds."""
    rest = round(seconds * 1000)
    parts: list[str] = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _to_seconds(value: object, info: ValidationInfo) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, float) and info.context is not MANIFEST:
        return value
    raise ValueError("not a duration; write it like 30s, 15m, 1h30m or 500ms")


def duration(shortest: str, longest: str) -> Any:
    """Annotations of a duration field: seconds (float) in Python, text like `15m` in JSON, with bounds."""
    low, high = parse_duration(shortest), parse_duration(longest)
    message = f"must be from {shortest} to {longest}"

    def bounded(seconds: float) -> float:
        if not low <= seconds <= high:
            raise ValueError(message)
        return seconds

    rule = f"duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}')"
    return (
        BeforeValidator(_to_seconds),
        AfterValidator(bounded),
        PlainSerializer(format_duration, return_type=str),
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 2,
                "maxLength": 32,
                "pattern": DURATION_PATTERN,
                "x-kubernetes-validations": [{"rule": rule, "message": message}],
            }
        ),
    )


# Ages

_AGE = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_AGE_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
AGE_PATTERN = r"^[1-9][0-9]{0,4}[mhd]$"


def parse_age(text: str) -> float:
    """Seconds of an age like `90d`, `12h` or `30m`. Raises ValueError."""
    match = _AGE.fullmatch(text) if len(text) <= 6 else None
    if match is None:
        raise ValueError("not an age; write it like 90d, 12h or 30m")
    return float(int(match[1]) * _AGE_SECONDS[match[2]])


def format_age(seconds: float) -> str:
    """The shortest text of an age: 7776000.0 is `90d`. Whole minutes."""
    minutes = round(seconds / 60)
    for unit, size in (("d", 1440), ("h", 60)):
        if minutes and minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def _age_to_seconds(value: object, info: ValidationInfo) -> float:
    if isinstance(value, str):
        return parse_age(value)
    if isinstance(value, float) and info.context is not MANIFEST:
        return value
    raise ValueError("not an age; write it like 90d, 12h or 30m")


Age = Annotated[
    float,
    BeforeValidator(_age_to_seconds),
    PlainSerializer(format_age, return_type=str),
    WithJsonSchema({"type": "string", "minLength": 2, "maxLength": 6, "pattern": AGE_PATTERN}),
]
"""A field that says how long something is kept: seconds in Python, text like `90d` in JSON."""


def age_rule(path: str) -> str:
    """CEL: minutes of such a field."""
    number = f"int({path}.substring(0, size({path}) - 1))"
    return f"({path}.endsWith('d') ? {number} * 1440 : {path}.endsWith('h') ? {number} * 60 : {number})"


# Quantities

_QUANTITY = re.compile(r"([0-9]+)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_BYTES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
QUANTITY_PATTERN = r"^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$"


def parse_quantity(text: str) -> int:
    """Bytes of a quantity like `512`, `64Ki`, `1Mi` or `1G`. Raises ValueError."""
    match = _QUANTITY.fullmatch(text) if len(text) <= 24 else None
    if match is None:
        raise ValueError("not a size in bytes; write it like 1048576, 64Ki, 1Mi or 1Gi")
    return int(match[1]) * _BYTES[match[2] or ""]


def format_quantity(count: int) -> str:
    """The shortest exact text with a binary suffix: 1048576 is `1Mi`."""
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if count and count % _BYTES[suffix] == 0:
            return f"{count // _BYTES[suffix]}{suffix}"
    return str(count)


def _to_bytes(value: object) -> int:
    if isinstance(value, str):
        return parse_quantity(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("not a size in bytes; write it like 1048576, 64Ki, 1Mi or 1Gi")


def quantity(least: str, most: str) -> Any:
    """Annotations of a size field: bytes (int) in Python, a number or text like `1Mi` in JSON, with bounds."""
    low, high = parse_quantity(least), parse_quantity(most)
    message = f"must be from {least} to {most}"

    def bounded(count: int) -> int:
        if not low <= count <= high:
            raise ValueError(message)
        return count

    rule = (
        f"quantity(string(self)).compareTo(quantity('{least}')) >= 0 && "
        f"quantity(string(self)).compareTo(quantity('{most}')) <= 0"
    )
    return (
        BeforeValidator(_to_bytes),
        AfterValidator(bounded),
        PlainSerializer(format_quantity, return_type=str),
        WithJsonSchema(
            {
                "x-kubernetes-int-or-string": True,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "maxLength": 24,
                "pattern": QUANTITY_PATTERN,
                "x-kubernetes-validations": [{"rule": rule, "message": message}],
            }
        ),
    )


# Times

_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _to_datetime(value: object) -> datetime:
    if isinstance(value, str) and _TIMESTAMP.fullmatch(value):
        return datetime.fromisoformat(value.upper())
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    raise ValueError("not a time; write it in RFC 3339 with a zone, like 2027-01-01T00:00:00Z")


def format_timestamp(value: datetime) -> str:
    """RFC 3339 in UTC, `2027-01-01T00:00:00Z`."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    BeforeValidator(_to_datetime),
    PlainSerializer(format_timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64}),
]
"""A moment, with a zone. RFC 3339 in JSON."""
