"""Whether a PostgreSQL server answers: TCP, its answer to SSLRequest, and TLS as configured. Nobody logs in.

A server that is left after its answer to SSLRequest writes nothing into its log, and starts no session.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from ostiary_api.connection import DEFAULT_PORTS
from ostiary_gateway.leg import Leg, LegClosed
from ostiary_gateway.protocols import Site, TargetAway
from ostiary_gateway.tls import TLSError, upstream_context

from . import wire
from .upstream import UpstreamError

TIMEOUT: Final = 5.0


async def probe(site: Site) -> None:
    """Raises TargetAway."""
    where = site.connection.spec.upstream
    host, port, tls = where.host or "", where.port or DEFAULT_PORTS["Postgres"], where.tls
    ca = site.secrets.get((site.namespace, tls.ca_ref.name)) if tls.ca_ref is not None else None
    try:
        context = upstream_context(tls, ca)
        async with asyncio.timeout(TIMEOUT):
            await _reach(host, port, context, tls.server_name or host)
    except TimeoutError:
        raise TargetAway(f"no answer from {host}:{port} within {TIMEOUT:.0f} s") from None
    except ssl.SSLCertVerificationError as problem:
        text = problem.verify_message.rstrip(".")
        raise TargetAway(f"the certificate of {host}:{port} is not accepted: {text}") from None
    except (OSError, LegClosed) as problem:
        text = str(problem) or type(problem).__name__
        raise TargetAway(f"cannot connect to {host}:{port}: {text}") from None
    except (TLSError, UpstreamError) as problem:
        raise TargetAway(str(problem)) from None


async def _reach(host: str, port: int, context: ssl.SSLContext | None, name: str) -> None:
    loop = asyncio.get_running_loop()
    _, leg = await loop.create_connection(Leg, host, port)
    try:
        leg.write(wire.SSL_REQUEST_PACKET)
        answer = await leg.read_exactly(1)
        if answer not in (b"S", b"N"):
            raise UpstreamError(f"{host}:{port} does not speak PostgreSQL's protocol")
        if context is None:
            return
        if answer != b"S":
            raise UpstreamError(f"the server at {host}:{port} does not offer TLS")
        assert leg.transport is not None
        leg.transport = await loop.start_tls(leg.transport, leg, context, server_hostname=name)
    finally:
        leg.abort()
