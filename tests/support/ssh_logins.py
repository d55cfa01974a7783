"""The gateway's side of an SSH login on a real socket: nothing is behind it, so only the login is in play."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncssh
import yaml
from support.gateway import AGENT, TOKEN, Manifest, agent_token, secret
from support.servers import scratch

from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.feed.loading import Loaded, load
from ostiary_gateway.identity.authenticators import Authenticators
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_gateway.identity.tokens import TokenIdentities
from ostiary_gateway.protocols import Site
from ostiary_gateway.protocols.ssh.auth import AgentLogin, make_server
from ostiary_gateway.protocols.ssh.host_keys import keys_of, public_line
from ostiary_gateway.protocols.ssh.transport import ClientLeg, LegClosed
from ostiary_gateway.protocols.ssh.transport_offers import server_options
from ostiary_policy.facts import ClientFacts

PUBLIC = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"


def private(kind: str = "ssh-ed25519", **more: Any) -> str:
    return asyncssh.generate_private_key(kind, **more).export_private_key("openssh").decode()


def connection(**spec: object) -> Manifest:
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": "host"},
        "spec": {
            "protocol": "SSH",
            "upstream": {"host": "host.test", "hostKeys": [PUBLIC]},
            "credentials": {"sshCertificate": {"caSecretRef": {"name": "ssh-ca"}, "principals": ["deploy", "app"]}},
            "listener": {"port": 2222},
            **spec,
        },
    }


@dataclass
class Door:
    """One Connection's login. `logins`: those of the clients that came, in order."""

    site: Site
    checkpoint: Checkpoint
    directory: Path
    port: int = 0
    logins: list[AgentLogin] = field(default_factory=list)

    @property
    def refusals(self) -> dict[tuple[str, str], int]:
        return dict(self.checkpoint.counters.login_failures)

    @property
    def last(self) -> AgentLogin:
        return self.logins[-1]

    @property
    def known_hosts(self) -> Path:
        path = self.directory / "known_hosts"
        assert self.site.ssh is not None
        path.write_text(f"[127.0.0.1]:{self.port} {public_line(self.site.ssh.host[0])}\n")
        return path

    async def welcome(self, sock: socket.socket) -> None:
        assert self.site.ssh is not None
        client = ClientFacts(address=sock.getpeername()[0], application="")
        login = make_server(self.site, self.checkpoint, self.checkpoint.counters, client)
        self.logins.append(login)
        try:
            leg = await ClientLeg.accept(sock, login, server_options(self.site.ssh.host))
        except LegClosed:
            return
        if login.wants_certificate:
            await login.serve_certificate(leg)
            return
        leg.disconnect(11, "The test is over.")

    def configure(self, *secrets: Manifest, pod: bool = False, closed: str = "", **spec: object) -> None:
        """Another bundle, as a reload brings it."""
        found = _load(self.directory, secrets, spec)
        self.checkpoint.bundle = found.bundle
        self.site = _site(found, self.directory, pod, closed)


@asynccontextmanager
async def door(*secrets: Manifest, pod: bool = False, closed: str = "", **spec: object) -> AsyncIterator[Door]:
    """With the agent's token and these Secrets."""
    directory = scratch(f"ssh-door-{id(spec)}")
    found = _load(directory, secrets, spec)
    recorder = await FileRecorder.open(directory / "audit.db")
    made = Door(_site(found, directory, pod, closed), Checkpoint(found.bundle, recorder, Counters()), directory)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    made.port = sock.getsockname()[1]
    try:
        async with asyncio.TaskGroup() as tasks:
            accepting = tasks.create_task(_accept(sock, made, tasks))
            yield made
            accepting.cancel()
    finally:
        sock.close()
        await recorder.close()
        shutil.rmtree(directory, ignore_errors=True)


async def _accept(sock: socket.socket, made: Door, tasks: asyncio.TaskGroup) -> None:
    while True:
        client, _ = await asyncio.get_running_loop().sock_accept(sock)
        client.setblocking(False)
        tasks.create_task(made.welcome(client))


def _load(directory: Path, secrets: tuple[Manifest, ...], spec: dict[str, object]) -> Loaded:
    manifests = directory / "manifests"
    manifests.mkdir(parents=True, exist_ok=True)
    file = manifests / "all.yaml"
    there = [agent_token("planner-token", TOKEN, AGENT), secret("ssh-ca", privateKey=private())]
    names = {each["metadata"]["name"] for each in secrets}  # type: ignore[index]
    kept = [each for each in there if each["metadata"]["name"] not in names]  # type: ignore[index]
    file.write_text(yaml.safe_dump_all([connection(**spec), *kept, *secrets]))
    file.chmod(0o600)
    found = load([manifests])
    assert isinstance(found, Loaded), found
    return found


def _site(found: Loaded, directory: Path, pod: bool, closed: str) -> Site:
    made = next(iter(found.manifests.connections.values()))
    secrets = {
        (each.metadata.namespace or "default", each.metadata.name): each for each in found.manifests.secrets.values()
    }
    identities = Authenticators(made, TokenIdentities(secrets.values()), secrets, KeySources())
    keys = keys_of(made, secrets, directory / "data", pod=pod)
    return Site(made, None, identities, secrets, closed=closed, ssh=keys)
