"""Reads the blocks of the record's file, also while a gateway appends to it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Self

import zstandard

from ostiary_gateway.audit import chain, holes, layout

_HEAD = layout.BLOCK.size
FIRST = layout.FILE.size
"""Where the first block stands."""


class Block(NamedTuple):
    """What the header of a block says, and where it stands in the file."""

    position: int
    end: int
    kind: int
    codec: int
    size: int
    """Of the body, decompressed; of a PART, of its piece."""
    stored: int
    number: int
    at: float
    previous: bytes
    header: bytes


class Log:
    """The file, read-only. It may grow meanwhile."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path
        self._decompressor = zstandard.ZstdDecompressor()
        self._kept: dict[int, bytes] = {}

    @classmethod
    def open(cls, path: Path) -> Self:
        """FileNotFoundError, or ValueError if it is no record."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise FileNotFoundError(f"there is no record at {path}. Name the gateway's data directory.") from None
        log = cls(descriptor, path)
        if not log.header.startswith(layout.MAGIC):
            log.close()
            raise ValueError(f"{path} is not a record of Ostiary.")
        return log

    def close(self) -> None:
        os.close(self._descriptor)

    @property
    def header(self) -> bytes:
        """Of the file: 64 bytes, fewer if it is not a record."""
        return os.pread(self._descriptor, FIRST, 0)

    @property
    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def read(self, position: int, size: int = 1 << 20) -> bytes:
        """Bytes as they stand there; none at the end."""
        return os.pread(self._descriptor, size, position)

    def block(self, position: int, size: int | None = None) -> Block | None:
        """The block that stands there, if a whole one does. size: of the file."""
        header = os.pread(self._descriptor, _HEAD, position)
        if len(header) < _HEAD:
            return None
        magic, kind, codec, zero, raw, stored, number, at, previous = layout.BLOCK.unpack(header)
        end = position + _HEAD + stored + layout.LINK
        if magic != layout.BLOCK_MAGIC or zero or raw > layout.MAX_BODY or kind not in (1, 2, 3):
            return None
        if end > (self.size if size is None else size):
            return None
        return Block(position, end, kind, codec, raw, stored, number, at, previous, header)

    def first(self) -> int:
        """Where the first block stands: at FIRST, unless the beginning was handed over to a store and is a hole now."""
        if any(self.read(FIRST, len(layout.BLOCK_MAGIC))):
            return FIRST
        position = self._not_zero(FIRST)
        found = None if position is None else self.next_whole(position)
        return FIRST if found is None else found.position

    def _not_zero(self, position: int) -> int | None:
        position = holes.data_from(self._descriptor, position)
        while piece := self.read(position):
            if rest := piece.lstrip(b"\0"):
                return position + len(piece) - len(rest)
            position = holes.data_from(self._descriptor, position + len(piece))
        return None

    def walk(self, start: int, stop: int) -> Iterator[Block]:
        """The blocks from `start` on, none that ends behind `stop`. What is not here any more is passed over."""
        looked = False
        while start < stop:
            block = self.block(start, stop)
            if block is None:
                first = FIRST if looked else self.first()
                looked = True
                if first <= start:
                    return
                start = first
                continue
            yield block
            start = block.end

    def body(self, block: Block, limit: int = -1) -> bytes:
        """As stored."""
        return os.pread(self._descriptor, block.stored if limit < 0 else limit, block.position + _HEAD)

    def link(self, block: Block) -> bytes:
        """As stored."""
        return os.pread(self._descriptor, layout.LINK, block.end - layout.LINK)

    def link_before(self, position: int) -> bytes:
        """The link of the block that ends there."""
        if position <= FIRST:
            return chain.genesis(self.header)
        return os.pread(self._descriptor, layout.LINK, position - layout.LINK)

    def whole(self, block: Block) -> bool:
        """True if its body is what its link says."""
        stored = os.pread(self._descriptor, block.stored + layout.LINK, block.position + _HEAD)
        return chain.link(block.header, memoryview(stored)[: block.stored]) == stored[block.stored :]

    def next_whole(self, position: int) -> Block | None:
        """The first whole block behind a damaged place."""
        size = self.size
        if size <= position:
            return None
        with mmap.mmap(self._descriptor, size, access=mmap.ACCESS_READ) as view:
            while (found := view.find(layout.BLOCK_MAGIC, position)) >= 0:
                block = self.block(found, size)
                if block is not None and self.whole(block):
                    return block
                position = found + 1
        return None

    def raw(self, block: Block) -> bytes:
        """The sections of an EVENTS block, or the piece of a PART; the last few are kept. ValueError if damaged."""
        found = self._kept.get(block.position)
        if found is not None:
            return found
        raw = self.decompress(block, self.body(block))
        while len(self._kept) >= 4:
            del self._kept[next(iter(self._kept))]
        self._kept[block.position] = raw
        return raw

    def decompress(self, block: Block, body: bytes) -> bytes:
        data = memoryview(body)[layout.PART_HEAD.size :] if block.kind == layout.PART else body
        if block.codec == layout.RAW:
            raw = bytes(data)
        elif block.codec == layout.ZSTD:
            try:
                # What the frame itself claims is what would be allocated, whatever the limit is.
                if zstandard.frame_content_size(data) not in (-1, block.size):
                    raise ValueError(f"block {block.number} is damaged: its size is not {block.size}")
                raw = self._decompressor.decompress(data, max_output_size=block.size)
            except zstandard.ZstdError as error:
                raise ValueError(f"block {block.number} is damaged: {error}") from error
        else:
            raise ValueError(f"block {block.number} is damaged: codec {block.codec} is unknown")
        if len(raw) != block.size:
            raise ValueError(f"block {block.number} is damaged: {len(raw)} bytes instead of {block.size}")
        return raw

    def slice(self, position: int, start: int, size: int) -> bytes:
        """Bytes of a recorded response. LookupError or ValueError if they are gone or damaged."""
        block = self.block(position)
        if block is None and position < self.first():
            raise LookupError("it was handed over to the store, and is not here any more")
        if block is None:
            raise LookupError(f"there is no block at byte {position} of the record")
        raw = self.raw(block)
        if not 0 <= start <= start + size <= len(raw):
            raise ValueError(f"block {block.number} holds {len(raw)} bytes, not {start} to {start + size}")
        return raw[start : start + size]


def log_file(path: Path) -> Path:
    """The record in a data directory, or beside its index."""
    return path / "audit.log" if path.is_dir() else path.with_suffix(".log")
