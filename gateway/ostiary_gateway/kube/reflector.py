"""A cache of objects that follows the API server: list, then watch, then watch on from where it was.

It survives what API servers do: versions that have expired (410: list again), connections that end or fall silent,
restarts. Meanwhile it keeps what it has, and says how old that is.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Final, Literal

from ostiary_gateway.kube.client import SILENCE, KubeClient
from ostiary_gateway.kube.errors import ApiError, KubeError
from ostiary_gateway.kube.resources import Kind, Listed, Object, metadata, name_of, version_of
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

PAUSE: Final = (0.05, 5.0)
"""Seconds before it is tried again: the first time, and at most."""
STUBBORN: Final = 3
"""Watches from one version that may fail one after the other; then it is listed again."""
STEADY: Final = 1.0
"""Seconds that a watch must have lasted to be no failure: a server that ends it at once is not asked again at once."""

Change = Literal["ADDED", "MODIFIED", "DELETED"]
Key = tuple[str, str]
"""Namespace and name."""


class Reflector:
    """`run` it in a task. `objects` is the cache; `on_change` hears of each change, in order, also of those that were
    missed while the watch was away (without the steps in between)."""

    def __init__(
        self,
        client: KubeClient,
        kind: Kind,
        namespace: str,
        *,
        label_selector: str = "",
        field_selector: str = "",
        on_change: Callable[[Change, Object], None] | None = None,
        silence: float = SILENCE,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.objects: dict[Key, Object] = {}
        self.synced = asyncio.Event()
        """Set once the cache has been what the server had."""
        self.problem = ""
        """Why nothing is heard just now; empty: all is well."""
        self.listed = 0
        """How often all of it was listed."""
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._on_change = on_change
        self._silence = silence
        self._clock = clock
        self._chance = chance
        self._version = ""
        self._heard = clock()
        self._failures = 0

    @property
    def age(self) -> float:
        """Seconds since the server was last heard, bookmarks included."""
        return self._clock() - self._heard

    def get(self, namespace: str, name: str) -> Object | None:
        """An object of the cache."""
        return self.objects.get((namespace, name))

    async def run(self) -> None:
        """Follows the server until it is cancelled. Never raises for what the server does."""
        while True:
            began = self._clock()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                # Ended by the server, as it does every few minutes.
                failed = self._clock() - began < STEADY
            except ApiError as problem:
                failed = not problem.expired
                if problem.expired:
                    self._version = ""
                self._trouble(problem, quiet=problem.expired)
            except KubeError as problem:
                failed = True
                self._trouble(problem)
            self._failures = self._failures + 1 if failed else 0
            if self._failures and self._failures % STUBBORN == 0:
                self._version = ""
            pause = min(PAUSE[0] * 2 ** min(self._failures, 10), PAUSE[1])
            await asyncio.sleep(pause * (0.5 + self._chance() / 2))

    def _trouble(self, problem: KubeError, *, quiet: bool = False) -> None:
        text = str(problem)
        if not quiet and not self.problem:
            log.warning("the API server is not heard", of=self._kind.plural, problem=text)
        self.problem = text

    def _heard_it(self) -> None:
        self._heard = self._clock()
        if self.problem:
            log.info("the API server is heard again", of=self._kind.plural)
            self.problem = ""

    async def _list(self) -> None:
        listed = await self._client.list(
            self._kind, self._namespace, label_selector=self._label_selector, field_selector=self._field_selector
        )
        self._heard_it()
        self.listed += 1
        self._replace(listed)
        self._version = listed.resource_version
        self.synced.set()

    def _replace(self, listed: Listed) -> None:
        """What is there now takes the place of the cache: what differs is told as the changes that were missed."""
        now = {name_of(item): item for item in listed.items}
        for key in [key for key in self.objects if key not in now]:
            self._take("DELETED", self.objects[key])
        for key, item in now.items():
            old = self.objects.get(key)
            if old is not None and _uid(old) != _uid(item):
                self._take("DELETED", old)
                old = None
            if old is None or version_of(old) != version_of(item):
                self._take("ADDED" if old is None else "MODIFIED", item)

    async def _watch(self) -> None:
        watching = self._client.watch(
            self._kind, self._namespace, resource_version=self._version, label_selector=self._label_selector,
            field_selector=self._field_selector, silence=self._silence,
        )  # fmt: skip
        async with aclosing(watching) as events:
            async for event in events:
                self._heard_it()
                self._failures = 0
                if event.type != "BOOKMARK":
                    self._take(event.type, event.object)
                self._version = version_of(event.object) or self._version

    def _take(self, change: Change, item: Object) -> None:
        key = name_of(item)
        if change == "DELETED":
            if self.objects.pop(key, None) is None:
                return
        else:
            # After a resumed watch something may be told as new that we have.
            change = "MODIFIED" if key in self.objects else "ADDED"
            self.objects[key] = item
        if self._on_change is not None:
            try:
                self._on_change(change, item)
            except Exception:
                # A listener's mistake must not end the watch for all others.
                log.exception("a change could not be taken", of=self._kind.plural, name="/".join(key))


def _uid(item: Mapping[str, object]) -> str:
    return str(metadata(dict(item)).get("uid", ""))
