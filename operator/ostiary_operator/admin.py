"""The admin address: /livez, /readyz and /metrics. It holds no secret and changes nothing."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from ostiary_operator.metrics import Metrics


class AdminError(OSError):
    """The admin address cannot be listened on."""


class AdminServer:
    """Serves from `start` to `stop`. `ready` is asked at every probe: what is not well yet, and why."""

    def __init__(self, address: tuple[str, int], metrics: Metrics, ready: Callable[[], dict[str, str]]) -> None:
        self._address = address
        self._metrics = metrics
        self._ready = ready
        app = web.Application()
        app.router.add_get("/", self._index)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def start(self) -> tuple[str, int]:
        """Listen; returns the address and the port (which may have been 0). Raises AdminError."""
        await self._runner.setup()
        host, port = self._address
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise AdminError(
                f"Cannot listen on the admin address {host}:{port}: {error.strerror or error}. "
                "Next: choose another one with --admin HOST:PORT"
            ) from error
        bound: tuple[str, int] = self._runner.addresses[0][:2]
        return bound

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _index(self, _: web.Request) -> web.Response:
        return web.Response(text="Ostiary operator: /livez /readyz /metrics\n")

    async def _livez(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        wrong = self._ready()
        lines = [f"[-] {name}: {why}" for name, why in wrong.items()]
        text = "\n".join([*lines, "not ready" if wrong else "ready"]) + "\n"
        return web.Response(text=text, status=503 if wrong else 200)

    async def _scrape(self, request: web.Request) -> web.Response:
        body, content_type = self._metrics.render(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})
