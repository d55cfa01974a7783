"""Who a secret stands for, asked outside a gateway: the same checks, without a client."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret
from ostiary_gateway.kube.access import Access
from ostiary_gateway.kube.client import KubeClient

from .authenticators import Authenticators
from .issuer_keys import KeySources
from .proof import Identity
from .token_review import TokenReviews
from .tokens import TokenIdentities


async def inspect_secret(
    connection: Connection, secrets: Mapping[tuple[str, str], Secret], secret: str, access: Access | None = None
) -> Identity:
    """`access`: to the API server that reviews ServiceAccount tokens, for a gateway in a cluster. Raises LoginRefused,
    and AuthenticationError if the Connection's configuration cannot be used."""
    keys = KeySources()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(keys.close)
        reviews = None
        if access is not None:
            reviews = TokenReviews(await stack.enter_async_context(KubeClient(access)))
        door = Authenticators(connection, TokenIdentities(secrets.values()), secrets, keys, reviews=reviews)
        return await door.by_secret(secret, None)
