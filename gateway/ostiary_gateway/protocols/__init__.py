"""One folder for each protocol, all with the same modules: wire, state, facts, relay. A protocol is one line here."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret
from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.identity.authenticators import Authenticators
from ostiary_gateway.kube.access import Access
from ostiary_gateway.workers.place import ALONE, Place

if TYPE_CHECKING:
    from ostiary_gateway.protocols.ssh.host_keys import SSHKeys


@dataclass(frozen=True, slots=True)
class Site:
    """What one Connection needs at run time; made anew for each bundle. `tls` is None for a plaintext listener."""

    connection: Connection
    tls: ssl.SSLContext | None
    identities: Authenticators
    secrets: dict[tuple[str, str], Secret]
    place: Place = ALONE
    closed: str = ""
    """Why nobody can log in just now, in words for agents: something that the gateway needs is missing. Empty: open."""
    api: Access | None = None
    """In a pod: the way to the API server of its cluster, as the gateway's own ServiceAccount."""
    ssh: SSHKeys | None = None
    """What an SSH listener shows and signs with; None for other protocols."""

    @property
    def namespace(self) -> str:
        return self.connection.metadata.namespace

    @property
    def name(self) -> str:
        return f"{self.namespace}/{self.connection.metadata.name}"


class TargetAway(Exception):
    """The target does not answer as it should. The message says how."""


class Lobby(Protocol):
    """What the server asks of a protocol: it lets the clients of one Connection in, and out."""

    @property
    def site(self) -> Site: ...

    @property
    def sessions(self) -> int:
        """How many there are now."""

    async def admit(self, sock: socket.socket, admitted: Callable[[], None]) -> None:
        """One client, from its accepted socket to the end; `admitted` is called when the login is over."""

    def turned_away(self) -> None:
        """A client that was logging in had to go for another."""

    def sweep(self) -> None:
        """Closes sessions that were silent for too long."""

    def replace(self, site: Site) -> None:
        """A new bundle is in force."""

    def recheck(self) -> None:
        """The policies may be others now: what goes on by an older decision is looked at again."""

    async def passed_on(self, message: bytes) -> None:
        """A client has sent this to another worker (`Place.pass_on`); it is for a session of this one, if any."""

    async def probe(self) -> None:
        """Tries whether the target answers, without logging in there. Raises TargetAway."""

    def stop(self, message: str, *, only_idle: bool = False) -> None:
        """Ends sessions, saying why. With `only_idle` those that are in the middle of something may finish that."""

    async def end(self, session: str, number: int, message: str) -> bool:
        """Somebody ends a session, or with a `number` that request of it, saying why. False: there is none such."""

    async def close(self) -> None:
        """Lets go of what sessions shared."""


def _postgres(site: Site, checkpoint: Checkpoint, counters: Counters) -> Lobby:
    # Imported when a Connection needs it: a gateway pays only for the protocols that it serves.
    from ostiary_gateway.protocols.postgres.auth import KeyCache
    from ostiary_gateway.protocols.postgres.lobby import PostgresLobby

    return PostgresLobby(site, checkpoint, counters, KeyCache())


def _kubernetes(site: Site, checkpoint: Checkpoint, counters: Counters) -> Lobby:
    from ostiary_gateway.protocols.kubernetes.lobby import KubernetesLobby

    return KubernetesLobby(site, checkpoint, counters)


def _ssh(site: Site, checkpoint: Checkpoint, counters: Counters) -> Lobby:
    from ostiary_gateway.protocols.ssh.lobby import SshLobby

    return SshLobby(site, checkpoint, counters)


LOBBIES: Final[dict[str, Callable[[Site, Checkpoint, Counters], Lobby]]] = {
    "Postgres": _postgres,
    "Kubernetes": _kubernetes,
    "SSH": _ssh,
}
