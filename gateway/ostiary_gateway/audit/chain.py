"""The hash chain of the record and the signed seals over it. Pure: bytes in, bytes out.

    link     sha256(header of the block || its body); the header names the link of the block before
    seal     a block that says, signed, what the link before it is

A changed, removed or moved block breaks the links; whoever computes them anew lacks the signatures.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import orjson

_SEAL = b"ostiary.dev/audit/v2/seal\0"
SIGNATURE = 64
"""Bytes."""


def genesis(file_header: bytes) -> bytes:
    """What the first block names as the link before it."""
    return hashlib.sha256(file_header).digest()


def link(header: bytes, *body: bytes | memoryview) -> bytes:
    """The link of a block: 32 bytes."""
    digest = hashlib.sha256(header)
    for piece in body:
        digest.update(piece)
    return digest.digest()


@dataclass(frozen=True, slots=True)
class Seal:
    """A statement about the chain. `head` is the link of the block before `block`, where the seal itself stands."""

    number: int
    at: float
    block: int
    head: bytes
    key: str
    body: bytes

    @property
    def hash(self) -> bytes:
        """What is signed."""
        return hashlib.sha256(_SEAL + self.body).digest()


def seal(number: int, at: float, block: int, head: bytes, key: str) -> Seal:
    """A seal, not yet signed."""
    body = orjson.dumps({"seal": number, "at": at, "block": block, "head": head.hex(), "key": key})
    return Seal(number, at, block, head, key, body)


def parse_seal(body: bytes) -> Seal:
    """Read a seal's JSON back. ValueError if it is none."""
    try:
        fields = orjson.loads(body)
        return Seal(
            int(fields["seal"]), float(fields["at"]), int(fields["block"]), bytes.fromhex(fields["head"]),
            str(fields["key"]), body,
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a seal: {error}") from error
