"""Signatures of webhooks as Standard Webhooks has them: HMAC-SHA256 over id, time and body, one for each secret."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

PREFIX: Final = "whsec_"


class SecretProblem(ValueError):
    """A secret cannot be used; the message does not say it."""


def key_of(secret: str) -> bytes:
    """The bytes that sign. Raises SecretProblem."""
    text = secret.strip()
    if not text.startswith(PREFIX):
        raise SecretProblem(f"a secret does not begin with {PREFIX}; make one: echo {PREFIX}$(openssl rand -base64 32)")
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise SecretProblem(f"a secret is not base64 after {PREFIX}") from None
    if not 24 <= len(key) <= 64:
        raise SecretProblem("a secret has to have from 24 to 64 bytes")
    return key


def sign(keys: Sequence[bytes], message: str, at: int, body: bytes) -> Mapping[str, str]:
    """The headers. `at`: seconds since the epoch, of this try."""
    content = f"{message}.{at}.".encode() + body
    signatures = (base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode() for key in keys)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(at),
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }
