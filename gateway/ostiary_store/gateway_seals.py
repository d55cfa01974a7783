"""The seals of a gateway's own record, looked at when its blocks are taken in. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ostiary_gateway.audit.chain import SIGNATURE, parse_seal
from ostiary_gateway.audit.keys import key_id, verifies


def public_keys(lines: Iterable[str]) -> dict[str, Ed25519PublicKey]:
    """By id, from lines `ed25519 ID BASE64` as a gateway announces them. What is none is left out."""
    keys: dict[str, Ed25519PublicKey] = {}
    for line in lines:
        fields = line.split()
        if len(fields) != 3 or fields[0] != "ed25519":
            continue
        try:
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(fields[2], validate=True))
        except ValueError:
            continue
        if key_id(key) == fields[1]:
            keys[fields[1]] = key
    return keys


def check(body: bytes, *, last: int, block: int, head: bytes, keys: dict[str, Ed25519PublicKey]) -> str:
    """What is wrong with the body of a SEAL block; empty if nothing is.

    last: number of the record's seal before it. block: its own number. head: the link of the block before it.
    keys: those that the gateway announced; without any, signatures are not looked at.
    """
    try:
        seal = parse_seal(body[SIGNATURE:])
    except ValueError as error:
        return str(error)
    if seal.number != last + 1:
        return f"seal {seal.number} of the record stands where seal {last + 1} should be"
    if seal.block != block or seal.head != head:
        return f"seal {seal.number} of the record is about another history than the one that came"
    if not keys:
        return ""
    key = keys.get(seal.key)
    if key is None:
        return f"seal {seal.number} of the record is signed with the key {seal.key}, which the gateway did not announce"
    if not verifies(key, body[:SIGNATURE], seal.hash):
        return f"the signature of seal {seal.number} of the record is wrong"
    return ""


def key_ids(lines: object) -> tuple[str, ...]:
    """Of the keys in such lines, as the store's list of records has them."""
    found = lines if isinstance(lines, (list, tuple)) else ()
    return tuple(line.split()[1] for line in map(str, found) if len(line.split()) == 3)
