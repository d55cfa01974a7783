"""Starts the workers of a gateway, starts those anew that are gone, passes signals on, and answers for all of them."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ostiary_gateway.admin.health import Check
from ostiary_gateway.counters import Counters
from ostiary_gateway.logging import get_logger

from . import sockets
from .state import checks, left, together
from .worker import WorkerState

log = get_logger(__name__)

LOOK: Final = 1.0
"""Seconds between looks at the workers."""
FIRST_LOOK: Final = 0.05
BACKOFF: Final = (0.5, 30.0)
"""Seconds until a worker that has ended is started again: the first time, and at most."""
STEADY: Final = 60.0
"""Seconds that a worker has to run for its end to count as the first one again."""
STOP: Final = 15.0
"""Seconds that workers have to end after SIGTERM, beside those that their sessions get."""

Command = Callable[[int], Sequence[str]]
"""The command line of a worker, by its number (from 1)."""


class WorkerFailed(Exception):
    """The first worker could not start; it has said why. `code` is what it ended with."""

    def __init__(self, code: int) -> None:
        super().__init__(f"a worker ended with {code}")
        self.code = code


@dataclass(slots=True)
class Worker:
    """One place among the workers, and the process that has it now."""

    number: int
    process: asyncio.subprocess.Process | None = None
    state: WorkerState | None = None
    """As it was told last."""
    silent: bool = True
    """It does not answer."""
    served: bool = False
    """A process in this place has once served."""
    restarts: int = 0


class Supervisor:
    """`run` it. It needs no more than the workers' command lines and their sockets in `data`."""

    def __init__(self, command: Command, workers: int, data: Path, drain: float = 10.0) -> None:
        self.workers = [Worker(number) for number in range(1, workers + 1)]
        self._command = command
        self._data = data
        self._drain = drain
        self._gone: dict[str, object] | None = None
        self._stopping = asyncio.Event()
        self._failed: int | None = None

    async def run(self) -> None:
        """Until SIGTERM or SIGINT. Raises WorkerFailed if there is nothing to serve."""
        loop = asyncio.get_running_loop()
        handlers: list[tuple[int, Callable[[], None]]] = [
            (signal.SIGTERM, self._stopping.set),
            (signal.SIGINT, self._stopping.set),
            (signal.SIGHUP, lambda: self._signal(signal.SIGHUP)),
        ]
        async with AsyncExitStack() as stack:
            for number, handler in handlers:
                loop.add_signal_handler(number, handler)
                stack.callback(loop.remove_signal_handler, number)
            async with asyncio.TaskGroup() as tasks:
                watching = tasks.create_task(self._watch(tasks))
                await self._stopping.wait()
                watching.cancel()
        if self._failed is not None:
            raise WorkerFailed(self._failed)
        log.info("stopped: all workers have ended")

    # -- the workers

    async def _watch(self, tasks: asyncio.TaskGroup) -> None:
        """Starts the first worker, and the others when it serves: what is wrong is said once, by the first."""
        first = self.workers[0]
        tasks.create_task(self._keep(first))
        while not first.served:
            await asyncio.sleep(FIRST_LOOK)
            await self._look(first)
        for worker in self.workers[1:]:
            tasks.create_task(self._keep(worker))
        while True:
            await self.look()
            await asyncio.sleep(LOOK)

    async def _keep(self, worker: Worker) -> None:
        """Runs a worker, again and again, until the gateway stops."""
        pause = BACKOFF[0]
        while True:
            begun = time.monotonic()
            code = await self._run(worker)
            self._bury(worker)
            if self._stopping.is_set():
                return
            if worker is self.workers[0] and not worker.served:
                self._failed = code
                self._stopping.set()
                return
            if time.monotonic() - begun > STEADY:
                pause = BACKOFF[0]
            log.error("worker ended; it is started again", worker=worker.number, code=code, seconds=pause)
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
                return
            except TimeoutError:
                worker.restarts += 1
                pause = min(pause * 2, BACKOFF[1])

    async def _run(self, worker: Worker) -> int:
        """One life of a worker; what it ended with."""
        # Its standard input says to the worker that we are here: it ends when we do, however we end.
        process = await asyncio.create_subprocess_exec(*self._command(worker.number), stdin=asyncio.subprocess.PIPE)
        worker.process = process
        ended = asyncio.ensure_future(process.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                _send(process, signal.SIGTERM)
                await asyncio.wait((ended,), timeout=self._drain + STOP)
        finally:
            stopping.cancel()
            if not ended.done():
                log.error("worker does not end: it is killed", worker=worker.number)
                _send(process, signal.SIGKILL)
            await ended
            worker.process = None
        return ended.result()

    def _signal(self, number: int) -> None:
        for worker in self.workers:
            if worker.process is not None:
                _send(worker.process, number)

    def _bury(self, worker: Worker) -> None:
        """What it has counted is counted on."""
        if worker.state is not None:
            self._gone = left(self._gone, worker.state.counts)
        worker.state, worker.silent = None, True

    # -- what they are together

    async def look(self) -> None:
        """Asks all of them how they are."""
        await asyncio.gather(*map(self._look, self.workers))

    async def _look(self, worker: Worker) -> None:
        process = worker.process
        if process is None:
            return
        path = sockets.socket_of(self._data, worker.number)
        try:
            state = WorkerState.parse(await sockets.ask(path, "GET", "/state"))
        except (OSError, ValueError, TypeError, LookupError, TimeoutError, asyncio.LimitOverrunError) as problem:
            if not worker.silent:
                log.warning("worker does not answer", worker=worker.number, problem=repr(problem)[:200])
            worker.silent = True
            return
        if worker.process is process:
            worker.state, worker.silent = state, False
            worker.served = worker.served or state.started

    def counters(self) -> Counters:
        """Of all workers, as they told last, and of those that are no more."""
        return together([worker.state.counts for worker in self.workers if worker.state is not None], self._gone)

    def checks(self) -> list[Check]:
        """What /readyz says."""
        told = {
            worker.number: None if worker.silent or worker.state is None else worker.state.checks
            for worker in self.workers
        }
        return checks(told, len(self.workers))

    def pids(self) -> list[int]:
        """Of the workers that live."""
        return [worker.process.pid for worker in self.workers if worker.process is not None]


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except ProcessLookupError:  # it has just ended by itself
        return
