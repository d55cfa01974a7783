"""The hash chain of a session and the signed seals over the heads of all sessions. Pure: bytes in, bytes out.

    link     sha256(previous link || digest of the recorded response, or 32 zero bytes || body of the event)
    head     the last link of a session; the first one is `genesis(session id)`
    seal     the heads of some sessions at one time, the hash of the seal before it, and a signature

A changed, removed or moved event breaks its session's links. A session that is removed whole is missing where a seal
names it, and a removed seal breaks the seals.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import orjson

NO_DIGEST = bytes(32)
"""Stands for the digest where an event has no recorded response."""

FIRST_SEAL = bytes(32)
"""Stands for the hash of the seal before the first one."""

_GENESIS = b"ostiary.dev/audit/v1/session\0"
_SEAL = b"ostiary.dev/audit/v1/seal\0"


def genesis(session: str) -> bytes:
    """The link before a session's first event; it ties the chain to the session's id."""
    return hashlib.sha256(_GENESIS + session.encode("utf-8", "backslashreplace")).digest()


def link(previous: bytes, body: bytes, digest: bytes = NO_DIGEST) -> bytes:
    """The next link. `previous` and `digest` are 32 bytes each, so that no two inputs look the same."""
    return hashlib.sha256(previous + digest + body).digest()


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain of a session stood. `state` is open, closed or lost; `seq` counts its events from 0."""

    sid: int
    session: str
    seq: int
    hash: bytes
    state: str


@dataclass(frozen=True, slots=True)
class Seal:
    """A signed statement of heads. `hash` is what is signed; `key` names the key."""

    number: int
    at: float
    previous: bytes
    key: str
    heads: tuple[Head, ...]
    body: bytes
    hash: bytes


def seal(number: int, at: float, previous: bytes, key: str, heads: Sequence[Head]) -> Seal:
    """A seal, not yet signed."""
    body = orjson.dumps(
        {
            "seal": number,
            "at": at,
            "previous": previous.hex(),
            "key": key,
            "heads": [[head.sid, head.session, head.seq, head.hash.hex(), head.state] for head in heads],
        }
    )
    return Seal(number, at, previous, key, tuple(heads), body, seal_hash(body))


def seal_hash(body: bytes) -> bytes:
    """What is signed of a seal, and what the next seal names as `previous`."""
    return hashlib.sha256(_SEAL + body).digest()


def parse_seal(body: bytes) -> Seal:
    """Read a seal's body back. ValueError if it is none."""
    try:
        fields = orjson.loads(body)
        heads = tuple(Head(int(s), str(i), int(q), bytes.fromhex(h), str(t)) for s, i, q, h, t in fields["heads"])
        return Seal(
            int(fields["seal"]),
            float(fields["at"]),
            bytes.fromhex(fields["previous"]),
            str(fields["key"]),
            heads,
            body,
            seal_hash(body),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a seal: {error}") from error
