"""The gateway process: a listener for each Connection, one audit, one admin address; bundles come and go."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret
from ostiary_gateway.approvals.people import Approvers
from ostiary_gateway.approvals.service import ApprovalService
from ostiary_gateway.audit.event import Recorder
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.identity.authenticators import AuthenticationError, Authenticators
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_gateway.identity.tokens import TokenIdentities
from ostiary_gateway.protocols import LOBBIES, Lobby, Site
from ostiary_gateway.tls import TLSError, listener_context
from ostiary_gateway.workers.place import ALONE, Place
from ostiary_policy.bundle import Bundle

log = structlog.get_logger(__name__)

Key = tuple[str, str]
"""Namespace and name."""

MAX_LOGINS: Final = 1000
"""Clients that may be logging in at one time at one listener; beyond that the one that takes longest must go."""
BACKLOG: Final = 1024
SWEEP: Final = 5.0
"""Seconds between looks at idle sessions."""
DRAIN: Final = 10.0
"""Seconds that sessions get to finish when the gateway stops."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A Connection that cannot be served. The message says what to do."""

    connection: str
    message: str


class Gateway:
    """`async with Gateway(bundle, secrets, data=…) as gateway:` serves until the block ends.

    `secrets` by (namespace, name): the targets' credentials, agents' tokens and certificates. `data` keeps the audit
    and the gateway's own certificate, and approvals. `recorder`: another store than SQLite in `data`. `approvers`: who
    may decide on them, at `admin_socket` (default: in `data`). `place`: among the workers.
    """

    def __init__(
        self,
        bundle: Bundle,
        secrets: Mapping[Key, Secret],
        *,
        data: Path,
        listen: str = "127.0.0.1",
        recorder: Recorder | None = None,
        counters: Counters | None = None,
        approvers: Approvers | None = None,
        admin_socket: Path | None = None,
        place: Place = ALONE,
    ) -> None:
        self.counters = counters or Counters()
        self.bundle = bundle
        self.troubles: tuple[Trouble, ...] = ()
        self.checkpoint: Checkpoint
        self._secrets = dict(secrets)
        self._data = data
        self._listen = listen
        self._given = recorder
        self._approvers = approvers or Approvers()
        self._admin_socket = admin_socket
        self._approvals: ApprovalService
        self._place = place
        self._listeners: dict[Key, _Listener] = {}
        self._issuer_keys = KeySources()
        self._tasks: asyncio.TaskGroup
        self._sweeper: asyncio.Task[None]

    async def __aenter__(self) -> Self:
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        recorder = self._given or await FileRecorder.open(self._data / "audit.db")
        try:
            self._approvals = await ApprovalService.open(
                self._data, self.counters, recorder, self._approvers, self._admin_socket
            )
        except BaseException:
            await recorder.close()
            raise
        self.checkpoint = Checkpoint(self.bundle, recorder, self.counters, self._approvals.store)
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._sweeper = self._tasks.create_task(self._sweep())
        try:
            await self.reload(self.bundle, self._secrets)
        except BaseException as problem:
            await self.__aexit__(type(problem), problem, problem.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._sweeper.cancel()
            await asyncio.gather(*(listener.close() for listener in self._listeners.values()))
            await self._issuer_keys.close()
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._approvals.close()
            await self.checkpoint.recorder.close()

    @property
    def endpoints(self) -> dict[Key, tuple[str, int]]:
        """Where agents connect, by Connection."""
        return {key: (self._listen, listener.port) for key, listener in self._listeners.items()}

    @property
    def sessions(self) -> int:
        return sum(listener.lobby.sessions for listener in self._listeners.values())

    async def reload(self, bundle: Bundle, secrets: Mapping[Key, Secret]) -> None:
        """Serves another bundle. Sessions go on, decided by the new policies from their next request."""
        self.bundle = self.checkpoint.bundle = bundle
        self._secrets = dict(secrets)
        identities = TokenIdentities(self._secrets.values())
        troubles: list[Trouble] = []
        for key in [key for key in self._listeners if key not in bundle.connections]:
            await self._listeners.pop(key).close("The Connection was removed.")
        for key, bound in bundle.connections.items():
            try:
                await self._serve(key, bound.connection, identities)
            except (TLSError, AuthenticationError, OSError) as problem:
                name = f"{key[0]}/{key[1]}"
                troubles.append(Trouble(name, str(problem)))
                log.error("connection cannot be served", connection=name, problem=str(problem))
        self.troubles = tuple(troubles)

    async def _serve(self, key: Key, connection: Connection, identities: TokenIdentities) -> None:
        make = LOBBIES.get(connection.spec.protocol)
        if make is None:
            raise OSError(f"protocol {connection.spec.protocol} is not served by this gateway yet")
        tls = connection.spec.listener.tls
        secret = self._secrets.get((key[0], tls.secret_ref.name)) if tls.secret_ref is not None else None
        context = listener_context(connection, secret, self._data, self._listen)
        authenticators = Authenticators(connection, identities, self._secrets, self._issuer_keys)
        authenticators.configure(context)
        site = Site(connection, context, authenticators, self._secrets, self._place)
        listener = self._listeners.get(key)
        if listener is not None and listener.wanted == connection.spec.listener.port:
            listener.lobby.replace(site)
            return
        if listener is not None:
            await self._listeners.pop(key).close("The Connection has another port now.")
        lobby = make(site, self.checkpoint, self.counters)
        self._listeners[key] = _Listener(lobby, self._bind(connection.spec.listener.port), self._tasks)
        self._listeners[key].wanted = connection.spec.listener.port
        log.info("listening", connection=lobby.site.name, address=self._listen, port=self._listeners[key].port)

    def _bind(self, port: int) -> socket.socket:
        if self._place.shares_ports and not self._place.others_serve():
            # Whoever shares its port would share it with us as well: agents would come to either.
            _bind(self._listen, port).close()
        return _bind(self._listen, port, shared=self._place.shares_ports)

    async def passed_on(self, connection: str, message: bytes) -> None:
        """What a client sent to another worker, for a session that may be here."""
        namespace, _, name = connection.partition("/")
        listener = self._listeners.get((namespace, name))
        if listener is not None:
            await listener.lobby.passed_on(message)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            for listener in self._listeners.values():
                listener.lobby.sweep()


class _Listener:
    """Accepts the clients of one Connection. A client that says nothing costs a socket and a task, and not for long."""

    wanted = 0

    def __init__(self, lobby: Lobby, sock: socket.socket, tasks: asyncio.TaskGroup) -> None:
        self.lobby = lobby
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._tasks = tasks
        self._logins: OrderedDict[asyncio.Task[None], None] = OrderedDict()
        self._clients: set[asyncio.Task[None]] = set()
        self._task = tasks.create_task(self._accept())

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(self._sock)
            except OSError as problem:
                # Out of file descriptors, most likely: those who are here come first.
                log.error("cannot accept", connection=self.lobby.site.name, problem=str(problem))
                await asyncio.sleep(0.2)
                continue
            client.setblocking(False)
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if len(self._logins) >= MAX_LOGINS:
                slowest, _ = self._logins.popitem(last=False)
                slowest.cancel()
                self.lobby.turned_away()
            self._welcome(client)

    def _welcome(self, client: socket.socket) -> None:
        task: asyncio.Task[None] | None = None

        def admitted() -> None:
            if task is not None:
                self._logins.pop(task, None)

        task = self._tasks.create_task(self._guarded(client, admitted))
        self._logins[task] = None
        self._clients.add(task)
        task.add_done_callback(self._gone)

    async def _guarded(self, client: socket.socket, admitted: Callable[[], None]) -> None:
        """One client must never take the others with it, whatever it does."""
        try:
            await self.lobby.admit(client, admitted)
        except Exception:
            log.exception("session ended by an error of the gateway", connection=self.lobby.site.name)

    def _gone(self, task: asyncio.Task[None]) -> None:
        self._clients.discard(task)
        self._logins.pop(task, None)

    async def close(self, reason: str = "The gateway is shutting down.") -> None:
        """Stops listening; sessions get DRAIN seconds to finish what they are in the middle of."""
        self._task.cancel()
        self._sock.close()
        for login in list(self._logins):
            login.cancel()
        self.lobby.stop("57P01", reason, only_idle=True)
        if self._clients:
            _, busy = await asyncio.wait(self._clients, timeout=DRAIN)
            if busy:
                self.lobby.stop("57P01", reason)
                _, stuck = await asyncio.wait(busy, timeout=DRAIN)
                for task in stuck:
                    task.cancel()
        await self.lobby.close()


def _bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, proto, _, address = found[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as problem:
        sock.close()
        hints = {
            errno.EADDRINUSE: "; is another gateway running there?",
            errno.EADDRNOTAVAIL: "; --listen must be an address of this machine",
            errno.EACCES: "; ports below 1024 need a privilege: choose another listener.port",
        }
        raise OSError(
            f"cannot listen on {host}:{port}: {problem.strerror}{hints.get(problem.errno or 0, '')}"
        ) from None
    return sock
