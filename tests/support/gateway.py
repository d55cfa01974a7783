"""`ostiary serve` as a real process, from manifests as a user would write them."""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from support.servers import Server, free_port
from support.wire import PROTOCOL_3_0, Wire

ROOT = Path(__file__).parents[2]
TOKEN = "an-agent's-token-of-enough-entropy-0123456789"
AGENT = "planner"
START_SECONDS = 30.0

Manifest = dict[str, object]


def policy(name: str, rules: list[Manifest], **spec: object) -> Manifest:
    """A GatewayPolicy for every Postgres Connection of the namespace."""
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "GatewayPolicy",
        "metadata": {"name": name},
        "spec": {"match": {"protocols": ["Postgres"]}, "rules": rules, **spec},
    }


ALLOW_ALL = policy("allow-all", [{"name": "everything", "action": "Allow", "expression": "true"}])


def secret(name: str, kind: str = "Opaque", **data: str | bytes) -> Manifest:
    packed = {
        key.replace("__", "."): base64.b64encode(value.encode() if isinstance(value, str) else value).decode()
        for key, value in data.items()
    }
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": packed}


def agent_token(name: str, token: str, username: str, groups: str = "agents") -> Manifest:
    digest = hashlib.sha256(token.encode()).hexdigest()
    return secret(name, "ostiary.dev/token", username=username, groups=groups, sha256=digest)


def connection(
    server: Server,
    port: int,
    *,
    name: str = "app",
    tls: bool = False,
    upstream_tls: str | None = None,
    database: str | None = None,
    limits: Manifest | None = None,
    labels: dict[str, str] | None = None,
    **spec: object,
) -> Manifest:
    """A Connection to `server`, listening on `port`, in clear unless `tls`."""
    mode = upstream_tls or ("VerifyFull" if server.ca else "Disable")
    upstream_security: Manifest = {"mode": mode}
    if server.ca and mode.startswith("Verify"):
        upstream_security["caRef"] = {"name": "db-ca", "key": "ca.crt"}
    upstream: Manifest = {"host": server.host, "port": server.port, "tls": upstream_security}
    upstream["database"] = database or server.database
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {
            "protocol": "Postgres",
            "upstream": upstream,
            "credentials": {"static": {"secretRef": {"name": "db"}}},
            "listener": {"port": port, "tls": {"mode": "Require" if tls else "Disable"}},
            **({"limits": limits} if limits else {}),
            **spec,
        },
    }


def secrets_for(server: Server, ca: Path | None = None) -> list[Manifest]:
    """The database's credential, its CA, the agent's token."""
    found = [
        secret("db", username=server.user, password=server.password),
        agent_token("planner-token", TOKEN, AGENT),
    ]
    if ca or server.ca:
        found.append(secret("db-ca", ca__crt=Path(ca or server.ca or "").read_bytes()))
    return found


@dataclass(slots=True)
class Gateway:
    """One `ostiary serve`. `server` is the PostgreSQL behind its first Connection."""

    directory: Path
    server: Server
    port: int
    admin_port: int
    tls: bool
    host: str = "127.0.0.1"
    user: str = AGENT
    password: str = TOKEN
    database: str = ""
    environment_variables: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    """More for `ostiary serve`."""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def manifests(self) -> Path:
        return self.directory / "manifests"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "gateway.log"

    def write(self, *objects: Manifest, file: str = "all.yaml") -> None:
        """Put manifests where the gateway reads them, in one step, so that it never sees half a file."""
        self.manifests.mkdir(parents=True, exist_ok=True)
        target = self.manifests / file
        draft = self.directory / f".{file}.draft"
        draft.write_text(yaml.safe_dump_all(objects, sort_keys=False))
        draft.chmod(0o600)
        draft.replace(target)

    @property
    def connection_manifests(self) -> list[Manifest]:
        """What was written first, without its policies."""
        found = yaml.safe_load_all((self.manifests / "all.yaml").read_text())
        return [item for item in found if item["kind"] != "GatewayPolicy"]

    def start(self) -> None:
        command = [*ostiary(), "serve", str(self.manifests), "--data", str(self.data), "--listen", self.host]
        command += ["--admin", f"127.0.0.1:{self.admin_port}", *self.arguments]
        _many_files()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment(self.environment_variables),
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                socket.create_connection((self.host, self.port), 1).close()
                if "--workers" in self.arguments and self.admin("/readyz")[0] != 200:
                    raise OSError("not all workers are there")
            except OSError:
                time.sleep(0.05)
                continue
            return
        raise AssertionError(f"ostiary serve did not start:\n{self.log_text()[-4000:]}")

    def stop(self) -> None:
        """As a service manager would: SIGTERM, and SIGKILL (which is a failure) if that does not help."""
        process, self.process = self.process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"ostiary serve did not stop on SIGTERM:\n{self.log_text()[-3000:]}") from None

    def destroy(self) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.directory, ignore_errors=True)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log_text(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    @property
    def ca(self) -> Path:
        """The CA of the certificate that the gateway made for itself."""
        found = sorted(self.data.rglob("ca*.crt")) + sorted(self.data.rglob("ca*.pem"))
        if not found:
            raise AssertionError(f"no CA below {self.data}: {sorted(self.data.rglob('*'))}")
        return found[0]

    def resident(self) -> int:
        """Resident memory of the process and its children, in bytes (RSS)."""
        return sum(_resident(pid) for pid in self.pids())

    def pids(self) -> list[int]:
        """The process and its descendants."""
        found, queue = [], [self.pid]
        while queue:
            pid = queue.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                queue += [int(child) for child in task.read_text().split()]
        return found

    def admin(self, path: str) -> tuple[int, str]:
        """GET of the admin address: status and body."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as failure:
            with failure:
                return failure.code, failure.read().decode()

    def environment(self, **more: str) -> dict[str, str]:
        """The PG… variables by which an agent's client comes through the gateway."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database or self.server.database,
            "PGSSLMODE": "require" if self.tls else "disable",
            **more,
        }

    def dsn(self, **more: str) -> str:
        parts = {
            "host": self.host,
            "port": str(self.port),
            "user": self.user,
            "password": self.password,
            "dbname": self.database or self.server.database,
            "sslmode": "require" if self.tls else "disable",
            **more,
        }
        return " ".join("{}='{}'".format(k, v.replace("\\", "\\\\").replace("'", "\\'")) for k, v in parts.items())

    def login(self, *, protocol: int = PROTOCOL_3_0, timeout: float = 20, **settings: str) -> Wire:
        """A session of the raw client, as the agent."""
        context = None
        if self.tls:
            context = ssl.create_default_context(cafile=str(self.ca))
        return Wire.login(
            self.host,
            self.port,
            user=self.user,
            password=self.password,
            database=self.database or self.server.database,
            tls=context,
            protocol=protocol,
            timeout=timeout,
            **settings,
        )

    def run(self, *arguments: str, check: bool = True) -> str:
        """Another `ostiary` command on this gateway's data, for example `sessions`."""
        return run_ostiary(*arguments, "--data", str(self.data), check=check)


StartGateway = Callable[..., Gateway]
"""What the fixture `start_gateway` gives: server, policies …, tls=…, settings of the Connection."""


def prepare(directory: Path, server: Server, *, tls: bool = False) -> Gateway:
    """A gateway with its ports, not started, with no manifests yet."""
    directory.mkdir(parents=True, exist_ok=True)
    return Gateway(directory, server, free_port(), free_port(), tls)


def ostiary() -> list[str]:
    """The real command: the installed script where there is one, else the same entry point from the source tree."""
    script = Path(sys.executable).parent / "ostiary"
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "import sys; from ostiary_cli.main import main; sys.argv[0] = 'ostiary'; main()"]


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    path = os.pathsep.join([str(ROOT / "crds"), str(ROOT / "gateway"), inherited.get("PYTHONPATH", "")]).rstrip(":")
    return {**inherited, "PYTHONPATH": path, **(more or {})}


def run_ostiary(*arguments: str, check: bool = True) -> str:
    done = subprocess.run([*ostiary(), *arguments], capture_output=True, text=True, env=environment(), timeout=120)
    if check and done.returncode:
        raise AssertionError(f"ostiary {' '.join(arguments)} → {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout + ("" if check else done.stderr)


def metrics(text: str) -> dict[str, float]:
    """Prometheus text as a dict."""
    lines = (line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


def reports_equal(one: str, other: str) -> list[str]:
    """What two reports of a client program saw differently, in words."""
    first, second = json.loads(one), json.loads(other)
    found = []
    for step, twin in zip(first["steps"], second["steps"], strict=False):
        if step != twin:
            lines = difflib.unified_diff(_lines(step["saw"]), _lines(twin["saw"]), "direct", "gateway", "", "", 1, "")
            found.append(f"{step['step']}:\n" + "\n".join(lines))
    if len(first["steps"]) != len(second["steps"]):
        found.append(f"{len(first['steps'])} steps directly, {len(second['steps'])} through the gateway")
    return found


def _lines(value: object) -> list[str]:
    """A value as lines to compare; strings of several lines are taken apart."""
    if isinstance(value, str):
        return value.splitlines()
    if isinstance(value, list) and any(isinstance(item, str) and "\n" in item for item in value):
        return [line for item in value for line in _lines(item)]
    return json.dumps(value, ensure_ascii=False, indent=1).splitlines()


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


def _many_files() -> None:
    """As many open files as allowed, for this process and those that it starts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
