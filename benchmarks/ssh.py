"""SSH through the gateway, beside a direct connection and `ssh -J`, in one run.

    python benchmarks/ssh.py [bulk] [latency] [echo] [idle] [facts] [--rounds 5] [--megabytes 500]

Needs OpenSSH, client and server. The jump host is a plain sshd; both servers and the gateway are on this machine, so
that all share its processors. Everything is AES-GCM; the gateway decides with one rule and records as it is told, with
a digest of all that flows. Ratios are medians over rounds in which each way has its turn.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from support import ssh_gateway as gateways  # noqa: E402
from support import sshd as servers  # noqa: E402
from support.gateway import TOKEN  # noqa: E402
from support.ssh_pairs import Side, direct, jumped, through  # noqa: E402

CIPHER = "aes128-gcm@openssh.com"
LOGINS = 12
KEYS = 300
IDLE = 200
LINES = (
    "ls -l /var/log",
    "systemctl status nginx",
    "find /srv -name '*.log' -mtime +7 -print0 | xargs -0 rm -f",
    "sudo -u www-data sh -c 'cd /srv/app && git pull --ff-only && make' 2>&1 | tail -n 20",
    "for f in *.conf; do cp \"$f\" \"/backup/$f\" || exit 1; done",
)

DIRECT, JUMP, OURS = "direct", "ssh -J", "Ostiary"


@dataclass
class Ways:
    """How the target is reached."""

    sides: dict[str, Side]
    target: servers.Sshd
    gateway: gateways.SshGateway
    source: Path
    """A file to be sent."""
    there: Path
    """The same, at the target."""

    @property
    def pid(self) -> int:
        return self.gateway.pid


@dataclass
class Row:
    """One line of the table."""

    work: str
    wanted: str
    measured: str


@dataclass
class Turns:
    """What each way took, round by round."""

    took: dict[str, list[float]] = field(default_factory=lambda: {DIRECT: [], JUMP: [], OURS: []})
    cpu: list[float] = field(default_factory=list)

    def of(self, way: str, other: str) -> list[float]:
        """`way` against `other`, pair by pair."""
        return [mine / theirs for mine, theirs in zip(self.took[way], self.took[other], strict=True)]


def main() -> None:
    options = arguments()
    wanted = options.work or ["bulk", "latency", "echo", "idle", "facts"]
    with ExitStack() as stack:
        if set(wanted) - {"facts"}:
            ways = stack.enter_context(reached(options))
            for name, measure in (("bulk", bulk), ("latency", latency), ("echo", echo), ("idle", idle)):
                if name in wanted:
                    show(measure(ways, options))
        if "facts" in wanted:
            show(facts())


def show(rows: list[Row]) -> None:
    """Lines of the table: what was measured, what is wanted, what it was."""
    for row in rows:
        print(f"{row.work:28}  {row.wanted:27}  {row.measured}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", choices=["bulk", "latency", "echo", "idle", "facts", []])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--recording", default="Metadata", choices=["None", "Metadata", "Full"])
    parser.add_argument("--audit", default="Strict", choices=["Relaxed", "Strict"])
    parser.add_argument("--cipher", default=CIPHER)
    return parser.parse_args()


# -- what is measured


def bulk(ways: Ways, options: argparse.Namespace) -> list[Row]:
    """A file down and up: by commands, by scp over SFTP, and by scp's own protocol."""
    remote, null = str(ways.there), "/dev/null"
    works: dict[str, Callable[[Side], None]] = {
        "download, exec": lambda side: _exec(side, f"cat {remote}", None),
        "upload, exec": lambda side: _exec(side, f"cat > {remote}.up", ways.source),
        "download, scp": lambda side: _scp(side, f"target:{remote}", null),
        "upload, scp": lambda side: _scp(side, str(ways.source), f"target:{remote}.up"),
        "download, scp -O": lambda side: _scp(side, "-O", f"target:{remote}", null),
        "upload, scp -O": lambda side: _scp(side, "-O", str(ways.source), f"target:{remote}.up"),
    }
    rows, gigabytes = [], options.megabytes / 1000
    for name, work in works.items():
        turns = _turns(ways, work, options.rounds)
        to_direct, to_jump = turns.of(DIRECT, OURS), turns.of(JUMP, OURS)
        rate = options.megabytes / statistics.median(turns.took[OURS])
        rows.append(Row(name, "0.60 (aim 0.80) of direct", f"{_median(to_direct)} of direct, {rate:.0f} MB/s"))
        rows.append(Row("", "1.3 of ssh -J", f"{_median(to_jump)} of ssh -J"))
        seconds = statistics.median(turns.cpu) / gigabytes
        rows.append(Row("", "1.9 s (aim 0.8 s) CPU a GB", f"{seconds:.2f} s CPU a GB"))
    return rows


def latency(ways: Ways, options: argparse.Namespace) -> list[Row]:
    """`ssh host true`, from the start of the program to its end."""
    turns = _turns(ways, lambda side: _exec(side, "true", None), LOGINS * options.rounds)
    shown = ", ".join(f"{way} {statistics.median(took) * 1e3:.0f} ms" for way, took in turns.took.items())
    return [
        Row("ssh host true", "1.2 (aim 0.8) times direct", f"{_median(turns.of(OURS, DIRECT))} times direct; {shown}"),
        Row("", "", f"{statistics.median(turns.cpu) * 1e3:.1f} ms CPU of the gateway"),
    ]


def echo(ways: Ways, options: argparse.Namespace) -> list[Row]:
    """A key that is typed into a terminal, until it is shown. Terminals are recorded in full, or not at all."""
    took: dict[str, list[float]] = {}
    with ExitStack() as stack:
        gateway = stack.enter_context(gateways.ssh_gateway(ways.target, recording="Full", audit=options.audit))
        sides = {**ways.sides, OURS: through(gateway, ways.source.parent, "terminal")}
        typists = {way: stack.enter_context(typing(side)) for way, side in sides.items()}
        for _ in range(KEYS):
            for way, press in typists.items():
                took.setdefault(way, []).append(press())
    middle = {way: statistics.median(found) * 1e6 for way, found in took.items()}
    added = middle[OURS] - middle[DIRECT]
    shown = ", ".join(f"{way} {value:.0f} µs" for way, value in middle.items())
    return [Row("echo in a pty, added p50", "500 µs (aim 150 µs)", f"{added:.0f} µs; {shown}")]


def idle(ways: Ways, options: argparse.Namespace) -> list[Row]:
    """What a session holds that does nothing: logged in at both ends, and with a command that waits."""
    return asyncio.run(_idle(ways))


async def _idle(ways: Ways) -> list[Row]:
    pid, gateway = ways.pid, ways.gateway
    connections = [await _client(gateway) for _ in range(20)]
    for each in connections:
        await each.run("true")
    await asyncio.sleep(1)
    before = _resident(pid)
    connections += [await _client(gateway) for _ in range(IDLE)]
    await asyncio.sleep(2)
    logged_in = (_resident(pid) - before) / IDLE / 1000
    for each in connections[-IDLE:]:
        await each.create_process("cat")
    await asyncio.sleep(2)
    running = (_resident(pid) - before) / IDLE / 1000
    for each in connections:
        each.abort()
    return [
        Row("memory of an idle session", "80 kB (aim 50 kB)", f"{logged_in:.1f} kB"),
        Row("the same, a command running", "", f"{running:.1f} kB"),
    ]


async def _client(gateway: gateways.SshGateway) -> asyncssh.SSHClientConnection:
    return await asyncssh.connect(
        gateway.host, gateway.port, username=gateway.target.user, password=TOKEN, known_hosts=None, client_keys=None,
        config=None, encryption_algs=[CIPHER], agent_path=None, gss_host=None,
    )  # fmt: skip


def facts() -> list[Row]:
    """What is read out of a command line that was never seen before: one word of each is always another."""
    from ostiary_gateway.protocols.ssh.commands import command_facts

    for line in LINES:
        command_facts(line)
    each: list[float] = []
    for number in range(200):
        for line in LINES:
            unseen = f"{line} word{number}"
            started = time.perf_counter()
            command_facts(unseen)
            each.append(time.perf_counter() - started)
    return [Row("facts of a command line", "60 µs (aim 25 µs)", f"{statistics.median(each) * 1e6:.0f} µs")]


# -- what it is measured with


def _turns(ways: Ways, work: Callable[[Side], None], rounds: int) -> Turns:
    found = Turns()
    for side in ways.sides.values():
        work(side)  # what is loaded once is not what is measured
    for _ in range(rounds):
        for way, side in ways.sides.items():
            before, started = _cpu(ways.pid), time.perf_counter()
            work(side)
            found.took[way].append(time.perf_counter() - started)
            if way == OURS:
                time.sleep(0.05)
                found.cpu.append(_cpu(ways.pid) - before)
    return found


def _exec(side: Side, command: str, stdin: Path | None) -> None:
    with (stdin or Path("/dev/null")).open("rb") as source:
        _done(side, side.command("target", command), source.fileno())


def _scp(side: Side, *arguments: str) -> None:
    _done(side, ["scp", "-q", "-F", str(side.config), *arguments], subprocess.DEVNULL)


def _done(side: Side, command: list[str], stdin: int) -> None:
    done = subprocess.run(
        command, stdin=stdin, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=side.environment
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed on {side.name}: {done.stderr.decode(errors='replace')}")


@contextmanager
def typing(side: Side) -> Iterator[Callable[[], float]]:
    """Presses a key in a remote terminal and waits for it to be shown; gives the seconds."""
    with subprocess.Popen(
        side.command("-tt", "target", "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=side.environment,
        bufsize=0,
    ) as running:  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        keyboard, screen = running.stdin.fileno(), running.stdout.fileno()

        def press() -> float:
            started = time.perf_counter()
            os.write(keyboard, b"x")
            if not os.read(screen, 1):
                raise SystemExit(f"the terminal of {side.name} ended")
            took = time.perf_counter() - started
            time.sleep(0.002)
            return took

        for _ in range(10):
            press()
        try:
            yield press
        finally:
            running.kill()


@contextmanager
def reached(options: argparse.Namespace) -> Iterator[Ways]:
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        target = stack.enter_context(servers.sshd())
        jump = stack.enter_context(servers.sshd("jump"))
        gateway = stack.enter_context(
            gateways.ssh_gateway(
                target, recording=options.recording, audit=options.audit, limits={"maxSessions": 2 * IDLE + 100}
            )
        )
        source, there = scratch / "source", target.files / "there"
        with source.open("wb") as file:
            for _ in range(options.megabytes):
                file.write(os.urandom(1000) * 1000)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(source.read_bytes())
        sides = {DIRECT: direct(target, scratch), JUMP: jumped(target, jump, scratch), OURS: through(gateway, scratch)}
        for side in sides.values():
            side.configure(Ciphers=options.cipher)
        yield Ways(sides, target, gateway, source, there)


def _median(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
