"""A fixed credential from a Secret. It is read from the bundle when it is used, and kept nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret


class CredentialError(Exception):
    """There is no usable credential. The message says what is missing, and names no secret value."""


@dataclass(frozen=True, slots=True)
class PasswordCredential:
    """A login with a password."""

    username: str
    password: str = field(repr=False)


def password_of(connection: Connection, secrets: Mapping[tuple[str, str], Secret]) -> PasswordCredential:
    """The login of a PostgreSQL Connection: of `static`, or of the administrator of `postgresRole`."""
    namespace = connection.metadata.namespace or "default"
    credentials = connection.spec.credentials
    if credentials.static is not None:
        name = credentials.static.secret_ref.name
    elif credentials.postgres_role is not None:
        name = credentials.postgres_role.admin_secret_ref.name
    else:
        raise CredentialError(
            f"Connection {namespace}/{connection.metadata.name} uses credentials.{credentials.kind}, "
            "which this gateway does not offer for Postgres; use credentials.static or credentials.postgresRole"
        )
    secret = secrets.get((namespace, name))
    if secret is None:
        raise CredentialError(f"Secret {namespace}/{name} is missing; Connection {connection.metadata.name} needs it")
    missing = [key for key in ("username", "password") if key not in secret.data]
    if missing:
        raise CredentialError(f"Secret {namespace}/{name} has no {' and no '.join(missing)}")
    return PasswordCredential(secret.text("username"), secret.text("password"))
