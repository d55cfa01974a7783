"""Links to sign in with on this machine: each is good once, for some minutes, for who was given it."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

GOOD_FOR: Final = 300.0
"""Seconds."""
MOST: Final = 64
"""Links that are good at one time."""


class Links:
    """They are kept as hashes, in this process only."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: OrderedDict[bytes, float] = OrderedDict()

    def make(self) -> str:
        """The secret of a new link."""
        secret = secrets.token_urlsafe(32)
        self._until[_hash(secret)] = self._clock() + GOOD_FOR
        while len(self._until) > MOST:
            self._until.popitem(last=False)
        return secret

    def use(self, secret: str) -> bool:
        """Whether it was good; from then on it is not."""
        until = self._until.pop(_hash(secret), None)
        return until is not None and self._clock() < until


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).digest()
