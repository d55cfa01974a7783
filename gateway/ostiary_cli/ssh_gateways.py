"""SSH Connections as the commands of `ostiary ssh` find them: in manifests and a data directory, or in a cluster."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from ostiary_api.connection import Connection
from ostiary_cli.errors import FOUND, CommandError

if TYPE_CHECKING:
    from ostiary_cli.kubectl.cluster import Target
    from ostiary_gateway.feed.loading import Loaded

PUBLIC: Final = "publicKey"
"""Key of a Secret that may have the public key beside the private one, so that nobody needs to read that."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a gateway listens for a Connection."""

    host: str
    port: int

    @property
    def pattern(self) -> str:
        """As it stands in known_hosts."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


class Found(Protocol):
    """One SSH Connection, and its gateway."""

    connection: Connection

    def way(self) -> Way:
        """Raises CommandError."""

    def host_key(self) -> str:
        """What the gateway shows, type and base64. Raises CommandError."""

    def public(self, secret: str) -> str:
        """The public key of a private one in a Secret. Raises CommandError."""


def find(name: str, paths: tuple[Path, ...], data: Path, namespace: str, kubeconfig: str) -> Found:
    """With paths: of the gateway that serves them on this machine; without: in the cluster. Raises CommandError."""
    return _Here(name, paths, data) if paths else _InCluster(name, namespace, kubeconfig)


def address(text: str) -> Way:
    """`HOST:PORT`, `[IPv6]:PORT` or `HOST`. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port or (host.count(":") and not host.endswith("]")):
        host, port = text, "22"
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port[:6]) <= 65535:
        raise ValueError(f"{text!r} is no HOST:PORT")
    return Way(host, int(port))


class _Here:
    def __init__(self, name: str, paths: tuple[Path, ...], data: Path) -> None:
        from rich.console import Console

        from ostiary_cli.commands.explain import find_connection
        from ostiary_cli.problems import print_problems
        from ostiary_gateway.feed.loading import Loaded, load

        outcome = load(paths, complete=False)
        if not isinstance(outcome, Loaded):
            print_problems(Console(stderr=True, highlight=False), outcome.problems)
            raise SystemExit(FOUND)
        self._loaded: Loaded = outcome
        self._data = data
        self.connection = _ssh(find_connection(outcome.bundle, name).connection)

    def way(self) -> Way:
        return Way("127.0.0.1", self.connection.spec.listener.port)

    def host_key(self) -> str:
        ref = self.connection.spec.listener.host_key_ref
        if ref is not None:
            return self.public(ref.name)
        own = self._data / "ssh" / "host_key.pub"
        if not own.is_file():
            raise CommandError(
                f"There is no {own}: the gateway makes its host key when it first serves an SSH Connection.",
                "Start it first (ostiary serve), or give its directory: --data DIR",
            )
        return _line(own.read_text())

    def public(self, secret: str) -> str:
        from ostiary_gateway.credentials.ssh_keys import KeyProblem, private_key
        from ostiary_gateway.feed.loading import tuple_key
        from ostiary_gateway.protocols.ssh.host_keys import public_line

        secrets = {tuple_key(key): found for key, found in self._loaded.manifests.secrets.items()}
        found = secrets.get((self.connection.metadata.namespace, secret))
        if found is None:
            raise CommandError(
                f"There is no Secret {secret} in these manifests.", "Name its file too, or the directory that it is in."
            )
        if PUBLIC in found.data:
            return _line(found.text(PUBLIC))
        try:
            return public_line(private_key(found))
        except KeyProblem as problem:
            raise CommandError(f"{problem}.", "Mend the Secret.") from None


class _InCluster:
    def __init__(self, name: str, namespace: str, kubeconfig: str) -> None:
        from ostiary_cli.kubectl.cluster import Target

        space, _, own = name.rpartition("/")
        self._target: Target = Target(namespace or space, more=("--kubeconfig", kubeconfig) if kubeconfig else ())
        told = json.loads(self._target.run("get", "connections.ostiary.dev", own, "-o", "json"))
        self.connection = _ssh(Connection.model_validate({key: told[key] for key in ("metadata", "spec")}))
        self._endpoint = (told.get("status") or {}).get("endpoint")

    def way(self) -> Way:
        if not self._endpoint:
            metadata = self.connection.metadata
            raise CommandError(
                f"Connection {self.connection.key} is not served (status.endpoint is empty).",
                f"See: kubectl describe connection {metadata.name} -n {metadata.namespace}",
            )
        return Way(self._endpoint["host"], self._endpoint["port"])

    def host_key(self) -> str:
        ref = self.connection.spec.listener.host_key_ref
        if ref is None:
            raise CommandError(
                "Each pod of this gateway has made its host key itself, so that there is none to pin.",
                "Give it one: listener.hostKeyRef, a Secret with privateKey (docs/ssh.md#how-agents-connect).",
            )
        return self.public(ref.name)

    def public(self, secret: str) -> str:
        if found := self._value(secret, PUBLIC):
            return _line(found)
        import asyncssh

        from ostiary_gateway.protocols.ssh.host_keys import public_line

        # The private key is in this process's memory for a moment, and nowhere else.
        private = self._value(secret, "privateKey")
        try:
            return public_line(asyncssh.import_private_key(private))
        except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError):
            raise CommandError(
                f"Secret {secret} has no {PUBLIC}, and no privateKey that can be read.",
                "Make it anew: kubectl create secret generic NAME --from-file=privateKey=FILE "
                f"--from-file={PUBLIC}=FILE.pub",
            ) from None

    def _value(self, secret: str, key: str) -> str:
        where, path = self.connection.metadata.namespace, f"jsonpath={{.data.{key}}}"
        text = self._target.run("get", "secret", secret, "-o", path, namespace=where).strip()
        return base64.b64decode(text).decode("utf-8", "replace")


def _ssh(connection: Connection) -> Connection:
    if connection.spec.protocol != "SSH":
        raise CommandError(
            f"Connection {connection.key} is for {connection.spec.protocol}: ssh is not its client.",
            "Name a Connection whose protocol is SSH.",
        )
    return connection


def _line(text: str) -> str:
    words = text.split()
    if len(words) < 2:
        raise CommandError("This is no public key in OpenSSH's format.", "It begins like: ssh-ed25519 AAAA")
    return " ".join(words[:2])
