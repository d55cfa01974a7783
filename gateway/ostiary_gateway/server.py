"""The gateway process: a listener for each Connection, one audit, one admin address; bundles come and go."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import structlog

from ostiary_api.authentication import Authentication
from ostiary_api.connection import Connection
from ostiary_api.secret import Secret
from ostiary_api.secret_uses import secrets_of_connection
from ostiary_gateway.admin.bundle import BundleDesk
from ostiary_gateway.admin.sessions import SessionsDesk
from ostiary_gateway.approvals.people import Approvers
from ostiary_gateway.approvals.service import ApprovalService, ClusterApprovalService
from ostiary_gateway.audit.event import Recorder
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.identity.authenticators import AuthenticationError, Authenticators
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_gateway.identity.token_review import TokenReviews
from ostiary_gateway.identity.tokens import TokenIdentities
from ostiary_gateway.pod import Pod
from ostiary_gateway.protocols import LOBBIES, Lobby, Site
from ostiary_gateway.tls import TLSError, listener_context, own_context
from ostiary_gateway.workers.place import ALONE, Place
from ostiary_policy.bundle import Bundle

if TYPE_CHECKING:
    from ostiary_gateway.protocols.ssh.host_keys import SSHKeys

log = structlog.get_logger(__name__)

Key = tuple[str, str]
"""Namespace and name."""

MAX_LOGINS: Final = 1000
"""Clients that may be logging in at one time at one listener; beyond that the one that takes longest must go."""
BACKLOG: Final = 1024
SWEEP: Final = 5.0
"""Seconds between looks at idle sessions."""
DRAIN: Final = 10.0
"""Seconds that sessions get to finish what they are in the middle of, unless told otherwise."""
PARTING: Final = 6.0
"""Seconds that the last words may take to those who are ended."""
LOOK: Final = 0.1
"""Seconds between looks for sessions that have finished."""
DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Trouble:
    """A Connection that cannot be served. The message says what to do."""

    connection: str
    message: str


class Gateway:
    """`async with Gateway(bundle, secrets, data=…) as gateway:` serves until the block ends.

    `secrets` by (namespace, name): the targets' credentials, agents' tokens and certificates. `data` keeps the audit
    and the gateway's own certificate, and approvals. `recorder`: another store than SQLite in `data`. `approvers`: who
    may decide on them, at `admin_socket` (default: in `data`). `place`: among the workers, or among the pods.
    `reviews`: in a cluster, of ServiceAccounts' tokens. `drain`: seconds that sessions get to finish when it stops, or
    when their Connection goes. `pod`: the pod that it runs in.
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
        reviews: TokenReviews | None = None,
        drain: float = DRAIN,
        pod: Pod | None = None,
    ) -> None:
        self.counters = counters or Counters()
        self.bundle = bundle
        self.pod = pod
        self.draining = False
        """True from when it is to stop: new clients should go elsewhere."""
        self.troubles: tuple[Trouble, ...] = ()
        self.checkpoint: Checkpoint
        self._secrets = dict(secrets)
        self._data = data
        self._listen = listen
        self._given = recorder
        self._approvers = approvers or Approvers()
        self._admin_socket = admin_socket
        self._approvals: ApprovalService | ClusterApprovalService
        self._place = place
        self._drain = drain
        self._shut = False
        self._hurry = asyncio.Event()
        self._closed: Mapping[Key, str] = {}
        self._listeners: dict[Key, _Listener] = {}
        self._issuer_keys = KeySources()
        self._reviews = reviews
        self._tasks: asyncio.TaskGroup
        self._upkeep: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._data.mkdir(parents=True, exist_ok=True, mode=0o700)
        recorder = self._given or await FileRecorder.open(self._data / "audit.db")
        try:
            self._approvals = await self._opened_approvals(recorder)
        except BaseException:
            await recorder.close()
            raise
        self.checkpoint = Checkpoint(self.bundle, recorder, self.counters, self._approvals.store)
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        self._upkeep = [self._tasks.create_task(self._sweep())]
        if self._reviews is not None:
            self._upkeep.append(self._tasks.create_task(self._reviews.keep_reviewing()))
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
            for task in self._upkeep:
                task.cancel()
            await self.drain()
            await self._issuer_keys.close()
            if self._reviews is not None:
                await self._reviews.close()
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._approvals.close()
            await self.checkpoint.recorder.close()

    async def drain(self, *, grace: float = 0.0) -> None:
        """Stops serving: for `grace` seconds clients are still let in, though nobody should send them here any more.
        Then idle sessions are ended, others as soon as they have finished, and the rest after `drain` seconds."""
        self.draining = True
        if grace:
            await _either(self._hurry, grace)
        self._shut = True
        listeners = list(self._listeners.values())
        await asyncio.gather(*(listener.close("The gateway is shutting down.") for listener in listeners))
        self._listeners.clear()

    def hurry(self) -> None:
        """Do not wait for sessions any more."""
        self._hurry.set()

    @property
    def endpoints(self) -> dict[Key, tuple[str, int]]:
        """Where agents connect, by Connection."""
        return {key: (self._listen, listener.port) for key, listener in self._listeners.items()}

    @property
    def sessions(self) -> int:
        return sum(listener.lobby.sessions for listener in self._listeners.values())

    @property
    def lobbies(self) -> dict[Key, Lobby]:
        """Of the Connections that agents can reach."""
        return {key: listener.lobby for key, listener in self._listeners.items()}

    async def _opened_approvals(self, recorder: Recorder) -> ApprovalService | ClusterApprovalService:
        sessions = {
            **SessionsDesk(self.live, self.end, self._approvers, self._place).routes,
            **BundleDesk(lambda: self.bundle, lambda: self.endpoints, self._troubled, self._approvers).routes,
        }
        if (pod := self.pod) is not None:
            return await ClusterApprovalService.open(
                pod.kube, pod.namespace, pod.gateway, self.counters, recorder, self._data, sessions
            )
        return await ApprovalService.open(
            self._data, self.counters, recorder, self._approvers, self._admin_socket, sessions
        )

    def doubt_answers(self, doubt: str) -> None:
        """Why people's answers cannot be believed just now, so that nothing is let through by them; empty: they can."""
        if isinstance(self._approvals, ClusterApprovalService):
            self._approvals.believe(doubt)

    async def reload(
        self, bundle: Bundle, secrets: Mapping[Key, Secret], closed: Mapping[Key, str] | None = None
    ) -> None:
        """Serves another bundle. Sessions go on, decided by the new policies from their next request. `closed`: why
        nobody can log in at a Connection just now; agents that come are told so."""
        self.bundle = self.checkpoint.bundle = bundle
        self._secrets = dict(secrets)
        self._closed = closed or {}
        identities = TokenIdentities(self._secrets.values())
        tokens = {key: secret.data for key, secret in self._secrets.items() if secret.token is not None}
        troubles: list[Trouble] = []
        for key in [key for key in self._listeners if key not in bundle.connections]:
            self._let_go(key, "The Connection was removed.")
        for key, bound in bundle.connections.items():
            try:
                self._serve(key, bound.connection, identities, tokens)
            except (TLSError, AuthenticationError, OSError) as problem:
                name = f"{key[0]}/{key[1]}"
                troubles.append(Trouble(name, str(problem)))
                if troubles[-1] not in self.troubles:
                    log.error("connection cannot be served", connection=name, problem=str(problem))
        self.troubles = tuple(troubles)

    async def retry(self) -> None:
        """Tries again what could not be served."""
        await self.reload(self.bundle, self._secrets, self._closed)

    def _let_go(self, key: Key, reason: str) -> None:
        """Its port is free at once; its sessions may finish what they do."""
        listener = self._listeners.pop(key)
        listener.shut()
        self._tasks.create_task(listener.close(reason))

    def _serve(
        self, key: Key, connection: Connection, identities: TokenIdentities, tokens: Mapping[Key, object]
    ) -> None:
        make = LOBBIES.get(connection.spec.protocol)
        if make is None:
            raise OSError(f"protocol {connection.spec.protocol} is not served by this gateway yet")
        made_of = self._made_of(key, connection, tokens)
        listener = self._listeners.get(key)
        if listener is not None and listener.made_of == made_of:
            listener.lobby.recheck()
            return
        if listener is None and self._shut:
            return
        site = self._site(key, connection, identities)
        if listener is not None and listener.wanted == connection.spec.listener.port:
            listener.lobby.replace(site)
            listener.made_of = made_of
            return
        if listener is not None:
            self._let_go(key, "The Connection has another port now.")
        sock = self._bind(connection.spec.listener.port)
        self._listeners[key] = listener = _Listener(
            make(site, self.checkpoint, self.counters), sock, self._tasks, self._drain, self._hurry
        )
        listener.wanted, listener.made_of = connection.spec.listener.port, made_of
        log.info("listening", connection=site.name, address=self._listen, port=listener.port)

    def _made_of(self, key: Key, connection: Connection, tokens: Mapping[Key, object]) -> object:
        """All that a Site depends on: as long as it is equal, what is there can stay. A certificate that the gateway
        has made for itself is looked at every day."""
        names = {use.name for use in secrets_of_connection(connection)}
        found = {name: secret.data for name in names if (secret := self._secrets.get((key[0], name))) is not None}
        return connection, found, tokens, self._closed.get(key, ""), time.time() // DAY

    def _site(self, key: Key, connection: Connection, identities: TokenIdentities) -> Site:
        closed = self._closed.get(key, "")
        services = self.pod.host_names(key[1]) if self.pod is not None else ()
        ssh = connection.spec.protocol == "SSH"
        keys: SSHKeys | None = None
        tls = connection.spec.listener.tls
        secret = self._secrets.get((key[0], tls.secret_ref.name)) if tls.secret_ref is not None else None
        context: ssl.SSLContext | None
        try:
            if ssh:
                context, keys = None, _ssh_keys(connection, self._secrets, self._data, pod=self.pod is not None)
            else:
                context = listener_context(connection, secret, self._data, self._listen, services=services)
            authenticators = Authenticators(
                connection, identities, self._secrets, self._issuer_keys, reviews=self._reviews
            )
            authenticators.configure(context)
        except (TLSError, AuthenticationError) as problem:
            if self.pod is None:
                raise
            # Nobody gets in, and who comes hears why: better than a port that does not answer.
            closed = closed or str(problem)
            context = None if ssh else own_context(self._data, self._listen, services)
            spec = connection.spec.model_copy(update={"authentication": Authentication()})
            barred = connection.model_copy(update={"spec": spec})
            keys = _ssh_keys(None, self._secrets, self._data, pod=True) if ssh else None
            authenticators = Authenticators(
                barred, identities, self._secrets, self._issuer_keys, reviews=self._reviews
            )
        api = self.pod.kube.access if self.pod is not None else None
        return Site(connection, context, authenticators, self._secrets, self._place, closed, api, keys)

    def _bind(self, port: int) -> socket.socket:
        if self._place.shares_ports and not self._place.others_serve():
            # Whoever shares its port would share it with us as well: agents would come to either.
            _bind(self._listen, port).close()
        return _bind(self._listen, port, shared=self._place.shares_ports)

    def live(self) -> list[dict[str, object]]:
        """The sessions that are open in this process, and what runs in them."""
        return [gate.live() for gate in list(self.checkpoint.gates.values())]

    def _troubled(self) -> dict[str, str]:
        return {each.connection: each.message for each in self.troubles}

    async def end(self, target: str, message: str) -> bool:
        """Ends a session, or a request by its id. False: none such is open in this process."""
        session, _, number = target.partition("-")
        gate = self.checkpoint.gates.get(session)
        if gate is None or (number and not number.isdecimal()):
            return False
        namespace, _, name = gate.name.partition("/")
        listener = self._listeners.get((namespace, name))
        return listener is not None and await listener.lobby.end(session, int(number or 0), message)

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
    made_of: object = None

    def __init__(
        self, lobby: Lobby, sock: socket.socket, tasks: asyncio.TaskGroup, drain: float, hurry: asyncio.Event
    ) -> None:
        self.lobby = lobby
        self.port: int = sock.getsockname()[1]
        self._sock = sock
        self._tasks = tasks
        self._drain = drain
        self._hurry = hurry
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

    def shut(self) -> None:
        """Stops listening. Who is logging in has to go elsewhere. May be called again."""
        self._task.cancel()
        self._sock.close()
        for login in list(self._logins):
            login.cancel()

    async def close(self, reason: str) -> None:
        """Stops listening; sessions may finish what they are in the middle of, for so long as they get."""
        self.shut()
        loop = asyncio.get_running_loop()
        end = loop.time() + self._drain
        while self._clients and loop.time() < end and not self._hurry.is_set():
            self.lobby.stop(reason, only_idle=True)
            await asyncio.wait(self._clients, timeout=LOOK)
        if self._clients:
            self.lobby.stop(reason)
            _, stuck = await asyncio.wait(self._clients, timeout=PARTING)
            for task in stuck:
                task.cancel()
        await self.lobby.close()


def _ssh_keys(connection: Connection | None, secrets: Mapping[Key, Secret], data: Path, *, pod: bool) -> SSHKeys:
    """Imported when a Connection needs it, as the protocol is. Without a Connection only a host key, of the gateway's
    own. Raises AuthenticationError."""
    from ostiary_gateway.protocols.ssh.host_keys import keys_of, own_keys

    return own_keys(data) if connection is None else keys_of(connection, secrets, data, pod=pod)


async def _either(event: asyncio.Event, seconds: float) -> None:
    """Until the event, or so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


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
