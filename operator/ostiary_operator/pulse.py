"""When each watched kind was last heard of: what readiness and the metrics look at."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Beat:
    """One kind's watch."""

    heard: float = float("-inf")
    """Local monotonic time of the last list, event or bookmark."""
    listed: bool = False
    restarts: int = 0
    problem: str = ""
    """Why the watch is down; empty while it runs."""


class Pulse:
    """All watches. May be written from another thread: every write is one assignment."""

    def __init__(self, kinds: Iterable[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.beats = {kind: Beat() for kind in kinds}

    def hear(self, kind: str) -> None:
        """The API server said something about the kind, be it a bookmark."""
        beat = self.beats[kind]
        beat.heard = self._clock()
        beat.problem = ""

    def listed(self, kind: str) -> None:
        """All objects of the kind were listed."""
        self.hear(kind)
        self.beats[kind].listed = True

    def trouble(self, kind: str, problem: str) -> None:
        """The watch has failed and is begun anew."""
        self.beats[kind].restarts += 1
        self.beats[kind].problem = problem

    def age(self, kind: str) -> float:
        """Seconds since the kind was last heard of; infinite if it never was."""
        return self._clock() - self.beats[kind].heard

    def stale(self, limit: float) -> dict[str, str]:
        """Kind → what is wrong, of those not listed yet and those not heard of for longer than `limit` seconds."""
        found: dict[str, str] = {}
        for kind, beat in self.beats.items():
            why = f" ({beat.problem})" if beat.problem else ""
            if not beat.listed:
                found[kind] = f"not listed yet{why}"
            elif (age := self.age(kind)) > limit:
                found[kind] = f"not heard of for {age:.0f} s{why}"
        return found
