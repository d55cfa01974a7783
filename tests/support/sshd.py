"""Real SSH servers for tests: Debian's sshd on loopback, with an authority for its users and one for its host key."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from support.presence import missing
from support.servers import free_port, scratch

SSHD = Path("/usr/sbin/sshd")
HINT = "apt-get install -y openssh-server openssh-client"
SFTP_SERVER = "/usr/lib/openssh/sftp-server"
INTERNAL = "internal-sftp"
START_SECONDS = 20.0

# SHLVL: a shell that is not the first one leaves the login's .bashrc alone (bash of Debian), whatever is in it.
_CONFIG = """
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
HostCertificate {directory}/host_key-cert.pub
TrustedUserCAKeys {directory}/user_ca.pub
AuthorizedKeysFile {directory}/authorized_keys
PidFile {directory}/sshd.pid
AuthenticationMethods publickey
PermitRootLogin yes
UsePAM no
UseDNS no
StrictModes no
PrintMotd no
PrintLastLog no
LoginGraceTime 20
MaxStartups 1000
MaxSessions 1000
AcceptEnv *
SetEnv SHLVL=1
PermitTTY yes
PermitOpen any
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
AllowAgentForwarding yes
StreamLocalBindUnlink yes
GatewayPorts clientspecified
X11Forwarding yes
X11UseLocalhost yes
LogLevel VERBOSE
Subsystem sftp {sftp}
Subsystem upper /usr/bin/tr a-z A-Z
"""


@dataclass(slots=True)
class Sshd:
    """One sshd. Its login is `user`, by a key or by a certificate of the user authority."""

    directory: Path
    port: int
    sftp: str = INTERNAL
    more: str = ""
    """Further lines of its configuration."""
    host: str = "127.0.0.1"
    user: str = field(default_factory=getpass.getuser)
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def host_key(self) -> str:
        """Its public host key, as it stands in `upstream.hostKeys`: type and base64."""
        return _public(self.directory / "host_key.pub")

    @property
    def host_authority(self) -> str:
        """The public key of the authority that signed its host key."""
        return _public(self.directory / "host_ca.pub")

    @property
    def user_authority(self) -> Path:
        """The private key of the authority whose certificates open it; its public key is beside it, in `.pub`."""
        return self.directory / "user_ca"

    @property
    def client_key(self) -> Path:
        """A private key that opens it."""
        return self.directory / "client_key"

    @property
    def known_hosts(self) -> Path:
        return self.directory / "known_hosts"

    @property
    def files(self) -> Path:
        """A directory that the login can write to."""
        return self.directory / "files"

    @property
    def home(self) -> Path:
        """Where sessions begin."""
        return Path(pwd.getpwnam(self.user).pw_dir)

    @property
    def log(self) -> Path:
        return self.directory / "sshd.log"

    def log_text(self, since: int = 0) -> str:
        """Its log from byte `since` on."""
        with self.log.open("rb") as file:
            file.seek(since)
            return file.read().decode("utf-8", "replace")

    def log_size(self) -> int:
        return self.log.stat().st_size

    def start(self) -> None:
        config = self.directory / "sshd_config"
        config.write_text(_CONFIG.format(directory=self.directory, port=self.port, sftp=self.sftp) + self.more)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        command = [str(SSHD), "-D", "-e", "-f", str(config)]
        if self.user != getpass.getuser():
            # It lets nobody in whose account is locked, as those of packages are.
            shadow = self.directory / "shadow"
            shadow.write_text(f"{self.user}:*:19000:0:99999:7:::\n")
            script = f'mount --bind {shadow} /etc/shadow && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", script, "sh", *command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            with suppress(OSError):
                socket.create_connection((self.host, self.port), 1).close()
                return
            time.sleep(0.02)
        raise AssertionError(f"sshd did not start:\n{self.log_text()[-3000:]}")

    def stop(self) -> None:
        """End it, and the sessions that it still has."""
        process, self.process = self.process, None
        if process is None:
            return
        children = descendants(process.pid)
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """The processes of its sessions, and what runs in them."""
        assert self.process is not None
        return descendants(self.process.pid)


def prepare(name: str = "sshd", *, sftp: str = INTERNAL, more: str = "", user: str = "") -> Sshd:
    """One with its keys, not started. Skips the test where there is no sshd, and fails it where CI=true.

    `user`: another login than who runs the tests, which only root can serve.
    """
    for program in (str(SSHD), "ssh-keygen"):
        if shutil.which(program) is None:
            missing(f"{program} is not here: {HINT}")
    if sftp != INTERNAL and not Path(sftp).exists():
        missing(f"{sftp} is not here: apt-get install -y openssh-sftp-server")
    port = free_port()
    made = Sshd(scratch(f"{name}-{port}"), port, sftp, more, user=user or getpass.getuser())
    directory = made.directory
    for key in ("host_key", "host_ca", "user_ca", "client_key"):
        make_key(directory / key)
    sign(directory / "host_ca", directory / "host_key", "host", "127.0.0.1,localhost", host=True)
    (directory / "authorized_keys").write_text(made.client_key.with_suffix(".pub").read_text())
    made.known_hosts.write_text(f"[{made.host}]:{port} {made.host_key}\n")
    made.files.mkdir()
    return made


@contextmanager
def sshd(name: str = "sshd", *, sftp: str = INTERNAL, more: str = "", user: str = "") -> Iterator[Sshd]:
    """A running one, gone with the block."""
    made = prepare(name, sftp=sftp, more=more, user=user)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(made.directory, ignore_errors=True)


def make_key(path: Path, kind: str = "ed25519") -> None:
    """A private key without a passphrase, and its public key in `.pub`."""
    keygen("-q", "-t", kind, "-N", "", "-C", path.name, "-f", str(path))


def sign(authority: Path, key: Path, identity: str, principals: str, *more: str, host: bool = False) -> Path:
    """A certificate for a key, by the tool that people use; where it is."""
    kind = ("-h",) if host else ()
    keygen("-q", "-s", str(authority), "-I", identity, *kind, "-n", principals, *more, str(key) + ".pub")
    return key.with_name(key.name + "-cert.pub")


def keygen(*arguments: str) -> str:
    done = subprocess.run(["ssh-keygen", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def descendants(pid: int) -> list[int]:
    """The processes that a process has begun, and those that they have."""
    found, queue = [], [pid]
    while queue:
        for task in Path(f"/proc/{queue.pop()}/task").glob("*/children"):
            with suppress(OSError):
                children = [int(child) for child in task.read_text().split()]
                found += children
                queue += children
    return found


def _public(path: Path) -> str:
    return " ".join(path.read_text().split()[:2])
