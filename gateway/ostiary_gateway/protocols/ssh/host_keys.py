"""The keys that a gateway shows to agents (host keys), and the one with which it signs agents' certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret


class HostKeyError(Exception):
    """A key of the gateway cannot be had. The message says which field and why."""


@dataclass(frozen=True, slots=True)
class SSHKeys:
    """Of one Connection; `Site.ssh`."""

    host: tuple[asyncssh.SSHKey, ...] = field(repr=False)
    """`server_host_keys` of asyncssh."""
    login_ca: asyncssh.SSHKey | None = field(default=None, repr=False)
    """Signs agents' certificates; None where that is off."""


def keys_of(connection: Connection, secrets: Mapping[tuple[str, str], Secret], data: Path, *, pod: bool) -> SSHKeys:
    """From the Connection's Secrets, else from files in the data directory, made when they are needed. Raises
    HostKeyError."""
    raise NotImplementedError
