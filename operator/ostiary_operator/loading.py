"""Statuses that can wait: they only say that pods load a bundle just now, or tell the same of another bundle.

Without this each change of a policy would write every status of its gateways two times, to and fro, and tell two events
of each: a policy for all Connections would cost the API server more in statuses than in bundles. What takes longer to
load is written, and stays written until it is over.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final

from ostiary_operator.reconcile.reasons import LOADING

PATIENCE: Final = 1.0
"""Seconds that pods get to load a new bundle: mostly they need a fraction of that."""
GATHER: Final = 5.0
"""Seconds in which changes are gathered that are of words only: which bundle it is that all pods have loaded."""


class Loading:
    """Whose status waits, by any key, and since when."""

    def __init__(self, clock: Callable[[], float], patience: float = PATIENCE, gather: float = GATHER) -> None:
        self._clock = clock
        self._patience = patience
        self._gather = gather
        self._since: dict[Hashable, float] = {}
        self._told: dict[Hashable, float] = {}

    def rest(self, key: Hashable, wanted: dict[str, Any], stored: dict[str, Any] | None = None) -> float:
        """Seconds that this status should wait; not above 0: write it. `stored`: as it is now."""
        now = self._clock()
        programmed = next((each for each in wanted.get("conditions") or () if each["type"] == "Programmed"), None)
        if programmed is not None and programmed["reason"] == LOADING:
            return self._since.setdefault(key, now) + self._patience - now
        self._since.pop(key, None)
        if stored and wanted != stored and _essence(wanted) == _essence(stored):
            rest = self._told.setdefault(key, now) + self._gather - now
            if rest > 0:
                return rest
        self._told.pop(key, None)
        return 0.0

    def forget(self, key: Hashable) -> None:
        """It is gone."""
        self._since.pop(key, None)
        self._told.pop(key, None)


def _essence(status: dict[str, Any]) -> dict[str, Any]:
    """Without which bundle it is, which revisions are in it, and the words of conditions that are as they should be."""
    found = {name: value for name, value in status.items() if name not in ("conditions", "revision")}
    found["policies"] = [(each["namespace"], each["name"]) for each in status.get("policies") or ()]
    words = "lastTransitionTime", "message"
    found["conditions"] = [
        {name: value for name, value in each.items() if name not in (words if each["status"] == "True" else words[:1])}
        for each in status.get("conditions") or ()
    ]
    return found
