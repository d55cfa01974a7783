"""A sum of all that may have changed a session's settings: a grant is for a statement under those it was asked with.

What settings there are cannot be asked of the server without a snapshot, and custom ones not at all. But sessions that
began alike, and ran the same SETs in the same order since, have the same: so the sum is of those. No I/O.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Final

from .facts import Analysis

_HARMLESS: Final = frozenset({
    "application_name", "client_encoding", "client_min_messages", "default_transaction_deferrable",
    "default_transaction_isolation", "default_transaction_read_only", "geqo", "idle_in_transaction_session_timeout",
    "idle_session_timeout", "jit", "lock_timeout", "plan_cache_mode", "role", "search_path", "session_authorization",
    "standard_conforming_strings", "statement_timeout", "transaction_deferrable", "transaction_isolation",
    "transaction_read_only", "transaction_timeout",
})  # fmt: skip
"""They change nothing of what a statement does, or count by themselves (role, search_path)."""
_LOCAL: Final = re.compile(r"\s*set\s+local\s", re.IGNORECASE)
_STATED: Final = frozenset(("SET", "RESET"))

NOTHING: Final = 0
TRANSACTION: Final = 1
"""It may bring settings back to what they were."""
STATED: Final = 2
"""It changes settings, and its text says to what."""
UNTOLD: Final = 3
"""It may change settings, and to what cannot be told."""


def bearing(analysis: Analysis) -> int:
    """How a text bears on the settings: NOTHING, TRANSACTION, STATED or UNTOLD."""
    worst = NOTHING
    for statement in analysis.statements:
        facts, effects = statement.facts, statement.effects
        if facts["opaque"] or not facts["verb"]:
            return UNTOLD
        if any(name not in _HARMLESS for name in facts["settings"]):
            worst = max(worst, STATED if facts["verb"] in _STATED else UNTOLD)
        if effects.transaction:
            worst = max(worst, TRANSACTION)
    return worst


class SettingsSum:
    """One session's. `value` is the sum now."""

    __slots__ = ("_before", "_local", "_session", "_steps", "open", "value")

    def __init__(self, session: str, settings: Mapping[str, str]) -> None:
        """`settings` came with the login."""
        told = sorted((name, value) for name, value in settings.items() if name not in _HARMLESS)
        self.value = json.dumps(told) if told else ""
        self.open = False
        """True if a change may yet be undone by the end of a transaction."""
        self._session = session
        self._steps = 0
        self._before = ""
        self._local = True

    def note(self, kind: int, text: str, bind: bytes) -> None:
        """A request that bears on them is let through."""
        if kind == TRANSACTION and not self.open:
            return
        if not self.open:
            self._before, self._local, self.open = self.value, True, True
        if kind == UNTOLD:
            self._steps += 1
            self._add(f"{self._session} {self._steps}")
        else:
            self._add(f"{bind.hex()} {text}")
        self._local = self._local and (kind == TRANSACTION or (kind == STATED and _is_local(text)))

    def ended(self, *, more: bool) -> None:
        """A transaction has ended. `more`: replies are owed still, so which of them all is not known."""
        self._local = self._local and not more
        if self._local:
            self.value = self._before
        else:
            self._add("end")
        self.open = more

    def _add(self, text: str) -> None:
        self.value = hashlib.sha256(f"{self.value}\n{text}".encode("utf-8", "replace")).hexdigest()


def _is_local(text: str) -> bool:
    """One SET LOCAL, and nothing besides: it ends with its transaction, however that ends."""
    return _LOCAL.match(text) is not None and ";" not in text.rstrip("; \t\r\n\f\v")
