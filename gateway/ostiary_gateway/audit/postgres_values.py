"""PostgreSQL's binary values as text, for the common types. Pure. Source: the send functions in PostgreSQL's adt/."""

from __future__ import annotations

import ipaddress
import math
import struct
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
MAX_DIMENSIONS = 6


def binary_text(oid: int, value: bytes) -> str:
    """A binary value as PostgreSQL would print it, nearly; `\\x…` where the type is not known or the bytes are odd."""
    decoder = _DECODERS.get(oid)
    try:
        if decoder is not None:
            return decoder(value)
        if oid in _ARRAYS:
            return _array(value)
    except (struct.error, ValueError, IndexError, OverflowError):
        pass  # not what the type says: shown as bytes
    return "\\x" + value.hex()


def _utf8(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _number(form: str) -> Callable[[bytes], str]:
    return lambda value: str(struct.unpack(form, value)[0])


def _special(number: float) -> str:
    return "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"


def _float4(value: bytes) -> str:
    (number,) = struct.unpack("!f", value)
    if not math.isfinite(number):
        return _special(number)
    for digits in range(6, 10):
        short = f"{number:.{digits}g}"
        if struct.pack("!f", float(short)) == value:
            return short
    return repr(number)


def _float8(value: bytes) -> str:
    (number,) = struct.unpack("!d", value)
    return repr(number).removesuffix(".0") if math.isfinite(number) else _special(number)


def _numeric(value: bytes) -> str:
    count, weight, sign, scale = struct.unpack_from("!HhHH", value)
    special = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}.get(sign)
    if special is not None:
        return special
    groups = struct.unpack_from(f"!{count}H", value, 8)

    def digits(first: int, last: int) -> str:
        """Groups of four digits; number 0 is the one of the highest weight."""
        return "".join(f"{groups[i] if 0 <= i < count else 0:04d}" for i in range(first, last))

    whole = digits(0, weight + 1).lstrip("0") or "0"
    fraction = digits(weight + 1, weight + 1 + (scale + 3) // 4)[:scale]
    return ("-" if sign == 0x4000 else "") + whole + (f".{fraction}" if scale else "")


def _date(value: bytes) -> str:
    (days,) = struct.unpack("!i", value)
    if days in (2**31 - 1, -(2**31)):
        return "infinity" if days > 0 else "-infinity"
    return (date(2000, 1, 1) + timedelta(days=days)).isoformat()


def _timestamp(zone: str) -> Callable[[bytes], str]:
    def text(value: bytes) -> str:
        (microseconds,) = struct.unpack("!q", value)
        if microseconds in (2**63 - 1, -(2**63)):
            return "infinity" if microseconds > 0 else "-infinity"
        moment = _EPOCH + timedelta(microseconds=microseconds)
        return _trim(moment.strftime("%Y-%m-%d %H:%M:%S.%f")) + zone

    return text


def _clock(microseconds: int) -> str:
    seconds, rest = divmod(microseconds, 1_000_000)
    return _trim(f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{rest:06d}")


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".")


def _time(value: bytes) -> str:
    return _clock(struct.unpack("!q", value)[0])


def _timetz(value: bytes) -> str:
    microseconds, west = struct.unpack("!qi", value)
    sign, seconds = ("-", west) if west > 0 else ("+", -west)
    minutes = f":{seconds // 60 % 60:02d}" if seconds % 3600 else ""
    return f"{_clock(microseconds)}{sign}{seconds // 3600:02d}{minutes}"


def _interval(value: bytes) -> str:
    microseconds, days, months = struct.unpack("!qii", value)
    years = int(months / 12)
    parts: list[str] = []
    negative = False
    for count, unit in ((years, "year"), (months - 12 * years, "mon"), (days, "day")):
        if count:
            plus = "+" if negative and count > 0 else ""
            parts.append(f"{plus}{count} {unit}{'' if count == 1 else 's'}")
            negative = count < 0
    if microseconds or not parts:
        sign = "-" if microseconds < 0 else "+" if negative else ""
        parts.append(sign + _clock(abs(microseconds)))
    return " ".join(parts)


def _inet(value: bytes) -> str:
    family, bits, is_cidr, size = value[0], value[1], value[2], value[3]
    if family not in (2, 3) or size != len(value) - 4:
        raise ValueError("not an inet")
    address = ipaddress.ip_address(value[4:])
    return str(address) if bits == address.max_prefixlen and not is_cidr else f"{address}/{bits}"


def _bool(value: bytes) -> str:
    return {b"\x01": "t", b"\x00": "f"}.get(value, "\\x" + value.hex())


def _jsonb(value: bytes) -> str:
    if value[:1] != b"\x01":
        raise ValueError("not a jsonb of version 1")
    return _utf8(value[1:])


def _array(value: bytes) -> str:
    dimensions, _has_null, oid = struct.unpack_from("!iii", value)
    if not 0 <= dimensions <= MAX_DIMENSIONS:
        raise ValueError("too many dimensions")
    if dimensions == 0:
        return "{}"
    sizes = [struct.unpack_from("!i", value, 12 + 8 * i)[0] for i in range(dimensions)]
    position = 12 + 8 * dimensions
    if min(sizes) < 1 or math.prod(sizes) > (len(value) - position) // 4:
        raise ValueError("more elements than bytes")

    def level(depth: int) -> str:
        nonlocal position
        items: list[str] = []
        for _ in range(sizes[depth]):
            if depth + 1 < dimensions:
                items.append(level(depth + 1))
                continue
            (size,) = struct.unpack_from("!i", value, position)
            position += 4
            if size < 0:
                items.append("NULL")
                continue
            if position + size > len(value):
                raise ValueError("an element is outside its array")
            items.append(_quoted(binary_text(oid, value[position : position + size])))
            position += size
        return "{" + ",".join(items) + "}"

    return level(0)


def _quoted(text: str) -> str:
    plain = text and text.lower() != "null" and not any(c in '{},"\\ \t\n\r\v\f' for c in text)
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_DECODERS: dict[int, Callable[[bytes], str]] = {
    16: _bool,
    18: _utf8,
    19: _utf8,
    20: _number("!q"),
    21: _number("!h"),
    23: _number("!i"),
    25: _utf8,
    26: _number("!I"),
    114: _utf8,
    142: _utf8,
    650: _inet,
    700: _float4,
    701: _float8,
    705: _utf8,
    790: lambda value: f"{struct.unpack('!q', value)[0] / 100:.2f}",
    829: lambda value: value.hex(":"),
    869: _inet,
    1042: _utf8,
    1043: _utf8,
    1082: _date,
    1083: _time,
    1114: _timestamp(""),
    1184: _timestamp("+00"),
    1186: _interval,
    1266: _timetz,
    1700: _numeric,
    2950: lambda value: str(uuid.UUID(bytes=value)),
    3802: _jsonb,
}
"""By the type's OID in pg_type."""

_ARRAYS = frozenset(
    (199, 651, 1000, 1001, 1002, 1003, 1005, 1007, 1009, 1014, 1015, 1016, 1021, 1022, 1028, 1040, 1041, 1115, 1182)
    + (1183, 1185, 1187, 1231, 1270, 2951, 3807)
)
