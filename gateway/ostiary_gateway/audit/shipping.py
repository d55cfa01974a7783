"""What a gateway and a store say to each other when a record is handed over. Pure: bytes in, bytes out.

    PUT  /v1/records/ID                      an Announcement; answered with the Place where the record stands there
    POST /v1/records/ID/blocks?position=N    whole blocks as they stand in the file from N on; the answer: the new Place

409 comes with the Place if the record stands elsewhere, 404 asks for an Announcement, 503 (and 429) to try again later.
"""

from __future__ import annotations

import binascii
from dataclasses import dataclass
from typing import Final

import orjson

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.index import Place

BATCH: Final = 4 << 20
"""Bytes of one request; a larger block goes alone."""

EVENTS: Final = 8 << 20
"""Bytes of events in it, decompressed: so many that a store has them on its disk in about a second."""

AUDIENCE: Final = "ostiary-store"
"""Whom a gateway's ServiceAccount token must be for."""

MAX_ANNOUNCEMENT: Final = 64 * 1024
_HEAD: Final = layout.BLOCK.size
_AROUND: Final = layout.BLOCK.size + layout.LINK


@dataclass(frozen=True, slots=True)
class Announcement:
    """Whose record comes. `header`: the 64 bytes that the file begins with."""

    header: bytes
    gateway: str
    """`namespace/name`; of a standalone gateway the host's name."""
    instance: str
    address: str = ""
    keys: tuple[str, ...] = ()

    @property
    def uuid(self) -> bytes:
        """The record's id."""
        return uuid_of(self.header)

    def dump(self) -> bytes:
        """As JSON."""
        return orjson.dumps(
            {
                "header": self.header.hex(), "gateway": self.gateway, "instance": self.instance,
                "address": self.address, "keys": self.keys,
            }
        )  # fmt: skip

    @classmethod
    def parse(cls, body: bytes) -> Announcement:
        """ValueError with what is wrong."""
        fields = _object(body)
        header = _hex(fields, "header", layout.FILE.size)
        if not header.startswith(layout.MAGIC):
            raise ValueError("header is not that of a record of this version")
        keys = fields.get("keys", [])
        if not isinstance(keys, list) or len(keys) > 64 or not all(isinstance(key, str) for key in keys):
            raise ValueError("keys must be a list of at most 64 public keys")
        gateway, instance, address = (_text(fields, name) for name in ("gateway", "instance", "address"))
        if not gateway:
            raise ValueError("gateway must not be empty")
        return cls(header, gateway, instance, address, tuple(keys))


def uuid_of(header: bytes) -> bytes:
    """The id in the header of a file."""
    magic, uuid = layout.FILE.unpack(header)
    if magic != layout.MAGIC:
        raise ValueError("not the header of a record of this version")
    return bytes(uuid)


def dump_place(position: int, number: int, link: bytes, seal: int) -> bytes:
    """As JSON."""
    return orjson.dumps({"position": position, "number": number, "link": link.hex(), "seal": seal})


def parse_place(body: bytes) -> Place:
    """ValueError with what is wrong."""
    fields = _object(body)
    position, number, seal = (_count(fields, name) for name in ("position", "number", "seal"))
    return Place(position, number, _hex(fields, "link", layout.LINK), seal)


def whole_blocks(data: bytes | memoryview, most: int = BATCH) -> int:
    """How many bytes of `data`, which begins with a block, are whole blocks: at most `most`, and events of at most
    EVENTS, but at least one block.

    0: not even one is whole. -1: no block stands there.
    """
    unpack, magic = layout.BLOCK.unpack_from, layout.BLOCK_MAGIC
    end, events, size = 0, 0, len(data)
    while end + _AROUND <= size:
        found = unpack(data, end)
        if found[0] != magic:
            return end or -1
        following = end + _AROUND + found[5]
        events += found[4] if found[1] == layout.EVENTS else 0
        if following > size or (end and (following > most or events > EVENTS)):
            break
        end = following
    return end


def first_size(head: bytes) -> int:
    """Bytes of the block that begins so, with everything around it; 0 if none does."""
    if len(head) < _HEAD:
        return 0
    found = layout.BLOCK.unpack_from(head)
    return _AROUND + int(found[5]) if found[0] == layout.BLOCK_MAGIC else 0


def _object(body: bytes) -> dict[str, object]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ValueError("not a JSON object")
    return fields


def _text(fields: dict[str, object], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str) or len(value) > 512 or "\0" in value:
        raise ValueError(f"{name} must be text of at most 512 characters")
    return value


def _hex(fields: dict[str, object], name: str, size: int) -> bytes:
    try:
        found = binascii.unhexlify(str(fields.get(name)))
    except (ValueError, binascii.Error):
        found = b""
    if len(found) != size:
        raise ValueError(f"{name} must be {size} bytes in hex")
    return found


def _count(fields: dict[str, object], name: str) -> int:
    value = fields.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{name} must be a whole number")
    return value
