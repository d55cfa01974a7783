"""A real sshd, a gateway in front of it, and an agent's clients on both ways."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ssh_gateway as gateways
from support import sshd as servers
from support.ssh_gateway import SshGateway
from support.ssh_pairs import Side, direct, through
from support.sshd import Sshd

Sides = tuple[Side, Side]


@pytest.fixture(scope="session")
def target() -> Iterator[Sshd]:
    """The server."""
    with servers.sshd() as found:
        yield found


@pytest.fixture(scope="session")
def gateway(target: Sshd) -> Iterator[SshGateway]:
    """A gateway before it that allows everything."""
    with gateways.ssh_gateway(target) as found:
        yield found


@pytest.fixture
def sides(target: Sshd, gateway: SshGateway, tmp_path: Path) -> Sides:
    """Directly, and through the gateway."""
    return direct(target, tmp_path), through(gateway, tmp_path)
