"""How long a change takes to come into force: from when it was seen until every ready pod had loaded it."""

from __future__ import annotations

from collections.abc import Callable

from ostiary_api.gateway_state import GatewayState
from ostiary_operator.observed import Observed


class Propagation:
    """Changes that are under way, by gateway (`namespace/name`)."""

    def __init__(self, measured: Callable[[float], None], clock: Callable[[], float]) -> None:
        self._measured = measured
        self._clock = clock
        self._seen: dict[str, float] = {}
        """Since when something is not yet written."""
        self._under_way: dict[str, tuple[str, float]] = {}
        """Revision that was written, and since when what it brings is wanted."""
        self._revisions: dict[str, str] = {}

    def changed(self, gateway: str) -> None:
        """Something was seen that may change the gateway's bundle."""
        self._seen.setdefault(gateway, self._clock())

    def written(self, gateway: str, revision: str, begun: float) -> None:
        """The bundle of a plan that was begun at that time is written."""
        seen = self._seen.get(gateway)
        if seen is not None and seen <= begun:
            del self._seen[gateway]
        if self._revisions.get(gateway) == revision:
            return
        self._revisions[gateway] = revision
        if seen is not None:
            before = self._under_way.get(gateway)
            self._under_way[gateway] = revision, min(seen, before[1]) if before is not None else seen

    def loaded(self, gateway: str, observed: Observed) -> None:
        """Something else is known of the gateway's pods: have all that are ready loaded it?"""
        waiting = self._under_way.get(gateway)
        if waiting is None:
            return
        ready = [pod for pod in observed.pods_of.get(gateway, ()) if pod.ready and not pod.deleting]
        states = [observed.states.get(pod.uid) for pod in ready]
        if states and all(isinstance(state, GatewayState) and state.revision == waiting[0] for state in states):
            del self._under_way[gateway]
            self._measured(self._clock() - waiting[1])

    def forget(self, gateway: str) -> None:
        """The gateway is gone."""
        for place in (self._seen, self._under_way, self._revisions):
            place.pop(gateway, None)
