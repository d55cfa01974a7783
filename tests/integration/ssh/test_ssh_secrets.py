"""What opens the target is in no file, log or record, nor in /proc: every byte that is left behind is searched."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from support import ssh_gateway as gateways
from support.gateway import TOKEN
from support.ssh_gateway import SshGateway, certificate, policy, rule, static
from support.ssh_pairs import Side, through
from support.sshd import Sshd, descendants

pytestmark = pytest.mark.clients

POLICY = policy(
    "careful", rule("no-removal", "ssh.commands.exists(c, c.program == 'rm')", "Deny"), rule("everything")
)


def traces(path: Path) -> dict[str, bytes]:
    """Ways in which an Ed25519 private key can be written down."""
    lines = path.read_text().splitlines()[1:-1]
    key = serialization.load_ssh_private_key(path.read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    seed = key.private_bytes_raw()
    packed = base64.b64decode("".join(lines))
    at = packed.index(seed)
    return {
        "seed": seed,
        "seed in hex": seed.hex().encode(),
        "seed in base64": base64.b64encode(seed)[:40],
        # Where in a file's base64 the seed is, by itself: what is before it is public.
        "file": base64.b64encode(packed[at - at % 3 : at + 30])[4:36],
        "a Secret's file": base64.b64encode(path.read_bytes())[-120:-60],
    }


def look(side: Side) -> None:
    """All that an agent can do here, and be refused."""
    side.ok("echo a command; cat /proc/*/environ /proc/*/cmdline 2>/dev/null | wc -c")
    side.ok("env")
    assert side.ssh("target", "rm x").code == 126
    side.there("file", b"x" * 1000)
    assert side.tool("scp", f"target:{side.remote}/file", "got").code == 0
    with side.terminal("-t", "target", "id") as screen:
        assert screen.ended() == 0
    assert side.ssh("-l", "nobody-here", "target", "id").code == 255


def left_behind(gateway: SshGateway) -> dict[str, bytes]:
    """Everything that a gateway writes, and what /proc shows of it and of what it began."""
    found = {}
    for path in gateway.directory.rglob("*"):
        if path.is_file() and gateway.manifests not in path.parents:
            found[str(path)] = path.read_bytes()
    for pid in [gateway.pid, *descendants(gateway.pid)]:
        for name in ("environ", "cmdline"):
            found[f"{pid} {name}"] = Path(f"/proc/{pid}/{name}").read_bytes()
    found["export"] = gateway.run("export").encode()
    found["metrics"] = gateway.admin("/metrics")[1].encode()
    for line in gateway.run("sessions", "--json").splitlines():
        session = line.split('"session":"')[1].split('"')[0] if '"session":"' in line else line.split('"')[3]
        found[f"session {session}"] = gateway.run("session", session, "--full", check=False).encode()
    return found


def search(target: Sshd, places: dict[str, bytes]) -> list[str]:
    """Where one of the keys is, in whatever form."""
    return [
        f"{what} of {key.name} in {place}"
        for key in (target.user_authority, target.client_key)
        for what, trace in traces(key).items()
        for place, content in places.items()
        if trace in content or trace in b"".join(content.split())
    ]


@pytest.mark.parametrize("kind", ["certificate", "key"])
def test_no_key_of_the_target_is_left_anywhere(kind: str, target: Sshd, tmp_path: Path) -> None:
    credentials = certificate(target) if kind == "certificate" else static(target)
    with gateways.ssh_gateway(target, POLICY, credentials=credentials) as gateway:
        side = through(gateway, tmp_path)
        look(side)
        places = left_behind(gateway)
        gateway.stop()
        manifests = (gateway.manifests / "all.yaml").read_bytes()
        places |= {f"{path} in the end": path.read_bytes() for path in gateway.data.rglob("*") if path.is_file()}
    places |= {"seen": "\n".join(side.seen).encode(), "the target's log": target.log.read_bytes()}
    assert any(b"a command" in content for content in places.values())
    assert not search(target, places)
    # It is found where it is.
    assert len(search(target, {"manifests": manifests, "file": target.client_key.read_bytes()})) == 3
    assert not [place for place, content in places.items() if TOKEN.encode() in content]


def test_what_a_client_sees_of_its_login_has_no_key_in_it(gateway: SshGateway, tmp_path: Path, target: Sshd) -> None:
    said = through(gateway, tmp_path).ssh("-vvv", "target", "true").err
    assert b"Ostiary" in said
    assert not search(target, {"-vvv": said})
