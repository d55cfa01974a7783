"""managedFields hold no values, but for the keys of lists and the members of sets, which stand in names of members.

`"k:{\\"ip\\":\\"10.0.0.1\\"}"` and `"v:\\"text\\""` (Kubernetes, structured-merge-diff, fieldpath/serialize-pe.go).
"""

from __future__ import annotations

import re
from collections.abc import Set
from functools import lru_cache

import orjson

from ostiary_gateway.masking.documents import quote
from ostiary_gateway.masking.json_walk import unescape

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_KEY = re.compile(rb'(?<=[{,])"[kv]:[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
"""As Go writes it: no space before it, and nothing escaped that need not be."""

_UNREADABLE = b"\xff"
"""Stands for the value of a key that is no JSON, which may be any."""


def without_keys(managed_fields: bytes, hidden: Set[bytes]) -> bytes:
    """The JSON text without keys that name a hidden value (in UTF-8, or as JSON writes it). The same object if it has
    none."""
    if not hidden:
        return managed_fields
    hidden = hidden | {_UNREADABLE}
    ordinary = b"\\u" not in managed_fields and b" " not in managed_fields and b"\n" not in managed_fields
    tokens = (_KEY if ordinary else _STRING).findall(managed_fields)
    if all(hidden.isdisjoint(_named(token)) for token in tokens):
        return managed_fields
    return _STRING.sub(lambda match: _shown(match.group(), hidden), managed_fields)


@lru_cache(maxsize=4096)
def _named(token: bytes) -> tuple[bytes, ...]:
    """The values that a key names; none if it is no such key."""
    text = unescape(token)
    if not text.startswith((b"k:", b"v:")):
        return ()
    try:
        value = orjson.loads(text[2:])
    except orjson.JSONDecodeError:
        return (_UNREADABLE,)
    members = value.values() if isinstance(value, dict) else [value]
    return tuple(
        each.encode("utf-8", "surrogatepass") if isinstance(each, str) else orjson.dumps(each) for each in members
    )


def _shown(token: bytes, hidden: Set[bytes]) -> bytes:
    if hidden.isdisjoint(_named(token)):
        return token
    text = unescape(token)
    try:
        value = orjson.loads(text[2:])
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        return quote(text[:2] + b'"[redacted]"')
    kept = {
        name: "[redacted]" if not hidden.isdisjoint(_named(quote(b"v:" + orjson.dumps(each)))) else each
        for name, each in value.items()
    }
    return quote(text[:2] + orjson.dumps(kept))
