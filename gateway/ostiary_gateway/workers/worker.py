"""One worker: the socket at which the supervisor and the other workers ask it."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ostiary_gateway.admin.health import Check
from ostiary_gateway.admin.http import Handler, HttpServer, Request, Response
from ostiary_gateway.counters import Counters

from . import sockets
from .state import snapshot

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class WorkerState:
    """What a worker answers to the supervisor. `started`: it has served; before that its end is the gateway's."""

    started: bool
    checks: tuple[Check, ...]
    counts: dict[str, object]

    @classmethod
    def parse(cls, text: bytes) -> WorkerState:
        """ValueError, TypeError or LookupError if it is none."""
        value = json.loads(text)
        checks = tuple(Check(each["name"], each["ok"], each["message"]) for each in value["checks"])
        return cls(value["started"], checks, value["counts"])


class WorkerSocket:
    """Listens from `start` to `stop`. `pass_on` takes a connection's name, and a message for one of its sessions.
    `more`: what else is asked there."""

    def __init__(
        self,
        path: Path,
        counters: Counters,
        checks: Callable[[], Iterable[Check]],
        pass_on: Callable[[str, bytes], Awaitable[None]],
        more: Mapping[tuple[str, str], Handler] | None = None,
    ) -> None:
        self.started = False
        self._path = path
        self._counters = counters
        self._checks = checks
        self._pass_on = pass_on
        self._http = HttpServer({("GET", "/state"): self._state, ("POST", "/pass-on"): self._passed_on, **(more or {})})

    async def start(self) -> None:
        """Raises OSError."""
        with sockets.reachable(self._path) as path:
            await self._http.listen_unix(path)

    async def stop(self) -> None:
        await self._http.close()
        await asyncio.to_thread(self._path.unlink, missing_ok=True)

    async def _state(self, _: Request) -> Response:
        found = {
            "started": self.started,
            "checks": [asdict(check) for check in self._checks()],
            "counts": snapshot(self._counters),
        }
        return Response(json.dumps(found), content_type=JSON)

    async def _passed_on(self, request: Request) -> Response:
        try:
            told = json.loads(request.body)
            connection, message = str(told["connection"]), bytes.fromhex(told["message"])
        except (ValueError, TypeError, LookupError):
            return Response("not a message that is passed on\n", 400)
        await self._pass_on(connection, message)
        return Response("done\n")


def stop_with_supervisor(stop: Callable[[], None]) -> None:
    """Calls `stop` when the supervisor is no more: nobody else has the other end of this worker's standard input."""
    loop = asyncio.get_running_loop()

    def readable() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop()

    loop.add_reader(0, readable)
