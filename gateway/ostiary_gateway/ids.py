"""Ids of sessions and requests: sortable by time, unguessable, short enough to read out."""

from __future__ import annotations

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def _base32(number: int, digits: int) -> str:
    out = []
    for _ in range(digits):
        number, rest = divmod(number, 32)
        out.append(_ALPHABET[rest])
    return "".join(reversed(out))


def new_id() -> str:
    """20 characters of Crockford's base 32: 50 bits of milliseconds, 50 bits of randomness (a short ULID)."""
    return _base32(time.time_ns() // 1_000_000, 10) + _base32(secrets.randbits(50), 10)
