"""What runs through a gateway at a real sshd: masked as it streams, held until it is decided, ended when it may not."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest
from support.gateway import TOKEN, Manifest
from support.ssh_gateway import SshGateway, policy, rule, ssh_gateway
from support.ssh_pairs import Side, through
from support.sshd import Sshd, sshd
from support.waiting import until

from ostiary_gateway.protocols.ssh import state, wire

CARD = "4111 1111 1111 1111"
MASKS: Manifest = rule("cards", action="Mask", masking=[{"detector": "CreditCard", "strategy": {"type": "Redact"}}])
ASK: Manifest = rule(
    "ask", "ssh.command.startsWith('restart')", "RequireApproval", approval={"groups": ["ops"], "wait": "20s"}
)
NEVER: Manifest = rule("never", "ssh.kind == 'forward' || ssh.command.contains('rm ')", "Deny", message="Not that.")


@pytest.fixture(scope="module")
def target() -> Iterator[Sshd]:
    with sshd("streams") as server:
        yield server


@pytest.fixture(scope="module")
def gateway(target: Sshd) -> Iterator[SshGateway]:
    with ssh_gateway(target, policy("streams", rule("all"), MASKS, ASK, NEVER)) as made:
        yield made


@pytest.fixture
def agent(gateway: SshGateway, tmp_path: Path) -> Side:
    return through(gateway, tmp_path)


def test_a_card_that_comes_in_pieces_is_masked_on_both_streams(agent: Side) -> None:
    pieces = "; sleep 0.1; ".join(f"printf '{piece}'" for piece in ("card 4111 11", "11 1111 11", "11\\n"))
    done = agent.ssh("target", f"{pieces}; echo '{CARD}' >&2; echo done")
    assert (done.code, done.out, done.err) == (0, b"card [redacted]\ndone\n", b"[redacted]\n")


def test_a_prompt_at_a_terminal_comes_soon_although_it_has_no_end(agent: Side) -> None:
    with agent.terminal("-tt", "target", "printf 'Password: '; read -s word; echo; echo got it") as screen:
        screen.until("Password: ")
        screen.type("secret\r")
        screen.until("got it")
        assert screen.ended() == 0


def test_much_output_is_masked_in_all_of_its_lines(agent: Side) -> None:
    done = agent.ssh("target", f'for i in $(seq 20000); do echo "$i: {CARD} text"; done', noted=False)
    assert done.out == b"".join(b"%d: [redacted] text\n" % number for number in range(1, 20001))


def test_what_is_denied_says_why_where_people_and_programs_look(agent: Side) -> None:
    done = agent.ssh("target", "rm -rf /tmp/nothing")
    assert done.code == 126
    assert done.out == b""
    assert done.said.startswith("ostiary: Not that.")
    assert json.loads(done.said.splitlines()[-1].removeprefix("ostiary: "))["decision"] == "Deny"


def test_a_denied_forward_names_its_rule(agent: Side) -> None:
    done = agent.ssh("-W", "127.0.0.1:9", "target")
    assert done.code == 255
    assert "administratively prohibited: ostiary: Not that." in done.said


def test_a_command_waits_for_approval_with_its_input_and_then_runs(gateway: SshGateway, agent: Side) -> None:
    sent = b"x" * 5_000_000
    with agent.running("target", "restart 2>/dev/null; md5sum", stdin=subprocess.PIPE) as process:
        assert process.stderr is not None
        first = process.stderr.readline().decode()
        assert first.startswith("ostiary: ")
        name = next(word.strip(".,()") for word in first.split() if word.startswith("apr-"))
        gateway.run("approve", name, "--reason", "looked at")
        out, err = process.communicate(sent, timeout=30)
        assert process.returncode == 0, err
    assert out.split() == [hashlib.md5(sent).hexdigest().encode(), b"-"]


def test_who_leaves_while_a_person_is_asked_is_recorded_and_the_target_ran_nothing(
    gateway: SshGateway, agent: Side
) -> None:
    with agent.running("target", "restart everything") as process:
        assert process.stderr is not None
        assert b"apr-" in process.stderr.readline()
    found = until(
        lambda: [each for each in gateway.records() if each.get("text") == "restart everything"], "it is recorded", 20
    )
    assert found[0]["decision"]["action"] == "Deny"


def test_policies_that_change_end_what_they_would_not_let_through(target: Sshd, tmp_path: Path) -> None:
    with ssh_gateway(target) as gateway:
        agent = through(gateway, tmp_path)
        # At a terminal: to a login of root sshd passes no signals, but what runs at a terminal loses that.
        with agent.running("-tt", "target", "echo begun; sleep 64") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\r\n"
            gateway.configure(policy("other", rule("little", "ssh.command == 'true'")))
            _, err = process.communicate(timeout=30)
        assert process.returncode == 255
        assert b"The policies that are in force now do not let it through" in err
        until(lambda: not _runs("sleep 64"), "it does not run any more", 20)


def test_a_target_that_goes_away_is_told(tmp_path: Path) -> None:
    with sshd("goes") as server, ssh_gateway(server) as gateway:
        agent = through(gateway, tmp_path)
        with agent.running("target", "echo begun; sleep 65") as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.readline() == b"begun\n", process.stderr.read()
            server.stop()
            _, err = process.communicate(timeout=30)
        assert process.returncode == 255
        assert b"The target has closed the connection" in err


def test_channels_by_the_hundred_are_refused_and_the_others_go_on(gateway: SshGateway) -> None:
    with paramiko.Transport((gateway.host, gateway.port)) as transport:
        transport.connect(username=gateway.target.user, password=TOKEN)
        channels = [transport.open_session() for _ in range(state.MAX_SESSIONS)]
        with pytest.raises(paramiko.ChannelException):
            transport.open_session()
        channels[-1].exec_command("echo still here")
        assert channels[-1].makefile().read() == b"still here\n"


def _runs(command: str) -> bool:
    found = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    return command in found.splitlines()


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (wire.data(99, b"x"), "a packet came for a channel that is not open"),
        (wire.data(0, b"x" * 20_000), "more data came than the window of its channel allows"),
        (wire.request(0, b"exec", True, wire.string(b"id") + b"more"), "a packet goes on behind its end"),
        (wire.confirmation(0, 1, 1, 1), "the answer to the opening of a channel came that nobody opens"),
        (b"\x59", "nobody knows message 89"),
    ],
    ids=["unknown channel", "no window", "more than a request", "confirms nothing", "unknown message"],
)
def test_who_breaks_the_protocol_is_disconnected_and_recorded(gateway: SshGateway, payload: bytes, says: str) -> None:
    def reasons() -> set[tuple[str, str]]:
        return {(each["session"], each["reason"]) for each in gateway.records() if each["type"] == "close"}

    before = reasons()
    with paramiko.Transport((gateway.host, gateway.port)) as transport:
        transport.connect(username=gateway.target.user, password=TOKEN)
        channel = transport.open_session()
        assert channel.remote_chanid == 0  # type: ignore[attr-defined]
        transport._send_message(paramiko.Message(payload))  # type: ignore[attr-defined]
        until(lambda: not transport.is_active(), "the client is disconnected", 20)
    ((_, reason),) = until(lambda: reasons() - before, "the end is recorded", 20)
    assert says in reason
