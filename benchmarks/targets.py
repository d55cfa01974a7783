"""What the benchmark compares: PostgreSQL itself, pgbouncer before it, Ostiary before it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml
from support import gateway as gateways
from support import servers
from support.gateway import Gateway
from support.servers import Server

SCALE = 10
"""Of pgbench: 1,000,000 accounts."""
HERE = Path(__file__).parent


@dataclass(frozen=True)
class Target:
    """One way to the database. `pids` are the processes in between, none for the direct one."""

    name: str
    port: int
    user: str
    password: str
    pids: tuple[int, ...] = ()

    def environment(self) -> dict[str, str]:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        mine = {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password}
        return {**inherited, **mine, "PGDATABASE": servers.DATABASE, "PGSSLMODE": "disable"}

    def cpu(self) -> float:
        """Seconds of user and system time that the processes in between have used so far."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def resident(self) -> int:
        """Bytes of resident memory of the processes in between."""
        total = 0
        for pid in self.pids:
            for line in Path(f"/proc/{pid}/status").read_text().splitlines():
                if line.startswith("VmRSS"):
                    total += int(line.split()[1]) * 1024
        return total


@contextmanager
def everything(scale: int = SCALE) -> Iterator[tuple[Server, list[Target]]]:
    """A filled database, and the ways to it that this machine has."""
    with ExitStack() as stack:
        server = servers.embedded("bench", settings={"log_statement": "none", "max_connections": "400"})
        stack.callback(servers.destroy, server)
        subprocess.run(
            [server.bindir / "pgbench", "-i", "-q", "-s", str(scale)],
            env={**os.environ, **server.environment()},
            check=True,
            capture_output=True,
        )
        server.sql("vacuum analyze; checkpoint")
        targets = [Target("direct", server.port, server.user, server.password)]
        if shutil.which("pgbouncer"):
            targets.append(stack.enter_context(pgbouncer(server)))
        else:
            print("pgbouncer is not here, so it is left out: apt-get install -y pgbouncer")
        targets.append(stack.enter_context(ostiary(server)))
        yield server, targets


@contextmanager
def ostiary(server: Server) -> Iterator[Target]:
    """`ostiary serve` with 12 rules, card and email detectors, Full recording, Strict audit, its record on disk."""
    directory = Path(os.environ.get("OSTIARY_BENCH_DIR", "/var/tmp")) / f"ostiary-bench-{os.getpid()}"
    gateway: Gateway = gateways.prepare(directory, server)
    policy = yaml.safe_load((HERE / "policy_12_rules.yaml").read_text("utf-8"))
    limits = {"maxSessions": 1000, "idleTimeout": "1h"}
    gateway.write(gateways.connection(server, gateway.port, limits=limits), *gateways.secrets_for(server), policy)
    gateway.start()
    try:
        yield Target("Ostiary", gateway.port, gateway.user, gateway.password, tuple(gateway.pids()))
    finally:
        gateway.destroy()


@contextmanager
def pgbouncer(server: Server) -> Iterator[Target]:
    """pgbouncer in session mode, with nothing in its way: no password asked, no TLS, a quiet log."""
    directory = servers.scratch("pgbouncer")
    port = servers.free_port()
    secret = server.password.replace("'", "''")
    config = directory / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n{server.database} = host={server.host} port={server.port} user={server.user}"
        f" password='{secret}'\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = session\nmax_client_conn = 1000\ndefault_pool_size = 300\nserver_reset_query = DISCARD ALL\n"
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
        yield Target("pgbouncer", port, server.user, "", (process.pid,))
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(directory, ignore_errors=True)
