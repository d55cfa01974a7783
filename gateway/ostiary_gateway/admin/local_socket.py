"""The admin socket: a Unix socket in the data directory, where people of this machine come. The kernel says who."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from ostiary_gateway.admin.http import Handler, HttpServer, Request, Response
from ostiary_gateway.approvals.people import Person, person_of
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

SOCKET: Final = "admin.sock"
RETRY: Final = 2.0
"""Seconds until it is looked again whether another process of this gateway still has the socket."""

Given = dict[str, str]
"""A query's parameters."""
Routes = Mapping[tuple[str, str], Handler]


class LocalSocket:
    """Serves from `start` to `stop`. Of several processes on one data directory one has the socket; when it goes,
    another takes it over. `open_to_all`: whoever can reach it may ask, and is told apart by the kernel's word."""

    def __init__(self, path: Path, routes: Routes, *, open_to_all: bool = False) -> None:
        self._path = path
        self._mode = 0o666 if open_to_all else 0o600
        self._lock: int | None = None
        self._http = HttpServer(dict(routes))
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens, or waits for the process that does to go. OSError if the path cannot be listened on."""
        if not await self._try():
            self._task = asyncio.get_running_loop().create_task(self._keep_trying())

    async def stop(self) -> None:
        """Stops listening. May be called again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._http.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _keep_trying(self) -> None:
        while True:
            await asyncio.sleep(RETRY)
            try:
                if await self._try():
                    return
            except OSError as problem:
                log.error("admin socket", path=str(self._path), problem=str(problem))

    async def _try(self) -> bool:
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        try:
            await self._http.listen_unix(self._path, self._mode)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        log.info("admin socket", path=str(self._path))
        return True


class AdminProblem(Exception):
    """Why a request is not answered as it was meant: a status, a word for programs, a text for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def asker(request: Request) -> Person:
    """Who asks, by the kernel's word; nobody else's counts. Where it does not say, only the socket's owner (and root)
    can have opened it: named members need a system that tells."""
    return person_of(request.uid if request.uid is not None else os.getuid())


def told(work: Callable[[Request, Given], Awaitable[object]]) -> Handler:
    """The work as a handler: what it gives as JSON, and what goes wrong too."""

    async def handler(request: Request) -> Response:
        given = {key: values[-1] for key, values in parse_qs(request.query).items()}
        try:
            return as_json(await work(request, given), 200)
        except AdminProblem as problem:
            return as_json({"error": problem.code, "message": str(problem)}, problem.status)

    return handler


def as_json(value: object, status: int) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), status, "application/json")
