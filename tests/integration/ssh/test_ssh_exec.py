"""Commands over ssh: output, exit status, signals and the order of ends are what the server itself shows."""

from __future__ import annotations

import asyncio
import os
import pwd
import random
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncssh
import pytest
from support import ssh_gateway as gateways
from support import sshd as servers
from support.gateway import TOKEN
from support.ssh_pairs import Side, same
from support.waiting import until

pytestmark = pytest.mark.clients

Sides = tuple[Side, Side]
BINARY = random.Random(7).randbytes(5_000_000)


def statuses(side: Side) -> None:
    side.ssh("target", "echo out; echo err >&2; exit 7")
    for command in ("true", "exit 126", "exit 255", "no-such-program", "("):
        side.ssh("target", command)


def signals(side: Side) -> None:
    for name in ("TERM", "KILL", "INT", "SEGV"):
        side.ssh("target", f"ulimit -c 0; echo before; kill -{name} $$; echo after")
    side.ssh("target", "(sh -c 'kill -9 $$'; echo the shell has seen $?) 2>/dev/null")


def ways_to_write_commands(side: Side) -> None:
    side.ok("echo", "a  b", "'c  d'", "*")
    side.ok("printf '%s|' one 'two three' \"$HOME\" | wc -c")
    side.ok("echo first\necho second\n\n")
    side.ok("echo Grüße, 世界, \U0001f642")
    side.ok(": " + "x" * 60_000 + "; echo long")
    side.ok("cat <<'END'\nhere $x\nEND\n")
    side.ok("f() { echo in $1; }; f function")


def standard_input(side: Side) -> None:
    side.ok("cat", stdin=b"to and fro\n")
    side.ok("cat", stdin=b"")
    side.ok("cat; echo after the end >&2", stdin=b"x" * 300_000)
    side.ok("head -c 3; echo", stdin=b"abcdefgh" * 500_000)
    side.ssh("target", "exec 0<&-; echo closed", stdin=b"y" * 1_000_000)
    side.ssh("-n", "target", "cat; echo nothing came", stdin=b"not for it")
    side.ssh("target", "read a; echo $a; read b; echo $b; exit 4", stdin=b"one\ntwo\n")
    side.ssh("target", "sh", stdin=b"echo from a script; exit 9\n")


def binary_both_ways(side: Side) -> None:
    done = side.ssh("target", f"tee {side.remote}/copy >/dev/null; cat {side.remote}/copy", stdin=BINARY)
    assert done.out == BINARY
    side.there("blob", BINARY)
    assert side.ok(f"cat {side.remote}/blob").out == BINARY
    assert side.ok(f"cat {side.remote}/blob | tee /dev/stderr").err == BINARY
    done = side.ok("sha256sum", stdin=BINARY)
    side.ok("cat", stdin=bytes(range(256)))


def ends(side: Side) -> None:
    """The exit status may come before the last output; the channel is open for as long as somebody holds it."""
    side.ssh("target", "(sleep 0.3; echo late; echo late too >&2) & exit 3")
    side.ssh("target", "exec 1>&-; sleep 0.1; echo still heard >&2; exit 2")
    side.ssh("target", "exec 1>&- 2>&-; sleep 0.2; exit 5")
    side.ok("cat >/dev/null; seq 1 40000", stdin=b"z" * 400_000)
    side.ok("seq 1 30000; seq 1 30000 >&2")
    side.ok("head -c 3000000 /dev/zero >&2; echo done")
    side.ssh("target", "sleep 5 </dev/null >/dev/null 2>&1 & echo the shell is gone")


def environments(side: Side) -> None:
    asked = "SetEnv=GREETING=hello COLOUR='light blue' EMPTY="
    side.ssh("-o", asked, "target", 'echo "$GREETING|$COLOUR|${EMPTY-unset}"')
    side.ssh("-o", "SendEnv=GR*", "target", 'echo "$GRAPE|$GREEN|$BLUE"', GRAPE="a", GREEN="b\nc", BLUE="no")


def subsystems(side: Side) -> None:
    side.ssh("-s", "target", "upper", stdin=b"abc\n" * 1000)
    side.ssh("-s", "target", "nonsense")


def many_at_a_time(side: Side) -> None:
    with ThreadPoolExecutor(10) as pool:
        found = pool.map(lambda n: side.ssh("target", f"echo {n}; exit {n}", noted=False), range(20))
    for number, done in enumerate(found):
        side.remark((number, done.code, done.out, done.err))


def without_a_command(side: Side) -> None:
    side.ssh("target", stdin=b"echo a shell without a terminal; echo err >&2; exit 6\n")
    side.ssh("target", stdin=b"")


ALL = (
    statuses, signals, ways_to_write_commands, standard_input, binary_both_ways, ends, environments, subsystems,
    many_at_a_time, without_a_command,
)  # fmt: skip


@pytest.mark.parametrize("scenario", ALL, ids=lambda scenario: scenario.__name__)
def test_it_is_as_directly(scenario: Callable[[Side], None], sides: Sides) -> None:
    same(scenario, *sides)


def test_command_after_command(sides: Sides) -> None:
    _, side = sides
    for number in range(30):
        done = side.ssh("target", f"echo {number}", noted=False)
        assert (done.code, done.text, done.said) == (0, f"{number}\n", "")


def test_signals_of_the_client(tmp_path: Path) -> None:
    """sshd gives signals of clients only to logins that it has put down its own rights for."""
    if os.geteuid() != 0 or not _has_login("postgres"):
        pytest.skip("needs root, and the login of PostgreSQL's package")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("needs a file system of its own")
    with servers.sshd("signals", user="postgres") as server, gateways.ssh_gateway(server) as gateway:
        told = asyncio.run(_signalled(gateway.port, "postgres", gateway.host_key, {"password": TOKEN}))
        keys = {"client_keys": [str(server.client_key)]}
        assert told == asyncio.run(_signalled(server.port, "postgres", server.host_key, keys))
        assert told == [("HUP", 3, None), ("USR1", 3, None), ("KILL", -1, "KILL"), ("TERM", 3, None)]


async def _signalled(port: int, user: str, host_key: str, secret: Mapping[str, object]) -> list[object]:
    trap = "trap 'echo HUP; exit 3' HUP; trap 'echo USR1; exit 3' USR1; trap 'echo TERM; exit 3' TERM; echo begun;"
    found: list[object] = []
    hosts = asyncssh.import_known_hosts(f"[127.0.0.1]:{port} {host_key}\n")
    async with asyncssh.connect(
        "127.0.0.1", port, username=user, known_hosts=hosts, config=[], agent_path=None, **secret
    ) as client:
        for name in ("HUP", "USR1", "KILL", "TERM"):
            async with client.create_process(f"{trap} while :; do sleep 0.05; done") as process:
                assert await process.stdout.readline() == "begun\n"
                process.send_signal(name)
                done = await asyncio.wait_for(process.wait(), 30)
                assert name == "KILL" or done.stdout == f"{name}\n"
                found.append((name, done.exit_status, done.exit_signal and done.exit_signal[0]))
    return found


def _has_login(name: str) -> bool:
    return any(entry.pw_name == name and entry.pw_shell == "/bin/bash" for entry in pwd.getpwall())


def alive(pid: str) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def test_a_reader_that_has_seen_enough_ends_the_command(sides: Sides) -> None:
    for side in sides:
        command = side.command("target", "echo $$; exec yes")
        with subprocess.Popen(
            command, env=side.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            pid = process.stdout.readline().decode().strip()
            assert alive(pid)
            process.stdout.close()
            process.wait(20)
        until(lambda pid=pid: not alive(pid), f"{side.name}: yes has ended")


def test_a_client_that_is_killed_leaves_no_command_behind_that_reads(sides: Sides) -> None:
    for side in sides:
        with side.running("target", "echo $$; cat; echo $$ has ended", stdin=subprocess.PIPE) as process:
            assert process.stdout is not None
            pid = process.stdout.readline().decode().strip()
            assert alive(pid)
            process.kill()
        until(lambda pid=pid: not alive(pid), f"{side.name}: cat has ended")


def test_a_reader_that_does_not_read_holds_the_command_up_and_nothing_is_lost(sides: Sides) -> None:
    for side in sides:
        progress = side.remote / "progress"
        command = f"for n in $(seq 1 60); do head -c 500000 /dev/zero; echo $n >{progress}; done"
        with side.running("target", command) as process:
            assert process.stdout is not None
            until(progress.exists)
            stands = until(lambda progress=progress: _stands(progress), "the command is held up")
            assert stands < 60, f"{side.name}: 30 MB went into buffers"
            assert len(process.stdout.read()) == 60 * 500_000
            assert process.wait(20) == 0


def _stands(progress: Path) -> int:
    """What it has come to, once it has not moved for a while."""
    import time

    before = progress.read_text()
    time.sleep(0.5)
    return int(before or 0) if progress.read_text() == before else 0
