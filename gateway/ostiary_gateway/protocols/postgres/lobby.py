"""From an accepted socket to a session: TLS, startup, the agent's token, the login at the server, the relay.

Sources: PostgreSQL documentation, "Message Flow" (Start-up, SSL and GSSAPI session encryption, Cancelling Requests).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

import structlog

from ostiary_api.connection import DEFAULT_PORTS
from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.credentials.static import CredentialError, password_of
from ostiary_gateway.identity.proof import Identity, LoginRefused
from ostiary_gateway.ids import new_id
from ostiary_gateway.leg import Leg, LegClosed
from ostiary_gateway.protocols import Site
from ostiary_gateway.tls import TLSError, alert_of, upstream_context
from ostiary_policy.facts import ClientFacts

from . import answers, upstream, wire
from .auth import KeyCache
from .probe import probe
from .questions import SHOWN
from .reference import Reference
from .relay import Relay
from .session_roles import SessionRoles
from .startup import Opening, Refusal, open_with
from .state import SessionState
from .upstream import Aside, FixedLogin, Logins, ServerSession, Target, UpstreamError
from .wire import ProtocolViolation

log = structlog.get_logger(__name__)

LOGIN_TIMEOUT: Final = 30.0
"""Seconds from the accepted socket to a finished login."""
MAX_PASSWORD: Final = 16_384
"""Bytes of a PasswordMessage."""
MAINTENANCE: Final = "postgres"
"""The database that session roles are made in, where the Connection names none."""
TLS_FIRST_BYTE: Final = 0x16
"""The first byte of a TLS handshake; never the first of a startup packet, whose length would be too large."""


class PostgresLobby:
    """Lets the clients of one Connection in. `site` is replaced when the bundle changes."""

    def __init__(self, site: Site, checkpoint: Checkpoint, counters: Counters, keys: KeyCache) -> None:
        self.site = site
        self.relays: dict[tuple[int, bytes], Relay] = {}
        """Sessions by the key that a CancelRequest must show."""
        self._checkpoint = checkpoint
        self._counters = counters
        self._keys = keys
        self._references: dict[tuple[Logins, str], Reference] = {}
        self._reached: tuple[object, Logins] | None = None
        self._roles: list[SessionRoles] = []
        """Those that have roles to drop: the one that is used now, and those of targets that were replaced."""
        self._prepare()

    async def admit(self, sock: socket.socket, admitted: Callable[[], None]) -> None:
        """One client, from its socket to the end of its session. `admitted` is called once the login has ended."""
        address = _peer(sock)
        leg: Leg | None = None
        relay: Relay | None = None
        try:
            try:
                async with asyncio.timeout(LOGIN_TIMEOUT):
                    leg, header = await self._first_packet(sock)
                    entered = await self._enter(leg, header)
            finally:
                admitted()
            if entered is not None:
                relay, settings, greeting, key = entered
                self.relays[key] = relay
                try:
                    await relay.run(settings, greeting)
                finally:
                    del self.relays[key]
        except TimeoutError:
            self._counters.login_refused(self.site.name, "deadline")
        except ssl.SSLCertVerificationError as problem:
            self._counters.login_refused(self.site.name, "certificate")
            reason = f"certificate: {problem.verify_message}"
            self._checkpoint.refuse_login(self.site.name, ClientFacts(address=address, application=""), reason)
        except (LegClosed, ConnectionError, ssl.SSLError, OSError):
            self._counters.login_refused(self.site.name, "other" if leg is not None else "tls")
        finally:
            if leg is not None:
                leg.abort()
            else:
                sock.close()

    # -- encryption

    async def _first_packet(self, sock: socket.socket) -> tuple[Leg, bytes]:
        """Answers encryption requests; gives the leg, and the startup packet's first 8 bytes if they were read."""
        loop = asyncio.get_running_loop()
        context = self.site.tls
        asked: set[int] = set()
        if context is not None and await _peek(sock) == TLS_FIRST_BYTE:
            leg = await self._take(sock, context)
            if leg.tls is None or leg.tls.selected_alpn_protocol() != "postgresql":
                leg.write(_fatal("08P01", "Direct TLS needs the ALPN protocol postgresql.", "Update the client."))
                leg.close()
                raise LegClosed("direct TLS without ALPN")
            return leg, b""
        while True:
            header = await _receive(sock, 8)
            length, code = wire.UINT32.unpack_from(header)[0], wire.UINT32.unpack_from(header, 4)[0]
            if length != 8 or code not in (wire.SSL_REQUEST, wire.GSSENC_REQUEST):
                return await self._take(sock, None), header
            if code in asked:
                raise LegClosed("encryption asked for twice")
            asked.add(code)
            if code == wire.SSL_REQUEST and context is not None:
                # Exactly 8 bytes were read: what a client (or somebody between) sent along is read as TLS, and fails.
                await loop.sock_sendall(sock, b"S")
                return await self._take(sock, context), b""
            await loop.sock_sendall(sock, b"N")

    async def _take(self, sock: socket.socket, context: ssl.SSLContext | None) -> Leg:
        """The socket as a leg, after the TLS handshake if there is a context."""
        leg, loop = Leg(), asyncio.get_running_loop()
        timeout = LOGIN_TIMEOUT if context is not None else None
        # A failed handshake closes the socket before its alert is sent: a second handle lets the client hear why.
        spare = sock.dup() if context is not None and context.verify_mode != ssl.CERT_NONE else None
        try:
            # Not what it returns: with TLS uvloop 0.23 gives its own protocol there, not the caller's.
            await loop.connect_accepted_socket(lambda: leg, sock, ssl=context, ssl_handshake_timeout=timeout)
        except ssl.SSLCertVerificationError as problem:
            if spare is not None:
                with contextlib.suppress(OSError):
                    spare.send(alert_of(problem), socket.MSG_DONTWAIT)
            raise
        finally:
            if spare is not None:
                spare.close()
        return leg

    # -- startup and login

    async def _enter(self, leg: Leg, header: bytes) -> tuple[Relay, tuple[str, ...], bytes, tuple[int, bytes]] | None:
        site = self.site
        client = ClientFacts(address=leg.peer, application="")
        try:
            packet = await _startup(leg, header)
            if isinstance(packet, wire.Cancel):
                await self._cancel(packet)
                return None
            if isinstance(packet, wire.EncryptionRequest):
                raise ProtocolViolation("encryption asked for twice")
            if site.closed:
                self._counters.login_refused(site.name, "closed")
                raise Refusal("57P03", site.closed, "Try again in a while; the Connection's status says what is wrong.")
            if site.tls is not None and leg.tls is None:
                self._counters.login_refused(site.name, "tls")
                raise Refusal(
                    "28000", "This gateway takes agents' tokens over TLS only.",
                    "Connect with sslmode=require, or verify-full with the gateway's CA.",
                )  # fmt: skip
            opening = open_with(
                packet, database=site.connection.spec.upstream.database, connection=site.connection.metadata.name
            )
            client["application"] = opening.application
            if opening.negotiate is not None:
                leg.write(wire.negotiate_protocol_version(opening.minor, opening.negotiate))
            identity = await self._identify(leg, site, client)
            return await self._open(leg, site, opening, identity, client)
        except ProtocolViolation as problem:
            self._counters.login_refused(site.name, "protocol")
            leg.write(_fatal("08P01", str(problem)))
        except Refusal as refusal:
            record = refusal.record or self._checkpoint.refuse_login(site.name, client, refusal.message)
            leg.write(_fatal(refusal.code, refusal.message, refusal.hint, record))
        await _last_words(leg)
        return None

    async def _identify(self, leg: Leg, site: Site, client: ClientFacts) -> Identity:
        """Who the agent is. A secret is asked for in clear: a bearer token cannot be checked by SCRAM."""

        async def ask() -> str:
            leg.write(wire.AUTHENTICATION_CLEARTEXT)
            header = await leg.read_exactly(5)
            length = wire.UINT32.unpack_from(header, 1)[0]
            if header[:1] != b"p" or not 5 <= length <= MAX_PASSWORD:
                raise ProtocolViolation("expected the password")
            return (await leg.read_exactly(length - 4)).rstrip(b"\0").decode(errors="replace")

        certificate = leg.tls.getpeercert(binary_form=True) if leg.tls is not None else None
        try:
            return await site.identities.authenticate(certificate, ask)
        except LoginRefused as refused:
            self._counters.login_refused(site.name, refused.kind)
            record = self._checkpoint.refuse_login(site.name, client, refused.reason)
            code = _REFUSED.get(refused.kind, "28P01")
            raise Refusal(code, f"{refused.message} [{record}]", refused.hint, record) from None

    async def _open(
        self, leg: Leg, site: Site, opening: Opening, identity: Identity, client: ClientFacts
    ) -> tuple[Relay, tuple[str, ...], bytes, tuple[int, bytes]]:
        limits = site.connection.spec.limits
        if len(self.relays) >= limits.max_sessions:
            self._counters.login_refused(site.name, "limit")
            record = self._checkpoint.refuse_login(site.name, client, "too many sessions")
            raise Refusal(
                "53300", f"This Connection has {len(self.relays)} sessions already, the most that are allowed.",
                "Close sessions that are not needed, or raise spec.limits.maxSessions.", record,
            )  # fmt: skip
        try:
            logins, session = self._logins(site), new_id()
            settings = {"database": opening.database, **opening.settings, **_PINNED}
            agent = identity.subject["username"]
            server, target = await upstream.enter(logins, settings, self._keys, session=session, agent=agent)
            try:
                shown = await upstream.show(server, SHOWN)
                if not self._holds(site, identity):
                    raise Refusal(
                        "57P01", "The agent's credential or the Connection's target has changed during the login.",
                        "Connect again.",
                    )  # fmt: skip
            except BaseException:
                server.leg.abort()
                raise
        except (UpstreamError, CredentialError, TLSError) as problem:
            self._counters.upstream_error(site.name, "connect")
            record = self._checkpoint.refuse_login(site.name, client, f"target: {problem}")
            log.error("target not available", connection=site.name, problem=str(problem), record=record)
            raise Refusal(
                "08001", f"The database behind {site.connection.metadata.name} cannot be reached now. [{record}]",
                "Try again later; the gateway's log says under this id what is wrong.", record,
            ) from None  # fmt: skip
        reference = self._reference(logins, opening.database, server)
        relay = self._relay(leg, site, opening, identity, client, session, target, server, reference)
        return relay, shown, *self._greet(opening, server)

    def _holds(self, site: Site, identity: Identity) -> bool:
        """True if what a login began with is so in the bundle that is in force now."""
        now = self.site
        return (
            now.identities.holds(identity)
            and not now.identities.ended(identity, idle=True)
            and _reaches(site) == _reaches(now)
        )

    def _relay(
        self, leg: Leg, site: Site, opening: Opening, identity: Identity, client: ClientFacts, session: str,
        target: Target, server: ServerSession, reference: Reference,
    ) -> Relay:  # fmt: skip
        state = SessionState(session, opening.settings)
        detail: dict[str, object] = {
            "database": opening.database,
            "requestedUser": opening.asked_user,
            "tls": leg.tls.version() if leg.tls is not None else None,
            "authentication": {"method": identity.method, **dict(identity.shown)},
            "upstreamUser": target.user,
            "serverVersion": server.parameters.get("server_version", ""),
        }
        if target.role:
            detail["upstreamRole"] = target.role
        gate = self._checkpoint.open(site.connection, identity, client, state, detail, session=session)
        return Relay(
            leg, server, gate, state, reference, target,
            database=opening.database, max_request=site.connection.spec.limits.max_request_bytes,
        )  # fmt: skip

    def _greet(self, opening: Opening, server: ServerSession) -> tuple[bytes, tuple[int, bytes]]:
        """The end of the login, as the client sees it, with a cancel key of the gateway's own."""
        key = self.site.place.process_id(), secrets.token_bytes(32 if opening.minor >= 2 else 4)
        greeting = [wire.AUTHENTICATION_OK]
        greeting += [wire.parameter_status(name, value) for name, value in server.parameters.items()]
        greeting += [wire.backend_key_data(*key), wire.ready_for_query(b"I")]
        return b"".join(greeting), key

    def _logins(self, site: Site) -> Logins:
        """The same object as long as the way is the same: all sessions then share what is known of its databases."""
        way = _reaches(site)
        if self._reached is None or self._reached[0] != way:
            for roles in self._roles:
                roles.retire()
            self._roles = [roles for roles in self._roles if not roles.done]
            self._reached = way, self._new_logins(site)
        return self._reached[1]

    def _new_logins(self, site: Site) -> Logins:
        spec = site.connection.spec
        where, tls = spec.upstream, spec.upstream.tls
        credential = password_of(site.connection, site.secrets)
        ca = site.secrets.get((site.namespace, tls.ca_ref.name)) if tls.ca_ref is not None else None
        host = where.host or ""
        context = upstream_context(tls, ca)
        target = Target(
            host, where.port or DEFAULT_PORTS["Postgres"], credential.username, credential.password, context,
            tls.server_name or host,
        )  # fmt: skip
        if spec.credentials.postgres_role is None:
            return FixedLogin(target)
        roles = SessionRoles(
            site.name, target, spec.credentials.postgres_role, where.database or MAINTENANCE, self._keys,
            self._counters,
        )  # fmt: skip
        roles.start()
        self._roles.append(roles)
        return roles

    def _prepare(self) -> None:
        """What sessions have left in a server is looked for before the first one comes."""
        try:
            if self._roles or self.site.connection.spec.credentials.postgres_role is not None:
                self._logins(self.site)
        except (CredentialError, TLSError) as problem:
            log.error("target not available", connection=self.site.name, problem=str(problem))

    def _reference(self, logins: Logins, database: str, server: ServerSession) -> Reference:
        key = (logins, database)
        found = self._references.get(key)
        if found is None:
            found = self._references[key] = Reference(Aside(logins, database, self._keys), server.version)
        return found

    async def _cancel(self, request: wire.Cancel) -> None:
        """Wrong keys are ignored, as PostgreSQL does: the answer must not tell who is there."""
        relay = self.relays.get((request.process, request.key))
        if relay is not None:
            await relay.cancel()
        else:
            message = wire.cancel_request(request.process, request.key)[4:]
            await self.site.place.pass_on(self.site.name, request.process, message)

    async def passed_on(self, message: bytes) -> None:
        """A CancelRequest that came to another worker."""
        request = wire.parse_startup(message)
        relay = self.relays.get((request.process, request.key)) if isinstance(request, wire.Cancel) else None
        if relay is not None:
            await relay.cancel()

    # -- upkeep

    async def probe(self) -> None:
        """Tries whether the server answers, without logging in there. Raises TargetAway."""
        await probe(self.site)

    @property
    def sessions(self) -> int:
        return len(self.relays)

    def turned_away(self) -> None:
        self._counters.login_refused(self.site.name, "limit")

    def sweep(self) -> None:
        """Closes sessions that were silent for too long, or that outlived what opened them."""
        identities = self.site.identities
        limit = self.site.connection.spec.limits.idle_timeout
        now = time.monotonic()
        for relay in list(self.relays.values()):
            relay.count_bytes()
            if now - relay.active > limit and not relay.busy:
                relay.stop("57P05", f"The session was idle for more than {limit:.0f} s.", "Connect again.")
            elif why := identities.ended(relay.gate.identity, idle=relay.idle):
                relay.stop("57P01", why, "Connect again with a new one.")

    def replace(self, site: Site) -> None:
        """A new bundle: sessions whose credential counts no more or whose target changed are closed."""
        old, self.site = self.site, site
        moved = _reaches(old) != _reaches(site)
        if moved:
            for reference in self._references.values():
                reference.drop()
            self._references.clear()
            self._prepare()
        for relay in list(self.relays.values()):
            identity = relay.gate.identity
            if not site.identities.holds(identity):
                relay.stop("57P01", _WITHDRAWN[identity.method], "Connect again with a valid credential.")
            elif moved:
                relay.stop("57P01", "The Connection's target or credential has changed.", "Connect again.")

    def recheck(self) -> None:
        """A statement that runs is finished by the decision that it began with; the next is decided anew."""

    def stop(self, message: str, *, only_idle: bool = False) -> None:
        for relay in list(self.relays.values()):
            if relay.idle or not only_idle:
                relay.stop("57P01", message, "Connect again.")

    async def end(self, session: str, number: int, message: str) -> bool:
        """A request ends with its session: whoever has sent it must not go on as if it had failed by itself."""
        for relay in list(self.relays.values()):
            gate = relay.gate
            if gate.id == session and (not number or number in gate.running):
                running = bool(gate.running)
                relay.stop("57P01", message, "Ask who has ended it before you try again.")
                if running:
                    # The server would go on with what nobody waits for.
                    await relay.cancel()
                return True
        return False

    async def close(self) -> None:
        for reference in self._references.values():
            await reference.aside.close()
            await reference.planner.close()
        await asyncio.gather(*(roles.close() for roles in self._roles))


_REFUSED: Final = {"certificate": "28000", "issuer": "57P03", "review": "57P03"}
"""SQLSTATE by what was wrong; 28P01 otherwise."""
_WITHDRAWN: Final = {
    "token": "The agent's token was revoked or changed.",
    "serviceAccount": "The Connection does not take the agent's ServiceAccount any more.",
    "oidc": "The issuer of the agent's JWT was removed or changed, or the key that signed it.",
    "mtls": "The client certificate's authorities, trust domain or meaning have changed.",
}
_PINNED: Final = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}


def _reaches(site: Site) -> object:
    """All that the way to the target depends on."""
    spec = site.connection.spec
    names: list[str] = []
    if spec.credentials.static is not None:
        names.append(spec.credentials.static.secret_ref.name)
    if spec.credentials.postgres_role is not None:
        names.append(spec.credentials.postgres_role.admin_secret_ref.name)
    if spec.upstream.tls.ca_ref is not None:
        names.append(spec.upstream.tls.ca_ref.name)
    found = [site.secrets.get((site.namespace, name)) for name in names]
    return spec.upstream, spec.credentials, [None if secret is None else secret.data for secret in found]


def _fatal(code: str, message: str, hint: str = "", record: str = "") -> bytes:
    detail = answers.login(code, message, hint, record)
    return wire.error_response(code, message, severity="FATAL", detail=detail, hint=hint)


async def _startup(leg: Leg, header: bytes) -> wire.Startup | wire.Cancel | wire.EncryptionRequest:
    if not header:
        header = await leg.read_exactly(8)
    length: int = wire.UINT32.unpack_from(header)[0]
    if not 8 <= length <= wire.MAX_STARTUP:
        raise ProtocolViolation("this is no PostgreSQL startup packet")
    return wire.parse_startup(header[4:] + await leg.read_exactly(length - 8))


async def _last_words(leg: Leg) -> None:
    """Lets the client read why, then closes."""
    leg.close()
    await asyncio.wait((leg.lost,), timeout=5)


def _peer(sock: socket.socket) -> str:
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return ""


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock, wake)
    try:
        await ready
    finally:
        loop.remove_reader(sock)


async def _peek(sock: socket.socket) -> int:
    """The first byte, left where it is."""
    await _readable(sock)
    first = sock.recv(1, socket.MSG_PEEK)
    if not first:
        raise LegClosed("the client left")
    return first[0]


async def _receive(sock: socket.socket, count: int) -> bytes:
    """Exactly so many bytes, and not one more."""
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < count:
        piece = await loop.sock_recv(sock, count - len(data))
        if not piece:
            raise LegClosed("the client left")
        data += piece
    return data
