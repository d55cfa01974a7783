"""The same session of ssh twice, directly and through a gateway: what people see of both must be the same."""

from __future__ import annotations

import difflib
import hashlib
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from support.gateway import TOKEN, run_ostiary
from support.ssh_gateway import SshGateway
from support.sshd import Sshd, make_key
from support.terminals import Terminal, terminal

PATIENCE = 60.0
"""Seconds until a program counts as hanging."""
LONG = 2000
"""Output of more bytes is compared by its digest."""

_VARIES = (
    (r"127\.0\.0\.1 \d+ 127\.0\.0\.1 \d+", "CONNECTION"),
    (r"\b127\.0\.0\.1( port |:|\]:)\d+", r"127.0.0.1\1PORT"),
    (r"\[127\.0\.0\.1\]:\d+", "[127.0.0.1]:PORT"),
    (r"[Aa]llocated port \d+", "allocated port PORT"),
    (r"/tmp/ssh-\w+/agent\.\d+", "AGENT"),
    (r"\w{3} [ \d]\d \d\d:\d\d(:\d\d)?( \d{4})?", "TIME"),
    (r"\b\d+(\.\d+)?[KMG]?B/s\b", "SPEED"),
    (r"\b\d+:\d\d\b", "TIME"),
)


@dataclass
class Done:
    """What a program has printed, and how it ended: below 0 by a signal."""

    code: int
    out: bytes
    err: bytes

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def said(self) -> str:
        """Standard error."""
        return self.err.decode()


@dataclass
class Side:
    """One way to a server that its clients call `target`. Keeps what was typed and what was seen of it."""

    name: str
    directory: Path
    """Where programs run; files of the agent's."""
    remote: Path
    """A directory at the server, for this side only."""
    options: Mapping[str, str]
    """Of ssh_config, for the host `target`."""
    environment: dict[str, str]
    seen: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.configure()

    def configure(self, **more: str) -> None:
        """Write the configuration of its programs, with more for it."""
        lines = [f"  {key} {value}\n" for key, value in {**more, **self.options}.items()]
        self.config.write_text("Host target\n" + "".join(lines))

    @property
    def config(self) -> Path:
        return self.directory / "ssh_config"

    @property
    def port(self) -> int:
        return int(self.options["Port"])

    def command(self, *arguments: str) -> list[str]:
        """`ssh …`, as a list. The host `target` is named among the arguments."""
        return ["ssh", "-F", str(self.config), *arguments]

    def ssh(self, *arguments: str, stdin: bytes = b"", noted: bool = True, **variables: str) -> Done:
        """Run `ssh …`, and note what it printed."""
        return self.run(self.command(*arguments), stdin, noted=noted, **variables)

    def ok(self, *arguments: str, stdin: bytes = b"") -> Done:
        """`ssh target …`, which must succeed."""
        done = self.ssh("target", *arguments, stdin=stdin)
        assert done.code == 0, f"ssh {shlex.join(arguments)} → {done.code}\n{done.out[-2000:]!r}\n{done.err[-2000:]!r}"
        return done

    def tool(self, program: str, *arguments: str, stdin: bytes = b"", noted: bool = True, **variables: str) -> Done:
        """Run scp or sftp, which take `-F` as ssh does."""
        return self.run([program, "-F", str(self.config), *arguments], stdin, noted=noted, **variables)

    def run(self, command: Sequence[str], stdin: bytes = b"", *, noted: bool = True, **variables: str) -> Done:
        """Run any program, and note what it printed."""
        finished = subprocess.run(
            command, input=stdin, env={**self.environment, **variables}, cwd=self.directory,
            capture_output=True, timeout=PATIENCE,
        )  # fmt: skip
        done = Done(finished.returncode, finished.stdout, finished.stderr)
        if noted:
            self.note(command, done)
        return done

    @contextmanager
    def running(
        self, *arguments: str, stdin: int | None = subprocess.DEVNULL, **variables: str
    ) -> Iterator[subprocess.Popen[bytes]]:
        """While `ssh …` runs; ended with the block, or when it hangs. What it printed is not noted."""
        process = subprocess.Popen(
            self.command(*arguments), env={**self.environment, **variables}, cwd=self.directory, stdin=stdin,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        watch = threading.Timer(PATIENCE, process.kill)
        watch.start()
        with process:
            try:
                yield process
            finally:
                watch.cancel()
                process.kill()

    @contextmanager
    def terminal(self, *arguments: str, columns: int = 100, rows: int = 30) -> Iterator[Terminal]:
        """While `ssh …` runs at a terminal."""
        variables = {**self.environment, "TERM": "xterm"}
        with terminal(self.command(*arguments), variables, columns=columns, rows=rows) as screen:
            yield screen

    def file(self, name: str, content: bytes) -> Path:
        """A file of the agent's."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def there(self, name: str, content: bytes) -> Path:
        """A file at the server."""
        path = self.remote / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def note(self, command: Sequence[str], done: Done) -> None:
        """Keep what was seen, without what differs between any two runs."""
        typed = [word for word in command if word not in ("-F", str(self.config))]
        self.seen.append(self._plain(f"$ {shlex.join(typed)} → {done.code}"))
        for stream, data in (("", done.out), ("! ", done.err)):
            if len(data) > LONG:
                self.seen.append(f"{stream}{len(data)} bytes, {hashlib.sha256(data).hexdigest()}")
            else:
                text = self._plain(data.decode("utf-8", "backslashreplace"))
                self.seen += [stream + line for line in text.split("\n") if line]

    def remark(self, what: object) -> None:
        """Keep something that the scenario saw itself."""
        self.seen.append(self._plain(f"# {what}"))

    def tree(self, place: Path) -> None:
        """Keep names, modes, sizes and content of all files below a directory."""
        for path in sorted(place.rglob("*")):
            told = path.lstat()
            what = (
                str(path.readlink()) if path.is_symlink()
                else hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            )  # fmt: skip
            size = told.st_size if path.is_file() else 0
            self.remark(f"{path.relative_to(place)} {told.st_mode:o} {size} {what}")

    def _plain(self, text: str) -> str:
        for place, stands_for in ((self.directory, "LOCAL"), (self.remote, "REMOTE")):
            text = text.replace(str(place), stands_for)
        for pattern, stands_for in _VARIES:
            text = re.sub(pattern, stands_for, text)
        return text


def _side(name: str, directory: Path, remote: Path, options: Mapping[str, str], **variables: str) -> Side:
    for place in (directory, remote):
        place.mkdir(parents=True, exist_ok=True)
    inherited = {key: os.environ[key] for key in ("PATH", "HOME", "USER", "LOGNAME", "SHELL") if key in os.environ}
    common = {
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "ControlPath": "none",
        "CanonicalizeHostname": "no",
    }
    return Side(name, directory, remote, {**common, **options}, {**inherited, "LC_ALL": "C.UTF-8", **variables})


def direct(target: Sshd, directory: Path, name: str = "direct") -> Side:
    """The agent at the server itself, with a key of its own."""
    options = {
        "HostName": target.host,
        "Port": str(target.port),
        "User": target.user,
        "UserKnownHostsFile": str(target.known_hosts),
        "IdentityFile": str(target.client_key),
        "PreferredAuthentications": "publickey",
    }
    return _side(name, directory / name, target.files / f"{directory.name}-{name}", options)


def through(gateway: SshGateway, directory: Path, name: str = "gateway", token: str = TOKEN) -> Side:
    """The agent at the gateway, with its token for a password."""
    target = gateway.target
    options = {
        "HostName": gateway.host,
        "Port": str(gateway.port),
        "User": target.user,
        "UserKnownHostsFile": str(gateway.known_hosts()),
        "IdentityFile": "none",
        "PreferredAuthentications": "password",
        "NumberOfPasswordPrompts": "1",
    }
    place = directory / name
    place.mkdir(parents=True, exist_ok=True)
    asking = place / "askpass"
    asking.write_text('#!/bin/sh\nprintf "%s\\n" "$OSTIARY_TOKEN"\n')
    asking.chmod(0o700)
    return _side(
        name, place, target.files / f"{directory.name}-{name}", options,
        SSH_ASKPASS=str(asking), SSH_ASKPASS_REQUIRE="force", OSTIARY_TOKEN=token,
    )  # fmt: skip


def certified(gateway: SshGateway, directory: Path, name: str = "certified") -> Side:
    """The agent at the gateway, with a certificate for a key of its own, that it got for its token."""
    place = directory / name
    place.mkdir(parents=True, exist_ok=True)
    make_key(place / "id")
    token = place / "token"
    token.write_text(TOKEN)
    run_ostiary(
        "ssh", "cert", "--server", f"{gateway.host}:{gateway.port}", "--identity", str(place / "id"),
        "--token-file", str(token), "--known-hosts", str(gateway.known_hosts()),
    )  # fmt: skip
    token.unlink()
    options = {
        "HostName": gateway.host,
        "Port": str(gateway.port),
        "User": gateway.target.user,
        "UserKnownHostsFile": str(gateway.known_hosts()),
        "IdentityFile": str(place / "id"),
        "CertificateFile": str(place / "id-cert.pub"),
        "PreferredAuthentications": "publickey",
    }
    return _side(name, place, gateway.target.files / f"{directory.name}-{name}", options)


def jumped(target: Sshd, jump: Sshd, directory: Path, name: str = "jump") -> Side:
    """The agent at the server, over another sshd: what a jump host that reads nothing shows."""
    options = {
        **direct(target, directory, name).options,
        "ProxyCommand": shlex.join(
            ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={jump.known_hosts}", "-i", str(jump.client_key)]
            + ["-p", str(jump.port), "-l", jump.user, "-W", "[%h]:%p", jump.host]
        ),
    }
    return _side(name, directory / name, target.files / f"{directory.name}-{name}", options)


class Scenario(Protocol):
    """A session: what is typed, and what is expected of it in any case."""

    def __call__(self, side: Side) -> None: ...


def same(scenario: Scenario, direct: Side, other: Side) -> None:
    """Play it on both sides; fails with a diff where these saw different things."""
    for side in (direct, other):
        scenario(side)
    assert direct.seen, "nothing was looked at"
    told = "\n".join(difflib.unified_diff(direct.seen, other.seen, direct.name, other.name, "", "", 3, ""))
    assert not told, told
