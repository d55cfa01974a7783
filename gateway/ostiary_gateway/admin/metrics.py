"""Prometheus metrics of a gateway, made from its counters at the moment of the scrape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ostiary_gateway.counters import DECISION_BUCKETS, Counters, Gauge


class GatewayCollector(Collector):
    """Turns the counters into metric families. docs/operations.md lists them."""

    def __init__(self, counters: Counters, version: str) -> None:
        self._counters = counters
        self._version = version

    def collect(self) -> Iterator[Metric]:
        """Every family, with its samples."""
        counts = self._counters
        yield InfoMetricFamily("ostiary_build", "Version of Ostiary.", {"version": self._version})
        yield InfoMetricFamily("ostiary_bundle", "The bundle in force.", {"revision": counts.bundle_revision})
        yield _gauge(
            "ostiary_bundle_loaded_timestamp_seconds",
            "When the bundle in force was loaded, seconds since the epoch.",
            counts.bundle_loaded_at,
        )
        yield _counter("ostiary_bundle_loads", "Bundles that were put in force.", counts.reloads)
        yield _counter(
            "ostiary_bundle_load_failures",
            "Bundles that were refused; the last good one stays.",
            counts.reload_failures,
        )
        yield _by_connection(
            GaugeMetricFamily("ostiary_sessions_open", "Sessions open now.", labels=["connection"]),
            counts.sessions_open,
        )
        yield _by_connection(
            CounterMetricFamily("ostiary_sessions", "Sessions opened.", labels=["connection"]), counts.sessions
        )
        yield _labelled(
            "ostiary_requests", "Requests.", ("connection", "protocol", "decision"), counts.requests.items()
        )
        yield _labelled(
            "ostiary_denials",
            "Denied requests; policy and rule are empty for a default deny.",
            ("policy", "rule"),
            counts.denials.items(),
        )
        yield _histogram(
            "ostiary_decision_seconds",
            "Time to decide, costly facts not counted.",
            counts.decision_buckets,
            counts.decision_sum,
        )
        yield _labelled(
            "ostiary_upstream_errors", "Errors of the target.", ("connection", "reason"), counts.upstream_errors.items()
        )
        yield _labelled(
            "ostiary_login_failures", "Clients not let in.", ("connection", "reason"), counts.login_failures.items()
        )
        yield _labelled(
            "ostiary_session_roles",
            "Login roles of sessions: created, dropped, swept (leftovers), failed (to be dropped; tried again).",
            ("connection", "event"),
            counts.roles.items(),
        )
        yield _by_connection(
            GaugeMetricFamily(
                "ostiary_session_roles_stuck", "Login roles that could not be dropped so far.", labels=["connection"]
            ),
            counts.roles_stuck,
        )
        yield _labelled("ostiary_transferred_bytes", "Bytes.", ("connection", "direction"), counts.bytes.items())
        yield _gauge("ostiary_approvals_pending", "Questions that wait for an answer.", counts.approvals_pending())
        yield _labelled(
            "ostiary_approvals",
            "What became of questions: Asked, Approved, Denied, Expired, Consumed.",
            ("connection", "state"),
            counts.approvals.items(),
        )
        yield _counter("ostiary_approval_waits", "Times that clients were held for approvals.", counts.wait_count)
        yield _counter("ostiary_approval_wait_seconds", "How long they were held.", counts.wait_seconds)
        yield _gauge(
            "ostiary_record_queue_bytes", "Bytes that wait to be written to the record.", counts.record_queue()
        )
        yield _counter("ostiary_record_dropped", "Events that could not be recorded.", counts.record_dropped())
        yield _gauge("ostiary_record_bytes", "Bytes of the record that are here.", counts.record_held())
        yield _counter(
            "ostiary_record_freed_bytes",
            "Bytes that the disk got back, since the store has them.",
            counts.record_freed(),
        )
        yield _gauge("ostiary_ship_waiting_bytes", "Bytes that the store does not have.", counts.ship_waiting())
        yield _gauge("ostiary_ship_lag_seconds", "Since the store had everything.", counts.ship_lag())
        yield _counter("ostiary_ship_batches", "Batches that were handed over to the store.", counts.ship_batches())
        yield _counter("ostiary_ship_bytes", "Bytes that were handed over to the store.", counts.ship_bytes())
        yield _counter("ostiary_ship_failures", "Attempts to hand over that failed.", counts.ship_failures())


class _Gauges(Collector):
    """Values that somebody else keeps."""

    def __init__(self, gauges: Callable[[], Iterable[Gauge]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for each in self._gauges():
            labels = [each.label[0]] if each.label is not None else []
            family = families.setdefault(each.name, GaugeMetricFamily(each.name, each.text, labels=labels))
            family.add_metric([each.label[1]] if each.label is not None else [], each.value)
        yield from families.values()


def registry(counters: Counters, version: str, gauges: Callable[[], Iterable[Gauge]] = tuple) -> CollectorRegistry:
    """A registry with the gateway's metrics and those of its process."""
    made = CollectorRegistry(auto_describe=False)
    made.register(GatewayCollector(counters, version))
    made.register(_Gauges(gauges))
    ProcessCollector(registry=made)
    PlatformCollector(registry=made)
    return made


def render(source: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics in the format that the Accept header asks for, and its content type."""
    encode, content_type = choose_encoder(accept)
    return encode(source), content_type


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _by_connection(family: CounterMetricFamily | GaugeMetricFamily, values: Mapping[str, int]) -> Metric:
    for connection, value in values.items():
        family.add_metric([connection], value)
    return family


def _labelled(name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], int]]) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values:
        family.add_metric(key, value)
    return family


def _histogram(name: str, text: str, buckets: list[int], total: float) -> Metric:
    cumulated: list[tuple[str, float]] = []
    count = 0
    for bound, here in zip([*map(str, DECISION_BUCKETS), "+Inf"], buckets, strict=True):
        count += here
        cumulated.append((bound, count))
    family = HistogramMetricFamily(name, text)
    family.add_metric([], cumulated, total)
    return family
