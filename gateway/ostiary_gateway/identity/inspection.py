"""Who a secret stands for, asked outside a gateway: the same checks, without a client."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret

from .authenticators import Authenticators
from .issuer_keys import KeySources
from .proof import Identity
from .tokens import TokenIdentities


async def inspect_secret(connection: Connection, secrets: Mapping[tuple[str, str], Secret], secret: str) -> Identity:
    """Raises LoginRefused, and AuthenticationError if the Connection's configuration cannot be used."""
    keys = KeySources()
    try:
        door = Authenticators(connection, TokenIdentities(secrets.values()), secrets, keys)
        return await door.by_secret(secret, None)
    finally:
        await keys.close()
