"""From an accepted socket to a session: TLS, then requests that each show who asks."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import Callable
from typing import Final

import structlog

from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.credentials.kubernetes import login_for
from ostiary_gateway.protocols import Site
from ostiary_gateway.tls import alert_of
from ostiary_policy.facts import ClientFacts

from .probe import probe
from .relay import Relay
from .upstream import Upstream

log = structlog.get_logger(__name__)

LOGIN_TIMEOUT: Final = 30.0
"""Seconds for the TLS handshake, and to the first request with a credential that counts."""


class KubernetesLobby:
    """Lets the clients of one Connection in. `site` is replaced when the bundle changes."""

    def __init__(self, site: Site, checkpoint: Checkpoint, counters: Counters) -> None:
        self.site = site
        self.checkpoint = checkpoint
        self.counters = counters
        self.upstream = Upstream(login_for(site))
        self._old: list[Upstream] = []
        """Those that were replaced; requests that they were sent may still be under way."""
        self.relays: set[Relay] = set()

    async def admit(self, sock: socket.socket, admitted: Callable[[], None]) -> None:
        """One client, from its socket to the end. `admitted` is called once somebody has proven who it is."""
        relay: Relay | None = None
        address = _peer(sock)
        try:
            relay = await self._take(sock, admitted)
            self.relays.add(relay)
            await relay.run()
        except ssl.SSLCertVerificationError as problem:
            self.counters.login_refused(self.site.name, "certificate")
            reason = f"certificate: {problem.verify_message}"
            self.checkpoint.refuse_login(self.site.name, ClientFacts(address=address, application=""), reason)
        except (ConnectionError, ssl.SSLError, OSError):
            if relay is None:
                self.counters.login_refused(self.site.name, "tls")
        finally:
            admitted()
            if relay is not None:
                self.relays.discard(relay)
            else:
                sock.close()

    async def _take(self, sock: socket.socket, admitted: Callable[[], None]) -> Relay:
        """The connection, after the TLS handshake if there is one."""
        relay, context = Relay(self, admitted), self.site.tls
        # A failed handshake closes the socket before its alert is sent: a second handle lets the client hear why.
        spare = sock.dup() if context is not None and context.verify_mode != ssl.CERT_NONE else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: relay, sock, ssl=context,
                ssl_handshake_timeout=LOGIN_TIMEOUT if context is not None else None,
            )  # fmt: skip
        except ssl.SSLCertVerificationError as problem:
            if spare is not None:
                with contextlib.suppress(OSError):
                    spare.send(alert_of(problem), socket.MSG_DONTWAIT)
            raise
        finally:
            if spare is not None:
                spare.close()
        return relay

    @property
    def sessions(self) -> int:
        return sum(relay.gate is not None for relay in self.relays)

    @property
    def full(self) -> bool:
        """Whether there are as many sessions as there may be."""
        return self.sessions >= self.site.connection.spec.limits.max_sessions

    def turned_away(self) -> None:
        self.counters.login_refused(self.site.name, "limit")

    def sweep(self) -> None:
        """Closes connections that were silent for too long, and sessions that outlived what opened them."""
        identities, limit, now = self.site.identities, self.site.connection.spec.limits.idle_timeout, time.monotonic()
        for relay in list(self.relays):
            relay.count_bytes()
            if relay.gate is None and now - relay.opened > LOGIN_TIMEOUT and not relay.busy:
                self.counters.login_refused(self.site.name, "deadline")
                relay.leave("nobody has proven who it is")
            elif relay.overdue(now):
                continue
            elif not relay.busy and now - relay.active > limit:
                relay.leave(f"The connection was idle for more than {limit:.0f} s.")
            elif relay.identity is not None and (why := identities.ended(relay.identity, idle=relay.idle)):
                relay.forget()
                relay.stop(401, "Unauthorized", why, "Send the request again with a new one.")
        self.upstream.sweep()
        self._old = [each for each in self._old if not each.gone_by]

    def replace(self, site: Site) -> None:
        """A new bundle: who is proven no more goes, streams are decided anew, and another target is another way."""
        before, self.site = self.site.connection.spec, site
        spec = site.connection.spec
        renewed = (before.recording, before.audit, before.limits) != (spec.recording, spec.audit, spec.limits)
        login = login_for(site, self.upstream.login)
        moved = login is not self.upstream.login
        if moved:
            self.upstream.retire()
            self._old.append(self.upstream)
            self.upstream = Upstream(login)
        for relay in list(self.relays):
            identity = relay.identity
            if identity is not None and not site.identities.holds(identity):
                relay.forget()
                if relay.busy:
                    relay.stop(401, "Unauthorized", "The credential does not count any more.", "Send a valid one.")
            elif moved and relay.tunnels:
                relay.stop(503, "ServiceUnavailable", _MOVED, "Begin it again.")
            elif moved and relay.busy:
                relay.leave(_MOVED)
            elif renewed and relay.gate is not None:
                relay.renew()
        self.recheck()

    def recheck(self) -> None:
        """Streams that the policies in force would not let through end."""
        for relay in list(self.relays):
            relay.recheck()

    async def passed_on(self, message: bytes) -> None:
        """Nothing of this protocol is for another connection."""

    async def probe(self) -> None:
        """Tries whether the API server answers. Raises TargetAway."""
        await probe(self.upstream)

    def stop(self, message: str, *, only_idle: bool = False) -> None:
        for relay in list(self.relays):
            if only_idle:
                relay.leave(message)
            else:
                relay.stop(503, "ServiceUnavailable", message, "Send the request again.")

    async def end(self, session: str, number: int, message: str) -> bool:
        for relay in list(self.relays):
            gate = relay.gate
            if gate is not None and gate.id == session and (not number or number in gate.running):
                relay.stop(403, "Forbidden", message, "Ask who has ended it before you try again.")
                return True
        return False

    async def close(self) -> None:
        for each in (*self._old, self.upstream):
            await each.close()


_MOVED: Final = "The Connection's target or credential has changed."


def _peer(sock: socket.socket) -> str:
    try:
        return str(sock.getpeername()[0])
    except OSError:
        return ""
