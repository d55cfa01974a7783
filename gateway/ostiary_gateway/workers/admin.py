"""The admin address of a gateway of several processes: the supervisor answers for all of them."""

from __future__ import annotations

import asyncio
import importlib

from ostiary_gateway.admin.health import report
from ostiary_gateway.admin.http import Request, Response
from ostiary_gateway.admin.server import AdminServer
from ostiary_gateway.counters import Counters

from .supervisor import Supervisor


class SupervisorAdmin(AdminServer):
    """As that of one process; each answer is of all workers at that moment."""

    def __init__(self, address: tuple[str, int], supervisor: Supervisor, version: str) -> None:
        super().__init__(address, Counters(), supervisor.checks, version)
        self._supervisor = supervisor

    async def _readyz(self, _: Request) -> Response:
        await self._supervisor.look()
        ok, text = report(self._supervisor.checks())
        return Response(text, 200 if ok else 503)

    async def _metrics(self, request: Request) -> Response:
        await asyncio.to_thread(importlib.import_module, "ostiary_gateway.workers.metrics")
        from ostiary_gateway.admin.metrics import render
        from ostiary_gateway.workers.metrics import registry

        await self._supervisor.look()
        body, content_type = render(registry(self._supervisor, self._version), request.headers.get("accept", ""))
        return Response(body, content_type=content_type)
