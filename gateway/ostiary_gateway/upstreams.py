"""Whether the targets answer: each is tried now and then, and soon after its Connection has changed. Nobody logs in."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ostiary_api.gateway_state import UpstreamState
from ostiary_gateway.logging import get_logger
from ostiary_gateway.protocols import Lobby, TargetAway

log = get_logger(__name__)

EVERY: Final = 30.0
"""Seconds between two tries of one target; a fifth more or less, so that replicas do not come together."""
AWAY: Final = 5.0
"""The same while it does not answer: what is back should not be called away for long."""
SOON: Final = 0.2
"""Seconds within which a new or changed target is tried."""
MOST: Final = 8
"""Targets that are tried at one time."""

Key = tuple[str, str]


@dataclass(slots=True)
class _Target:
    way: object
    """What the way there depends on; another is tried soon."""
    due: float
    state: UpstreamState
    busy: bool = False


class Upstreams:
    """`run` it in a task. `lobbies` are those of the Connections that are served now; `changed` hears of news."""

    def __init__(
        self,
        lobbies: Callable[[], Mapping[Key, Lobby]],
        changed: Callable[[], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._lobbies = lobbies
        self._changed = changed
        self._clock = clock
        self._chance = chance
        self._targets: dict[Key, _Target] = {}
        self._poked = asyncio.Event()
        self._room = asyncio.Semaphore(MOST)

    def state(self, key: Key) -> UpstreamState:
        """What was found out last."""
        found = self._targets.get(key)
        return found.state if found is not None else UpstreamState()

    def poke(self) -> None:
        """Connections may have changed: look."""
        self._poked.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._poked.clear()
                soonest = self._look(tasks)
                with suppress(TimeoutError):
                    async with asyncio.timeout(max(soonest - self._clock(), 0.01)):
                        await self._poked.wait()

    def _look(self, tasks: asyncio.TaskGroup) -> float:
        """Begins what is due; when the next is."""
        lobbies, now = self._lobbies(), self._clock()
        for key in [key for key in self._targets if key not in lobbies]:
            del self._targets[key]
        for key, lobby in lobbies.items():
            way = _way(lobby)
            target = self._targets.get(key)
            if target is None or target.way != way:
                self._targets[key] = target = _Target(way, now + SOON * self._chance(), UpstreamState())
            if target.due <= now and not target.busy:
                target.busy = True
                target.due = now + EVERY * (0.8 + 0.4 * self._chance())
                tasks.create_task(self._try(target, lobby))
        return min((target.due for target in self._targets.values()), default=now + EVERY)

    async def _try(self, target: _Target, lobby: Lobby) -> None:
        message = ""
        try:
            async with self._room:
                await lobby.probe()
        except TargetAway as problem:
            message = str(problem)
        except Exception as problem:
            # A mistake here must not end the tries of the others.
            log.exception("a target could not be tried", connection=lobby.site.name)
            message = f"it could not be tried: {type(problem).__name__}"
        finally:
            target.busy = False
        if message:
            target.due = self._clock() + AWAY * (0.8 + 0.4 * self._chance())
            self._poked.set()
        old = target.state.state
        at = datetime.now(UTC).replace(microsecond=0)
        target.state = UpstreamState(state="Unreachable" if message else "Reachable", message=message[:1024], at=at)
        if target.state.state != old:
            (log.warning if message else log.info)(
                "target does not answer" if message else "target answers", connection=lobby.site.name, problem=message
            )
        self._changed()


def _way(lobby: Lobby) -> object:
    site = lobby.site
    where = site.connection.spec.upstream
    ref = where.tls.ca_ref or where.host_ca_ref
    ca = site.secrets.get((site.namespace, ref.name)) if ref is not None else None
    return where, ca.data if ca is not None else None
