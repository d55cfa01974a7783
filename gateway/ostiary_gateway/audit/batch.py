"""One transaction's worth of the record: rows of events, packs of responses, and the heads that come out."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import cast

import zstandard

from ostiary_gateway.audit import chain, encoding, schema
from ostiary_gateway.audit.state import Op, SessionState

FRAME = 256 * 1024
"""Most bytes of a response in one zstd frame, before compression."""

SMALL = 32 * 1024
"""Bytes below which a response shares a frame with others."""

_COLUMNS = 9
_INSERT = "insert into event (sid, seq, kind, body, hash, digest, pack, start, size) values "
_GROUPS = tuple((n, _INSERT + ",".join(["(?,?,?,?,?,?,?,?,?)"] * n)) for n in (64, 16, 4, 1))


class Batch:
    """Takes operations in order. `rows` are flat, for `insert_events`."""

    def __init__(self, next_pack: int, dense: zstandard.ZstdCompressor, frames: zstandard.ZstdCompressor) -> None:
        self.next_pack = next_pack
        self.rows: list[object] = []
        self.packs: list[tuple[int, int, int, bytes]] = []
        self.heads: dict[SessionState, tuple[int, bytes]] = {}
        self.raw_bytes = 0
        self.stored_bytes = 0
        self._dense = dense
        self._frames = frames
        self._small: list[bytes] = []
        self._small_size = 0

    @property
    def events(self) -> int:
        return len(self.rows) // _COLUMNS

    def add(self, op: Op) -> None:
        kind, state, body, response, _, extra = op
        seq, head = self.heads.get(state) or (state.seq, state.head)
        if kind == "frame":
            request, offset = cast("tuple[str, int]", extra)
            for piece in _pieces(response or []):
                body = encoding.response_frame(request, offset, len(piece), packed=len(piece) < SMALL)
                if len(piece) < SMALL:
                    digest = hashlib.sha256(piece).digest()
                    start = self._append(piece)
                    pack = self.next_pack
                else:
                    pack, digest = self._pack(piece)
                    start = 0
                head = chain.link(head, body, digest)
                self.rows += (state.sid, seq, kind, body, head, digest, pack, start, len(piece))
                seq += 1
                offset += len(piece)
        elif response:
            raw = b"".join(response)
            digest = hashlib.sha256(raw).digest()
            start = self._append(raw)
            head = chain.link(head, body, digest)
            self.rows += (state.sid, seq, kind, body, head, digest, self.next_pack, start, len(raw))
            seq += 1
        else:
            head = chain.link(head, body)
            self.rows += (state.sid, seq, kind, body, head, None, None, None, None)
            seq += 1
        self.heads[state] = (seq, head)

    def _append(self, raw: bytes) -> int:
        if self._small_size + len(raw) > FRAME:
            self.seal_pack()
        start = self._small_size
        self._small.append(raw)
        self._small_size += len(raw)
        return start

    def seal_pack(self) -> None:
        """End the pack of small responses."""
        if self._small:
            # Its number was given to its events already, so it must be the one that they name.
            raw = b"".join(self._small)
            self._store(raw, self._dense)
            self._small.clear()
            self._small_size = 0

    def _pack(self, piece: bytes) -> tuple[int, bytes]:
        self.seal_pack()
        return self.next_pack, hashlib.sha256(self._store(piece, self._frames)).digest()

    def _store(self, raw: bytes, compressor: zstandard.ZstdCompressor) -> bytes:
        data, codec = compressor.compress(raw), schema.ZSTD
        if len(data) >= len(raw):
            data, codec = raw, schema.RAW
        self.packs.append((self.next_pack, codec, len(raw), data))
        self.next_pack += 1
        self.raw_bytes += len(raw)
        self.stored_bytes += len(data)
        return data


def _pieces(parts: list[bytes]) -> list[bytes]:
    raw = parts[0] if len(parts) == 1 else b"".join(parts)
    if len(raw) <= FRAME:
        return [raw]
    return [raw[start : start + FRAME] for start in range(0, len(raw), FRAME)]


def insert_events(connection: sqlite3.Connection, rows: list[object]) -> None:
    """Append rows, given flat, in as few statements as possible: each gives the interpreter's lock away once."""
    position = 0
    left = len(rows) // _COLUMNS
    for count, statement in _GROUPS:
        while left >= count:
            end = position + count * _COLUMNS
            connection.execute(statement, rows[position:end])
            position = end
            left -= count
