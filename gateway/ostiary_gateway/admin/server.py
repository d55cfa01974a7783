"""The admin address: /livez, /readyz and /metrics, and in a pod /state. It holds no secret and changes nothing."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from ostiary_gateway.admin.health import Check, report
from ostiary_gateway.admin.http import Handler, HttpServer, Request, Response
from ostiary_gateway.counters import Counters, Gauge

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_METRICS = "ostiary_gateway.admin.metrics"
"""Imported at the first scrape: who never scrapes need not have prometheus_client in memory."""


class AdminError(OSError):
    """The admin address cannot be listened on."""


class AdminServer:
    """Serves the admin address from `start` to `stop`. `ready` is asked at every probe of /readyz. `more`: handlers
    that are served besides, and may take `patience` seconds for `clients` at one time, `from_one` of them at most from
    one address; `gauges`: more for /metrics."""

    def __init__(
        self,
        address: tuple[str, int],
        counters: Counters,
        ready: Callable[[], Iterable[Check]],
        version: str,
        *,
        more: Mapping[tuple[str, str], Handler] | None = None,
        patience: float = 0.0,
        clients: int | None = None,
        from_one: int | None = None,
        gauges: Callable[[], Iterable[Gauge]] = tuple,
    ) -> None:
        self._address = address
        self._ready = ready
        self._counters = counters
        self._version = version
        self._gauges = gauges
        self._http = HttpServer(
            {
                ("GET", "/"): self._index,
                ("GET", "/healthz"): self._healthz,
                ("GET", "/livez"): self._healthz,
                ("GET", "/readyz"): self._readyz,
                ("GET", "/metrics"): self._metrics,
                **(more or {}),
            },
            patience=patience,
            clients=clients,
            from_one=from_one,
        )
        self._paths = ["/livez", "/readyz", "/metrics", *sorted(path for method, path in more or {} if method == "GET")]

    async def start(self) -> tuple[str, int]:
        """Listen; returns the address and the port (which may have been 0). Raises AdminError."""
        host, port = self._address
        try:
            return await self._http.listen(host, port)
        except OSError as error:
            raise AdminError(
                f"Cannot listen on the admin address {host}:{port}: {error.strerror or error}. "
                "Next: choose another one with --admin HOST:PORT"
            ) from error

    async def stop(self) -> None:
        """Stop listening. May be called again."""
        await self._http.close()

    async def _index(self, _: Request) -> Response:
        return Response(f"Ostiary: {' '.join(self._paths)}\n")

    async def _healthz(self, _: Request) -> Response:
        return Response("ok\n")

    async def _readyz(self, _: Request) -> Response:
        ok, text = report(self._ready())
        return Response(text, 200 if ok else 503)

    @cached_property
    def _registry(self) -> CollectorRegistry:
        from ostiary_gateway.admin.metrics import registry

        return registry(self._counters, self._version, self._gauges)

    async def _metrics(self, request: Request) -> Response:
        await asyncio.to_thread(importlib.import_module, _METRICS)
        from ostiary_gateway.admin.metrics import render

        body, content_type = render(self._registry, request.headers.get("accept", ""))
        return Response(body, content_type=content_type)
