"""Reads recorded PostgreSQL responses back: backend messages to rows, tags, errors and notices. Pure.

Source: PostgreSQL documentation, 55.7 "Message Formats". Values come out as text; binary ones of common types are
decoded, others shown as `\\x…` like bytea.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ostiary_gateway.audit.postgres_values import binary_text

MAX_MESSAGE = 16 * 1024 * 1024
"""Bytes of one message that are looked at; of a larger one the beginning is shown."""

_TYPES = frozenset(b"1234567ACDEGHIKNRSTVWZcdfnstv")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of RowDescription. `format` 0 is text, 1 binary."""

    name: str
    oid: int = 0
    format: int = 0


@dataclass(frozen=True, slots=True)
class Columns:
    """RowDescription: the rows that follow have these columns."""

    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """DataRow. A value is text, or None for NULL."""

    values: tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Complete:
    """CommandComplete, EmptyQueryResponse (empty tag) or PortalSuspended."""

    tag: str


@dataclass(frozen=True, slots=True)
class Report:
    """ErrorResponse or NoticeResponse. Keys of `fields` are the protocol's letters: S, C, M, D, H …"""

    error: bool
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CopyStarted:
    """CopyOutResponse, CopyInResponse or CopyBothResponse. `direction` is out, in or both."""

    direction: str
    binary: bool


@dataclass(frozen=True, slots=True)
class CopyChunk:
    """CopyData, as sent."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Notification:
    """NotificationResponse."""

    channel: str
    payload: str


@dataclass(frozen=True, slots=True)
class Broken:
    """The recording ends inside a message, or holds what is none."""

    what: str


_DATA_ROW = ord("D")
_SKIPPED = Row(())

Item = Columns | Row | Complete | Report | CopyStarted | CopyChunk | Notification | Broken


def messages(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes, int]]:
    """Type, body and full length of each message. A body longer than MAX_MESSAGE is cut.

    What is incomplete at the end comes last, as type 0.
    """
    buffer = bytearray()
    position = 0
    skip = 0
    for chunk in chunks:
        if skip:
            left = chunk[skip:]
            skip = max(0, skip - len(chunk))
            chunk = left
        if position:
            del buffer[:position]
            position = 0
        buffer += chunk
        while len(buffer) - position >= 5:
            length = int.from_bytes(buffer[position + 1 : position + 5], "big")
            if length < 4 or buffer[position] not in _TYPES:
                yield 0, bytes(buffer[position : position + 64]), 0
                return
            wanted = min(length, MAX_MESSAGE)
            if len(buffer) - position < wanted + 1:
                break
            yield buffer[position], bytes(buffer[position + 5 : position + 1 + wanted]), length - 4
            here = len(buffer) - position
            position += min(here, length + 1)
            skip = max(0, length + 1 - here)
    if skip or position < len(buffer):
        yield 0, bytes(buffer[position : position + 64]), 0


def decode(chunks: Iterable[bytes], columns: Sequence[Column] = (), *, rows: int | None = None) -> Iterator[Item]:
    """What a recorded response says, in order.

    columns: of the rows, where the response does not describe them itself (the statement was described before).
    rows: of each result that are decoded; those after them come as rows without values. None: all.
    """
    described = tuple(columns)
    count = 0
    for kind, body, length in messages(chunks):
        if kind == 0:
            yield Broken("the recording ends inside a message")
            return
        if kind == _DATA_ROW:
            count += 1
            if rows is not None and count > rows:
                yield _SKIPPED
                continue
        else:
            count = 0
        try:
            item = _item(kind, body, length, described)
        except (struct.error, IndexError, ValueError) as error:
            yield Broken(f"a message of type {chr(kind)!r} is malformed: {error}")
            continue
        if isinstance(item, Columns):
            described = item.columns
        if item is not None:
            yield item


def described(detail: Mapping[str, object]) -> tuple[Column, ...]:
    """Columns from an end's detail: `columns: [{name, type, format}]`, where the response does not describe itself."""
    columns = detail.get("columns")
    found: list[Column] = []
    for item in columns if isinstance(columns, list) else []:
        name, oid, form = (item.get(key) for key in ("name", "type", "format")) if isinstance(item, dict) else (0, 0, 0)
        found.append(Column(str(name), oid if isinstance(oid, int) else 0, form if isinstance(form, int) else 0))
    return tuple(found)


def _item(kind: int, body: bytes, length: int, columns: tuple[Column, ...]) -> Item | None:
    match chr(kind):
        case "D":
            return Row(tuple(_values(body, length, columns)))
        case "T":
            return Columns(tuple(_columns(body)))
        case "C":
            return Complete(_text(body.split(b"\0", 1)[0]))
        case "I":
            return Complete("")
        case "s":
            return Complete("(more rows were not asked for)")
        case "E" | "N":
            return Report(kind == ord("E"), dict(_fields(body)))
        case "G" | "H" | "W":
            return CopyStarted({"G": "in", "H": "out", "W": "both"}[chr(kind)], bool(body[:1] == b"\x01"))
        case "d":
            return CopyChunk(body)
        case "A":
            channel, payload = body[4:].split(b"\0")[:2]
            return Notification(_text(channel), _text(payload))
        case _:
            return None


def _columns(body: bytes) -> Iterator[Column]:
    (count,) = struct.unpack_from("!H", body)
    position = 2
    for _ in range(count):
        end = body.index(b"\0", position)
        name = _text(body[position:end])
        _table, _attribute, oid, _size, _modifier, form = struct.unpack_from("!IHIhih", body, end + 1)
        position = end + 19
        yield Column(name, oid, form)


def _values(body: bytes, length: int, columns: tuple[Column, ...]) -> Iterator[str | None]:
    (count,) = struct.unpack_from("!H", body)
    position = 2
    for index in range(count):
        if position + 4 > len(body):
            if len(body) < length:
                yield "…"  # the row is longer than what is looked at
                continue
            raise ValueError("a value is outside its row")
        (size,) = struct.unpack_from("!i", body, position)
        position += 4
        if size < 0:
            yield None
            continue
        value = body[position : position + size]
        position += size
        if len(value) < size:
            if len(body) == length:
                raise ValueError("a value is outside its row")
            yield _text(value) + "…"
        elif index < len(columns) and columns[index].format == 1:
            yield binary_text(columns[index].oid, value)
        elif index >= len(columns) and b"\0" in value:
            yield "\\x" + value.hex()  # binary, and nothing says of which type
        else:
            yield _text(value)


def _fields(body: bytes) -> Iterator[tuple[str, str]]:
    for item in body.split(b"\0"):
        if item:
            yield chr(item[0]), _text(item[1:])


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")
