"""Which policies were accepted, kept up to date: for each namespace by itself, so that none waits for another's.

To judge a policy takes milliseconds, or seconds if somebody made it so. Whoever needs the policies of a namespace while
these are being judged comes again a little later instead of waiting: a worker that waits does nothing for others.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from ostiary_operator.logging import get_logger
from ostiary_operator.observed import Observed
from ostiary_operator.reconcile import acceptance
from ostiary_operator.reconcile.acceptance import Extensions, Recovered, Standing

log = get_logger(__name__)

PATIENCE: Final = 0.5
"""Seconds to wait for who judges the policies of a namespace just now."""


BETWEEN: Final = 0.02
"""Seconds between two policies that are judged behind, so that what is urgent finds its turn."""


class Busy(Exception):
    """Policies are being judged: come again in a moment."""


class Known(Protocol):
    """What is known of the cluster: `ostiary_operator.world`."""

    inputs: int

    def observed(self) -> Observed: ...


@dataclass(slots=True)
class _Place:
    """One namespace. `seen`: the inputs for which all of its policies were looked at."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    since: float = 0.0
    seen: int = -1


class Judge:
    """Keeps the standings. `in_thread` runs a call elsewhere, `told` hears of policies that were judged, `moved` of
    those that were taken as they were and are not, and `at_once` is how many may be judged at one time."""

    def __init__(
        self,
        world: Known,
        extensions: Extensions,
        in_thread: Callable[..., Awaitable[object]],
        told: Callable[[str], None],
        moved: Callable[[str], None],
        *,
        at_once: int = 1,
        took: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.recovered = Recovered()
        """What an earlier run had accepted."""
        self.standings: dict[str, Standing] = {}
        self._world = world
        self._extensions = extensions
        self._in_thread = in_thread
        self._told = told
        self._moved = moved
        self._took = took
        self._turns = asyncio.Semaphore(at_once)
        self._places: dict[str, _Place] = {}
        self._behind = asyncio.Event()
        """Something was taken as it was."""
        self._as_before: dict[str, tuple[str, int]] = {}
        """Policies that stand as an earlier run left them, and in which version."""
        self._broken: dict[str, tuple[str, int]] = {}
        """Policies whose judging itself failed, and for which version."""

    async def current(self, *namespaces: str) -> tuple[Observed, Mapping[str, Standing]]:
        """What is known now, with every policy of these namespaces judged. Raises Busy, and RuntimeError if one cannot
        be judged: a bundle without it would let through what it denies."""
        for namespace in dict.fromkeys(namespaces):
            async with self._alone(namespace) as place:
                if place.seen != self._world.inputs:
                    await self._look(namespace, place)
        observed = self._world.observed()
        missing = [
            key for key, seen in observed.policies.items() if seen.namespace in namespaces and key not in self.standings
        ]
        if broken := [key for key in missing if key in self._broken]:
            raise RuntimeError(f"policies could not be judged: {', '.join(sorted(broken)[:5])}")
        if missing:
            raise Busy(f"{missing[0]} came just now")
        return observed, dict(self.standings)

    @asynccontextmanager
    async def _alone(self, namespace: str) -> AsyncIterator[_Place]:
        place = self._places.setdefault(namespace, _Place())
        if place.lock.locked() and time.monotonic() - place.since > PATIENCE:
            raise Busy(f"the policies of {namespace} are being judged")
        try:
            async with asyncio.timeout(PATIENCE):
                await place.lock.acquire()
        except TimeoutError:
            raise Busy(f"the policies of {namespace} are being judged") from None
        place.since = time.monotonic()
        try:
            yield place
        finally:
            place.lock.release()

    async def _look(self, namespace: str, place: _Place) -> None:
        """One pass: what changes meanwhile is told to whom it concerns, and brings them here again."""
        inputs, observed = self._world.inputs, self._world.observed()
        gone = [key for key in self.standings if key.startswith(f"{namespace}/") and key not in observed.policies]
        for key in gone:
            del self.standings[key]
            self._broken.pop(key, None)
        stale = await self._in_thread(acceptance.stale, observed, self.standings, namespace)
        assert isinstance(stale, list)
        for key in stale:
            if not self._stands_as_before(observed, key):
                async with self._turns:
                    await self._judge(key, self.standings.get(key))
        place.seen = inputs

    def _stands_as_before(self, observed: Observed, key: str) -> bool:
        """Whether a policy is in force as an earlier run left it. A change must not wait until all are compiled."""
        known, seen = self._as_before.get(key), observed.policies[key]
        if known is None and key not in self.standings:
            standing = acceptance.as_before(observed, key, self.recovered)
            if standing is not None:
                self.standings[key] = standing
                known = self._as_before[key] = seen.uid, seen.generation
                self._behind.set()
        if known == (seen.uid, seen.generation):
            return True
        self._as_before.pop(key, None)
        return False

    def taken_as_it_was(self, key: str) -> bool:
        """Whether a policy was not judged in this run, since it stands as an earlier one left it."""
        return key in self._as_before

    async def look_again(self) -> None:
        """Judges behind what was taken as it was, until cancelled."""
        while await self._behind.wait():
            key = next(iter(self._as_before), None)
            if key is None:
                self._behind.clear()
                continue
            place = self._places.setdefault(key.partition("/")[0], _Place())
            async with place.lock, self._turns:
                place.since = time.monotonic()
                if self._as_before.pop(key, None) is None:
                    continue
                taken = self.standings.get(key)
                await self._judge(key, None)
                judged = self.standings.get(key)
                if taken and judged and (judged.line, judged.refused) != (taken.line, taken.refused):
                    self._moved(key)
            await asyncio.sleep(BETWEEN)

    async def _judge(self, key: str, before: Standing | None) -> None:
        observed = self._world.observed()
        seen = observed.policies.get(key)
        if seen is None or self._broken.get(key) == (seen.uid, seen.generation):
            return
        begun = time.monotonic()
        try:
            standing = await self._in_thread(
                acceptance.accept, observed, key, before, self.recovered, self._extensions
            )
            assert isinstance(standing, Standing)
        except Exception:
            # A fault of ours in one policy: the others must not wait for it, and what it was stays in force.
            log.exception("a policy could not be judged; what was in force of it stays so", policy=key)
            self._broken[key] = seen.uid, seen.generation
            return
        finally:
            self._took(time.monotonic() - begun)
        self._broken.pop(key, None)
        self.standings[key] = standing
        if before is None or before.inputs != standing.inputs:
            self._told(key)
