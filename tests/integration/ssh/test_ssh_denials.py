"""What people see of a refusal in each client, what programs see of it, and where it leads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ssh_gateway as gateways
from support.servers import free_port
from support.ssh_gateway import SshGateway, policy, rule
from support.ssh_pairs import Done, Side, through
from support.sshd import Sshd
from support.tcp_talks import ask, upper
from support.waiting import until

pytestmark = pytest.mark.clients

POLICY = policy(
    "careful",
    rule(
        "no-removal", "ssh.commands.exists(c, c.program == 'rm')", "Deny",
        message="Nothing is removed here.", hint="Move it to /tmp/trash.",
    ),
    rule("commands", "ssh.kind == 'exec' && !ssh.opaque"),
    rule("names", "ssh.kind == 'env' && ssh.name.startsWith('LC_')"),
    rule("looking", "ssh.kind in ['sftp', 'scp'] && (ssh.readOnly || ssh.operation == 'session')"),
)  # fmt: skip


@pytest.fixture(scope="module")
def careful(target: Sshd) -> Iterator[SshGateway]:
    with gateways.ssh_gateway(target, POLICY) as found:
        yield found


@pytest.fixture
def side(careful: SshGateway, tmp_path: Path) -> Side:
    return through(careful, tmp_path)


def denial(done: Done) -> dict[str, object]:
    """The line for programs."""
    line = next(line for line in done.said.splitlines() if line.startswith("ostiary: {"))
    found: dict[str, object] = json.loads(line.removeprefix("ostiary: "))
    return found


def test_a_command(side: Side, careful: SshGateway) -> None:
    done = side.ssh("target", f"touch {side.remote}/kept; rm -rf {side.remote}/kept")
    assert (done.code, done.out) == (126, b"")
    assert not (side.remote / "kept").exists()
    essence, hint, *_ = done.said.splitlines()
    assert re.fullmatch(
        r"ostiary: Nothing is removed here\. \(rule default/careful#no-removal\) \[\S+-1\]", essence
    ), essence  # fmt: skip
    assert hint == "ostiary: Move it to /tmp/trash."
    told = denial(done)
    assert told["rule"] == "no-removal"
    request = re.search(r"\[(\S+)\]", essence)
    assert request is not None
    assert told["request"] == request[1]
    transcript = careful.run("session", request[1])
    assert f"rm-rf{side.remote}/kept" in "".join(transcript.split())  # it is wrapped
    assert "no-removal" in transcript
    assert side.ssh("target", "echo the next one is not harmed").text == "the next one is not harmed\n"


def test_a_command_at_a_terminal(side: Side) -> None:
    with side.terminal("-t", "target", "rm x") as screen:
        assert screen.ended() == 126
        assert b"ostiary: Nothing is removed here." in screen.seen
        assert re.search(rb"[^\r]\n", screen.seen) is None


def test_a_shell_with_and_without_a_terminal(side: Side) -> None:
    done = side.ssh("target", stdin=b"echo this must not run\n")
    assert (done.code, done.out) == (126, b"")
    assert "\nostiary: No rule allows this." in done.said
    with side.terminal("target") as screen:
        assert screen.ended() == 126
        assert b"ostiary: " in screen.seen


def test_what_cannot_be_read(side: Side) -> None:
    for command in ("eval $X", "echo cm0K | base64 -d | sh", "bash <(echo rm)"):
        done = side.ssh("target", command)
        assert (done.code, done.out) == (126, b""), command
        assert denial(done)["decision"] == "Deny"


def test_environment_variables(side: Side) -> None:
    done = side.ssh("-o", "SetEnv=LC_GREETING=hello LD_PRELOAD=evil", "target", "echo $LC_GREETING/$LD_PRELOAD")
    assert (done.code, done.text) == (0, "hello/\n")


def test_a_subsystem(side: Side) -> None:
    done = side.ssh("-s", "target", "upper", stdin=b"abc\n")
    assert (done.code, done.out) == (126, b"")
    assert done.said.startswith("ostiary: ")


def test_files(side: Side) -> None:
    side.there("there", b"a file\n")
    mine = side.file("mine", b"of the agent\n")
    assert side.tool("scp", f"target:{side.remote}/there", "got").code == 0
    for protocol in ([], ["-O"]):
        done = side.tool("scp", *protocol, str(mine), f"target:{side.remote}/put")
        assert done.code == 1, done
        assert "ostiary: " in done.said or "ermission denied" in done.said, done
        assert not (side.remote / "put").exists()
    batch = f"cd {side.remote}\nget there back\nrm there\n".encode()
    done = side.tool("sftp", "-o", "BatchMode=no", "-b", "-", "target", stdin=batch)
    assert done.code == 1
    assert "ermission denied" in done.said or "ostiary" in done.said, done
    assert (side.remote / "there").exists()
    assert (side.directory / "back").read_bytes() == b"a file\n"


def test_forwards(side: Side) -> None:
    local = free_port()
    with upper() as port, side.running("-v", "-N", "-L", f"{local}:127.0.0.1:{port}", "target") as process:

        def refused() -> bytes | None:
            try:
                return ask(("127.0.0.1", local), b"hello") or b"closed"
            except ConnectionRefusedError:
                return None

        assert until(refused) == b"closed"
        process.kill()
        _, errors = process.communicate()
        assert b"administratively prohibited: ostiary: " in errors
    done = side.ssh("-W", "127.0.0.1:22", "target")
    assert done.code == 255
    assert "administratively prohibited: ostiary: " in done.said
    done = side.ssh("-o", "ExitOnForwardFailure=yes", "-R", "0:127.0.0.1:22", "target", "echo never")
    assert (done.code, done.out) == (255, b"")
    done = side.ssh("-D", str(free_port()), "target", "echo a proxy that nobody uses does no harm")
    assert done.code == 0


def test_keys_of_the_agent_are_lent_to_nobody(side: Side, tmp_path: Path) -> None:
    done = side.ssh("-A", "target", "echo ${SSH_AUTH_SOCK-none}", SSH_AUTH_SOCK=str(tmp_path / "none"))
    assert done.text == "none\n"


def test_a_login_that_is_not_offered_and_a_token_that_is_not_known(careful: SshGateway, tmp_path: Path) -> None:
    side = through(careful, tmp_path, "other")
    done = side.ssh("-l", "somebody", "target", "id")
    assert done.code == 255
    assert careful.target.user in done.said, done.said
    stranger = through(careful, tmp_path, "stranger", token="a-token-that-nobody-knows-0123456789")
    done = stranger.ssh("target", "id")
    assert (done.code, done.out) == (255, b"")
    assert "Permission denied" in done.said


def test_a_target_that_is_away_and_one_with_another_key(target: Sshd, tmp_path: Path) -> None:
    upstream = {"host": target.host, "port": free_port(), "hostKeys": [target.host_key]}
    with gateways.ssh_gateway(target, upstream=upstream) as gateway:
        done = through(gateway, tmp_path, "away").ssh("target", "id")
        assert (done.code, done.out) == (255, b"")
        assert "cannot be reached now" in done.said, done.said
    other = {"host": target.host, "port": target.port, "hostKeys": [gateway.target.host_authority]}
    with gateways.ssh_gateway(target, upstream=other) as gateway:
        done = through(gateway, tmp_path, "wrong").ssh("target", "id")
        assert (done.code, done.out) == (255, b"")
        assert "cannot be reached now" in done.said, done.said
        assert target.host_key in gateway.log_text()
    trusted = {"host": target.host, "port": target.port, "hostCARef": {"name": "host-ca"}}
    with gateways.ssh_gateway(target, upstream=trusted) as gateway:
        done = through(gateway, tmp_path, "authority").ssh("target", "echo by its authority")
        assert (done.code, done.text) == (0, "by its authority\n"), done.said
