"""Bodies of chunks and parts, as they are stored: one zstd frame each. Pure."""

from __future__ import annotations

from typing import Final

import zstandard

MAX_BODY: Final = 256 * 1024 * 1024
"""No body is larger than this, decompressed."""


def decompressed(body: bytes, size: int) -> bytes:
    """A body as it was before it was stored. ValueError if it is damaged."""
    if not 0 <= size <= MAX_BODY:
        raise ValueError(f"a body of {size} bytes is damaged")
    try:
        # What the frame itself claims is what would be allocated, whatever the limit is.
        if zstandard.frame_content_size(body) not in (-1, size):
            raise ValueError(f"a body is damaged: its size is not {size}")
        raw = zstandard.ZstdDecompressor().decompress(body, max_output_size=size) if size else b""
    except zstandard.ZstdError as error:
        raise ValueError(f"a body is damaged: {error}") from error
    if len(raw) != size:
        raise ValueError(f"a body is damaged: {len(raw)} bytes instead of {size}")
    return raw
