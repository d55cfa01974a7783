"""How long a request may take to come. A client that says a byte now and then would keep its place for ever. No I/O."""

from __future__ import annotations

from typing import Final

from .wire import RequestReader, WireError

HEAD: Final = 30.0
"""Seconds from the first byte of a request to the end of its head."""
BODY: Final = 300.0
"""The same, to the end of its body."""


def overdue(reader: RequestReader, since: float, now: float) -> WireError | None:
    """What to tell a client whose request began to come at `since` (0.0: none did) and is not complete."""
    if not since or reader.idle:
        return None
    limit = HEAD if reader.head is None else BODY
    if now - since <= limit:
        return None
    return WireError(408, "Timeout", f"the request was not complete after {limit:.0f} s: send it again, and faster")
