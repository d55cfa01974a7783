"""What a process that keeps a store does besides taking in: it seals, anchors, and removes what is past its time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Self

from ostiary_gateway.counters import Gauge
from ostiary_gateway.kube.client import KubeClient
from ostiary_store.anchors import Anchor, Anchoring, ConfigMapAnchor, FileAnchor, HttpAnchor
from ostiary_store.retention import Janitor
from ostiary_store.sealed import Prover
from ostiary_store.sealing import Sealer
from ostiary_store.settings import AnchorSettings, Settings
from ostiary_store.signing import StoreKey
from ostiary_store.store import Store


class Upkeep:
    """Give `prover` to Ingest, and `run` it in a task while anything is taken in."""

    def __init__(
        self,
        store: Store,
        key: StoreKey,
        *,
        prover: Prover | None = None,
        every: float = 10.0,
        adopt: bool = False,
        anchoring: Anchoring | None = None,
        janitor: Janitor | None = None,
    ) -> None:
        self.prover = prover or key.prover()
        self.anchoring = anchoring or Anchoring([])
        self.janitor = janitor
        self.sealer = Sealer(
            store, key, prover=self.prover, every=every, adopt=adopt, told=self.anchoring.told,
            upkeep=None if janitor is None else janitor.work,
        )  # fmt: skip

    @classmethod
    async def of(cls, settings: Settings, store: Store, client: Callable[[], KubeClient]) -> Self | None:
        """As the settings have it; None if they have no `seal`. ValueError or OSError if the key cannot be read.

        client: of the API server, for anchors in ConfigMaps; called only where there are such.
        """
        seal = settings.seal
        if seal is None:
            return None
        key = await asyncio.to_thread(StoreKey.load, seal.key_file, create=seal.make_key)
        former = [await asyncio.to_thread(StoreKey.load, path) for path in seal.former_key_files]
        anchors = [(_anchor(each, client), each.every) for each in settings.anchors]
        retention = settings.retention
        prover = key.prover(former)
        janitor = Janitor(
            store, record=retention.record, responses=retention.responses, every=retention.every, prover=prover
        )
        return cls(
            store, key, prover=prover, every=seal.every, adopt=seal.adopt, anchoring=Anchoring(anchors), janitor=janitor
        )

    async def run(self) -> None:
        """Until it is cancelled. Failures are logged and tried again."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.sealer.run())
            group.create_task(self.anchoring.run())

    def gauges(self) -> Iterable[Gauge]:
        """For /metrics."""
        sealer, last = self.sealer, self.sealer.last
        yield Gauge("ostiary_store_seals", "Seals that this process made.", sealer.made)
        yield Gauge("ostiary_store_seal_failures", "Attempts to seal that failed.", sealer.failures)
        yield Gauge(
            "ostiary_store_unproven", "Rows of sessions that were not written by the store service.", sealer.unproven
        )
        if last is not None:
            age = max(time.time() - last.at, 0.0)
            yield Gauge("ostiary_store_seal_age_seconds", "Since the last seal that this process made.", age)
        for place in self.anchoring.places:
            label = ("anchor", place.anchor.name)
            yield Gauge("ostiary_store_anchored_seal", "Number of the last seal noted there.", place.noted, label)
            yield Gauge("ostiary_store_anchor_failures", "Attempts to note a seal that failed.", place.failures, label)
        if self.janitor is not None:
            yield Gauge("ostiary_store_retention_failures", "Failed removals.", self.janitor.failures)
            for kind, count in self.janitor.removed.items():
                yield Gauge("ostiary_store_expired", "Removed, past its retention.", count, ("kind", kind))


def _anchor(settings: AnchorSettings, client: Callable[[], KubeClient]) -> Anchor:
    if settings.file is not None:
        return FileAnchor(settings.file)
    if settings.http is not None:
        path = settings.token_file
        return HttpAnchor(settings.http, None if path is None else lambda: path.read_text().strip())
    namespace, _, name = str(settings.config_map).partition("/")
    return ConfigMapAnchor(client(), namespace, name)
