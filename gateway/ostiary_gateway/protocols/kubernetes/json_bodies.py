"""JSON bodies, read only where every reader reads the same.

Source: RFC 8259, section 4: of two members with one name, readers take the first, the last or both. The API server's
own reader (sigs.k8s.io/json) takes the last, and merges structures; its strict mode is the client's choice. Here two
are refused, and so are numbers that one reader keeps and another rounds.
"""

from __future__ import annotations

import re
from typing import Final

import orjson

from ostiary_gateway.protocols.kubernetes.messages import bad_request

MAX_DEPTH: Final = 128
"""Of nesting. No Kubernetes type comes near; CEL takes no more than 64."""

_ESCAPE: Final = re.compile(rb"\\.", re.DOTALL)
_LONG_INTEGER: Final = re.compile(rb"-?(?<![0-9])[0-9]{19,}+(?![.eE])")
"""Nothing is tried from the middle of its digits, nor with fewer of them: of a million that would take hours."""
_NINETEEN: Final = b"0" * 19
"""Digits that an integer must have, at least, to be one that 64 bits may not hold."""
_DIGITS: Final = bytes.maketrans(b"123456789", b"000000000")
_INT64: Final = range(-(1 << 63), 1 << 63)
_EXPONENT: Final = re.compile(r"[0-9]e[-+]?[0-9]")
_STRING_OR_EXPONENT: Final = re.compile(
    r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|(?P<whole>-?[0-9]+)(?P<point>\.[0-9]+)?e(?P<sign>[-+]?)(?P<power>[0-9]+)'
)
_UNSAFE_IN_YAML: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")


def parse_json(body: bytes) -> object:
    """What the body says: dict, list, str, int, float, bool, None. Raises WireError (400).

    Refused: a member's name twice in one object, integers beyond 64 bits, NaN and infinities, comments, a byte order
    mark, what is not UTF-8, nesting deeper than MAX_DEPTH, and anything else that is not JSON.
    """
    try:
        value: object = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        raise bad_request(f"the body is not JSON: {problem}") from None
    # It is JSON, so backslashes are in strings only, and every second quote ends one.
    bare = b"".join((_ESCAPE.sub(b"", body) if b"\\" in body else body).split(b'"')[::2])
    # Outside strings, each colon is one member.
    if _members(value) != bare.count(b":"):
        raise bad_request("the body has an object with the same name twice")
    if _NINETEEN in bare.translate(_DIGITS):
        for number in _LONG_INTEGER.findall(bare):
            if len(number) > 25 or int(number) not in _INT64:
                raise bad_request(f"the body has an integer of more than 64 bits, {number[:25].decode()}")
    return value


def _members(value: object) -> int:
    """How many there are in all objects together. Raises WireError if it is nested too deeply."""
    count = 0
    level: list[object] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[object] = []
        for item in level:
            if isinstance(item, dict):
                count += len(item)
                inner += item.values()
            elif isinstance(item, list):
                inner += item
        if not inner:
            return count
        level = inner
    raise bad_request(f"the body is nested more than {MAX_DEPTH} deep")


def write_json(value: object) -> bytes:
    """JSON that reads back as the same value."""
    return orjson.dumps(value)


def write_json_as_yaml(value: object) -> bytes:
    """JSON that a YAML 1.1 reader, too, reads as the same value: for bodies that the API server takes for YAML.

    YAML breaks lines at U+0085, U+2028 and U+2029, and takes no control characters, not even inside quotes. Its numbers
    with an exponent have a point and a sign, or are strings to some.
    """
    text = orjson.dumps(value).decode()
    if _EXPONENT.search(text):
        text = _STRING_OR_EXPONENT.sub(_spelt_out, text)
    return _UNSAFE_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()


def _spelt_out(found: re.Match[str]) -> str:
    if found["whole"] is None:
        return found[0]
    return f"{found['whole']}{found['point'] or '.0'}e{found['sign'] or '+'}{found['power']}"
