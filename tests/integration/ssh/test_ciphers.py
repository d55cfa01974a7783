"""OpenSSH through the gateway under each cipher, with new keys every megabyte from either side."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.ssh_gateway import SshGateway, ssh_gateway
from support.ssh_pairs import Side, through
from support.sshd import Sshd, sshd

SIZE = 50_000_000
CIPHERS = {
    "aes128-gcm@openssh.com": "",
    "aes256-gcm@openssh.com": "",
    "chacha20-poly1305@openssh.com": "",
    "aes128-ctr": "hmac-sha2-256-etm@openssh.com",
}


@pytest.fixture(scope="module")
def target() -> Iterator[Sshd]:
    with sshd("ciphers", more="RekeyLimit 1M\n") as running:
        yield running


@pytest.fixture(scope="module")
def gateway(target: Sshd) -> Iterator[SshGateway]:
    with ssh_gateway(target, recording="Metadata") as running:
        yield running


@pytest.fixture
def side(gateway: SshGateway, tmp_path: Path) -> Side:
    return through(gateway, tmp_path)


@pytest.mark.parametrize("cipher", CIPHERS)
def test_fifty_megabytes_go_either_way_across_fifty_key_exchanges(side: Side, cipher: str) -> None:
    macs = {"MACs": CIPHERS[cipher]} if CIPHERS[cipher] else {}
    side.configure(Ciphers=cipher, RekeyLimit="1M", **macs)
    content = bytes(SIZE)
    digest = hashlib.sha256(content).hexdigest()

    down = side.ssh("target", f"head -c {SIZE} /dev/zero", noted=False)
    assert (down.code, down.err) == (0, b"")
    assert hashlib.sha256(down.out).hexdigest() == digest

    up = side.ssh("target", "sha256sum", stdin=content, noted=False)
    assert (up.code, up.out.split()[0].decode(), up.err) == (0, digest, b"")


def test_the_keys_of_openssh_are_agreed_on_strictly(side: Side) -> None:
    done = side.ssh("-vvv", "target", "true", noted=False)
    assert done.code == 0
    assert b"will use strict KEX ordering" in done.err
