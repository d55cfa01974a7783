"""Bundles from the ConfigMaps that the operator writes for this gateway: watched, unpacked, with their Secrets fetched.

While the API server is away what was served goes on being served; so it does when a bundle cannot be read. After a
restart without an API server the copy on disk is served, and its Connections are closed until their Secrets come.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any, Final

from ostiary_api.bundle_feed import (
    PARTS,
    TEXT,
    BundleError,
    BundleIncompleteError,
    ConfigMapData,
    FeedBundle,
    unpack,
)
from ostiary_api.names import MANAGED_BY_LABEL, MANAGER, bundle_part_name
from ostiary_api.problems import Location, Problem
from ostiary_gateway.feed.compiling import compile_feed, empty
from ostiary_gateway.feed.kept import KeptBundle
from ostiary_gateway.feed.loading import Loaded, Rejected
from ostiary_gateway.feed.pod_secrets import PodSecrets
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.errors import KubeError
from ostiary_gateway.kube.reflector import Reflector
from ostiary_gateway.kube.resources import CONFIG_MAPS, Object, metadata, version_of
from ostiary_gateway.logging import get_logger
from ostiary_policy.bundle import Bundle

log = get_logger(__name__)

FIRST: Final = 3.0
"""Seconds that the API server gets at the start, before the copy on disk is served."""
AGAIN: Final = (0.05, 5.0)
"""Seconds until what was not all there is looked at again: the first time, and at most."""
SILENT: Final = 150.0
"""Seconds without a word of the API server that are worth telling: it sends a bookmark every minute."""


class ConfigMapFeed:
    """The bundle of one gateway. `kept`: where the last good one is."""

    def __init__(
        self, kube: KubeClient, namespace: str, gateway: str, kept: KeptBundle, *, first: float = FIRST
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._gateway = gateway
        self._kept = kept
        self._first = first
        self._name = bundle_part_name(gateway, 0)
        self._secrets = PodSecrets(kube)
        self._poked = asyncio.Event()
        self._reflector = Reflector(
            kube, CONFIG_MAPS, namespace, field_selector=f"metadata.name={self._name}", on_change=self._changed
        )
        self._task: asyncio.Task[None] | None = None
        self._looked = ""
        """The resourceVersion that was dealt with."""
        self._taken = ""
        """The revision that was put in force last."""
        self._current: FeedBundle | None = None
        self._bundle: Bundle | None = None
        self._texts: tuple[str, str] | None = None
        self._incomplete = ""
        self._refused = ""
        self._asked_disk = False
        self._pause = AGAIN[0]

    @property
    def trouble(self) -> str:
        """Why changes may not be seen just now."""
        if self._refused or self._incomplete:
            return self._refused or self._incomplete
        if self._reflector.problem:
            return f"the API server is not heard: {self._reflector.problem}"
        if self._reflector.age > SILENT:
            return f"the API server has said nothing for {self._reflector.age:.0f} s"
        return ""

    @property
    def heard(self) -> float:
        """Seconds since the API server was last heard."""
        return self._reflector.age

    async def start(self) -> None:
        """Begins to watch."""
        self._task = asyncio.get_running_loop().create_task(self._reflector.run())

    async def close(self) -> None:
        """Ends the watch. May be called again."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def load(self) -> Loaded:
        """Nothing yet: a gateway without a bundle starts, and is not ready."""
        return empty()

    async def changes(self) -> AsyncGenerator[Loaded | Rejected, None]:
        """Every bundle, and every Secret of it that came later. Asked for anew, what is there comes anew."""
        self._looked = ""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._first):
                await self._reflector.synced.wait()
        while True:
            self._poked.clear()
            outcome = await self._look()
            if outcome is not None:
                yield outcome
                if isinstance(outcome, Loaded):
                    self._taken = outcome.revision
                    await self._keep()
            await self._rest()

    def _changed(self, change: str, item: Object) -> None:
        self._pause = AGAIN[0]
        self._poked.set()

    async def _rest(self) -> None:
        """Until something changes, or what was missing is worth another look."""
        if self._refused and self._current is None and not self._asked_disk:
            return
        if not self._incomplete and not self._secrets.missing:
            await self._poked.wait()
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause):
                await self._poked.wait()
        self._pause = min(self._pause * 2, AGAIN[1])

    async def _look(self) -> Loaded | Rejected | None:
        found = self._reflector.get(self._namespace, self._name)
        if found is not None and not _is_ours(found):
            found = None
        version = version_of(found) if found is not None else ""
        if found is None:
            if self._current is None:
                return await self._look_on_disk()
            if self._reflector.synced.is_set():
                self._incomplete = f"{self._none()} any more; the operator writes it again"
        elif version != self._looked:
            return await self._read(found, version)
        elif self._current is None and not self._asked_disk:
            return await self._look_on_disk()
        current = self._current
        # What was missing may have come by now; so may the right to read it.
        if current is not None and self._secrets.missing and await self._secrets.bring(current.header.secrets):
            return await self._compiled(current)
        return None

    async def _read(self, found: Object, version: str) -> Loaded | Rejected | None:
        data = _data(found)
        try:
            maps = {self._name: data} | await self._others(data)
            bundle = await asyncio.to_thread(unpack, self._gateway, maps, self._current)
        except BundleIncompleteError as problem:
            self._incomplete = f"{problem}; it is looked at again"
            return None
        except BundleError as problem:
            self._looked = version
            return self._rejected(str(problem))
        except KubeError as problem:
            self._incomplete = f"a part of the bundle cannot be had: {problem}"
            return None
        self._looked, self._incomplete, self._refused = version, "", ""
        if bundle.header.namespace != self._namespace:
            return self._rejected(f"it is for namespace {bundle.header.namespace}, not for {self._namespace}")
        if bundle.revision == self._taken and not self._secrets.missing:
            return None  # written anew, with the same in it
        await self._secrets.bring(bundle.header.secrets)
        outcome = await self._compiled(bundle)
        if isinstance(outcome, Loaded):
            self._texts = bundle.revision, "".join(maps[name][TEXT] for name in self._names(data))
        return outcome

    def _none(self) -> str:
        if self._reflector.get(self._namespace, self._name) is None:
            return f"there is no ConfigMap {self._name}"
        return f"there is no ConfigMap {self._name} of the operator's ({MANAGED_BY_LABEL}: {MANAGER})"

    def _rejected(self, problem: str) -> Rejected:
        self._incomplete = ""
        self._refused = f"ConfigMap {self._name} is not taken, and the last good bundle stays: {problem}"
        return Rejected((Problem(Location(f"ConfigMap {self._name}"), problem),))

    async def _others(self, data: ConfigMapData) -> dict[str, ConfigMapData]:
        """The further parts, read at the same time."""
        names = self._names(data)[1:]
        found = await asyncio.gather(*(self._kube.get(CONFIG_MAPS, self._namespace, name) for name in names))
        for name, item in zip(names, found, strict=True):
            if not _is_ours(item):
                raise BundleIncompleteError(f"ConfigMap {name} is not the operator's")
        return {name: _data(item) for name, item in zip(names, found, strict=True)}

    def _names(self, data: ConfigMapData) -> list[str]:
        count = data.get(PARTS, "")
        number = int(count) if count.isascii() and count.isdecimal() and len(count) <= 3 else 1
        return [bundle_part_name(self._gateway, part) for part in range(max(number, 1))]

    async def _look_on_disk(self) -> Loaded | Rejected | None:
        self._asked_disk = True
        try:
            bundle = await asyncio.to_thread(self._kept.read)
        except BundleError as problem:
            log.warning("the copy of the bundle cannot be used", problem=str(problem))
            bundle = None
        if bundle is None:
            self._incomplete = self._refused or (
                f"{self._none()} yet; the operator writes it"
                if self._reflector.synced.is_set()
                else f"the API server cannot be reached: {self._reflector.problem or 'no answer yet'}"
            )
            return None
        log.warning("the copy of the bundle on disk is served: there is none at the API server just now")
        await self._secrets.bring(bundle.header.secrets)
        return await self._compiled(bundle)

    async def _compiled(self, bundle: FeedBundle) -> Loaded | Rejected:
        secrets, missing = dict(self._secrets.data), dict(self._secrets.missing)
        old = self._current
        # Policies of the system namespace may do more: what was accepted under another one is looked at again.
        reuse = old is not None and old.header.system_namespace == bundle.header.system_namespace
        try:
            loaded = await asyncio.to_thread(compile_feed, bundle, secrets, missing, self._bundle, reuse=reuse)
        except Exception as problem:
            # Whatever it was, what is served goes on deciding.
            log.exception("the bundle cannot be compiled", revision=bundle.revision[:12])
            return self._rejected(f"it cannot be compiled: {type(problem).__name__}; the gateway's log says more")
        self._current, self._bundle = bundle, loaded.bundle
        return loaded

    async def _keep(self) -> None:
        """What is in force now is there after a restart too."""
        texts, self._texts = self._texts, None
        if texts is None:
            return
        try:
            await asyncio.to_thread(self._kept.write, *texts)
        except OSError as problem:
            log.error("the bundle cannot be kept for a restart", problem=str(problem))


def _is_ours(item: Object) -> bool:
    """Whether admission keeps everybody but the operator from writing it: that goes by the label."""
    labels = metadata(item).get("labels")
    return isinstance(labels, dict) and labels.get(MANAGED_BY_LABEL) == MANAGER


def _data(item: Object) -> dict[str, Any]:
    found = item.get("data")
    return found if isinstance(found, dict) else {}
