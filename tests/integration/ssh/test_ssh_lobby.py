"""Who is let in to an SSH Connection and for how long, and what an agent hears who is not, or no more."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support.gateway import Manifest, metrics, secret
from support.ssh_gateway import ALLOW_ALL, SshGateway, policy, prepare, rule, secrets_for, ssh_gateway, static
from support.ssh_gateway import connection as connection_to
from support.ssh_pairs import Side, through
from support.sshd import Sshd, keygen, make_key, sign, sshd
from support.waiting import until

OTHER_TOKEN = "another-agent's-token-of-enough-entropy-9876543210"


@pytest.fixture(scope="module")
def target() -> Iterator[Sshd]:
    with sshd("lobby") as running:
        yield running


@pytest.fixture
def gateway(target: Sshd) -> Iterator[SshGateway]:
    with ssh_gateway(target) as running:
        yield running


def logged(gateway: SshGateway, event: str) -> list[dict[str, object]]:
    lines = (json.loads(line) for line in gateway.log_text().splitlines() if line.startswith("{"))
    return [line for line in lines if line["event"] == event]


def refused(gateway: SshGateway) -> dict[str, float]:
    """Refused logins by their kind."""
    text = gateway.admin("/metrics")[1]
    return {
        name.partition('reason="')[2].partition('"')[0]: value
        for name, value in metrics(text).items()
        if name.startswith("ostiary_login_failures")
    }


@contextlib.contextmanager
def waiting(side: Side, gateway: SshGateway) -> Iterator[subprocess.Popen[bytes]]:
    """A session in which a command runs; what it says can be read when it has ended."""
    with side.running("target", "echo on; exec sleep 100") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"on\n"
        yield process


def ended(process: subprocess.Popen[bytes], seconds: float = 20) -> str:
    """What it wrote to stderr in the end."""
    process.wait(seconds)
    assert process.stderr is not None
    return process.stderr.read().decode()


# -- the target's host key


def failing(target: Sshd, tmp_path: Path, upstream: Manifest, *more: Manifest) -> tuple[str, str]:
    """What an agent hears, and what the log says, where the target cannot be reached so."""
    place = {"host": target.host, "port": target.port, **upstream}
    made = prepare(target, upstream=place)
    made.write(connection_to(target, made.port, upstream=place), *secrets_for(target), *more, ALLOW_ALL)
    try:
        made.start()
        done = through(made, tmp_path).ssh("target", "echo not here", noted=False)
        assert (done.code, done.out) == (255, b"")
        (line,) = logged(made, "target not available")
        heard = done.err.decode()
        assert str(line["session"]) in heard, "the log is found by what the agent was told"
        assert any(event.get("session") == line["session"] for event in made.records())
        return heard, str(line["problem"])
    finally:
        made.destroy()


def test_another_host_key_than_the_pinned_one_is_refused_with_its_fingerprint_and_what_to_set(
    target: Sshd, tmp_path: Path
) -> None:
    make_key(tmp_path / "other")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    heard, problem = failing(target, tmp_path, {"hostKeys": [other]})
    shown = keygen("-lf", str(target.directory / "host_key.pub")).split()[1]
    assert shown in problem
    assert "upstream.hostKeys" in problem
    assert target.host_key in problem
    assert "cannot be reached" in heard
    assert shown not in heard


def test_a_host_that_has_no_key_of_the_pinned_type_is_refused_with_the_types_that_it_has(
    target: Sshd, tmp_path: Path
) -> None:
    make_key(tmp_path / "other", "ecdsa")
    other = " ".join((tmp_path / "other.pub").read_text().split()[:2])
    _, problem = failing(target, tmp_path, {"hostKeys": [other]})
    assert "ssh-ed25519" in problem
    assert "ecdsa-sha2-nistp256" in problem
    assert "upstream.hostKeys" in problem


def test_a_host_certificate_of_the_authority_is_believed(target: Sshd, tmp_path: Path) -> None:
    upstream = {"host": target.host, "port": target.port, "hostCARef": {"name": "host-ca"}}
    with ssh_gateway(target, upstream=upstream) as gateway:
        assert through(gateway, tmp_path).ok("echo there").out == b"there\n"


def test_a_host_certificate_of_another_authority_is_refused(target: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "ca")
    ca = secret("other-ca", ca__pub=(tmp_path / "ca.pub").read_text())
    _, problem = failing(target, tmp_path, {"hostCARef": {"name": "other-ca"}}, ca)
    assert "hostCARef" in problem
    assert keygen("-lf", str(target.directory / "host_ca.pub")).split()[1] in problem


@pytest.mark.parametrize(
    ("principals", "validity", "reason"),
    [("elsewhere.example", "+1d", "principal"), ("127.0.0.1", "20200101:20210101", "expired")],
)
def test_a_host_certificate_for_another_name_or_time_is_refused(
    tmp_path: Path, principals: str, validity: str, reason: str
) -> None:
    with sshd("certified") as target:
        sign(
            target.directory / "host_ca", target.directory / "host_key", "host", principals, "-V", validity, host=True
        )
        target.stop()
        target.start()
        _, problem = failing(target, tmp_path, {"hostCARef": {"name": "host-ca"}})
        assert reason in problem.lower()
        assert "127.0.0.1" in problem


# -- the target


def test_a_target_that_is_down_is_told_to_the_agent_and_the_log_and_no_secret_with_it(tmp_path: Path) -> None:
    with sshd("down") as target:
        target.stop()
        heard, problem = failing(target, tmp_path, {"hostKeys": [target.host_key]})
        assert "cannot be reached" in heard
        assert f"cannot connect to 127.0.0.1:{target.port}" in problem


def test_a_target_that_refuses_the_login_is_told(target: Sshd, tmp_path: Path) -> None:
    made = prepare(target)
    make_key(tmp_path / "stranger")
    found = [each for each in secrets_for(target) if _name(each) != "ssh-ca"]
    stranger = secret("ssh-ca", privateKey=(tmp_path / "stranger").read_bytes())
    made.write(connection_to(target, made.port), *found, stranger, ALLOW_ALL)
    try:
        made.start()
        done = through(made, tmp_path).ssh("target", "true", noted=False)
        assert done.code == 255
        (line,) = logged(made, "target not available")
        assert "Permission denied" in str(line["problem"])
        assert "PRIVATE" not in made.log_text()
    finally:
        made.destroy()


def test_a_target_that_goes_in_the_middle_is_told(tmp_path: Path) -> None:
    with sshd("leaving") as target, ssh_gateway(target) as gateway, waiting(through(gateway, tmp_path), gateway) as one:
        target.stop()
        assert "The target has closed the connection" in ended(one)


# -- the agents


def test_no_more_sessions_than_the_limit_and_a_free_place_is_taken(target: Sshd, tmp_path: Path) -> None:
    with ssh_gateway(target, limits={"maxSessions": 2}) as gateway:
        side = through(gateway, tmp_path)
        with waiting(side, gateway) as one, waiting(side, gateway):
            done = side.ssh("target", "true", noted=False)
            assert done.code == 255
            assert b"has 2 sessions already" in done.err
            assert b"maxSessions" in done.err
            assert refused(gateway)["limit"] == 1
            one.kill()
            until(lambda: side.ssh("target", "true", noted=False).code == 0, "the place is free")


def test_a_shell_that_nobody_types_into_ends_and_a_silent_command_goes_on(target: Sshd, tmp_path: Path) -> None:
    with ssh_gateway(target, limits={"idleTimeout": "2s"}) as gateway:
        side = through(gateway, tmp_path)
        with waiting(side, gateway) as busy, side.running("-tt", "target", stdin=subprocess.PIPE) as shell:
            said = ended(shell, 30)
            assert "idle for more than 2 s" in said
            assert busy.poll() is None


def test_an_agent_whose_token_is_revoked_is_ended_with_the_reason(
    gateway: SshGateway, target: Sshd, tmp_path: Path
) -> None:
    with waiting(through(gateway, tmp_path), gateway) as one:
        rest = [each for each in secrets_for(target) if _name(each) != "planner-token"]
        gateway.write(connection_to(target, gateway.port), *rest, ALLOW_ALL)
        assert "token was revoked" in ended(one)


def test_a_connection_that_gets_another_credential_ends_its_sessions_and_takes_new_ones(
    gateway: SshGateway, target: Sshd, tmp_path: Path
) -> None:
    side = through(gateway, tmp_path)
    with waiting(side, gateway) as one:
        gateway.configure(credentials=static(target))
        assert "target or credential has changed" in ended(one)
    assert side.ok("echo on").out == b"on\n"


def test_a_policy_that_no_longer_lets_a_command_run_ends_it(gateway: SshGateway, tmp_path: Path) -> None:
    with waiting(through(gateway, tmp_path), gateway) as one:
        gateway.configure(ALLOW_ALL, policy("no", rule("no-sleep", "ssh.command.contains('sleep')", "Deny")))
        said = ended(one)
        assert "do not let it through" in said


def test_a_gateway_that_stops_says_so_and_leaves_nothing_running(target: Sshd, tmp_path: Path) -> None:
    made = prepare(target, arguments=("--drain", "1"))
    try:
        made.start()
        with waiting(through(made, tmp_path), made) as one:
            assert made.process is not None
            made.process.send_signal(signal.SIGTERM)
            assert "shutting down" in ended(one)
            assert made.process.wait(15) == 0
    finally:
        made.destroy()


# -- strangers


def test_hundreds_of_half_open_logins_do_not_keep_an_agent_out(gateway: SshGateway, tmp_path: Path) -> None:
    side = through(gateway, tmp_path)
    side.ok("true")
    before = gateway.resident()
    strangers = []
    try:
        for number in range(1100):
            sock = socket.create_connection((gateway.host, gateway.port), 10)
            strangers.append(sock)
            if number % 2:
                sock.sendall(b"SSH-2.0-stranger\r\n")
        assert side.ok("echo in").out == b"in\n"
        until(lambda: refused(gateway).get("limit", 0) >= 100, "who took longest had to go", 20)
        assert (gateway.resident() - before) / 1000 < 100_000, "bytes each"
    finally:
        for sock in strangers:
            sock.close()
    assert side.ok("echo still").out == b"still\n"


def test_a_client_that_never_reads_holds_little_memory_and_slows_its_target(
    gateway: SshGateway, tmp_path: Path
) -> None:
    side = through(gateway, tmp_path)
    side.ok("true")
    with side.running("target", "cat /dev/zero") as process:
        assert process.stdout is not None
        process.stdout.read(10_000_000)
        before = gateway.resident()
        process.send_signal(signal.SIGSTOP)
        time.sleep(3)
        grown = gateway.resident() - before
        process.send_signal(signal.SIGCONT)
        assert process.stdout.read(10_000_000)
        assert grown < 40_000_000


def test_the_host_key_stays_the_same_over_a_restart(target: Sshd, tmp_path: Path) -> None:
    with ssh_gateway(target) as gateway:
        through(gateway, tmp_path).ok("true")
        first = gateway.known_hosts().read_text()
        gateway.stop()
        gateway.start()
        shutil.copy(gateway.known_hosts(), tmp_path / "first")
        gateway.known_hosts().unlink()
        assert sorted(_keys(gateway.known_hosts().read_text())) == sorted(_keys(first))


def _keys(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def _name(manifest: Manifest) -> str:
    found = yaml.safe_load(yaml.safe_dump(manifest))
    return str(found["metadata"]["name"])
