"""The scan of rows and of COPY alone, beside RE2 on the same chunks: MB/s on one core."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from typing import Final

import re2

from ostiary_gateway import _pure
from ostiary_gateway.protocols.postgres.copy import CopyOptions, CopyOutMask
from ostiary_gateway.protocols.postgres.rows import Field, compile_row_mask
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

KEEP: Final = Strategy("Partial", keep_last=4)
PLAN: Final = MaskPlan(detectors=(DetectorMask("CreditCard", KEEP), DetectorMask("Email", KEEP)))
ROWS: Final = 400
CHUNKS: Final = 40
ROUNDS: Final = 7
TYPES: Final = (23, 1114, 25, 25, 25)

WHAT: Final[dict[str, Callable[[random.Random, int], bytes]]] = {
    "nothing looks like a hit": lambda _r, i: b"note %d" % i,
    "1 % with a card": lambda _r, i: b"4111 1111 1111 1111" if i % 100 == 0 else b"note %d" % i,
    "every row with a card": lambda _r, _i: b"4111 1111 1111 1111",
    "every row with an email address": lambda _r, i: b"bob%d@example.com" % i,
    "snowflake ids, which only look like cards": lambda _r, i: b"%d" % (1693526400123456789 + i),
    "MD5 sums": lambda r, _i: b"%032x" % r.getrandbits(128),
}


def values(rng: random.Random, index: int, what: Callable[[random.Random, int], bytes]) -> list[bytes]:
    prose = b"a bit of plain prose to fill this row, as they do it"
    return [b"%d" % index, b"2026-11-23 03:11:18.123456", b"some customer name", what(rng, index), prose]


def data_row(cells: list[bytes]) -> bytes:
    body = struct.pack("!H", len(cells)) + b"".join(struct.pack("!i", len(cell)) + cell for cell in cells)
    return b"D" + struct.pack("!i", len(body) + 4) + body


def copy_data(cells: list[bytes]) -> bytes:
    body = b"\t".join(cells) + b"\n"
    return b"d" + struct.pack("!i", len(body) + 4) + body


def rate(chunks: list[bytes], look: Callable[[bytes], object]) -> float:
    """MB/s of the best round."""
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.perf_counter()
        for chunk in chunks:
            look(chunk)
        best = min(best, time.perf_counter() - started)
    return sum(map(len, chunks)) / best / 1e6


def main() -> None:
    mask = compile_row_mask(PLAN, [Field("x", 0, 0, oid, -1, -1, 0) for oid in TYPES], {}, {})
    assert mask is not None
    pattern = re2.compile(rb"(?:[0-9][ -]?){12}[0-9]|@")
    print("compiled" if _pure.compiled("ostiary_gateway.masking.scan") else "not compiled", "\n")
    print("| rows | SELECT, MB/s | COPY, MB/s | RE2 finds the candidates, MB/s |\n| --- | --- | --- | --- |")
    for name, what in WHAT.items():
        rng = random.Random(7)
        cells = [values(rng, index, what) for index in range(ROWS * CHUNKS)]
        rows = [b"".join(map(data_row, cells[i : i + ROWS])) for i in range(0, len(cells), ROWS)]
        copied = [b"".join(map(copy_data, cells[i : i + ROWS])) for i in range(0, len(cells), ROWS)]
        copying = CopyOutMask(PLAN, CopyOptions(), len(TYPES), {}, TYPES)
        found = rate(rows, lambda chunk: sum(1 for _ in pattern.finditer(chunk)))
        selecting, streaming = rate(rows, mask.apply_all), rate(copied, copying.feed_frames)
        print(f"| {name} | {selecting:,.0f} | {streaming:,.0f} | {found:,.0f} |")


if __name__ == "__main__":
    main()
