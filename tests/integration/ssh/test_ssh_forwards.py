"""What ssh forwards: ports, sockets, agents, displays, and whole sessions that share one connection."""

from __future__ import annotations

import random
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import ssh_gateway as gateways
from support import sshd as servers
from support.presence import missing
from support.servers import free_port
from support.ssh_pairs import Done, Side, direct, same, through
from support.tcp_talks import ask, connect, read_all, through_socks, upper
from support.waiting import until

pytestmark = pytest.mark.clients

Sides = tuple[Side, Side]
BULK = random.Random(8).randbytes(3_000_000)


@contextmanager
def forwarding(side: Side, *arguments: str, ready: object = None) -> Iterator[subprocess.Popen[bytes]]:
    """While `ssh -N` holds forwards, from when they are there."""
    with side.running("-v", "-N", "-o", "ExitOnForwardFailure=yes", *arguments, "target") as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"Entering interactive session" in line or b"All remote forwarding requests processed" in line:
                break
        yield process


def listens(address: tuple[str, int] | str) -> bool:
    try:
        connect(address).close()
    except OSError:
        return False
    return True


def many(port: int) -> bool:
    """Whether connections to it, many at a time, all get their own answers."""
    words = [f"number {number} ".encode() * 2000 for number in range(40)]
    with ThreadPoolExecutor(20) as pool:
        return list(pool.map(lambda word: ask(("127.0.0.1", port), word), words)) == [word.upper() for word in words]


def test_a_local_port(sides: Sides) -> None:
    for side in sides:
        local, nobody = free_port(), free_port()
        with upper() as port:
            forwards = ["-L", f"{local}:127.0.0.1:{port}", "-L", f"{nobody}:127.0.0.1:1"]
            with forwarding(side, *forwards):
                until(lambda local=local: listens(("127.0.0.1", local)), "the local port")
                assert ask(("127.0.0.1", local), b"through a tunnel") == b"THROUGH A TUNNEL"
                assert ask(("127.0.0.1", local), b"") == b""
                assert ask(("127.0.0.1", local), BULK) == BULK.upper()
                assert many(local)
                assert ask(("127.0.0.1", nobody), b"is anybody there") == b""


def test_a_remote_port(sides: Sides) -> None:
    for side in sides:
        with upper() as port:
            remote = free_port()
            with forwarding(side, "-R", f"127.0.0.1:{remote}:127.0.0.1:{port}"):
                until(lambda remote=remote: listens(("127.0.0.1", remote)), "the remote port")
                assert ask(("127.0.0.1", remote), b"back to the agent") == b"BACK TO THE AGENT"
                assert ask(("127.0.0.1", remote), BULK) == BULK.upper()
                assert many(remote)
            until(lambda remote=remote: not listens(("127.0.0.1", remote)), "the remote port is closed")


def test_a_remote_port_that_the_server_chooses(sides: Sides) -> None:
    for side in sides:
        with upper() as port, side.running("-v", "-N", "-R", f"0:127.0.0.1:{port}", "target") as process:
            assert process.stderr is not None
            said = next(line for line in process.stderr if line.startswith(b"Allocated port"))
            found = re.match(rb"Allocated port (\d+) for remote forward to 127\.0\.0\.1:%d" % port, said)
            assert found is not None, said
            assert ask(("127.0.0.1", int(found[1])), b"chosen") == b"CHOSEN"


def test_a_remote_port_that_is_taken(sides: Sides) -> None:
    def scenario(side: Side) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            forward = f"127.0.0.1:{taken.getsockname()[1]}:127.0.0.1:1"
            done = side.ssh("-o", "ExitOnForwardFailure=yes", "-R", forward, "target", "echo never", noted=False)
            side.remark((done.code, re.sub(r"port \d+", "port N", done.said)))
            done = side.ssh("-R", forward, "target", "echo all the same", noted=False)
            side.remark((done.code, done.text, re.sub(r"port \d+", "port N", done.said)))

    same(scenario, *sides)


def test_unix_sockets_both_ways(sides: Sides) -> None:
    for side in sides:
        near, far = str(side.directory / "near"), str(side.remote / "far")
        with upper(str(side.remote / "server")), forwarding(side, "-L", f"{near}:{side.remote}/server"):
            until(lambda near=near: listens(near), "the local socket")
            assert ask(near, b"from near") == b"FROM NEAR"
        with upper(str(side.directory / "server")), forwarding(side, "-R", f"{far}:{side.directory}/server"):
            until(lambda far=far: listens(far), "the remote socket")
            assert ask(far, b"from far") == b"FROM FAR"
        with upper() as port, forwarding(side, "-L", f"{near}2:127.0.0.1:{port}"):
            until(lambda near=near: listens(near + "2"), "the local socket")
            assert ask(near + "2", BULK) == BULK.upper()


def test_socks_with_many_connections(sides: Sides) -> None:
    for side in sides:
        local = free_port()
        with upper() as port, forwarding(side, "-D", str(local)):
            until(lambda local=local: listens(("127.0.0.1", local)), "the proxy's port")

            def one(number: int, local: int = local, port: int = port) -> bool:
                answer, client = through_socks(local, "127.0.0.1", port)
                data = f"connection {number} ".encode() * 5000
                return answer == 0 and ask(client, data) == data.upper()

            with ThreadPoolExecutor(30) as pool:
                assert all(pool.map(one, range(60)))
            answer, client = through_socks(local, "127.0.0.1", 1)
            with client:
                assert (answer, read_all(client)) != (0, b"anything")


def test_one_connection_as_standard_input_and_output(sides: Sides) -> None:
    def scenario(side: Side) -> None:
        with upper() as port:
            done = side.ssh("-W", f"127.0.0.1:{port}", "target", stdin=b"through -W " * 1000, noted=False)
            side.remark((done.code, done.out == b"THROUGH -W " * 1000, done.err))
        done = side.ssh("-W", "127.0.0.1:1", "target", noted=False)
        side.remark((done.code, done.out, done.err))
        done = side.ssh("-W", "no-such-host.invalid:1", "target", noted=False)
        side.remark((done.code, done.out, done.err))

    same(scenario, *sides)


def test_a_jump_to_a_second_server(sides: Sides, tmp_path: Path) -> None:
    with servers.sshd("second") as second:
        last = direct(second, tmp_path, "second")
        for side in sides:
            lines = [f"  {key} {value}\n" for key, value in last.options.items()]
            place = side.directory / "both"
            place.write_text(side.config.read_text() + "Host second\n" + "".join(lines))
            for way in (["-J", "target"], ["-o", f"ProxyCommand=ssh -F {place} -W %h:%p target"]):
                command = ["ssh", "-F", str(place), *way, "second", "cat; echo $SSH_CONNECTION; exit 8"]
                done = side.run(command, BULK, noted=False)
                assert done.code == 8, (side.name, done.err[-1000:])
                assert done.out.startswith(BULK)
                assert f" {second.port}\n" in done.out[len(BULK) :].decode()


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[str]:
    """The socket of an ssh-agent that holds one key."""
    place = tmp_path / "agent"
    servers.make_key(tmp_path / "held")
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL) as process:
        until(place.exists)
        subprocess.run(
            ["ssh-add", "-q", str(tmp_path / "held")], env={"SSH_AUTH_SOCK": str(place), "PATH": "/usr/bin"}, check=True
        )
        yield str(place)
        process.terminate()


def test_the_agent_of_the_agent(sides: Sides, agent: str, tmp_path: Path) -> None:
    held = (tmp_path / "held.pub").read_text().split()[1]

    def scenario(side: Side) -> None:
        seen = side.ssh("-A", "target", "ssh-add -L", SSH_AUTH_SOCK=agent)
        assert held in seen.text
        side.ssh("-a", "target", "ssh-add -L; echo ${SSH_AUTH_SOCK-none}", SSH_AUTH_SOCK=agent)
        side.ssh("-A", "target", "for n in 1 2 3; do ssh-add -l | wc -l & done; wait", SSH_AUTH_SOCK=agent)
        # A signature over two hops: the key itself stays where it is.
        command = f"ssh-keygen -Y sign -q -f {tmp_path}/held.pub -n test | head -1"
        done = side.ssh("-A", "target", command, SSH_AUTH_SOCK=agent, stdin=b"text")
        assert done.text == "-----BEGIN SSH SIGNATURE-----\n", done

    same(scenario, *sides)


def test_a_display(sides: Sides) -> None:
    """The client gives the server a cookie of its own making, and puts the true one in its place."""
    if shutil.which("xauth") is None:
        missing("xauth is not here: apt-get install -y xauth")
    program = (
        "import os, socket, subprocess;"
        "host, number = os.environ['DISPLAY'].split('.')[0].split(':');"
        "listed = subprocess.run(['xauth', '-n', 'list', os.environ['DISPLAY']], capture_output=True, text=True);"
        "cookie = listed.stdout.split()[-1];"
        "s = socket.create_connection((host, 6000 + int(number)));"
        "s.sendall(b'l\\0\\x0b\\0\\0\\0\\x12\\0\\x10\\0\\0\\0MIT-MAGIC-COOKIE-1\\0\\0' + bytes.fromhex(cookie));"
        "print(s.recv(100))"
    )
    for side in sides:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(60)
            port = listener.getsockname()[1]
            display = f"127.0.0.1:{port - 6000}"
            with side.running("-Y", "target", f"python3 -c {shlex.quote(program)}", DISPLAY=display) as process:
                connection, _ = listener.accept()
                with connection:
                    assert connection.recv(1000).startswith(b"l\0\x0b\0\0\0\x12\0\x10\0\0\0MIT-MAGIC-COOKIE-1")
                    connection.sendall(b"a display")
                    out, err = process.communicate(timeout=60)
                assert (process.returncode, out) == (0, b"b'a display'\n"), err


def test_sessions_that_share_a_connection(sides: Sides) -> None:
    def scenario(side: Side) -> None:
        shared = ["-S", str(side.directory / "control")]
        with side.running("-M", *shared, "-N", "target"):
            until((side.directory / "control").exists)
            done = side.ssh(*shared, "-O", "check", "target", noted=False)
            side.remark((done.code, re.sub(r"pid=\d+", "pid", done.said)))
            for number in range(100):
                done = side.ssh(*shared, "target", f"echo {number}; exit {number}", noted=False)
                side.remark((number, done.code, done.text, done.said))

            def one(number: int) -> Done:
                return side.ssh(*shared, "target", f"cat; exit {number}", stdin=BULK, noted=False)

            with ThreadPoolExecutor(10) as pool:
                found = list(pool.map(one, range(10)))
            side.remark([(done.code, done.out == BULK, done.err) for done in found])
            side.ssh(*shared, "target", "kill -TERM $$")
            with upper() as port:
                local = free_port()
                forward = f"{local}:127.0.0.1:{port}"
                side.remark(side.ssh(*shared, "-O", "forward", "-L", forward, "target", noted=False))
                side.remark(ask(("127.0.0.1", local), b"shared"))
                side.remark(side.ssh(*shared, "-O", "cancel", "-L", forward, "target", noted=False))
                side.remark(listens(("127.0.0.1", local)))
                remote = free_port()
                forward = f"{remote}:127.0.0.1:{port}"
                side.remark(side.ssh(*shared, "-O", "forward", "-R", forward, "target", noted=False))
                side.remark(ask(("127.0.0.1", remote), b"shared"))
                side.remark(side.ssh(*shared, "-O", "cancel", "-R", forward, "target", noted=False))
                until(lambda remote=remote: not listens(("127.0.0.1", remote)), "it is cancelled")
            side.ssh(*shared, "-O", "exit", "target")

    same(scenario, *sides)


def test_both_ask_whether_the_other_is_still_there(tmp_path: Path) -> None:
    asking = ["-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2"]
    more = "ClientAliveInterval 1\nClientAliveCountMax 2\n"
    with servers.sshd("asking", more=more) as server, gateways.ssh_gateway(server) as gateway:
        side = through(gateway, tmp_path, "asked")
        done = side.ssh(*asking, "target", "sleep 4.5; echo still there", noted=False)
    assert (done.code, done.text, done.said) == (0, "still there\n", "")
