"""Counts by hour, as small charts have them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

HOUR: Final = 3600
BARS: Final = 48


def by_hour(counts: Iterable[tuple[int, int]], since: float, now: float, bars: int = BARS) -> tuple[int, ...]:
    """`counts`: an hour and how many in it. As many bars as there are hours, or `bars` that stand for several each."""
    first, last = int(since // HOUR), int(now // HOUR)
    hours = max(1, last - first + 1)
    each = -(-hours // bars)
    size = -(-hours // each)
    found = [0] * size
    for hour, count in counts:
        index = size - 1 - (last - hour // HOUR) // each
        if 0 <= index < size:
            found[index] += count
    return tuple(found)
