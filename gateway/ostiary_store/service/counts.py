"""What the service counts, and how Prometheus gets it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from ostiary_gateway.counters import Gauge

MOST_RECORDS = 1000
"""Records that have metrics of their own: those that were heard of last."""


@dataclass(slots=True)
class RecordCounts:
    """Of one record: whose it is, how far it was taken in, and when something came."""

    gateway: str
    instance: str
    position: int = 0
    heard: float = 0.0


@dataclass(slots=True)
class Counts:
    """Plain numbers; one thread changes them."""

    batches: int = 0
    received: int = 0
    """Bytes."""
    seconds: float = 0.0
    """That batches took until they were in the store."""
    refused: dict[str, int] = field(default_factory=dict)
    """Requests that were not taken, by why: one of a few words."""
    in_flight: int = 0
    last: float = 0.0
    """When something was taken in, seconds since the epoch."""
    records: dict[bytes, RecordCounts] = field(default_factory=dict)
    tasks: dict[str, tuple[bool, int]] = field(default_factory=dict)
    """By name: whether it runs, and how often it has failed."""
    more: list[Callable[[], Iterable[Gauge]]] = field(default_factory=list)
    """Gauges of tasks."""

    families: list[Callable[[], Iterable[Metric]]] = field(default_factory=list)
    """The same of tasks that make their families themselves."""

    def refuse(self, why: str) -> None:
        self.refused[why] = self.refused.get(why, 0) + 1

    def heard(self, uuid: bytes, gateway: str, instance: str, position: int) -> None:
        """The record stands there now."""
        known = self.records.pop(uuid, None) or RecordCounts(gateway, instance)
        known.gateway, known.instance, known.position, known.heard = gateway, instance, position, time.time()
        self.records[uuid] = known
        while len(self.records) > MOST_RECORDS:
            del self.records[next(iter(self.records))]


class StoreCollector(Collector):
    """The counts as metric families. docs/operations.md lists them."""

    def __init__(self, counts: Counts, version: str) -> None:
        self._counts = counts
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Every family, with its samples."""
        counts = self._counts
        yield InfoMetricFamily("ostiary_build", "Version of Ostiary.", {"version": self._version})
        for name, text, value in (
            ("ostiary_store_batches", "Batches taken in.", counts.batches),
            ("ostiary_store_received_bytes", "Bytes of records taken in.", counts.received),
            ("ostiary_store_batch_seconds", "Time until batches were in the store.", counts.seconds),
        ):
            yield CounterMetricFamily(name, text, value=value)
        refused = CounterMetricFamily("ostiary_store_refused", "Requests not taken in, by why.", labels=["reason"])
        for why, count in sorted(counts.refused.items()):
            refused.add_metric([why], count)
        yield refused
        yield GaugeMetricFamily("ostiary_store_in_flight_bytes", "Bytes of requests under way.", value=counts.in_flight)
        yield GaugeMetricFamily(
            "ostiary_store_last_taken_in_timestamp_seconds", "When something was taken in.", value=counts.last
        )
        labels = ["gateway", "instance"]
        position = GaugeMetricFamily("ostiary_store_record_bytes", "Bytes of a record in the store.", labels=labels)
        heard = GaugeMetricFamily(
            "ostiary_store_record_heard_timestamp_seconds", "When a record's gateway was last heard.", labels=labels
        )
        seen: set[tuple[str, str]] = set()
        for each in reversed(list(counts.records.values())):
            if (each.gateway, each.instance) not in seen:  # a pod that was started anew has another record
                seen.add((each.gateway, each.instance))
                position.add_metric([each.gateway, each.instance], each.position)
                heard.add_metric([each.gateway, each.instance], each.heard)
        yield position
        yield heard
        running = GaugeMetricFamily("ostiary_store_task_running", "1 if a background task runs.", labels=["task"])
        failed = CounterMetricFamily("ostiary_store_task_failures", "Failures of background tasks.", labels=["task"])
        for name, (runs, failures) in sorted(counts.tasks.items()):
            running.add_metric([name], float(runs))
            failed.add_metric([name], failures)
        yield running
        yield failed
        for made in self._counts.families:
            yield from made()
        families: dict[str, GaugeMetricFamily] = {}
        for gauge in chain.from_iterable(more() for more in counts.more):
            names = [gauge.label[0]] if gauge.label is not None else []
            family = families.setdefault(gauge.name, GaugeMetricFamily(gauge.name, gauge.text, labels=names))
            family.add_metric([gauge.label[1]] if gauge.label is not None else [], gauge.value)
        yield from families.values()


def registry(counts: Counts, version: str) -> CollectorRegistry:
    """With the metrics of the process."""
    made = CollectorRegistry(auto_describe=False)
    made.register(StoreCollector(counts, version))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    return made
