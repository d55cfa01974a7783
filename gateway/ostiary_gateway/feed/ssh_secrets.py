"""Private keys that SSH Connections name: found unusable before an agent's session is."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret
from ostiary_api.secret_uses import secrets_of_connection

KEY = "privateKey"


def unusable_keys(connection: Connection, secret_of: Callable[[str], Secret | None]) -> Iterator[tuple[str, str]]:
    """Field and message of each. Secrets that are not there, or have no key at all, are told elsewhere."""
    if connection.spec.protocol != "SSH":
        return
    # asyncssh is not loaded where nobody serves SSH.
    from ostiary_gateway.credentials.ssh_keys import KeyProblem, private_key

    for use in secrets_of_connection(connection):
        secret = secret_of(use.name) if KEY in use.keys else None
        if secret is None or not secret.data.get(KEY):
            continue
        try:
            private_key(secret)
        except KeyProblem as problem:
            yield use.field, str(problem)
