"""When a sync is worth its cost: as soon as enough of the sessions wait that lately did.

A sync for each request would cost more than the request; one sync for all would let none run while the others wait.
"""

from __future__ import annotations

from typing import Final

WINDOW: Final = 0.002
"""Seconds in which sessions are counted that wait for the disk."""

SHARE: Final = 3
"""One sync is begun for a third of the sessions that lately waited for one: the others come while it goes on."""


class Pace:
    """How many sessions wait for the disk, in this window of time and in the one before."""

    __slots__ = ("_before", "_ends", "_lately", "_window")

    def __init__(self) -> None:
        self._window = 0
        self._ends = 0.0
        self._lately = self._before = 0

    def seen(self, window: int, at: float) -> int:
        """A session's request waits, at this time in seconds. `window`: what this returned for the session last."""
        if at >= self._ends:
            self._before = self._lately if at < self._ends + WINDOW else 0
            self._lately = 0
            self._window += 1
            self._ends = at + WINDOW
        if window != self._window:
            self._lately += 1
        return self._window

    def enough(self, waiting: int) -> bool:
        """True if a sync for so many requests should begin now."""
        return waiting * SHARE >= max(self._lately, self._before)
