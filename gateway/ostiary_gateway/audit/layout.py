"""How the record lies in its file: blocks, the sections in them, the events in those. Numbers are little-endian.

file      FILE, then blocks
block     BLOCK, body, link (32 bytes: sha256 of the block up to there, which names the link of the block before)
EVENTS    body, decompressed: COUNT sections, as many SECTION, then the events of each section
PART      body: PART, then a piece of a long response (compressed, if the block's codec says so)
SEAL      body: signature (64 bytes), then JSON
event     EVENT (size and crc32 of what follows), kind, fields
"""

from __future__ import annotations

import struct
from typing import Final

MAGIC: Final = b"ostiary record 2"
FILE: Final = struct.Struct("<16s16s32x")
"""MAGIC, and an id of the record that nobody chose: the first block names the sha256 of these 64 bytes."""

BLOCK_MAGIC: Final = b"OBLK"
BLOCK: Final = struct.Struct("<4sBBHIIQd32s")
"""BLOCK_MAGIC, kind, codec, 0, size of the body decompressed, size of the body, number, time, link before."""

LINK: Final = 32

EVENTS: Final = 1
PART: Final = 2
SEAL: Final = 3

RAW: Final = 0
ZSTD: Final = 1

COUNT: Final = struct.Struct("<I")
SECTION: Final = struct.Struct("<QQIIIIQQQQQQQQ")
"""session number, seq of its first event, events, bytes, RARE if it has others than requests, 0, lowest and highest
number of a request in it, and the session's counts behind it: requests, denied, asked, errors, rows, bytes."""

RARE: Final = 1

PART_HEAD: Final = struct.Struct("<QQQQ")
"""session number, seq, number of the request, offset in the response."""

EVENT: Final = struct.Struct("<II")

OPEN: Final = 1
BEGIN: Final = 2
END: Final = 3
REQUEST: Final = 4
PIECE: Final = 5
CLOSE: Final = 6
LOST: Final = 7
GAP: Final = 8
REFUSED: Final = 9
DECISION: Final = 10
APPROVAL: Final = 11

KINDS: Final = {
    OPEN: "open", BEGIN: "begin", END: "end", REQUEST: "request", PIECE: "frame", CLOSE: "close", LOST: "lost",
    GAP: "gap", REFUSED: "refused", DECISION: "decision", APPROVAL: "approval",
}  # fmt: skip

BEGUN: Final = struct.Struct("<BQd16sI")
"""BEGIN, number, time, decision, bytes of the text; then text, detail."""

ENDED: Final = struct.Struct("<BQdBQQQQBI")
"""END, number, time, bytes of the outcome, rows, bytes, size of the response, bytes kept of it, TRUNCATED | MISSING,
bytes of the detail; then outcome, detail, and what is kept of a short response."""

WHOLE: Final = struct.Struct("<BQdd16sBQQQQBIII")
"""REQUEST, number, begun, ended, decision, bytes of the outcome, rows, bytes, size of the response, bytes kept of it,
TRUNCATED | MISSING, bytes of the text, the detail and the end's detail; then outcome, text, detail, the end's detail,
and the response."""

PIECE_HEAD: Final = struct.Struct("<BQQ")
"""PIECE, number, offset; then the bytes."""

TRUNCATED: Final = 1
MISSING: Final = 2

SMALL: Final = 32 * 1024
"""Bytes up to which a response lies in its event; a longer one has blocks of its own."""

MAX_BODY: Final = 256 * 1024 * 1024
"""No body is larger than this, decompressed; a larger one was not written by a gateway."""
