"""A forger of records, for the demo: changes a statement where it lies, and everything around it stays as it was."""

from __future__ import annotations

from pathlib import Path

import zstandard

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.blocks import FIRST, Log


def forge(path: Path, old: bytes, new: bytes) -> None:
    """Put `new`, filled up with spaces, in the place of `old` in the record `path`, wherever it is."""
    log = Log.open(path)
    try:
        with path.open("r+b") as file:
            for block in log.walk(FIRST, log.size):
                if block.kind != layout.EVENTS:
                    continue
                raw = log.decompress(block, log.body(block))
                if old not in raw:
                    continue
                changed = raw.replace(old, new.ljust(len(old)))
                if block.codec == layout.ZSTD:
                    changed = zstandard.ZstdCompressor(level=19).compress(changed)
                if len(changed) <= block.stored:
                    file.seek(block.position + layout.BLOCK.size)
                    file.write(changed.ljust(block.stored, b"\0"))  # what follows a frame is not read
    finally:
        log.close()
