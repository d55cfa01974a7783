"""A gateway and its feed: load, serve, load again on change, until a signal."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import platform
import resource
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from ostiary_api.problems import Problem
from ostiary_gateway.admin.health import Check
from ostiary_gateway.admin.server import AdminError, AdminServer
from ostiary_gateway.admin.sessions import worker_routes
from ostiary_gateway.approvals.people import Approvers
from ostiary_gateway.approvals.store import ApprovalsError
from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.audit.records import records
from ostiary_gateway.counters import Counters
from ostiary_gateway.feed.directory import DirectoryFeed
from ostiary_gateway.feed.fact_sources import fact_sources
from ostiary_gateway.feed.handing import HERE, Handed, Handing, handing_over
from ostiary_gateway.feed.loading import Feed, Loaded, Rejected
from ostiary_gateway.feed.second_process import SecondProcess
from ostiary_gateway.logging import get_logger
from ostiary_gateway.loop import settle
from ostiary_gateway.server import DRAIN, Gateway
from ostiary_gateway.version import version
from ostiary_gateway.workers.place import ALONE, Place
from ostiary_gateway.workers.sockets import socket_of
from ostiary_gateway.workers.worker import WorkerSocket, stop_with_supervisor

if TYPE_CHECKING:
    from ostiary_notify.settings import Notifications

log = get_logger(__name__)

Address = tuple[str, int]


class ManifestsRefused(Exception):
    """The first manifests may not be served."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = tuple(problems)


class StartError(Exception):
    """The gateway cannot start; `next_step` says what to do."""

    def __init__(self, message: str, next_step: str) -> None:
        super().__init__(message)
        self.next_step = next_step


class Stopping:
    """SIGTERM and SIGINT: the first lets sessions finish, the same one again ends them. `with` it installs the
    handlers; `more` are others."""

    def __init__(self, more: Mapping[int, Callable[[], None]] | None = None) -> None:
        self._asked = asyncio.Event()
        self._came: set[int] = set()
        self._more = more or {}
        self._gateway: Gateway | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(ending, self._signalled, ending)
        for number, handler in self._more.items():
            loop.add_signal_handler(number, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, *self._more):
            asyncio.get_running_loop().remove_signal_handler(number)

    def stop(self) -> None:
        """Sessions may finish."""
        self._asked.set()

    def _signalled(self, number: int) -> None:
        # A worker gets both at Ctrl-C: SIGINT from the terminal, SIGTERM from its supervisor.
        if number in self._came and self._gateway is not None:
            self._gateway.hurry()
        self._came.add(number)
        self.stop()

    async def serve(self, gateway: Gateway, *, grace: float = 0.0, draining: Callable[[], None] | None = None) -> None:
        """Until it is to stop, and until its sessions have ended. `draining` is called in between."""
        self._gateway = gateway
        await self._asked.wait()
        log.info("stopping: sessions may finish what they do")
        gateway.draining = True
        if draining is not None:
            draining()
        await gateway.drain(grace=grace)


async def run(
    paths: Sequence[Path],
    *,
    data: Path,
    listen: str,
    admin: Address | None,
    second: SecondProcess | None = None,
    approvers: Approvers | None = None,
    admin_socket: Path | None = None,
    place: Place = ALONE,
    drain: float = DRAIN,
    notifications: Notifications | None = None,
    handing: Handing = HERE,
) -> None:
    """Serve until SIGTERM or SIGINT. Raises ManifestsRefused or StartError before anything is served."""
    feed = DirectoryFeed(paths, fact_sources=fact_sources(), second=second)
    with Stopping({signal.SIGHUP: feed.poke}) as stopping:
        if place.shares_ports:
            stop_with_supervisor(stopping.stop)
        async with served(
            feed, data=data, listen=listen, admin=admin, approvers=approvers, admin_socket=admin_socket, place=place,
            drain=drain, notifications=notifications, handing=handing,
        ) as gateway:  # fmt: skip
            await stopping.serve(gateway)
        log.info("stopped")


@asynccontextmanager
async def served(
    feed: Feed,
    *,
    data: Path,
    listen: str = "127.0.0.1",
    admin: Address | None = None,
    approvers: Approvers | None = None,
    admin_socket: Path | None = None,
    place: Place = ALONE,
    drain: float = DRAIN,
    notifications: Notifications | None = None,
    handing: Handing = HERE,
) -> AsyncIterator[Gateway]:
    """A gateway that follows a feed for as long as the block lasts; with a `place`, one of its workers."""
    outcome = await feed.load()
    if isinstance(outcome, Rejected):
        raise ManifestsRefused(outcome.problems)
    counters = Counters()
    recorder = await opened_record(data, place, counters)
    async with AsyncExitStack() as stack:
        # The gateway closes the record; until it has begun that is ours to do.
        stack.push_async_callback(recorder.close)
        handed = await stack.enter_async_context(_handing_over(handing, recorder, counters, data, place))
        gateway = Gateway(
            outcome.bundle, outcome.secrets, data=data, listen=listen, recorder=recorder, counters=counters,
            approvers=approvers, admin_socket=admin_socket, place=place, drain=drain,
        )  # fmt: skip
        follower = Follower(feed, gateway, recorder, handed=handed)
        if admin is not None:
            # Before the listeners: who finds one open may ask whether the gateway is ready.
            await start_admin(stack, AdminServer(admin, counters, follower.checks, version()))
        more = worker_routes(gateway.live, gateway.end)
        worker = WorkerSocket(socket_of(data, place.worker), counters, follower.checks, gateway.passed_on, more)
        if place.shares_ports:
            await worker.start()
            stack.push_async_callback(worker.stop)
        await entered(stack, gateway)
        follower.in_force(outcome)
        if not gateway.endpoints:
            raise StartError(
                "No Connection can be served: " + "; ".join(f"{t.connection}: {t.message}" for t in gateway.troubles),
                "Mend what is named here, then start again.",
            )
        if notifications is not None and notifications.receivers:
            from ostiary_gateway.approvals.notifying import notifying

            await stack.enter_async_context(notifying(data, notifications))
        settle()
        worker.started = True
        async with follower.following():
            yield gateway


async def entered(stack: AsyncExitStack, gateway: Gateway) -> None:
    """The gateway begins. Raises StartError."""
    try:
        await stack.enter_async_context(gateway)
    except ApprovalsError as error:
        raise StartError(str(error), "Move the file away, or choose another directory: --data DIR") from error


async def start_admin(stack: AsyncExitStack, server: AdminServer) -> None:
    """The admin address, until the stack is unwound. Raises StartError."""
    try:
        host, port = await server.start()
    except AdminError as error:
        message, _, next_step = str(error).partition(" Next: ")
        raise StartError(message, next_step) from error
    stack.push_async_callback(server.stop)
    log.info("admin address", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")


class Follower:
    """Puts what the feed brings into force, and knows how things are. `changed` hears of it."""

    def __init__(
        self,
        feed: Feed,
        gateway: Gateway,
        recorder: FileRecorder,
        changed: Callable[[], None] | None = None,
        *,
        handed: Handed,
    ) -> None:
        self.loaded: Loaded | None = None
        """What is in force."""
        self._feed = feed
        self._gateway = gateway
        self._recorder = recorder
        self._changed = changed
        self._handed = handed
        self._refused: tuple[Problem, ...] = ()

    @asynccontextmanager
    async def following(self) -> AsyncIterator[None]:
        """Follows the feed for as long as the block lasts."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    async def _follow(self) -> None:
        """Every change, until cancelled."""
        await self._feed.start()
        try:
            while True:
                try:
                    async with aclosing(self._feed.changes()) as outcomes:
                        async for outcome in outcomes:
                            await self._take(outcome)
                except Exception:
                    # Whatever it was, the bundle in force goes on deciding, and the next change gets its chance.
                    self._gateway.counters.reload_failed()
                    log.exception("loading failed; the last good bundle stays in force")
                    await asyncio.sleep(1)
        finally:
            await self._feed.close()

    async def _take(self, outcome: Loaded | Rejected) -> None:
        if isinstance(outcome, Rejected):
            self._refused = outcome.problems
            self._gateway.counters.reload_failed()
            log.error("manifests refused; the last good bundle stays in force", problems=len(outcome.problems))
            _log_problems(outcome.problems)
        else:
            gc.unfreeze()  # what the old bundle leaves behind can be found again
            self._gateway.doubt_answers(outcome.approvals)
            await self._gateway.reload(outcome.bundle, outcome.secrets, outcome.closed)
            self.in_force(outcome)
        if self._changed is not None:
            self._changed()

    def in_force(self, loaded: Loaded) -> None:
        """This bundle is served now."""
        self._refused, self.loaded = (), loaded
        bundle = loaded.bundle
        counters = self._gateway.counters
        counters.bundle_loaded(bundle.revision, time.time())
        if loaded.problems:
            counters.reload_failed()
            log.error(
                "policies not accepted: each keeps its last accepted revision, or denies what it matches",
                problems=len(loaded.problems),
            )
            _log_problems(loaded.problems)
        for notice in loaded.notices:
            log.warning(
                notice.message, file=str(notice.location), object=f"{notice.kind} {notice.namespace}/{notice.name}"
            )
        log.info(
            "bundle in force",
            revision=bundle.revision[:12],
            connections=len(bundle.connections),
            policies=len(bundle.policies),
        )

    def checks(self) -> list[Check]:
        """What /readyz says. A refused change does not make a gateway unready: it serves the last good one."""
        changes = f"{_problems(self._refused)}; the last good bundle is served" if self._refused else ""
        unaccepted = self.loaded.problems if self.loaded is not None else ()
        policies = f"{_problems(unaccepted)} in policies" if unaccepted else ""
        troubles = "; ".join(f"{trouble.connection}: {trouble.message}" for trouble in self._gateway.troubles)
        failing = self._recorder.failing
        if not self._gateway.endpoints and not troubles:
            troubles = "the gateway is starting or stopping"
        return [
            Check("bundle", True, changes or policies),
            Check("connections", not troubles, troubles),
            Check("record", not failing, failing),
            *self._handed.checks(),
        ]


def _log_problems(problems: Sequence[Problem]) -> None:
    for problem in problems:
        name = "/".join(part for part in (problem.namespace, problem.name) if part)
        fields = {"file": str(problem.location), "object": f"{problem.kind} {name}".strip(), "field": problem.field}
        log.error(problem.message, **{key: value for key, value in fields.items() if value})


def _handing_over(
    handing: Handing, recorder: FileRecorder, counters: Counters, data: Path, place: Place
) -> AbstractAsyncContextManager[Handed]:
    """Each worker hands over its own record; the first also those of workers that there are no more."""
    host = platform.node()
    left = _of_others(data, place) if place.worker <= 1 else []
    instance = f"{host}/{place.worker}" if place.shares_ports else host
    return handing_over(handing, recorder, counters, gateway=host, instance=instance, left=left)


def _of_others(data: Path, place: Place) -> list[Path]:
    """The records of workers that there are no more."""
    mine = {dataclasses.replace(place, worker=number).audit for number in range(1, place.workers + 1)}
    return [path for path in records(data) if path.name not in mine and path.is_file()]


async def opened_record(data: Path, place: Place, counters: Counters) -> FileRecorder:
    """The record of this process, and the counters that look at it. Raises StartError."""
    _allow_many_files()
    recorder = await _open_record(data, place)
    await _close_what_others_left(data, place, type(recorder))
    counters.record_queue = lambda: recorder.queued
    counters.record_dropped = lambda: recorder.stats.dropped
    return recorder


async def _open_record(data: Path, place: Place) -> FileRecorder:
    try:
        await asyncio.to_thread(data.mkdir, parents=True, exist_ok=True, mode=0o700)
    except FileExistsError:
        raise StartError(f"{data} is a file, and --data must be a directory.", "Choose another: --data DIR") from None
    except OSError as error:
        raise StartError(
            f"The data directory {data} cannot be made: {error.strerror}.", "Choose another directory: --data DIR"
        ) from error
    try:
        return await FileRecorder.open(data / place.audit)
    except (OSError, RecordError) as error:
        raise StartError(str(error), "Choose another directory: --data DIR") from error


async def _close_what_others_left(data: Path, place: Place, recorder: type[FileRecorder]) -> None:
    """Sessions in the records of workers that there are no more: they are lost, as those of one that is killed."""
    if place.worker > 1:
        return

    def left() -> list[Path]:
        return [path for path in _of_others(data, place) if _has_open(path)]

    for path in await asyncio.to_thread(left):
        try:
            await (await recorder.open(path)).close()
        except (OSError, ValueError, RecordError) as problem:
            log.warning("a record of an earlier worker stays as it is", record=path.name, problem=str(problem))


def _has_open(path: Path) -> bool:
    with Reader.open(path) as reader:
        return next(reader.sessions(state="open", gateway=True, limit=1), None) is not None


def _allow_many_files() -> None:
    """Every session needs two sockets; the usual soft limit of 1,024 is for programs that use select()."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError) as error:  # macOS reports a limit that it does not take
            log.debug("file limit stays", soft=soft, reason=str(error))


def _problems(found: Sequence[Problem]) -> str:
    return f"{len(found)} problem{'' if len(found) == 1 else 's'}"
