"""`ostiary store serve` as a real process over a real PostgreSQL, and gateways that hand their records over to it."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from support import servers
from support.certificates import Authority, make_authority
from support.gateway import ostiary
from support.servers import Server, free_port

TOKEN = "the-gateway's-own-token-of-enough-entropy"


@dataclass(slots=True)
class StoreService:
    """Its database, its files, its process."""

    database: Server
    directory: Path
    authority: Authority
    port: int = field(default_factory=free_port)
    admin_port: int = field(default_factory=free_port)
    more: str = ""
    """More for the settings."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def url(self) -> str:
        """Where gateways hand over."""
        return f"https://localhost:{self.port}"

    @property
    def store(self) -> str:
        """The address of the database, with its password."""
        server = self.database
        return f"postgresql://{server.user}:{quote(server.password)}@{server.host}:{server.port}/{server.database}"

    @property
    def log(self) -> Path:
        return self.directory / "store.log"

    @property
    def arguments(self) -> tuple[str, ...]:
        """For a gateway."""
        token = self.directory / "token"
        return ("--ship-to", self.url, "--ship-ca", str(self.authority.ca), "--ship-token", str(token))

    def start(self, *, wait: bool = True) -> None:
        pair = self.authority.server
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        (self.directory / "token").write_text(TOKEN)
        (self.directory / "tokens").write_text(f"{digest} {os.uname().nodename}\n")
        (self.directory / "url").write_text(self.store)
        (self.directory / "store.yaml").write_text(
            f"store: {{urlFile: url}}\n"
            f"listen: 127.0.0.1:{self.port}\n"
            f"admin: 127.0.0.1:{self.admin_port}\n"
            f"tls: {{cert: {pair.certificate}, key: {pair.key}}}\n"
            f"gateways: {{tokens: tokens}}\n"
            f"seal: {{keyFile: seal.key, every: 1s}}\n{self.more}"
        )
        command = [*ostiary(), "store", "serve", "--config", str(self.directory / "store.yaml")]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 40
        while self.admin("/readyz")[0] != 200:
            assert self.process is not None
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.05)

    def admin(self, path: str) -> tuple[int, str]:
        """Status and body; 0 if nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as failure:
            with failure:
                return failure.code, failure.read().decode()
        except OSError:
            return 0, ""

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(25)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise AssertionError(f"it did not stop on SIGTERM:\n{self.log.read_text()[-3000:]}") from None

    def destroy(self) -> None:
        try:
            self.stop()
        finally:
            servers.destroy(self.database)
            shutil.rmtree(self.directory, ignore_errors=True)


def prepare(name: str) -> StoreService:
    """With a database of its own, which keeps its word about what it has. Raises Unavailable."""
    database = servers.embedded(name, durable=True)
    directory = servers.scratch(f"{name}-service")
    return StoreService(database, directory, make_authority(directory / "tls"))


def kill_database(server: Server) -> None:
    """SIGKILL to the server and all that it has started, as if the machine had lost its power."""
    assert server.process is not None
    children = [pid for task in _tasks(server.process.pid) for pid in task]
    for pid in (server.process.pid, *children):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    server.process.wait()
    server.process = None
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in children):
        assert time.monotonic() < deadline, "processes of the server live on"
        time.sleep(0.02)


def _tasks(pid: int) -> Iterable[list[int]]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        yield [int(child) for child in task.read_text().split()]
