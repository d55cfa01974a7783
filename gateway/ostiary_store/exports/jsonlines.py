"""JSON lines: word for word those of `ostiary export`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ostiary_gateway.audit.export import line
from ostiary_store.exports.item import Item

CONTENT_TYPE: Final = "application/x-ndjson"


def encode(item: Item) -> bytes:
    """With its newline."""
    return line(item.kind, item.session.id, item.fields)


def join(encoded: Sequence[bytes]) -> bytes:
    """The body of a POST."""
    return b"".join(encoded)
