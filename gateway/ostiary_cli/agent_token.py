"""Agents' tokens: `ost_`, 256 random bits in base 62, and a checksum, so that scanners and typing errors show."""

from __future__ import annotations

import hashlib
import secrets
import zlib

PREFIX = "ost_"
ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
BODY = 43
"""Digits of 256 bits in base 62."""
CHECK = 6
"""Digits of a CRC-32 in base 62."""


def generate() -> str:
    """A new token: 53 characters, none of which a shell or a connection URI needs to quote."""
    body = _base62(int.from_bytes(secrets.token_bytes(32)), BODY)
    return PREFIX + body + _checksum(body)


def well_formed(token: str) -> bool:
    """Whether a text is a whole token, by its prefix, length and checksum. Says nothing of who it stands for."""
    body, check = token[len(PREFIX) : -CHECK], token[-CHECK:]
    return token.startswith(PREFIX) and len(body) == BODY and body.isascii() and check == _checksum(body)


def digest(token: str) -> str:
    """What a gateway keeps of it: sha256, 64 hex digits. A slow hash has no use on 256 random bits."""
    return hashlib.sha256(token.encode()).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32((PREFIX + body).encode()), CHECK)


def _base62(number: int, width: int) -> str:
    digits = []
    for _ in range(width):
        number, digit = divmod(number, 62)
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))
