"""Values that the console gives to browsers and takes back: encrypted, so that nobody else can read or make them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import zlib
from collections.abc import Mapping, Sequence
from typing import Final

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SHORTEST_KEY: Final = 32
"""Bytes."""
MAX_OPENED: Final = 64 * 1024
"""Bytes of a value, decompressed: what is longer was not made here."""
_NONCE: Final = 12
_NAME: Final = 4
"""Bytes that say which key it was."""


class Seal:
    """Seals with the first key, opens with any: replicas share them, and a new one is put in front of the old one."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys or any(len(key) < SHORTEST_KEY for key in keys):
            raise ValueError(f"a key needs {SHORTEST_KEY} bytes or more of chance")
        self._keys = {}
        self._first = b""
        for key in keys:
            name = hashlib.sha256(b"ostiary console key name\0" + key).digest()[:_NAME]
            self._first = self._first or name
            self._keys[name] = AESGCM(hashlib.sha256(b"ostiary console cookies\0" + key).digest())

    def seal(self, purpose: str, fields: Mapping[str, object]) -> str:
        """Letters, digits, `-` and `_`. What was sealed for one purpose does not open for another."""
        nonce = os.urandom(_NONCE)
        packed = zlib.compress(orjson.dumps(fields), 6)
        sealed = self._keys[self._first].encrypt(nonce, packed, purpose.encode())
        return base64.urlsafe_b64encode(self._first + nonce + sealed).rstrip(b"=").decode()

    def open(self, purpose: str, text: str) -> dict[str, object] | None:
        """What was sealed; None if it was not sealed here, or not for this."""
        try:
            raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            key = self._keys[raw[:_NAME]]
            packed = key.decrypt(raw[_NAME : _NAME + _NONCE], raw[_NAME + _NONCE :], purpose.encode())
            found = orjson.loads(zlib.decompressobj().decompress(packed, MAX_OPENED))
        except (binascii.Error, ValueError, KeyError, InvalidTag, zlib.error):
            return None
        return found if isinstance(found, dict) else None
