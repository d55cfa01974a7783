"""Canonical JSON (RFC 8785) and what is hashed from it: revisions of specs, and the hash of an approval request."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence

MAX_DEPTH = 128
"""Deeper values are refused: no request or spec is that deep, and recursion must end."""

_APPROVAL_DOMAIN = "ostiary.dev/v1alpha1 approval request"
_SUBJECT_FIELDS = ("username", "uid", "groups", "kind", "namespace", "name", "onBehalfOf")


def canonical_json(value: object) -> bytes:
    """The one UTF-8 text of a JSON value: keys sorted by UTF-16 code units, no spaces, shortest escapes.

    Takes None, bool, int, float, str, mappings with string keys, lists and tuples. As RFC 8785, except that an
    integer of any size is written with all its digits, so that two different ids never have one hash.
    Raises ValueError for NaN, infinity, lone surrogates, depth over MAX_DEPTH and anything that is not JSON.
    """
    parts: list[str] = []
    _write(value, parts, 0)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError("a string has a lone surrogate, which has no UTF-8 form") from error


def sha256_hex(data: bytes) -> str:
    """sha256, 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def revision(spec: object) -> str:
    """Revision of a spec (JSON value): sha256 of its canonical JSON, hex."""
    return sha256_hex(canonical_json(spec))


def approval_hash(
    *,
    protocol: str,
    request: Mapping[str, object],
    parameters: Sequence[object] | None,
    connection_uid: str,
    subject: Mapping[str, object],
    resource_version: str = "",
) -> str:
    """What a grant is for, as 64 hex digits: anything that differs is another request.

    `request` is the protocol's normalised request, without what changes by itself (ids, times). `parameters` are
    bound values in order, None where the protocol has none. `subject` is SubjectFacts: of it count username, uid,
    groups (as a set), kind, namespace, name and onBehalfOf, but no claims, since a renewed token changes them.
    `resource_version` is that of the target object, empty where there is none.
    """
    who: dict[str, object] = {field: subject.get(field) or "" for field in _SUBJECT_FIELDS}
    groups = subject.get("groups") or ()
    if not isinstance(groups, Sequence) or isinstance(groups, str):
        raise ValueError("subject.groups must be a list of strings")
    who["groups"] = sorted({str(group) for group in groups})
    return revision(
        {
            "domain": _APPROVAL_DOMAIN,
            "protocol": protocol,
            "request": request,
            "parameters": parameters,
            "connectionUid": connection_uid,
            "subject": who,
            "resourceVersion": resource_version,
        }
    )


def _write(value: object, parts: list[str], depth: int) -> None:
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH}")
    if value is None:
        parts.append("null")
    elif value is True:
        parts.append("true")
    elif value is False:
        parts.append("false")
    elif isinstance(value, str):
        parts.append(json.dumps(value, ensure_ascii=False))
    elif isinstance(value, int):
        parts.append(int.__repr__(value))
    elif isinstance(value, float):
        parts.append(_number(value))
    elif isinstance(value, Mapping):
        _write_object(value, parts, depth)
    elif isinstance(value, (list, tuple)):
        separator = "["
        for item in value:
            parts.append(separator)
            _write(item, parts, depth + 1)
            separator = ","
        parts.append("]" if value else "[]")
    else:
        raise ValueError(f"{type(value).__name__} is not a JSON type")


def _write_object(value: Mapping[object, object], parts: list[str], depth: int) -> None:
    keys: list[str] = []
    for key in value:
        if not isinstance(key, str):
            raise ValueError(f"a key is {type(key).__name__}, not a string")
        keys.append(key)
    keys.sort(key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    separator = "{"
    for key in keys:
        parts.append(separator + json.dumps(key, ensure_ascii=False) + ":")
        _write(value[key], parts, depth + 1)
        separator = ","
    parts.append("}" if keys else "{}")


def _number(value: float) -> str:
    """ECMAScript's Number::toString, which RFC 8785 prescribes. Python's repr has the same shortest digits."""
    if not math.isfinite(value):
        raise ValueError("NaN and infinity are not JSON")
    if value == 0:
        return "0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}".partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    point = int(exponent or 0) + len(whole) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    count = len(digits)
    if count <= point <= 21:
        return sign + digits + "0" * (point - count)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    power = point - 1
    tail = f".{digits[1:]}" if count > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if power > 0 else '-'}{abs(power)}"
