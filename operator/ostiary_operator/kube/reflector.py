"""Keeps a store the same as the API server has it: list, watch from there, list again when the watch can no more.

For what kopf cannot watch: Secrets and namespaces as metadata only (kopf always asks for whole objects, and the data
of Secrets must not come here), several selections of one kind (kopf has one selector for a kind), and the operator's
own children, of which deletions during an outage must be noticed (kopf's events tell only what is there after it).
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass
from typing import Final

import aiohttp
import orjson

from ostiary_operator.inventory import Store
from ostiary_operator.kube.client import ApiError, Client
from ostiary_operator.kube.kinds import Kind, Manifest
from ostiary_operator.logging import get_logger
from ostiary_operator.pulse import Pulse
from ostiary_operator.settings import Watching

log = get_logger(__name__)

_LONGEST_PAUSE: Final = 30.0
_TROUBLE = (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError)


@dataclass(frozen=True, slots=True)
class Selection:
    """What is watched: a kind, whole or by selectors, in one namespace or in all."""

    store: str
    """What it fills: the kind's name, or that of a part of it."""
    kind: Kind
    namespace: str = ""
    label_selector: str = ""
    field_selector: str = ""
    metadata_only: bool = False
    only: str = ""
    """The one object that is looked at; empty: all that the selectors select."""

    @property
    def name(self) -> str:
        """Of this watch, in logs and metrics."""
        where = self.only or self.namespace
        return f"{self.store} {where}" if where else self.store

    def covers(self, key: str) -> bool:
        """Whether an object of that key would be seen."""
        return key == self.only if self.only else key.startswith(f"{self.namespace}/" if self.namespace else "")


class _ListAgain(Exception):
    """The watch cannot go on from where it was."""


class Reflector:
    """One list and watch, for ever."""

    def __init__(self, client: Client, selection: Selection, store: Store, pulse: Pulse, settings: Watching) -> None:
        self._client = client
        self._selection = selection
        self._store = store
        self._pulse = pulse
        self._settings = settings
        self._failures = 0
        self._version = ""
        """From where to watch; empty: list first."""

    async def run(self) -> None:
        """Until cancelled. Nothing that the API server does ends it."""
        while True:
            try:
                await self._once()
                self._failures = 0
                continue
            except _ListAgain as why:
                self._version = ""
                log.debug("listing again", watch=self._selection.name, reason=str(why))
            except ApiError as error:
                if error.gone:
                    self._version = ""
                    continue
                if error.status in (401, 403, 404):
                    self._version = ""
                self._trouble(str(error))
            except _TROUBLE as error:
                self._trouble(str(error) or type(error).__name__)
            await asyncio.sleep(self._pause())

    def _trouble(self, reason: str) -> None:
        self._failures += 1
        self._pulse.trouble(self._selection.name, reason)
        # One line for each outage, and one now and then while it lasts.
        tell = log.warning if self._failures == 1 or self._failures % 10 == 0 else log.debug
        tell("watch failed; it is begun anew", watch=self._selection.name, reason=reason, failures=self._failures)

    def _pause(self) -> float:
        longest = min(_LONGEST_PAUSE, 0.2 * 2.0 ** min(self._failures, 10))
        return random.uniform(longest / 2, longest)

    async def _once(self) -> None:
        """One watch, after a list if one is needed; returns when the API server ends it."""
        chosen = self._selection
        if not self._version:
            items, version = await self._client.list(
                chosen.kind, namespace=chosen.namespace, label_selector=chosen.label_selector,
                field_selector=chosen.field_selector, metadata_only=chosen.metadata_only,
            )  # fmt: skip
            self._store.replace(items, chosen.covers)
            self._version = version
            self._pulse.listed(chosen.name)
        async with self._client.watch(
            chosen.kind, since=self._version, namespace=chosen.namespace, label_selector=chosen.label_selector,
            field_selector=chosen.field_selector, metadata_only=chosen.metadata_only,
            # Not all at once: the API server must not have to begin all watches in the same second.
            server_timeout=self._settings.server_timeout * random.uniform(0.8, 1.2),
            inactivity_timeout=self._settings.inactivity_timeout,
        ) as events:  # fmt: skip
            self._pulse.hear(chosen.name)
            try:
                async for event in events:
                    self._failures = 0
                    self._pulse.hear(chosen.name)
                    self._take(event)
            except TimeoutError:
                # Not even a bookmark. If the API server is well, the next watch begins where this one ended.
                log.debug("the watch went silent; it is begun anew", watch=chosen.name)

    def _take(self, event: Manifest) -> None:
        found = event.get("object") or {}
        match event.get("type"):
            case "ADDED" | "MODIFIED":
                self._store.put(self._named(found))
            case "DELETED":
                self._store.remove(self._named(found))
            case "BOOKMARK":
                pass
            case "ERROR":
                error = ApiError(int(found.get("code") or 0), str(found.get("reason", "")), str(found.get("message")))
                raise _ListAgain(str(error)) if error.gone else error
            case other:
                raise _ListAgain(f"the watch sent {other!r}, which is no type of event")
        self._version = found["metadata"]["resourceVersion"]

    def _named(self, found: Manifest) -> Manifest:
        kind = self._selection.kind
        return found | {"apiVersion": kind.api_version, "kind": kind.kind}
