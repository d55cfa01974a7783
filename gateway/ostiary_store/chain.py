"""The hash chain of a session in the store, and the signed seals over the heads of all. Pure: bytes in, bytes out.

    link     sha256("ostiary.dev/store/v1/link\0" || link before || kind || session || head || digest of the body)
    seal     sha256("ostiary.dev/store/v1/seal\0" || body), signed with Ed25519; the body names the seal before

A changed, removed or moved row breaks its session's links; whoever computes them anew lacks the signatures.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

GENESIS: Final = bytes(32)
"""What the first row of a session names as the link before it."""

_LINK: Final = b"ostiary.dev/store/v1/link\0"
_SEAL: Final = b"ostiary.dev/store/v1/seal\0"
_CHUNK: Final = struct.Struct("<QQddQQQ")
"""seq, events, first and last time, low, high, size."""
_PART: Final = struct.Struct("<QQQQ")
"""seq, number, offset, size."""


def digest(body: bytes) -> bytes:
    """Of a body as stored: 32 bytes."""
    return hashlib.sha256(body).digest()


def chunk_link(
    before: bytes, session: str, seq: int, events: int, first_at: float, last_at: float, low: int, high: int, size: int,
    body_digest: bytes,
) -> bytes:  # fmt: skip
    """The link of a chunk."""
    head = _CHUNK.pack(seq, events, first_at, last_at, low, high, size)
    return hashlib.sha256(_LINK + before + b"C" + session.encode() + b"\0" + head + body_digest).digest()


def part_link(before: bytes, session: str, seq: int, number: int, offset: int, size: int, body_digest: bytes) -> bytes:
    """The link of a part."""
    head = _PART.pack(seq, number, offset, size)
    return hashlib.sha256(_LINK + before + b"P" + session.encode() + b"\0" + head + body_digest).digest()


def seal_hash(body: bytes) -> bytes:
    """What is signed."""
    return hashlib.sha256(_SEAL + body).digest()
