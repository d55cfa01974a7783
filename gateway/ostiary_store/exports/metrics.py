"""How exports stand, for Prometheus. docs/exports.md lists the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ostiary_store.exports.exporter import ExportCounts, Exporter


def gauges(exporters: Sequence[Exporter]) -> Iterator[Metric]:
    """Every family, with a sample for each sink."""
    now = time.time()
    counts = {each.name: each.counts for each in exporters}
    yield _gauge("sends", "1 if this process sends to the sink.", {name: float(c.leads) for name, c in counts.items()})
    yield _gauge("up", "1 if the last try went well.", {name: float(not c.problem) for name, c in counts.items()})
    yield _gauge(
        "lag_seconds", "Age of the oldest line that the sink has not taken.",
        {name: c.lag(now) for name, c in counts.items()},
    )  # fmt: skip
    for name, text, read in (
        ("lines", "Lines that the sink took.", _lines),
        ("bytes", "Bytes that the sink took, before compression.", _bytes),
        ("posts", "Requests to the sink.", _posts),
        ("failures", "Tries that failed; each is made again.", _failures),
        ("rejected", "Records that an OTLP receiver threw away.", _rejected),
    ):
        family = CounterMetricFamily(f"ostiary_store_export_{name}", text, labels=["export"])
        for export, each in counts.items():
            family.add_metric([export], read(each))
        yield family


def _gauge(name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"ostiary_store_export_{name}", text, labels=["export"])
    for export, value in values.items():
        family.add_metric([export], value)
    return family


def _lines(counts: ExportCounts) -> float:
    return counts.lines


def _bytes(counts: ExportCounts) -> float:
    return counts.bytes


def _posts(counts: ExportCounts) -> float:
    return counts.posts


def _failures(counts: ExportCounts) -> float:
    return counts.failures


def _rejected(counts: ExportCounts) -> float:
    return counts.rejected
