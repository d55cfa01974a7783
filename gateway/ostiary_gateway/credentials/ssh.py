"""How the gateway logs in at an SSH target: with a certificate that it signs for the session, or as a Secret says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import asyncssh

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret
from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.identity.proof import Identity

from .ssh_certificate import certified_key
from .ssh_keys import KEY, KeyProblem, private_key

__all__ = ["CredentialError", "TargetLogin", "login_of", "offered"]

Secrets = Mapping[tuple[str, str], Secret]


@dataclass(frozen=True, slots=True)
class TargetLogin:
    """What to show at the target. Made for one connection to it and kept nowhere else. Either `keys` or `password`."""

    username: str
    keys: tuple[asyncssh.SSHKeyPair, ...] = field(default=(), repr=False)
    """To be offered in this order; with `sshCertificate` it is one, with the certificate in it."""
    password: str = field(default="", repr=False)


def offered(connection: Connection, secrets: Secrets) -> tuple[str, ...]:
    """The logins at the target that agents may use. Raises CredentialError."""
    signed = connection.spec.credentials.ssh_certificate
    if signed is not None:
        return signed.principals
    return (_username(_static(connection, secrets)),)


def login_of(
    connection: Connection,
    secrets: Secrets,
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
    logins = offered(connection, secrets)
    if login not in logins:
        raise CredentialError(f"{login!r} is no login of Connection {connection.metadata.name}")
    signed = connection.spec.credentials.ssh_certificate
    try:
        if signed is not None:
            authority = private_key(_secret(connection, secrets, signed.ca_secret_ref.name))
            pair = certified_key(
                authority, signed, login, session=session, subject=identity.subject["username"], source=source
            )
            return TargetLogin(login, (pair,))
        secret = _static(connection, secrets)
        if KEY in secret.data:
            return TargetLogin(login, tuple(asyncssh.load_keypairs([private_key(secret)])))
    except KeyProblem as problem:
        raise CredentialError(str(problem)) from None
    password = _text(secret, "password", f"neither {KEY} nor password")
    return TargetLogin(login, password=password)


def _static(connection: Connection, secrets: Secrets) -> Secret:
    static = connection.spec.credentials.static
    if static is None:
        raise CredentialError(
            f"Connection {connection.metadata.namespace}/{connection.metadata.name} uses "
            f"credentials.{connection.spec.credentials.kind}, which is not for SSH; "
            "use credentials.sshCertificate or credentials.static"
        )
    return _secret(connection, secrets, static.secret_ref.name)


def _secret(connection: Connection, secrets: Secrets, name: str) -> Secret:
    namespace = connection.metadata.namespace or "default"
    secret = secrets.get((namespace, name))
    if secret is None:
        raise CredentialError(f"Secret {namespace}/{name} is missing; Connection {connection.metadata.name} needs it")
    return secret


def _username(secret: Secret) -> str:
    return _text(secret, "username", "no username")


def _text(secret: Secret, key: str, lack: str) -> str:
    if not secret.data.get(key):
        raise CredentialError(f"Secret {secret.key} has {lack}")
    try:
        return secret.text(key)
    except ValueError as problem:
        raise CredentialError(str(problem)) from None
