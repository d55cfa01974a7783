"""A gateway in front of an SSH server: manifests as a user writes them, and the real process."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from support.gateway import AGENT, TOKEN, Gateway, Manifest, agent_token, secret
from support.servers import Server, free_port, scratch
from support.sshd import Sshd
from support.waiting import until


def rule(name: str, expression: str = "true", action: str = "Allow", **more: object) -> Manifest:
    return {"name": name, "action": action, "expression": expression, **more}


def policy(name: str, *rules: Manifest, **spec: object) -> Manifest:
    """A GatewayPolicy for every SSH Connection of the namespace."""
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "GatewayPolicy",
        "metadata": {"name": name},
        "spec": {"match": {"protocols": ["SSH"]}, "rules": list(rules), **spec},
    }


EXTENSIONS = (
    "permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding", "permit-user-rc",
)  # fmt: skip
ALLOW_ALL = policy("allow-all", rule("everything"))


def connection(target: Sshd, port: int, *, name: str = "host", **spec: object) -> Manifest:
    """A Connection to this server: its host key pinned, its users' authority in a Secret."""
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": name},
        "spec": {
            "protocol": "SSH",
            "upstream": {"host": target.host, "port": target.port, "hostKeys": [target.host_key]},
            "credentials": certificate(target),
            "listener": {"port": port},
            **spec,
        },
    }


def certificate(target: Sshd, *extensions: str) -> Manifest:
    """`credentials` with a certificate for each session, that permits everything unless told otherwise."""
    of_login = {"caSecretRef": {"name": "ssh-ca"}, "principals": [target.user]}
    return {"sshCertificate": {**of_login, "extensions": list(extensions or EXTENSIONS)}}


def static(target: Sshd) -> Manifest:
    """`credentials` with a key of the login's own, from the Secret `ssh-key`."""
    return {"static": {"secretRef": {"name": "ssh-key"}}}


def secrets_for(target: Sshd) -> list[Manifest]:
    """The authority of the server's users, a key of its login, the authority of its host key, and the agent's token."""
    return [
        secret("ssh-ca", privateKey=target.user_authority.read_bytes()),
        secret("ssh-key", username=target.user, privateKey=target.client_key.read_bytes()),
        secret("host-ca", ca__pub=target.host_authority),
        agent_token("planner-token", TOKEN, AGENT),
    ]


class SshGateway(Gateway):
    """`ostiary serve` before an SSH server."""

    target: Sshd

    def configure(self, *policies: Manifest, **spec: object) -> None:
        """Writes the manifests anew; a gateway that runs takes them up by itself."""
        self.write(connection(self.target, self.port, **spec), *secrets_for(self.target), *(policies or (ALLOW_ALL,)))

    def known_hosts(self) -> Path:
        """What a known_hosts file says of this gateway, once it runs."""
        path = self.directory / "known_hosts"
        if not path.exists():
            path.write_text(until(self._scan, "the gateway shows its host key", 20, every=0.2))
        return path

    @property
    def host_key(self) -> str:
        """Its public host key: type and base64."""
        lines = self.known_hosts().read_text().splitlines()
        return next(line.partition(" ")[2] for line in lines if " ssh-ed25519 " in line)

    def _scan(self) -> str:
        command = ["ssh-keyscan", "-T", "10", "-p", str(self.port), self.host]
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout

    def records(self) -> list[dict[str, Any]]:
        """All events of the record, as `ostiary export` gives them."""
        return [json.loads(line) for line in self.run("export").splitlines() if line]


def prepare(target: Sshd, *policies: Manifest, arguments: tuple[str, ...] = (), **spec: object) -> SshGateway:
    """A gateway with its manifests, not started."""
    port = free_port()
    made = SshGateway(scratch(f"ssh-gateway-{port}"), cast(Server, None), port, free_port(), False)
    made.target = target
    made.arguments = arguments
    made.environment_variables = {key: os.environ[key] for key in ("OSTIARY_PURE",) if key in os.environ}
    made.configure(*policies, **spec)
    return made


@contextmanager
def ssh_gateway(
    target: Sshd, *policies: Manifest, arguments: tuple[str, ...] = (), **spec: object
) -> Iterator[SshGateway]:
    """A running gateway before this server, that allows everything unless told otherwise."""
    made = prepare(target, *policies, arguments=arguments, **spec)
    try:
        made.start()
        yield made
    finally:
        made.destroy()
