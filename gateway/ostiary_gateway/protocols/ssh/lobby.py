"""From an accepted socket to a session: the agent's login, the target's, the relay between them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Final

import asyncssh
import structlog

from ostiary_gateway.checkpoint import Checkpoint, Gate
from ostiary_gateway.counters import Counters
from ostiary_gateway.credentials.ssh import CredentialError
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.ids import new_id
from ostiary_gateway.leg import LegClosed
from ostiary_gateway.protocols import Site
from ostiary_policy.facts import ClientFacts

from .auth import AgentLogin, make_server
from .desk import Desk
from .probe import probe
from .relay import Relay
from .transport import ClientLeg, Leg, TargetLeg
from .transport_offers import server_options
from .upstream import Upstream, UpstreamError

log = structlog.get_logger(__name__)

LOGIN_TIMEOUT: Final = 30.0
"""Seconds from the accepted socket to a finished login."""
BY_APPLICATION: Final = asyncssh.DISC_BY_APPLICATION
TOO_MANY: Final = asyncssh.DISC_TOO_MANY_CONNECTIONS


class SshLobby:
    """Lets the clients of one Connection in. `site` is replaced when the bundle changes."""

    def __init__(self, site: Site, checkpoint: Checkpoint, counters: Counters) -> None:
        self.site = site
        self.upstream = Upstream(site)
        self._checkpoint = checkpoint
        self._counters = counters
        self._options = _options(site)
        self._sessions: set[_Session] = set()
        self._serving: set[ClientLeg] = set()
        """Clients that only want a certificate."""

    async def admit(self, sock: socket.socket, admitted: Callable[[], None]) -> None:
        """One client, from its socket to the end of its session. `admitted` is called once the login has ended."""
        client = ClientFacts(address=_peer(sock), application="")
        leg: ClientLeg | None = None
        server = make_server(self.site, self._checkpoint, self._counters, client)
        try:
            try:
                async with asyncio.timeout(LOGIN_TIMEOUT):
                    leg = await ClientLeg.accept(sock, server, self._options)
            finally:
                admitted()
            await self._enter(leg, server, client)
            await leg.parted()
        except TimeoutError:
            self._counters.login_refused(self.site.name, "deadline")
        except (LegClosed, OSError):
            if not server.refused:
                self._counters.login_refused(self.site.name, "protocol")
        finally:
            if leg is not None:
                leg.abort()
            else:
                sock.close()

    async def _enter(self, leg: ClientLeg, server: AgentLogin, client: ClientFacts) -> None:
        site, identity = self.site, server.identity
        assert identity is not None
        holds = site.identities.holds(identity)
        if why := site.identities.ended(identity, idle=True) if holds else _WITHDRAWN[identity.method]:
            self._checkpoint.refuse_login(site.name, client, why)
            leg.disconnect(BY_APPLICATION, f"{why} Connect again with a valid credential.")
        elif self.full:
            self._counters.login_refused(site.name, "limit")
            record = self._checkpoint.refuse_login(site.name, client, "too many sessions")
            leg.disconnect(
                TOO_MANY,
                f"This Connection has {self.sessions} sessions already, the most that are allowed. Close sessions that "
                f"are not needed, or raise spec.limits.maxSessions. [{record}]",
            )
        elif server.wants_certificate:
            self._serving.add(leg)
            try:
                await server.serve_certificate(leg)
            finally:
                self._serving.discard(leg)
        else:
            session = _Session(self, leg, identity, server.login, client)
            self._sessions.add(session)
            try:
                await session.run()
            finally:
                self._sessions.discard(session)

    # -- upkeep

    @property
    def sessions(self) -> int:
        return len(self._sessions)

    @property
    def full(self) -> bool:
        """Whether there are as many sessions as there may be."""
        return len(self._sessions) + len(self._serving) >= self.site.connection.spec.limits.max_sessions

    def turned_away(self) -> None:
        self._counters.login_refused(self.site.name, "limit")

    def sweep(self) -> None:
        """Closes sessions that were silent for too long, or that outlived what opened them."""
        identities, limit, now = self.site.identities, self.site.connection.spec.limits.idle_timeout, time.monotonic()
        for session in list(self._sessions):
            relay = session.relay
            relay.count_bytes()
            session.upkeep(now)
            if now - relay.active > limit and not relay.busy:
                relay.stop(f"The session was idle for more than {limit:.0f} s. Connect again.")
            elif why := identities.ended(session.identity, idle=relay.idle):
                relay.stop(f"{why} Connect again with a new one.")

    def replace(self, site: Site) -> None:
        """A new bundle: sessions whose credential counts no more or whose target changed are closed."""
        old, self.site = self.site, site
        moved = _reaches(old) != _reaches(site)
        if moved:
            self.upstream = Upstream(site)
        if old.ssh != site.ssh:
            self._options = _options(site)
        for session in list(self._sessions):
            if not site.identities.holds(session.identity):
                why = _WITHDRAWN[session.identity.method]
                session.relay.stop(f"{why} Connect again with a valid credential.")
            elif moved:
                session.relay.stop("The Connection's target or credential has changed. Connect again.")
        for leg in list(self._serving):
            leg.disconnect(BY_APPLICATION, "The Connection has changed. Connect again.")
        self.recheck()

    def recheck(self) -> None:
        """What the policies in force would not let through ends."""
        for session in list(self._sessions):
            session.relay.recheck()

    async def passed_on(self, message: bytes) -> None:
        """Nothing of this protocol is for another connection."""

    async def probe(self) -> None:
        """Tries whether the target answers, with the right host key. Raises TargetAway."""
        await probe(self.upstream)

    def stop(self, message: str, *, only_idle: bool = False) -> None:
        for session in list(self._sessions):
            if only_idle:
                session.relay.leave(message)
            else:
                session.relay.stop(message)

    async def end(self, session: str, number: int, message: str) -> bool:
        for each in list(self._sessions):
            if each.id == session:
                if number:
                    return each.relay.end_request(number, message)
                each.relay.stop(message)
                return True
        return False

    async def close(self) -> None:
        """Sessions share nothing that has to be let go of."""


class _Session:
    """One session: its relay, and the way to the target that begins with it."""

    def __init__(self, lobby: SshLobby, leg: ClientLeg, identity: Identity, login: str, client: ClientFacts) -> None:
        self.identity = identity
        self._lobby = lobby
        self._client = leg
        self._target: TargetLeg | None = None
        self._login = login
        self.id = new_id()
        site, checkpoint = lobby.site, lobby._checkpoint
        self._upstream = lobby.upstream
        sent, received = leg.ciphers
        detail: dict[str, object] = {
            "login": login,
            "authentication": {"method": identity.method, **dict(identity.shown)},
            "client": leg.peer_version,
            "ciphers": [received] if sent == received else [received, sent],
        }
        tally = _Tally()
        self._gate: Gate = checkpoint.open(site.connection, identity, client, tally, detail, session=self.id)
        try:
            tally.relay = self.relay = Relay(Desk(self._gate, login), leg)
        except BaseException:
            self._gate.close("the gateway could not begin it")
            raise

    async def run(self) -> None:
        reason = "the gateway stopped"
        try:
            async with asyncio.TaskGroup() as tasks:
                connecting = tasks.create_task(self._connect())
                self._client.receiver = self.relay.client_side
                try:
                    reason = await self.relay.run()
                finally:
                    connecting.cancel()
        finally:
            if self._target is not None:
                self._target.abort()
            self.relay.count_bytes()
            self._gate.close(reason)

    async def _connect(self) -> None:
        """The target's leg, for the relay."""
        try:
            target = await self._upstream.connect(self._login, self.identity, self.id)
        except (UpstreamError, CredentialError) as problem:
            lobby = self._lobby
            name = lobby.site.connection.metadata.name
            lobby._counters.upstream_error(lobby.site.name, "connect")
            log.error("target not available", connection=lobby.site.name, problem=str(problem), session=self.id)
            self.relay.target_away(
                f"The host behind {name} cannot be reached now. Try again later; the gateway's log says under this id "
                f"what is wrong. [{self.id}]"
            )
            return
        self._target = target
        self.relay.attach(target)
        target.receiver = self.relay.target_side

    def upkeep(self, now: float) -> None:
        legs: tuple[Leg | None, ...] = (self._client, self._target)
        for leg in legs:
            if leg is not None:
                leg.upkeep(now)


class _Tally:
    """What a session has done, for its gate, which is there before its relay."""

    relay: Relay | None = None

    @property
    def rows(self) -> int:
        return self.relay.rows if self.relay is not None else 0

    @property
    def bytes(self) -> int:
        return self.relay.bytes if self.relay is not None else 0

    @property
    def written(self) -> int:
        return self.relay.written if self.relay is not None else 0


_WITHDRAWN: Final = {
    "token": "The agent's token was revoked or changed.",
    "serviceAccount": "The Connection does not take the agent's ServiceAccount any more.",
    "oidc": "The issuer of the agent's JWT was removed or changed, or the key that signed it.",
    "mtls": "The client certificate's authorities, trust domain or meaning have changed.",
}


def _options(site: Site) -> asyncssh.SSHServerConnectionOptions:
    assert site.ssh is not None
    return server_options(site.ssh.host)


def _reaches(site: Site) -> object:
    """All that the way to the target depends on."""
    spec = site.connection.spec
    names: list[str] = []
    if spec.credentials.static is not None:
        names.append(spec.credentials.static.secret_ref.name)
    if spec.credentials.ssh_certificate is not None:
        names.append(spec.credentials.ssh_certificate.ca_secret_ref.name)
    if spec.upstream.host_ca_ref is not None:
        names.append(spec.upstream.host_ca_ref.name)
    found = [site.secrets.get((site.namespace, name)) for name in names]
    return spec.upstream, spec.credentials, [None if secret is None else secret.data for secret in found]


def _peer(sock: socket.socket) -> str:
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return ""
