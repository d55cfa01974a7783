"""Whether a target answers is tried by the key exchange and the host key alone: nobody logs in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from support.gateway import Manifest
from support.servers import free_port
from support.ssh_gateway import connection as connection_to
from support.sshd import Sshd, make_key, sshd

from ostiary_api.connection import Connection
from ostiary_gateway.identity.authenticators import Authenticators
from ostiary_gateway.protocols import Site, TargetAway
from ostiary_gateway.protocols.ssh.probe import probe
from ostiary_gateway.protocols.ssh.upstream import Upstream


@pytest.fixture(scope="module")
def target() -> Iterator[Sshd]:
    with sshd("probed") as running:
        yield running


def upstream(target: Sshd, **more: object) -> Upstream:
    place: Manifest = {"host": target.host, "port": target.port, "hostKeys": [target.host_key], **more}
    manifest = connection_to(target, 2222, upstream=place)
    return Upstream(Site(Connection.model_validate(manifest), None, cast(Authenticators, None), {}))


async def test_a_target_with_the_right_host_key_answers_and_notes_no_login(target: Sshd) -> None:
    before = target.log_size()
    await probe(upstream(target))
    said = target.log_text(before)
    assert "Accepted" not in said
    assert "Failed" not in said
    assert "Invalid user" not in said


async def test_a_target_with_another_host_key_is_away_and_why_is_said(target: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "other")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    with pytest.raises(TargetAway, match=r"upstream\.hostKeys"):
        await probe(upstream(target, hostKeys=[other]))


async def test_nobody_there_is_away(target: Sshd) -> None:
    port = free_port()
    with pytest.raises(TargetAway, match=f"cannot connect to 127.0.0.1:{port}: Connection refused"):
        await probe(upstream(target, port=port))


async def test_a_name_that_nobody_has_is_away(target: Sshd) -> None:
    with pytest.raises(TargetAway, match=r"cannot connect to nowhere\.invalid"):
        await probe(upstream(target, host="nowhere.invalid"))


async def test_a_host_key_that_is_none_is_named_by_its_field(target: Sshd) -> None:
    with pytest.raises(TargetAway, match=r"upstream\.hostKeys\[0\]"):
        await probe(upstream(target, hostKeys=["ssh-ed25519 AAAA"]))
