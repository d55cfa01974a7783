"""What the console counts, and its metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ostiary_gateway.version import version


class Counts:
    """Counted on the event loop; rendered elsewhere. Labels never hold what somebody chose."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        """By class of status: 2xx, 3xx …"""
        self.signed_in: Counter[str] = Counter()
        """By method."""
        self.refused = 0
        """Sign-ins that were not let in."""
        self.decisions: Counter[str] = Counter()
        """Answers to approvals that were taken, by verdict."""
        self.ended = 0
        """Live sessions and requests that people ended."""
        self.streams: Callable[[], int] = lambda: 0
        """Live pages that are open now."""
        self._ready = False
        self._registry: CollectorRegistry | None = None

    def render(self, accept: str, ready: bool) -> tuple[bytes, str]:
        """The metrics in the format that the Accept header asks for, and its content type."""
        self._ready = ready
        if self._registry is None:
            self._registry = CollectorRegistry(auto_describe=False)
            self._registry.register(_Collector(self))
            ProcessCollector(registry=self._registry)
            PlatformCollector(registry=self._registry)
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    def metrics(self) -> list[Metric]:
        requests = CounterMetricFamily("ostiary_console_requests", "Requests, by class of status.", labels=("status",))
        for status, count in self.requests.items():
            requests.add_metric([status], count)
        signed_in = CounterMetricFamily("ostiary_console_signins", "People who signed in.", labels=("method",))
        for method, count in self.signed_in.items():
            signed_in.add_metric([method], count)
        decisions = CounterMetricFamily("ostiary_console_decisions", "Answers to approvals.", labels=("verdict",))
        for verdict, count in self.decisions.items():
            decisions.add_metric([verdict], count)
        build = GaugeMetricFamily("ostiary_build_info", "The version.", labels=("version",))
        build.add_metric([version()], 1)
        return [
            requests, signed_in, decisions, build,
            CounterMetricFamily("ostiary_console_signins_refused", "Sign-ins that were refused.", value=self.refused),
            CounterMetricFamily("ostiary_console_ended", "Sessions and requests that people ended.", value=self.ended),
            GaugeMetricFamily("ostiary_console_streams", "Live pages that are open.", value=self.streams()),
            GaugeMetricFamily("ostiary_console_store_up", "1 if the store answers.", value=float(self._ready)),
        ]  # fmt: skip


class _Collector(Collector):
    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> list[Metric]:
        return self._counts.metrics()
