"""Programs that speak SSH by libraries of their own see through the gateway what they see at the server itself."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.gateway import TOKEN, reports_equal
from support.presence import missing
from support.ssh_gateway import SshGateway
from support.ssh_pairs import PATIENCE
from support.sshd import Sshd

pytestmark = [pytest.mark.clients, pytest.mark.slow]

CLIENTS = Path(__file__).parents[2] / "clients"


@dataclass(frozen=True)
class Client:
    """How to run a client program."""

    name: str
    command: tuple[str, ...]
    directory: str
    asked: bool = False
    """Whether it logs in once more at the end, with its secret as the answer to a question."""

    def __str__(self) -> str:
        return self.name


ALL = (
    Client("paramiko", (sys.executable, "paramiko_session.py"), "python", True),
    Client("asyncssh", (sys.executable, "asyncssh_session.py"), "python"),
    Client("go", ("target/session",), "go-ssh", True),
)


def report(client: Client, variables: dict[str, str]) -> str:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("SSH_")}
    done = subprocess.run(
        client.command, cwd=CLIENTS / client.directory, env={**inherited, **variables},
        capture_output=True, text=True, timeout=2 * PATIENCE,
    )  # fmt: skip
    assert done.returncode == 0, f"{client} failed:\n{done.stderr[-4000:]}\n{done.stdout[-1000:]}"
    return done.stdout


def build() -> None:
    """The Go client, unless it is built and newer than its sources."""
    if shutil.which("go") is None:
        missing("go is not here: apt-get install -y golang")
    place = CLIENTS / "go-ssh"
    built = place / "target/session"
    newest = max((place / name).stat().st_mtime for name in ("main.go", "go.sum"))
    if built.exists() and built.stat().st_mtime >= newest:
        return
    done = subprocess.run(
        ["go", "build", "-o", "target/session", "."], cwd=place, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("client", ALL, ids=str)
def test_a_session_is_the_same_as_directly(client: Client, target: Sshd, gateway: SshGateway, tmp_path: Path) -> None:
    if client.name == "go":
        build()
    found = []
    for name, variables in (
        ("direct", {"SSH_PORT": str(target.port), "SSH_HOST_KEY": target.host_key, "SSH_KEY": str(target.client_key)}),
        ("gateway", {"SSH_PORT": str(gateway.port), "SSH_HOST_KEY": gateway.host_key, "SSH_PASSWORD": TOKEN}),
    ):
        files = target.files / f"{client}-{name}"
        files.mkdir()
        common = {"SSH_HOST": "127.0.0.1", "SSH_USER": target.user, "FILES": str(files)}
        found.append(report(client, {**common, **variables}))
    through = json.loads(found[1])
    if client.asked:
        asked = through["steps"].pop()
        assert asked == {"step": "keyboard-interactive", "saw": "asked and answered\n"}
    different = reports_equal(found[0], json.dumps(through))
    assert not different, "\n".join(different)
