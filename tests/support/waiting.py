"""Waiting for what comes by itself, with a limit that is there to end a broken run, not to measure anything."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def until(holds: Callable[[], Found | None], what: str = "it", seconds: float = 60, *, every: float = 0.05) -> Found:
    """What `holds` gives as soon as that is true; a failure that names `what` when it takes too long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(every)
    raise AssertionError(f"not within {seconds:.0f} s: {what}")
