"""Real servers, and gateways in front of them."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import certificates, servers, wire
from support import gateway as gateways
from support.gateway import ALLOW_ALL, Gateway, Manifest, StartGateway
from support.presence import missing
from support.servers import Server, Unavailable


@pytest.fixture(autouse=True)
def no_socket_is_left_open() -> Iterator[None]:
    """A test that fails half-way leaves connections behind: they would harm the next one."""
    yield
    wire.close_all()


@pytest.fixture(scope="session")
def authority() -> Iterator[certificates.Authority]:
    """A CA with good and bad server certificates."""
    directory = servers.scratch("authority")
    yield certificates.make_authority(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def pg18() -> Iterator[Server]:
    """The embedded PostgreSQL 18: SCRAM, no TLS."""
    try:
        server = servers.embedded()
    except Unavailable as failure:
        missing(str(failure))
    yield server
    servers.destroy(server)


@pytest.fixture(scope="session")
def pg15(authority: certificates.Authority) -> Iterator[Server]:
    """Debian's PostgreSQL 15: SCRAM with channel binding, TLS."""
    try:
        server = servers.debian("pg15", authority)
    except Unavailable as failure:
        missing(str(failure))
    yield server
    servers.destroy(server)


@pytest.fixture(scope="module")
def start_gateway() -> Iterator[StartGateway]:
    """`start_gateway(server, policies…, tls=…, settings of the Connection…)`: a running `ostiary serve`."""
    started: list[Gateway] = []

    def start(server: Server, *policies: Manifest, tls: bool = False, **spec: object) -> Gateway:
        gateway = gateways.prepare(servers.scratch(f"gateway-{len(started)}-{servers.free_port()}"), server, tls=tls)
        started.append(gateway)
        gateway.write(
            gateways.connection(server, gateway.port, tls=tls, **spec),  # type: ignore[arg-type]
            *gateways.secrets_for(server),
            *(policies or (ALLOW_ALL,)),
        )
        gateway.start()
        return gateway

    yield start
    failures: list[AssertionError] = []
    for gateway in started:
        try:
            gateway.destroy()
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.fixture(scope="module")
def gateway18(pg18: Server, start_gateway: StartGateway) -> Gateway:
    """Allow-all before PostgreSQL 18, in clear on both legs."""
    return start_gateway(pg18)


@pytest.fixture(scope="module")
def gateway15(pg15: Server, start_gateway: StartGateway) -> Gateway:
    """Allow-all before PostgreSQL 15, TLS on both legs."""
    return start_gateway(pg15, tls=True)
