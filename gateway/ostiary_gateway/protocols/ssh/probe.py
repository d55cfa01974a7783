"""Whether a target answers: TCP, the key exchange, and the host key that the Connection believes. Nobody logs in."""

from __future__ import annotations

from ostiary_gateway.protocols import TargetAway

from .upstream import Upstream, UpstreamError


async def probe(upstream: Upstream) -> None:
    """Raises TargetAway."""
    try:
        await upstream.probe()
    except UpstreamError as problem:
        raise TargetAway(str(problem)) from None
