"""Whether an API server answers: TCP, TLS as configured, and whether a credential for it can be had. Nobody logs in."""

from __future__ import annotations

import asyncio
from typing import Final

from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.protocols import TargetAway

from .upstream import Upstream, UpstreamError

TIMEOUT: Final = 10.0


async def probe(upstream: Upstream) -> None:
    """Raises TargetAway."""
    try:
        async with asyncio.timeout(TIMEOUT):
            connection = await upstream.connect()
            connection.abort()
            await upstream.login.check()
    except TimeoutError:
        raise TargetAway(f"no answer within {TIMEOUT:.0f} s") from None
    except (UpstreamError, CredentialError) as problem:
        raise TargetAway(str(problem)) from None
