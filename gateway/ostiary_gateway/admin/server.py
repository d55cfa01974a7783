"""The admin address: /healthz, /readyz and /metrics. It holds no secret and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from aiohttp import web

from ostiary_gateway.admin.health import Check, report
from ostiary_gateway.admin.metrics import registry, render
from ostiary_gateway.counters import Counters


class AdminError(OSError):
    """The admin address cannot be listened on."""


class AdminServer:
    """Serves the admin address from `start` to `stop`. `ready` is asked at every probe of /readyz."""

    def __init__(
        self, address: tuple[str, int], counters: Counters, ready: Callable[[], Iterable[Check]], version: str
    ) -> None:
        self._address = address
        self._ready = ready
        self._registry = registry(counters, version)
        self._runner: web.AppRunner | None = None

    async def start(self) -> tuple[str, int]:
        """Listen; returns the address and the port (which may have been 0). Raises AdminError."""
        app = web.Application()
        app.router.add_get("/", self._index)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await runner.setup()
        host, port = self._address
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            await runner.cleanup()
            raise AdminError(
                f"Cannot listen on the admin address {host}:{port}: {error.strerror or error}. "
                "Next: choose another one with --admin HOST:PORT"
            ) from error
        self._runner = runner
        bound: tuple[str, int] = runner.addresses[0][:2]
        return bound

    async def stop(self) -> None:
        """Stop listening. May be called again."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text="Ostiary: /healthz /readyz /metrics\n")

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        ok, text = report(self._ready())
        return web.Response(text=text, status=200 if ok else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        body, content_type = render(self._registry, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})
