"""Prometheus metrics of a gateway of several processes: its counters added up, its processes, and its workers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ostiary_gateway.admin.metrics import GatewayCollector

from .supervisor import Supervisor

_LEAST: Final = ("process_start_time_seconds", "process_max_fds")
"""What does not add up: the least of all processes."""


class _Workers(Collector):
    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def collect(self) -> Iterator[Metric]:
        workers = self._supervisor.workers
        yield GaugeMetricFamily("ostiary_workers", "Workers that there should be.", len(workers))
        ready = sum(not worker.silent and worker.state is not None and worker.state.started for worker in workers)
        yield GaugeMetricFamily("ostiary_workers_serving", "Workers that answer and serve.", ready)
        restarts = sum(worker.restarts for worker in workers)
        yield CounterMetricFamily("ostiary_worker_restarts", "Workers that ended and were started again.", restarts)


class _Processes(Collector):
    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids

    def collect(self) -> Iterator[Metric]:
        found: dict[str, Metric] = {}
        values: dict[str, list[float]] = {}
        for pid in self._pids:
            for family in ProcessCollector(pid=_just(pid), registry=None).collect():
                found[family.name] = family
                values.setdefault(family.name, []).append(family.samples[0].value)
        for name, family in found.items():
            total = min(values[name]) if name in _LEAST else sum(values[name])
            make = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
            yield make(name, family.documentation, total)


def _just(pid: int) -> Callable[[], int]:
    return lambda: pid


def registry(supervisor: Supervisor, version: str) -> CollectorRegistry:
    """Everything, as it was told last."""
    made = CollectorRegistry(auto_describe=False)
    made.register(GatewayCollector(supervisor.counters(), version))
    made.register(_Workers(supervisor))
    made.register(_Processes([os.getpid(), *supervisor.pids()]))
    PlatformCollector(registry=made)
    return made
