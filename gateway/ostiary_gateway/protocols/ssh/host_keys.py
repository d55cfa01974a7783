"""The keys that a gateway shows to agents (host keys), and the one with which it signs agents' certificates."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncssh

from ostiary_api.authentication import SSHLoginCertificates
from ostiary_api.connection import Connection
from ostiary_api.secret import Secret
from ostiary_gateway.credentials.ssh_keys import KeyProblem, private_key
from ostiary_gateway.identity.authenticators import AuthenticationError

FOLDER: Final = "ssh"
HOST_KEY: Final = "host_key"
LOGIN_CA: Final = "login_ca"


class HostKeyError(AuthenticationError):
    """A key of the gateway cannot be had. The message says which field and why."""


@dataclass(frozen=True, slots=True)
class SSHKeys:
    """Of one Connection; `Site.ssh`."""

    host: tuple[asyncssh.SSHKey, ...] = field(repr=False)
    """`server_host_keys` of asyncssh."""
    login_ca: asyncssh.SSHKey | None = field(default=None, repr=False)
    """Signs agents' certificates; None where that is off."""
    ttl: float = 0.0
    """Seconds that such a certificate is valid."""


def keys_of(connection: Connection, secrets: Mapping[tuple[str, str], Secret], data: Path, *, pod: bool) -> SSHKeys:
    """From the Connection's Secrets, else from files in the data directory, made when they are needed. In a pod an
    agents' authority is only what a Secret has: another replica would not know one that this made. Raises
    HostKeyError."""
    spec = connection.spec
    host_ref, certificates = spec.listener.host_key_ref, spec.authentication.ssh_certificates
    host = (
        _of_secret(connection, secrets, "listener.hostKeyRef", host_ref.name)
        if host_ref is not None
        else own_key(data, HOST_KEY)
    )
    settings = certificates or SSHLoginCertificates()
    authority: asyncssh.SSHKey | None = None
    if settings.ca_secret_ref is not None:
        field = "authentication.sshCertificates.caSecretRef"
        authority = _of_secret(connection, secrets, field, settings.ca_secret_ref.name)
    elif not pod:
        authority = own_key(data, LOGIN_CA)
    return SSHKeys((host,), authority, settings.ttl)


def own_keys(data: Path) -> SSHKeys:
    """Only a host key of the gateway's own: for a Connection whose keys cannot be had, so that who comes hears why."""
    return SSHKeys((own_key(data, HOST_KEY),))


def _of_secret(
    connection: Connection, secrets: Mapping[tuple[str, str], Secret], field: str, name: str
) -> asyncssh.SSHKey:
    secret = secrets.get((connection.metadata.namespace or "default", name))
    if secret is None:
        raise HostKeyError(f"{field}: Secret {name} does not exist")
    try:
        return private_key(secret)
    except KeyProblem as problem:
        raise HostKeyError(f"{field}: {problem}") from None


def own_key(data: Path, name: str) -> asyncssh.SSHKey:
    """A key of the gateway's own (Ed25519), made at the first need and kept in `data`, for its user alone. Raises
    HostKeyError."""
    folder = data / FOLDER
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of this gateway may need it just now
            if not path.exists():
                _make(path)
            return asyncssh.import_private_key(path.read_bytes())
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise HostKeyError(f"{path} is no private key that can be used; remove it to make a new one") from None
    except OSError as problem:
        raise HostKeyError(f"{path} cannot be used: {problem.strerror}") from None


def public_line(key: asyncssh.SSHKey) -> str:
    """A public key as it stands in known_hosts or TrustedUserCAKeys: type and base64."""
    kind, text = key.export_public_key("openssh").decode().split()[:2]
    return f"{kind} {text}"


def _make(path: Path) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519", comment=f"ostiary {path.name}")
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    # In place at once and whole, or not at all: a half-written key would stay.
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key.export_private_key("openssh"))
        file.flush()
        os.fsync(file.fileno())
    public = path.with_name(f"{path.name}.pub")
    public.write_bytes(key.export_public_key("openssh"))
    fresh.rename(path)
