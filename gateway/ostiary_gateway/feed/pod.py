"""A gateway in a pod: its bundle from ConfigMaps, its state at /state, its siblings, and an end that is announced."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ostiary_api.gateway_state import (
    MAX_WAIT,
    PASSED_ON,
    STATE_PORT,
    ConnectionState,
    GatewayState,
    StateProblem,
)
from ostiary_api.names import peers_name
from ostiary_api.problems import Problem
from ostiary_gateway.admin.console import ConsoleDesk
from ostiary_gateway.admin.health import Check
from ostiary_gateway.admin.http import Handler
from ostiary_gateway.admin.local_socket import Routes
from ostiary_gateway.admin.server import AdminServer
from ostiary_gateway.admin.sessions import SessionsDesk
from ostiary_gateway.admin.state import FROM_ONE, WAITERS, StateBoard
from ostiary_gateway.approvals.people import Approvers
from ostiary_gateway.counters import Counters, Gauge
from ostiary_gateway.feed.configmap import ConfigMapFeed
from ostiary_gateway.feed.handing import HERE, Handed, Handing, handing_over
from ostiary_gateway.feed.kept import KeptBundle
from ostiary_gateway.feed.service import Address, Follower, Stopping, entered, opened_record, start_admin
from ostiary_gateway.identity.token_review import TokenReviews
from ostiary_gateway.kube.access import Access
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.logging import get_logger
from ostiary_gateway.loop import settle
from ostiary_gateway.peers import PeerPlace, receiver
from ostiary_gateway.pod import Pod
from ostiary_gateway.server import Gateway
from ostiary_gateway.upstreams import Upstreams
from ostiary_gateway.version import version

log = get_logger(__name__)

DRAIN: Final = 60.0
"""Seconds that sessions get to finish when the pod is to end, unless told otherwise."""
GRACE: Final = 3.0
"""Seconds that clients are still let in then: who sends them here hears only by and by that the pod goes."""
LOOK: Final = 2.0
"""Seconds between looks at what changes without an event: what is not heard any more, listeners that failed."""


@dataclass(frozen=True, slots=True)
class Setting:
    """How a pod's gateway is started. `peers`: names or addresses of its replicas; none: those of its Service."""

    namespace: str
    gateway: str
    name: str
    address: str
    data: Path
    listen: str = "0.0.0.0"  # noqa: S104 - a pod's own network
    admin: Address = ("0.0.0.0", STATE_PORT)  # noqa: S104
    drain: float = DRAIN
    grace: float = GRACE
    peers: tuple[str, ...] = ()
    console: str = ""
    """User name of the console's ServiceAccount, which may see and end sessions here; empty: none may."""
    handing: Handing = HERE


async def run(access: Access, setting: Setting) -> None:
    """Serve until SIGTERM or SIGINT, whatever the API server does meanwhile. Raises StartError."""
    with Stopping() as stopping:
        async with served(access, setting) as state:
            await stopping.serve(state.gateway, grace=setting.grace, draining=state.changed)
        log.info("stopped")


@asynccontextmanager
async def served(access: Access, setting: Setting) -> AsyncIterator[PodState]:
    """The gateway for as long as the block lasts. Before there is a bundle it serves nothing, and is not ready."""
    counters = Counters()
    recorder = await opened_record(setting.data, _place(setting), counters)
    async with AsyncExitStack() as stack:
        # The gateway closes the record; until it has begun that is ours to do.
        stack.push_async_callback(recorder.close)
        address = f"{bracketed(setting.address)}:{setting.admin[1]}" if setting.address else ""
        handed = await stack.enter_async_context(
            handing_over(
                setting.handing, recorder, counters, gateway=f"{setting.namespace}/{setting.gateway}",
                instance=setting.name, address=address,
            )
        )  # fmt: skip
        kube = await stack.enter_async_context(KubeClient(access))
        pod = Pod(setting.namespace, setting.gateway, setting.name, setting.address, kube)
        feed = ConfigMapFeed(kube, setting.namespace, setting.gateway, KeptBundle(setting.data, setting.gateway))
        first = await feed.load()
        gateway = Gateway(
            first.bundle, {}, data=setting.data, listen=setting.listen, recorder=recorder, counters=counters,
            place=_place(setting), drain=setting.drain, pod=pod, reviews=TokenReviews(kube),
        )  # fmt: skip
        state = PodState(pod, feed, gateway, handed)
        state.follower = Follower(feed, gateway, recorder, state.changed, handed=handed)
        board = state.board = StateBoard(state.tell)
        more: dict[tuple[str, str], Handler] = {
            ("GET", "/state"): board,
            ("POST", PASSED_ON): receiver(gateway.passed_on),
            **_for_the_console(gateway, setting, kube),
        }
        admin = AdminServer(
            setting.admin, counters, state.checks, version(), patience=MAX_WAIT, clients=WAITERS,
            from_one=FROM_ONE, more=more, gauges=state.gauges,
        )  # fmt: skip
        await start_admin(stack, admin)
        await entered(stack, gateway)
        log.info("waiting for the bundle", namespace=pod.namespace, gateway=pod.gateway, api_server=kube.server)
        async with state.follower.following(), state.watching():
            yield state


def bracketed(host: str) -> str:
    """As it stands before a port."""
    return f"[{host}]" if ":" in host else host


def _for_the_console(gateway: Gateway, setting: Setting, kube: KubeClient) -> Routes:
    if not setting.console:
        return {}
    desk = SessionsDesk(gateway.live, gateway.end, Approvers(), _place(setting))
    return ConsoleDesk(desk, kube, setting.console, f"{setting.namespace}/{setting.gateway}").routes


def _place(setting: Setting) -> PeerPlace:
    hosts = setting.peers or (f"{peers_name(setting.gateway)}.{setting.namespace}.svc",)
    own = frozenset({setting.address} if setting.address else ())
    return PeerPlace(data=setting.data, hosts=hosts, port=setting.admin[1], own=own)


class PodState:
    """What there is to tell of this pod. `follower` and `board` are set before it is asked."""

    follower: Follower
    board: StateBoard

    def __init__(self, pod: Pod, feed: ConfigMapFeed, gateway: Gateway, handed: Handed) -> None:
        self._handed = handed
        self.gateway = gateway
        self._pod = pod
        self._feed = feed
        self._upstreams = Upstreams(lambda: gateway.lobbies, self.touch)
        self._revision = ""
        self._loaded_at: datetime | None = None

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Tries the targets, and looks at what changes without an event."""
        tasks = [asyncio.create_task(self._upstreams.run()), asyncio.create_task(self._look())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def changed(self) -> None:
        """Something was put in force or refused, or the end has begun."""
        loaded = self.follower.loaded
        if loaded is not None and loaded.revision != self._revision:
            if not self._revision:
                settle()
            self._revision = loaded.revision
            self._loaded_at = datetime.now(UTC).replace(microsecond=0)
        self._upstreams.poke()
        self.touch()

    def touch(self) -> None:
        """Who waits at /state hears of it."""
        self.board.touch()

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK)
            if self.gateway.troubles:
                await self.gateway.retry()
                self._upstreams.poke()
            self.touch()

    def tell(self) -> GatewayState:
        """The document at /state."""
        loaded = self.follower.loaded
        return GatewayState(
            instance=self._pod.name,
            revision=self._revision,
            loaded_at=self._loaded_at,
            draining=self.gateway.draining,
            problems=tuple(self._problems()),
            shipping=self._handed.state(),
            connections=tuple(self._connection(key) for key in loaded.bundle.connections) if loaded is not None else (),
        )

    def _problems(self) -> list[StateProblem]:
        found = [StateProblem(message=self._feed.trouble)] if self._feed.trouble else []
        loaded = self.follower.loaded
        return found + [_problem(each) for each in (loaded.problems if loaded is not None else ())]

    def _connection(self, key: tuple[str, str]) -> ConnectionState:
        lobby = self.gateway.lobbies.get(key)
        name = f"{key[0]}/{key[1]}"
        message = next((each.message for each in self.gateway.troubles if each.connection == name), "")
        return ConnectionState(
            namespace=key[0],
            name=key[1],
            listening=lobby is not None,
            message=message or (lobby.site.closed if lobby is not None else ""),
            sessions=lobby.sessions if lobby is not None else 0,
            upstream=self._upstreams.state(key),
        )

    def gauges(self) -> list[Gauge]:
        """What /metrics says besides."""
        reached = {"Reachable": 1.0, "Unreachable": 0.0}
        states = {f"{space}/{name}": self._upstreams.state((space, name)).state for space, name in self.gateway.lobbies}
        problem = float(bool(self._feed.trouble))
        return [
            Gauge("ostiary_feed_problem", "1 if changes of the bundle may not be seen.", problem),
            Gauge("ostiary_kube_last_heard_seconds", "Since the API server was last heard.", self._feed.heard),
            *(
                Gauge("ostiary_upstream_reachable", "1 if the target answers.", reached[state], ("connection", name))
                for name, state in states.items()
                if state in reached
            ),
        ]

    def checks(self) -> list[Check]:
        """What /readyz says. Not ready: before a bundle is in force, and from when the end has begun. An API server
        that is away does not make a gateway unready: it serves what it has."""
        bundle = self.follower.loaded is not None
        found = [
            Check("bundle", bundle, self._feed.trouble or ("" if bundle else "none is in force yet")),
            Check("draining", not self.gateway.draining, "the gateway is about to stop" * self.gateway.draining),
        ]
        return found + [each for each in self.follower.checks() if each.name in ("record", "store")] + self._listening()

    def _listening(self) -> list[Check]:
        troubles = "; ".join(f"{each.connection}: {each.message}" for each in self.gateway.troubles)
        # One of several that cannot be had is told; it must not take the others with it.
        return [Check("connections", not troubles or bool(self.gateway.endpoints), troubles)]


def _problem(problem: Problem) -> StateProblem:
    place = "/".join(part for part in (problem.namespace, problem.name) if part)
    return StateProblem(
        object=" ".join(part for part in (problem.kind, place) if part), field=problem.field, message=problem.message
    )
