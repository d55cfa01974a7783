"""Prometheus metrics of the operator. docs/operator.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ostiary_operator.pulse import Pulse

_PREFIX: Final = "ostiary_operator_"
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """All of them, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.queue_seconds = self._histogram("queue_seconds", "How long keys waited for a worker.")
        self.reconcile_seconds = self._histogram(
            "reconcile_seconds", "Time to reconcile a key, with its writes.", "kind"
        )
        self.reconcile_errors = self._counter("reconcile_errors", "Keys that could not be reconciled.", "kind")
        self.compile_seconds = self._histogram("compile_seconds", "Time to accept or refuse a policy.")
        self.propagation_seconds = self._histogram(
            "propagation_seconds", "From a change that was seen until every ready pod of a gateway had loaded it."
        )
        self.applies = self._counter(
            "applies", "Children: created, updated, unchanged, refused (not ours), failed.", "kind", "result"
        )
        self.deletes = self._counter("deletes", "Children deleted.", "kind", "result")
        self.status_writes = self._counter("status_writes", "Statuses: written, unchanged, failed.", "kind", "result")
        self.events = self._counter("events", "Events told, by the type of the condition.", "type")
        self.notifications = self._counter(
            "notifications", "Messages about approvals: sent, tried again, given up.", "receiver", "result"
        )
        self.requests = self._counter(
            "requests", "Requests to the API server, by method (WATCH for a watch) and HTTP status.", "method", "status"
        )
        self.leader = Gauge(f"{_PREFIX}leader", "1 on the replica that leads.", registry=self.registry)
        self.approvals_usable = Gauge(
            f"{_PREFIX}approvals_usable", "1 on the replica that leads, if answers to approvals can be believed.",
            registry=self.registry,
        )  # fmt: skip

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"{_PREFIX}{name}", text, labels, buckets=_SECONDS, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"{_PREFIX}{name}", text, labels, registry=self.registry)

    def watch(
        self,
        pulse: Pulse,
        *,
        queue: Callable[[], tuple[int, int]],
        objects: Callable[[], Mapping[str, int]],
        polls: Callable[[], Mapping[str, int]],
    ) -> None:
        """Also tell what is looked up at each scrape: the queue (waiting, active), objects by kind, polls by state."""
        self.registry.register(_Looked(pulse, queue, objects, polls))

    def render(self, accept: str) -> tuple[bytes, str]:
        """All metrics in the format that the Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type


class _Looked(Collector):
    def __init__(
        self,
        pulse: Pulse,
        queue: Callable[[], tuple[int, int]],
        objects: Callable[[], Mapping[str, int]],
        polls: Callable[[], Mapping[str, int]],
    ) -> None:
        self._pulse = pulse
        self._queue = queue
        self._objects = objects
        self._polls = polls

    def collect(self) -> Iterator[Metric]:
        """Every family, with its samples."""
        waiting, active = self._queue()
        yield GaugeMetricFamily(f"{_PREFIX}queue_depth", "Keys that wait for a worker.", value=waiting)
        yield GaugeMetricFamily(f"{_PREFIX}queue_active", "Keys that are worked on.", value=active)
        age = GaugeMetricFamily(
            f"{_PREFIX}watch_age_seconds", "Since the API server last said something of a kind.", labels=["kind"]
        )
        restarts = CounterMetricFamily(f"{_PREFIX}watch_restarts", "Watches begun anew after trouble.", labels=["kind"])
        for kind, beat in self._pulse.beats.items():
            age.add_metric([kind], self._pulse.age(kind))
            restarts.add_metric([kind], beat.restarts)
        yield age
        yield restarts
        for name, text, label, found in (
            ("objects", "Objects known, by kind.", "kind", self._objects()),
            ("gateway_polls", "Gateway pods asked for their state, by how it goes.", "state", self._polls()),
        ):
            family = GaugeMetricFamily(f"{_PREFIX}{name}", text, labels=[label])
            for value, count in found.items():
                family.add_metric([value], count)
            yield family
