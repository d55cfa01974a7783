"""What a mask does to one value, by its type (OID) and format: the types that can carry a mask's text, and the rest.

A type that cannot hold the masked text (a number, a date, bytea …) becomes NULL: drivers decode by type, and a text
in the place of a number breaks them. OIDs are those of pg_type.dat; they never change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address
from struct import Struct, error
from uuid import UUID

from ostiary_gateway.masking import documents
from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.strategies import Mask, compile_strategy
from ostiary_gateway.protocols.postgres import literals
from ostiary_gateway.protocols.postgres._cells import (
    ALWAYS,
    ESCAPED,
    FLOAT4,
    FLOAT8,
    LOOSE,
    NUMERIC,
    PATTERNS,
    WEAK,
    WHOLE_NUMBER,
)
from ostiary_gateway.protocols.postgres._cells import TEXT as TEXT_CELL
from ostiary_policy.masking import Strategy

TEXT, BINARY = 0, 1
FIRST_NORMAL_OBJECT = 16384
"""OIDs from here on are made by users: extensions, enums, composites, their arrays."""

TEXTUAL = frozenset((18, 19, 25, 142, 705, 1042, 1043, 1790, 2275))
"""char, name, text, xml, unknown, bpchar, varchar, refcursor, cstring: their bytes are their text in both formats."""
JSON, JSONB, BYTEA, RECORD, INT8 = 114, 3802, 17, 2249, 20

# fmt: off
ELEMENT = {
    1002: 18, 1003: 19, 1009: 25, 143: 142, 1014: 1042, 1015: 1043, 2201: 1790, 1263: 2275, 199: 114, 3807: 3802,
    1001: 17, 2287: 2249, 1005: 21, 1007: 23, 1016: 20, 1021: 700, 1022: 701, 1231: 1700, 1041: 869, 651: 650,
}
# fmt: on
"""Element type by array type, where elements can hold what a detector looks for."""

INTEGERS = frozenset((20, 21, 23, 26, 28, 29, 5069))
NUMBERS = INTEGERS | frozenset((700, 701, 790, 1700))
SMALL = frozenset((21, 23, 26, 28, 29))
"""Integers of less than 13 digits."""
# fmt: off
PLAIN = frozenset((
    16, 24, 27, 602, 718, 774, 829, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 2202, 2203, 2204, 2205, 2206,
    2278, 2950, 3220, 3734, 3769, 4089, 4096, 4191, 600, 601, 603, 604, 628,
    1000, 1010, 1011, 1012, 1028, 1040, 1115, 1182, 1183, 1185, 1187, 1270, 1561, 1563, 775, 2951, 3221, 271,
))
# fmt: on
"""bool, dates and times, uuid, macaddr, bits, reg* names, geometry, and arrays of them: only patterns look at these."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EXPONENT = re.compile(rb"[0-9][eE]\+?[0-9]")
_PRINTABLE = re.compile(rb"[\t\n\r\x20-\x7e\x80-\xff]{3,}")


def element_mask(strategy: Strategy, oid: int, form: int, detectors: Detectors) -> Mask:
    """What a column's mask makes of a value of this type in this format (0 text, 1 binary). `detectors`: those that
    would look at it if it had none. What a Partial keeps must not be what they hide."""
    if strategy.type == "Null":
        return _null
    shown = detectors.over(strategy) if strategy.type == "Partial" and detectors else compile_strategy(strategy)
    if oid in TEXTUAL:
        return shown
    if oid in (JSON, JSONB):
        replacement = strategy.replacement.encode() if strategy.type == "Redact" else b"[redacted]"
        if oid == JSONB and form == BINARY:
            return lambda value: _versioned(documents.mask_whole(value[1:], shown, replacement))
        return lambda value: documents.mask_whole(value, shown, replacement)
    element = ELEMENT.get(oid)
    if element in TEXTUAL:
        if form == TEXT:
            return _or_null(lambda value: literals.map_array(value, shown))
        return _or_null(lambda value: literals.map_binary_array(value, lambda _oid, item: shown(item)))
    if oid >= FIRST_NORMAL_OBJECT and form == TEXT:
        # An enum, an extension's type (citext …), a composite: text to nearly every client.
        return shown
    return _null


def detector_mask(detectors: Detectors, oid: int, form: int) -> Mask | None:
    """What the detectors make of a value of this type in this format; None if they cannot find anything in it."""
    if not detectors:
        return None
    if oid in TEXTUAL:
        return detectors.mask
    detectors = _able(detectors, oid)
    if not detectors:
        return None
    if oid in PLAIN:
        return _null_on_hit(detectors, TO_TEXT.get(oid) if form == BINARY else None)
    if oid in NUMBERS:
        return _null_on_hit(detectors, TO_TEXT[oid] if form == BINARY else None)
    element = ELEMENT.get(oid)
    of_element = detector_mask(detectors, element, TEXT) if element is not None else None
    if element is not None and of_element is None:
        return None
    if form == BINARY:
        if (to_text := TO_TEXT.get(oid) or _BOUNDS.get(oid)) is not None:
            return _null_on_hit(detectors, to_text)
        return lambda value: _binary(detectors, oid, value)
    if oid in (JSON, JSONB):
        return lambda value: _json(detectors, value)
    if oid == BYTEA:
        return lambda value: None if _bytea_hits(detectors, value) else value
    if of_element is not None:
        return lambda value: _array(detectors, value, of_element)
    if oid == RECORD or oid >= FIRST_NORMAL_OBJECT:
        return lambda value: _composite(detectors, value)
    return _null_on_hit(detectors, None)


def _able(detectors: Detectors, oid: int) -> Detectors:
    """Those that can find anything in a type at all: a number of 13 digits is no int4, and an address is no date."""
    if oid in PLAIN or oid in SMALL:
        return detectors.custom()
    if oid in NUMBERS or oid in _BOUNDS:
        return detectors.only("CreditCard")
    return detectors.only("IPAddress") if oid in _NETWORK else detectors


def cell_kind(detectors: Detectors, oid: int, form: int) -> int:
    """How the compiled scan looks at the values of a type for which there is a `detector_mask`: see `_cells`."""
    if oid in TEXTUAL:
        return TEXT_CELL
    patterns = bool(_able(detectors, oid).custom())
    if form == BINARY and not verbatim(oid, form):
        native = not patterns and _BINARY_KINDS.get(oid)
        return native or (WEAK if not patterns and oid >= FIRST_NORMAL_OBJECT else ALWAYS)
    if oid in PLAIN or oid in SMALL:
        return PATTERNS
    if not verbatim(oid, form):
        return ALWAYS
    if form == BINARY and (oid == BYTEA or oid in ELEMENT):
        return WEAK
    escaped = oid in (JSON, JSONB, RECORD) or oid >= FIRST_NORMAL_OBJECT or ELEMENT.get(oid) in _ESCAPING
    return LOOSE | ESCAPED if escaped or patterns else LOOSE


def verbatim(oid: int, form: int) -> bool:
    """True if a value's characters stand in its bytes as they are, but for what JSON, arrays and records escape."""
    if form == TEXT:
        return oid != BYTEA and ELEMENT.get(oid) != BYTEA
    return oid in TEXTUAL or oid in (JSON, JSONB, BYTEA) or ELEMENT.get(oid) in TEXTUAL


def escapes(buffer: bytes) -> bool:
    """True if characters may be spelled otherwise: JSON's escapes and exponents, quotes in arrays and records."""
    return b"\\" in buffer or b'""' in buffer or _EXPONENT.search(buffer) is not None


def _null(_value: bytes) -> None:
    return None


def _or_null(mask: Mask) -> Mask:
    """Fail closed: what cannot be parsed is not shown."""

    def guarded(value: bytes) -> bytes | None:
        try:
            return mask(value)
        except literals.LiteralError:
            return None

    return guarded


def _versioned(document: bytes | None) -> bytes | None:
    """jsonb in binary begins with its version, 1."""
    return None if document is None else b"\x01" + document


def _null_on_hit(detectors: Detectors, to_text: Callable[[bytes], bytes] | None) -> Mask:
    def mask(value: bytes) -> bytes | None:
        if to_text is None:
            return None if detectors.hits(value) else value
        try:
            text = to_text(value)
        except (error, ValueError, OverflowError, IndexError):
            # Not what the type promised, or out of Python's range: look at the bytes as they are.
            return None if _raw_hits(detectors, value) else value
        return None if detectors.hits(text) else value

    return mask


def _json(detectors: Detectors, value: bytes) -> bytes | None:
    if not detectors.could_hit(value) and not escapes(value):
        return value
    masked = documents.mask_scalars(value, detectors.mask)
    if detectors.custom_hits(masked):
        # A pattern that spans several tokens: the document cannot be kept.
        return documents.quote(b"[redacted]")
    return masked


def _array(detectors: Detectors, value: bytes, element: Mask) -> bytes | None:
    try:
        masked = literals.map_array(value, element)
    except literals.LiteralError:
        return None
    return None if detectors.custom_hits(masked) else masked


def _composite(detectors: Detectors, value: bytes) -> bytes | None:
    """A type that the gateway does not know, in text: a record, an array, JSON in a domain, or simply text."""
    parse: Callable[[bytes, Mask], bytes] | None = None
    if value[:1] == b"(" and value[-1:] == b")":
        parse = literals.map_record
    elif value[:1] in (b"{", b"[") and value[-1:] == b"}":
        parse = literals.map_array
    if parse is not None:
        try:
            masked = parse(value, lambda item: _composite(detectors, item))
        except (literals.LiteralError, RecursionError):
            masked = value
        if masked is not value:
            return None if detectors.custom_hits(masked) else masked
    return detectors.mask(value)


def _bytea_hits(detectors: Detectors, value: bytes) -> bool:
    if value[:2] == b"\\x":
        try:
            return _raw_hits(detectors, bytes.fromhex(value[2:].decode("ascii")))
        except ValueError:
            return detectors.hits(value)
    return detectors.hits(value)


def _raw_hits(detectors: Detectors, value: bytes) -> bool:
    """Any hit in the printable stretches of bytes; the length before a text may look like 3 characters of it."""
    return any(detectors.hits(run[skip:]) for run in _PRINTABLE.findall(value) for skip in range(4))


def _binary(detectors: Detectors, oid: int, value: bytes, depth: int = 0) -> bytes | None:
    """Binary values that have a structure, or that are not known."""
    if oid in TEXTUAL or oid == JSON:
        return detectors.mask(value) if oid != JSON else _json(detectors, value)
    if oid == JSONB and value[:1] == b"\x01":
        masked = _json(detectors, value[1:])
        return value if masked == value[1:] else _versioned(masked)
    if depth < 16:

        def inner(item: int, data: bytes) -> bytes | None:
            return _binary(detectors, item, data, depth + 1)

        try:
            if oid in ELEMENT and ELEMENT[oid] != RECORD:
                if literals.array_type(value) == ELEMENT[oid]:
                    return literals.map_binary_array(value, inner)
            elif oid == RECORD:
                return literals.map_binary_record(value, inner)
            elif oid in TO_TEXT or oid in PLAIN or oid in _BOUNDS:
                mask = detector_mask(detectors, oid, BINARY)
                return value if mask is None else mask(value)
        except literals.LiteralError:
            return None
    return None if _raw_hits(detectors, value) else value


def _integer(value: bytes) -> bytes:
    return str(int.from_bytes(value, "big", signed=True)).encode()


def _unsigned(value: bytes) -> bytes:
    return str(int.from_bytes(value, "big")).encode()


def _float(layout: Struct) -> Callable[[bytes], bytes]:
    def to_text(value: bytes) -> bytes:
        number: float = layout.unpack(value)[0]
        return f"{number:.0f}".encode() if number.is_integer() and abs(number) < 1e20 else repr(number).encode()

    return to_text


_NUMERIC_HEADER = Struct("!HhHH")


def _numeric(value: bytes) -> bytes:
    """numeric in binary: digits in base 10,000, the weight of the first, a sign, how many decimals to show."""
    count, weight, sign, scale = _NUMERIC_HEADER.unpack_from(value)
    if len(value) != 8 + 2 * count or sign not in (0, 0x4000):
        return b"NaN" if sign >= 0xC000 else _unknown()
    groups = [int.from_bytes(value[8 + 2 * i : 10 + 2 * i], "big") for i in range(count)]
    whole = "".join(f"{groups[i] if i < count else 0:04d}" for i in range(weight + 1)).lstrip("0") or "0"
    part = "0000" * max(0, -weight - 1) + "".join(f"{group:04d}" for group in groups[max(0, weight + 1) :])
    text = ("-" if sign else "") + whole + ("." + part[:scale].ljust(scale, "0") if scale else "")
    return text.encode()


def _unknown() -> bytes:
    raise ValueError("not a numeric")


def _date(value: bytes) -> bytes:
    return (date(2000, 1, 1) + timedelta(days=int.from_bytes(value, "big", signed=True))).isoformat().encode()


def _timestamp(value: bytes) -> bytes:
    moment = _EPOCH + timedelta(microseconds=int.from_bytes(value, "big", signed=True))
    return str(moment.replace(tzinfo=None)).encode()


def _inet(value: bytes) -> bytes:
    return str(ip_address(value[4:])).encode()


def _range(bound: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Flags in one byte, then the bounds that there are, each with its length."""

    def to_text(value: bytes) -> bytes:
        bounds: list[bytes] = []
        position = 1
        while position < len(value):
            end = position + 4 + int.from_bytes(value[position : position + 4], "big")
            bounds.append(bound(value[position + 4 : end]))
            position = end
        return b",".join(bounds)

    return to_text


TO_TEXT: dict[int, Callable[[bytes], bytes]] = {
    **dict.fromkeys((20, 21, 23, 790), _integer),
    **dict.fromkeys((26, 28, 29, 5069), _unsigned),
    700: _float(Struct("!f")),
    701: _float(Struct("!d")),
    1700: _numeric,
    1082: _date,
    1114: _timestamp,
    1184: _timestamp,
    2950: lambda value: str(UUID(bytes=value)).encode(),
    16: lambda value: b"t" if value == b"\x01" else b"f",
    869: _inet,
    650: _inet,
}
"""Binary values as the text that PostgreSQL would show."""

_BINARY_KINDS: dict[int, int] = {INT8: WHOLE_NUMBER, 1700: NUMERIC, 701: FLOAT8, 700: FLOAT4}
_ESCAPING = frozenset((JSON, JSONB, RECORD))
_NETWORK = frozenset((869, 650, 1041, 651))

_BOUNDS: dict[int, Callable[[bytes], bytes]] = {3926: _range(_integer), 3906: _range(_numeric)}
"""The bounds of int8range and numrange."""
