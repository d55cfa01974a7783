"""managedFields hold no values, but for the keys of lists and the members of sets, which stand in names of members.

`"k:{\\"ip\\":\\"10.0.0.1\\"}"` and `"v:\\"text\\""` (Kubernetes, structured-merge-diff, fieldpath/serialize-pe.go).
"""

from __future__ import annotations

import json
import re
from collections.abc import Set

from ostiary_gateway.masking.documents import quote
from ostiary_gateway.masking.json_walk import unescape

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


def without_keys(managed_fields: bytes, hidden: Set[bytes]) -> bytes:
    """The JSON text without keys that name a hidden value (in UTF-8, or as JSON writes it). The same object if it has
    none."""
    if not hidden:
        return managed_fields
    changed = False

    def shown(match: re.Match[bytes]) -> bytes:
        nonlocal changed
        token = match.group()
        text = unescape(token)
        if not text.startswith((b"k:", b"v:")):
            return token
        try:
            value = json.loads(text[2:])
        except (ValueError, RecursionError):
            changed = True
            return quote(text[:2] + b'"[redacted]"')
        members = value if isinstance(value, dict) else {"": value}
        if not any(_names(member, hidden) for member in members.values()):
            return token
        changed = True
        if not isinstance(value, dict):
            return quote(text[:2] + b'"[redacted]"')
        kept = {name: "[redacted]" if _names(member, hidden) else member for name, member in value.items()}
        return quote(text[:2] + json.dumps(kept, separators=(",", ":")).encode())

    found = _STRING.sub(shown, managed_fields)
    return found if changed else managed_fields


def _names(member: object, hidden: Set[bytes]) -> bool:
    if isinstance(member, str):
        return member.encode("utf-8", "surrogatepass") in hidden
    return json.dumps(member).encode() in hidden
