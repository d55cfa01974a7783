"""What anchors hold: newest seals as they were noted outside of the store. Pure: text in, text out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from ostiary_store.model import SealRow

MAX_TEXT = 256 << 20
"""Bytes of anchors that are read; more is no file of anchors."""


@dataclass(frozen=True, slots=True)
class Anchored:
    """A seal as it was noted. Its signature makes it worth something where it is kept by others."""

    number: int
    hash: str
    at: float = 0.0
    key: str = ""
    signature: str = ""
    source: str = ""
    """Where it was found, for people."""

    def __str__(self) -> str:
        return f"{self.number}:{self.hash}"


def anchored(seal: SealRow) -> Anchored:
    """A seal, as it is to be noted."""
    return Anchored(seal.number, seal.hash.hex(), seal.at, seal.key, seal.signature.hex())


def line(noted: Anchored) -> bytes:
    """One line of JSON, without its end."""
    return orjson.dumps(
        {"seal": noted.number, "hash": noted.hash, "at": noted.at, "key": noted.key, "signature": noted.signature}
    )


def parse(text: str, source: str) -> Iterator[Anchored]:
    """From lines of JSON, a JSON array or object, or lines NUMBER:HASH. ValueError names the line that is none."""
    stripped = text.strip()
    if stripped.startswith("["):
        try:
            items = orjson.loads(stripped)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{source} holds no anchors: {error}") from error
        for item in items:
            yield _of(item, source)
        return
    for number, each in enumerate(stripped.splitlines(), 1):
        told = each.strip()
        if not told:
            continue
        where = f"{source}, line {number}"
        if not told.startswith("{"):
            yield noted(told, where)
            continue
        try:
            yield _of(orjson.loads(told), where)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"{where}: not an anchor ({error})") from error


def noted(text: str, source: str = "") -> Anchored:
    """`NUMBER:HASH`. ValueError."""
    number, colon, digest = text.partition(":")
    if not colon or not number.isascii() or not number.isdecimal() or len(digest) != 64 or int(number) < 1:
        raise ValueError(f"{source or text}: not an anchor; NUMBER:HASH is what `ostiary verify` prints as last seal")
    try:
        return Anchored(int(number), bytes.fromhex(digest).hex(), source=source or "as given")
    except ValueError:
        raise ValueError(f"{source or text}: the hash of an anchor is 64 hexadecimal digits") from None


def _of(item: object, source: str) -> Anchored:
    try:
        if not isinstance(item, dict):
            raise TypeError("not an object")
        found = Anchored(
            int(item["seal"]), bytes.fromhex(item["hash"]).hex(), float(item.get("at", 0)), str(item.get("key", "")),
            str(item.get("signature", "")), source,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{source}: not an anchor ({error!r})") from error
    if found.number < 1 or len(found.hash) != 64:
        raise ValueError(f"{source}: not an anchor")
    return found
