"""A queue of keys: each is in it once, is worked on by one at a time, and waits longer after each failure.

What client-go's workqueue promises, on asyncio: a key that is added while it is worked on is worked on again after
that; nothing that was added is forgotten.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)

_PASSED: Final = 10
"""Urgent keys that may overtake those that are not, before one of these has its turn."""


class WorkQueue(Generic[Key]):
    """Keys to be worked on. All methods are called in one event loop."""

    def __init__(
        self,
        *,
        first_retry: float = 0.5,
        longest_retry: float = 60.0,
        retries_per_second: float = 20.0,
        waited: Callable[[float], None] = lambda seconds: None,
        urgent: Callable[[Key], bool] = lambda key: True,
    ) -> None:
        self._first_retry = first_retry
        self._longest_retry = longest_retry
        self._between_retries = 1.0 / retries_per_second
        self._next_retry = 0.0
        self._waited = waited
        self._urgent = urgent
        self._ready: deque[Key] = deque()
        self._calm: deque[Key] = deque()
        """Keys that are not urgent: taken when no urgent one waits, and one in so many all the same."""
        self._passed = 0
        self._since: dict[Key, float] = {}
        """Keys that wait for a worker → since when."""
        self._active: set[Key] = set()
        self._again: set[Key] = set()
        """Keys that were added while they were worked on."""
        self._later: dict[Key, asyncio.TimerHandle] = {}
        self._failures: dict[Key, int] = {}
        self._wake = asyncio.Event()

    def __len__(self) -> int:
        return len(self._since)

    @property
    def active(self) -> int:
        """Keys that are worked on now."""
        return len(self._active)

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is worked on; what is only due later does not count."""
        return not self._since and not self._active

    def add(self, key: Key) -> None:
        """Work on the key as soon as may be."""
        if key in self._active:
            self._again.add(key)
        elif key not in self._since:
            self._since[key] = asyncio.get_running_loop().time()
            (self._ready if self._urgent(key) else self._calm).append(key)
            self._wake.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """Work on the key in so many seconds. An earlier time that was asked for stays."""
        loop = asyncio.get_running_loop()
        due = loop.time() + seconds
        if (timer := self._later.get(key)) is not None:
            if timer.when() <= due:
                return
            timer.cancel()
        self._later[key] = loop.call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        self._later.pop(key, None)
        self.add(key)

    async def get(self) -> Key:
        """The next key; `done` must be called for it."""
        while not self._since:
            self._wake.clear()
            await self._wake.wait()
        if self._ready and (not self._calm or self._passed < _PASSED):
            self._passed += bool(self._calm)
            key = self._ready.popleft()
        else:
            self._passed = 0
            key = self._calm.popleft()
        self._waited(asyncio.get_running_loop().time() - self._since.pop(key))
        self._active.add(key)
        return key

    def done(self, key: Key, *, failed: bool = False) -> float:
        """The work on the key has ended. Returns the seconds until it is tried again; 0: not because of a failure."""
        self._active.discard(key)
        pause = 0.0
        if failed:
            pause = self._pause(key)
            self.add_after(key, pause)
        else:
            self._failures.pop(key, None)
        if key in self._again:
            self._again.discard(key)
            # What changed meanwhile may well be what was missing.
            self.add(key)
        return pause

    def _pause(self, key: Key) -> float:
        """Doubled with each failure, with jitter; and all keys together are not tried more often than agreed."""
        count = self._failures[key] = self._failures.get(key, 0) + 1
        longest = min(self._longest_retry, self._first_retry * 2.0 ** min(count - 1, 30))
        now = asyncio.get_running_loop().time()
        self._next_retry = max(now, self._next_retry) + self._between_retries
        return max(longest * random.uniform(0.75, 1.0), self._next_retry - now)

    def clear(self) -> None:
        """Forget all that waits."""
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        self._ready.clear()
        self._calm.clear()
        self._since.clear()
        self._again.clear()
        self._failures.clear()
