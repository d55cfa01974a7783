"""What the benchmark compares: PostgreSQL itself, pgbouncer before it, Ostiary before it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from support import gateway as gateways
from support import servers
from support.gateway import Gateway, Manifest
from support.servers import Server
from support.wire import Wire

SCALE = 10
"""Of pgbench: 1,000,000 accounts."""
HERE = Path(__file__).parent
TICK = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cpu:
    """Seconds that processes have used."""

    user: float = 0.0
    system: float = 0.0

    @property
    def total(self) -> float:
        return self.user + self.system

    def __add__(self, other: Cpu) -> Cpu:
        return Cpu(self.user + other.user, self.system + other.system)

    def __sub__(self, other: Cpu) -> Cpu:
        return Cpu(self.user - other.user, self.system - other.system)


@dataclass(frozen=True)
class Target:
    """One way to the database. `root` is the process in between that has started the others; 0: there is none."""

    name: str
    port: int
    user: str
    password: str
    root: int = 0

    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        mine = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password}
        return {**inherited, **mine, "PGDATABASE": servers.DATABASE, "PGSSLMODE": "disable"}

    def login(self, timeout: float = 600) -> Wire:
        return Wire.login(
            "127.0.0.1", self.port, user=self.user, password=self.password, database="app", timeout=timeout
        )

    def pids(self) -> list[int]:
        """The processes in between."""
        found, queue = [], [self.root] if self.root else []
        while queue:
            pid = queue.pop()
            found.append(pid)
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                queue += [int(child) for child in task.read_text().split()]
        return found

    def cpu(self) -> Cpu:
        """What the processes in between have used so far."""
        return sum((_cpu(Path(f"/proc/{pid}/stat")) for pid in self.pids()), Cpu())

    def threads(self) -> dict[str, Cpu]:
        """The same by thread: process id, thread id and the thread's name."""
        found = {}
        for pid in self.pids():
            for task in Path(f"/proc/{pid}/task").iterdir():
                found[f"{pid}/{task.name} {(task / 'comm').read_text().strip()}"] = _cpu(task / "stat")
        return found

    def resident(self) -> int:
        """Bytes of memory of the processes in between; pages that several share are counted once (PSS)."""
        return sum(memory_of(pid)["Pss"] for pid in self.pids())


def memory_of(pid: int) -> dict[str, int]:
    """Rss, Pss, Private_Dirty, … of one process, in bytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}


def _cpu(stat: Path) -> Cpu:
    fields = stat.read_text().rpartition(")")[2].split()
    return Cpu(int(fields[11]) * TICK, int(fields[12]) * TICK)


@contextmanager
def database(scale: int = SCALE) -> Iterator[Server]:
    """An embedded PostgreSQL with pgbench's tables. It does not wait for its disk."""
    server = servers.embedded("bench", settings={"log_statement": "none", "max_connections": "1100"})
    try:
        subprocess.run(
            [server.bindir / "pgbench", "-i", "-q", "-s", str(scale)],
            env={**os.environ, **server.environment()},
            check=True,
            capture_output=True,
        )
        server.sql("vacuum analyze; checkpoint")
        yield server
    finally:
        servers.destroy(server)


def direct(server: Server) -> Target:
    """Nothing in between."""
    return Target("direct", server.port, server.user, server.password)


@contextmanager
def ostiary(server: Server, *, audit: str = "Relaxed", workers: int = 1) -> Iterator[Target]:
    """`ostiary serve` with 12 rules, card and email detectors and Full recording, its record on disk."""
    name = "Ostiary" if audit == "Relaxed" else f"Ostiary, {audit}"
    name += f", {workers} workers" * (workers > 1)
    root = Path(os.environ.get("OSTIARY_BENCH_DIR", "/var/tmp"))
    gateway: Gateway = gateways.prepare(root / f"ostiary-bench-{os.getpid()}-{servers.free_port()}", server)
    gateway.arguments = ("--workers", str(workers)) if workers > 1 else ()
    gateway.write(*_manifests(server, gateway.port, audit))
    try:
        gateway.start()
        yield Target(name, gateway.port, gateway.user, gateway.password, gateway.pid)
    finally:
        gateway.destroy()


def manifests(server: Server) -> dict[str, str]:
    """What `ostiary` serves, as texts by name."""
    return {"all.yaml": yaml.safe_dump_all(_manifests(server, 5432, "Relaxed"))}


def _manifests(server: Server, port: int, audit: str) -> list[Manifest]:
    limits: Manifest = {"maxSessions": 2000, "idleTimeout": "1h"}
    policy: Manifest = yaml.safe_load((HERE / "policy_12_rules.yaml").read_text("utf-8"))
    connection = gateways.connection(server, port, limits=limits, audit=audit)
    return [connection, *gateways.secrets_for(server), policy]


@contextmanager
def pgbouncer(server: Server) -> Iterator[Target]:
    """pgbouncer in session mode, with nothing in its way: no password asked, no TLS, a quiet log."""
    if not shutil.which("pgbouncer"):
        raise SystemExit("pgbouncer is not here: apt-get install -y pgbouncer")
    directory = servers.scratch("pgbouncer")
    port = servers.free_port()
    secret = server.password.replace("'", "''")
    config = directory / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n{server.database} = host={server.host} port={server.port} user={server.user}"
        f" password='{secret}'\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = session\nmax_client_conn = 2000\ndefault_pool_size = 1050\nserver_reset_query = DISCARD ALL\n"
        "log_connections = 0\nlog_disconnections = 0\nlog_stats = 0\nignore_startup_parameters = extra_float_digits\n"
    )
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
    if account is not None:
        for path in (directory, config):
            os.chown(path, account.pw_uid, account.pw_gid)
    process = subprocess.Popen(
        [shutil.which("pgbouncer") or "pgbouncer", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=(directory / "log").open("wb"),
        user=account.pw_uid if account else None,
        group=account.pw_gid if account else None,
    )
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError(f"pgbouncer did not start: {(directory / 'log').read_text()}") from None
                time.sleep(0.05)
        yield Target("pgbouncer", port, server.user, "", process.pid)
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)
