"""A block that was changed is damaged, whatever it claims of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.blocks import Block, Log


def test_a_frame_that_claims_to_be_huge_is_damaged_and_takes_no_memory(tmp_path: Path) -> None:
    text = b"x" * 300
    frame = zstandard.compress(text)
    # RFC 8878, 3.1.1.1: magic, a descriptor (here: of a single segment, two bytes of size), the content's size.
    assert frame[4] == 0b0110_0000
    claims = frame[:4] + bytes([0b1110_0000]) + (1 << 62).to_bytes(8, "little") + frame[7:]
    block = Block(64, 0, layout.EVENTS, layout.ZSTD, len(text), len(claims), 7, 0.0, b"", b"")
    log = Log(-1, tmp_path)
    assert log.decompress(block, frame) == text
    with pytest.raises(ValueError, match="block 7 is damaged"):
        log.decompress(block, claims)
