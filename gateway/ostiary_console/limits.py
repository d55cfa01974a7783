"""How often somebody may try: a bucket that fills again with time, for each address and for all together."""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST = 10_000
"""Addresses that are remembered."""


class Attempts:
    """`each` tries of one address at once, and `per_minute` more every minute; `all_of_them` times that together."""

    def __init__(
        self, each: int, per_minute: float, all_of_them: int = 20, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._each = float(each)
        self._rate = per_minute / 60
        self._all = all_of_them
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._total = (self._each * all_of_them, clock())

    def take(self, address: str) -> float:
        """0.0, or the seconds after which it may try again."""
        now = self._clock()
        left, rate = self._filled(self._left.get(address, (self._each, now)), now, self._each, self._rate)
        total, total_rate = self._filled(self._total, now, self._each * self._all, self._rate * self._all)
        if left < 1:
            return (1 - left) / rate
        if total < 1:
            return (1 - total) / total_rate
        self._left[address] = (left - 1, now)
        self._left.move_to_end(address)
        self._total = (total - 1, now)
        while len(self._left) > MOST:
            self._left.popitem(last=False)
        return 0.0

    def give_back(self, address: str) -> None:
        """It was no guess: who gets in is not slowed down, nor others behind the same address."""
        left, at = self._left.get(address, (self._each, self._clock()))
        self._left[address] = (min(self._each, left + 1), at)
        total, since = self._total
        self._total = (min(self._each * self._all, total + 1), since)

    @staticmethod
    def _filled(known: tuple[float, float], now: float, most: float, rate: float) -> tuple[float, float]:
        left, at = known
        return min(most, left + (now - at) * rate), rate


class Full(Exception):
    """There is no room for one more."""


class Places:
    """Things that go on for long: so many at one time, and so many of one person."""

    def __init__(self, most: int, of_one: int) -> None:
        self._most = most
        self._of_one = of_one
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        return self._taken.total()

    @contextmanager
    def place(self, whose: str) -> Iterator[None]:
        """For as long as the block lasts. Raises Full."""
        if self._taken.total() >= self._most or self._taken[whose] >= self._of_one:
            raise Full
        self._taken[whose] += 1
        try:
            yield
        finally:
            self._taken[whose] -= 1
            if not self._taken[whose]:
                del self._taken[whose]
