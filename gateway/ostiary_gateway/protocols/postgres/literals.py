"""Arrays and records in PostgreSQL's text and binary forms: every element through a function, the form kept.

Source: PostgreSQL documentation "Array Input and Output Syntax", "Composite Type Input and Output Syntax"; array_send
and record_send for the binary forms.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from struct import Struct

Map = Callable[[bytes], bytes | None]
"""One element, unquoted; None is NULL."""
TypedMap = Callable[[int, bytes], bytes | None]
"""One element of a type (its OID), in binary."""

_DIMENSIONS = re.compile(rb"(?:\[-?[0-9]+:-?[0-9]+\])+=")
_ARRAY_TOKEN = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|([{}])|(,)|([^{},"]+)', re.DOTALL)
_ARRAY_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_RECORD_FIELD = re.compile(rb'(?:"((?:[^"\\]++|""|\\.)*+)"|([^,()"\\]*))([,)])', re.DOTALL)
_RECORD_ESCAPE = re.compile(rb'""|\\(.)', re.DOTALL)
_INT32 = Struct("!i")
_UINT32 = Struct("!I")
_ARRAY_HEADER = Struct("!iiI")
MAX_DIMENSIONS = 6


class LiteralError(ValueError):
    """Not the literal that its type promised."""


def map_array(literal: bytes, element: Map) -> bytes:
    """An array literal (`{a,"b c",NULL,{…}}`); the same object if no element changed. LiteralError if it is none."""
    prefix = _DIMENSIONS.match(literal)
    position = prefix.end() if prefix is not None else 0
    pieces = [literal[:position]]
    depth, changed, after_element = 0, False, False
    while position < len(literal):
        token = _ARRAY_TOKEN.match(literal, position)
        if token is None or (depth == 0 and token.lastindex != 2):
            raise LiteralError("not an array literal")
        position = token.end()
        shown = token.group()
        if token.lastindex == 2:
            if shown == b"{":
                if after_element:
                    raise LiteralError("not an array literal")
                depth += 1
            else:
                depth -= 1
                after_element = True
                if depth == 0 and position != len(literal):
                    raise LiteralError("not an array literal")
        elif token.lastindex == 3:
            if not after_element:
                raise LiteralError("not an array literal")
            after_element = False
        else:
            if after_element:
                raise LiteralError("not an array literal")
            after_element = True
            quoted = token.lastindex == 1
            if quoted or shown.upper() != b"NULL":
                text = _ARRAY_ESCAPE.sub(rb"\1", token.group(1)) if quoted else shown
                masked = element(text)
                if masked != text:
                    changed = True
                    shown = b"NULL" if masked is None else b'"' + _escape(masked) + b'"'
        pieces.append(shown)
    if depth != 0 or not after_element:
        raise LiteralError("not an array literal")
    return b"".join(pieces) if changed else literal


def map_record(literal: bytes, field: Map) -> bytes:
    """A record literal (`(a,"b c",)`); the same object if no field changed. LiteralError if it is none."""
    if literal[:1] != b"(" or literal[-1:] != b")":
        raise LiteralError("not a record literal")
    if literal == b"()":
        return literal
    position, changed = 1, False
    pieces = [b"("]
    while position < len(literal):
        token = _RECORD_FIELD.match(literal, position)
        if token is None or (token.group(3) == b")") != (token.end() == len(literal)):
            raise LiteralError("not a record literal")
        position = token.end()
        quoted, bare, end = token.groups()
        if quoted is None and not bare:
            pieces.append(end)
            continue
        text = bare if quoted is None else _RECORD_ESCAPE.sub(lambda m: m.group(1) or b'"', quoted)
        masked = field(text)
        if masked == text:
            pieces.append(token.group())
        else:
            changed = True
            pieces.append((b"" if masked is None else b'"' + _escape(masked) + b'"') + end)
    return b"".join(pieces) if changed else literal


def _escape(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')


def array_type(value: bytes) -> int:
    """OID of the elements of a binary array."""
    if len(value) < _ARRAY_HEADER.size:
        raise LiteralError("a binary array is shorter than its header")
    return int(_ARRAY_HEADER.unpack_from(value)[2])


def map_binary_array(value: bytes, element: TypedMap) -> bytes:
    """A binary array of any dimensions; the same object if no element changed. LiteralError if it is malformed."""
    oid = array_type(value)
    dimensions = _ARRAY_HEADER.unpack_from(value)[0]
    if not 0 <= dimensions <= MAX_DIMENSIONS:
        raise LiteralError("a binary array has more than 6 dimensions")
    position = _ARRAY_HEADER.size
    count = 1 if dimensions else 0
    if len(value) < position + 8 * dimensions:
        raise LiteralError("a binary array is shorter than its header")
    for _ in range(dimensions):
        count *= _INT32.unpack_from(value, position)[0]
        position += 8
    if count < 0 or count > len(value):
        raise LiteralError("a binary array has more elements than bytes")
    body = position
    pieces: list[bytes] = []
    changed, null = False, bool(_ARRAY_HEADER.unpack_from(value)[1])
    for _ in range(count):
        data, position = _take(value, position)
        masked = element(oid, data) if data is not None else None
        changed = changed or masked != data
        null = null or masked is None
        pieces.append(_put(masked))
    if position != len(value):
        raise LiteralError("a binary array is longer than its elements")
    if not changed:
        return value
    return _ARRAY_HEADER.pack(dimensions, int(null), oid) + value[_ARRAY_HEADER.size : body] + b"".join(pieces)


def map_binary_record(value: bytes, field: TypedMap) -> bytes:
    """A binary record; the same object if no field changed. LiteralError if it is malformed."""
    if len(value) < 4:
        raise LiteralError("a binary record is shorter than its header")
    count = _INT32.unpack_from(value)[0]
    if not 0 <= count <= len(value):
        raise LiteralError("a binary record has more fields than bytes")
    position, changed = 4, False
    pieces = [value[:4]]
    for _ in range(count):
        if position + 8 > len(value):
            raise LiteralError("a binary record is shorter than its fields")
        oid = _UINT32.unpack_from(value, position)[0]
        pieces.append(value[position : position + 4])
        data, position = _take(value, position + 4)
        masked = field(oid, data) if data is not None else None
        changed = changed or masked != data
        pieces.append(_put(masked))
    if position != len(value):
        raise LiteralError("a binary record is longer than its fields")
    return b"".join(pieces) if changed else value


def _take(value: bytes, position: int) -> tuple[bytes | None, int]:
    if position + 4 > len(value):
        raise LiteralError("a length is missing")
    length = _INT32.unpack_from(value, position)[0]
    position += 4
    if length == -1:
        return None, position
    if length < 0 or position + length > len(value):
        raise LiteralError("a value is longer than what holds it")
    return value[position : position + length], position + length


def _put(value: bytes | None) -> bytes:
    return _INT32.pack(-1) if value is None else _INT32.pack(len(value)) + value
