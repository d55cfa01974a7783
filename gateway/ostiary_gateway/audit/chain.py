"""The hash chain of the record and the signed seals over it. Pure: bytes in, bytes out.

    link     sha256(header of the block || its body); the header names the link of the block before
    seal     a block that says, signed, what the link before it is; and, before the disk gets the beginning of the
             record back, up to where it was handed over to the store

A changed, removed or moved block breaks the links; whoever computes them anew lacks the signatures.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import NamedTuple

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


class Handed(NamedTuple):
    """What a store has of this record, so that it may go here: all before `block`, which stands at `position`. `link`
    is that of the block before it, `session` the highest number of a session so far."""

    block: int
    position: int
    link: bytes
    session: int


@dataclass(frozen=True, slots=True)
class Seal:
    """A statement about the chain. `head` is the link of the block before `block`, where the seal itself stands."""

    number: int
    at: float
    block: int
    head: bytes
    key: str
    body: bytes
    handed: Handed | None = None

    @property
    def hash(self) -> bytes:
        """What is signed."""
        return hashlib.sha256(_SEAL + self.body).digest()


def seal(number: int, at: float, block: int, head: bytes, key: str, handed: Handed | None = None) -> Seal:
    """A seal, not yet signed."""
    fields: dict[str, object] = {"seal": number, "at": at, "block": block, "head": head.hex(), "key": key}
    if handed is not None:
        fields["handed"] = {**handed._asdict(), "link": handed.link.hex()}
    return Seal(number, at, block, head, key, orjson.dumps(fields), handed)


def parse_seal(body: bytes) -> Seal:
    """Read a seal's JSON back. ValueError if it is none."""
    try:
        fields = orjson.loads(body)
        return Seal(
            int(fields["seal"]), float(fields["at"]), int(fields["block"]), bytes.fromhex(fields["head"]),
            str(fields["key"]), body, _handed(fields.get("handed")),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a seal: {error}") from error


def _handed(fields: dict[str, object] | None) -> Handed | None:
    if fields is None:
        return None
    block, position, session = (int(str(fields[name])) for name in ("block", "position", "session"))
    return Handed(block, position, bytes.fromhex(str(fields["link"])), session)
