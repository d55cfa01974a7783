"""People told of the questions in a gateway's data directory, by one of its processes; what was told is kept there."""

from __future__ import annotations

import asyncio
import fcntl
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import IO, Final, ParamSpec, TypeVar

from ostiary_api.approval import ApprovalRequest, ToldReceiver
from ostiary_gateway.approvals import files
from ostiary_gateway.logging import get_logger
from ostiary_notify.notifier import Notifier
from ostiary_notify.sender import Sender
from ostiary_notify.settings import Notifications

log = get_logger(__name__)

Params = ParamSpec("Params")
Result = TypeVar("Result")
LOCK: Final = "notifications.lock"
LOOK: Final = 0.5
"""Seconds between looks whether anything changed."""
_AGAIN: Final = 3.0


@asynccontextmanager
async def notifying(data: Path, settings: Notifications) -> AsyncIterator[None]:
    """People are told for as long as the block lasts. What is not sent at its end is sent after the next start."""
    task = asyncio.get_running_loop().create_task(_LocalNotifying(data, settings).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class _LocalNotifying:
    def __init__(self, data: Path, settings: Notifications) -> None:
        self._data = data
        self._settings = settings
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled."""
        with (self._data / LOCK).open("ab") as lock:
            while not _locked(lock):  # noqa: ASYNC110 - another process of this gateway tells
                await asyncio.sleep(_AGAIN)
            while True:
                try:
                    await self._tell()
                except* (sqlite3.Error, OSError, ValueError) as problems:
                    reason = str(problems.exceptions[0])
                    log.error("nobody can be told of approvals; it is tried again", reason=reason)
                await asyncio.sleep(_AGAIN)

    async def _tell(self) -> None:
        sender = Sender(self._settings.receivers, give_up_after=self._settings.fresh_for)
        notifier = Notifier(self._settings, sender, lambda key: self._changed.set(), cluster=False)
        path = self._data / files.FILE
        with closing(await asyncio.to_thread(files.connect, path)) as connection:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(sender.run())
                    await self._follow(connection, notifier)
            finally:
                # What was sent while this ended must be known at the next start. Trouble must not hide why it ends.
                with suppress(sqlite3.Error, OSError, ValueError):
                    await self._look(connection, notifier)

    async def _follow(self, connection: sqlite3.Connection, notifier: Notifier) -> None:
        seen = -1
        while True:
            version = await _whole(_version, connection)
            if version != seen or self._changed.is_set():
                self._changed.clear()
                await self._look(connection, notifier)
                seen = version
            try:
                async with asyncio.timeout(LOOK):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _look(self, connection: sqlite3.Connection, notifier: Notifier) -> None:
        for request in await _whole(files.recent, connection, time.time() - self._settings.fresh_for):
            if (told := notifier.look(request)) is not None:
                await _whole(_keep, connection, request, told)


async def _whole(work: Callable[Params, Result], *args: Params.args, **named: Params.kwargs) -> Result:
    """In a thread, to its end also when cancelled: the connection is closed next, and a thread that still uses it
    would read freed memory."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *args, **named))
    try:
        return await asyncio.shield(working)
    except asyncio.CancelledError:
        await asyncio.wait((working,))
        raise


def _version(connection: sqlite3.Connection) -> int:
    """Another one after each change by anybody else."""
    return int(connection.execute("pragma data_version").fetchone()[0])


def _keep(connection: sqlite3.Connection, request: ApprovalRequest, told: tuple[ToldReceiver, ...]) -> None:
    files.tell(connection, request.metadata.namespace, request.metadata.name, told)


def _locked(lock: IO[bytes]) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
