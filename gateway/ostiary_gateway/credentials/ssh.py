"""How the gateway logs in at an SSH target: with a certificate that it signs for the session, or as a Secret says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import asyncssh

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret
from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.identity.proof import Identity

__all__ = ["CredentialError", "TargetLogin", "login_of", "offered"]


@dataclass(frozen=True, slots=True)
class TargetLogin:
    """What to show at the target. Made for one connection to it and kept nowhere else. Either `keys` or `password`."""

    username: str
    keys: tuple[asyncssh.SSHKeyPair, ...] = field(default=(), repr=False)
    """To be offered in this order; with `sshCertificate` it is one, with the certificate in it."""
    password: str = field(default="", repr=False)


def offered(connection: Connection, secrets: Mapping[tuple[str, str], Secret]) -> tuple[str, ...]:
    """The logins at the target that agents may use. Raises CredentialError."""
    raise NotImplementedError


def login_of(
    connection: Connection,
    secrets: Mapping[tuple[str, str], Secret],
    login: str,
    identity: Identity,
    *,
    session: str,
    source: str = "",
) -> TargetLogin:
    """The login at the target for one connection to it, to be used at once. Raises CredentialError.

    `session` names it in the target's log. `source`: the gateway's own address on that connection
    (`sock.getsockname()[0]`): make the TCP connection first, then ask for this, then log in.
    """
    raise NotImplementedError
