"""What agents hear of decisions over SSH with OpenSSH's own client, what people are asked, what the record shows."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ssh_gateway import SshGateway, policy, rule, ssh_gateway
from support.ssh_pairs import Done, Side, through
from support.sshd import Sshd, sshd
from support.waiting import until

GUARD = policy(
    "guard",
    rule(
        "no-rm", "ssh.commands.exists(c, c.program == 'rm')", "Deny", message="Nothing is deleted here.",
        hint="Move it to /tmp.",
    ),
    rule("no-keys", "ssh.kind == 'sftp' && ssh.path.endsWith('.key')", "Deny", message="Keys stay where they are."),
    rule("no-links", "ssh.kind == 'sftp' && ssh.operation == 'read' && ssh.realPath.endsWith('.key')", "Deny"),
    rule(
        "restarts", "ssh.command.startsWith('echo restart')", "RequireApproval", message="Restarts are agreed on.",
        approval={"groups": ["ops"], "wait": "30s"},
    ),
    rule("locale", "ssh.kind == 'env' && ssh.name == 'LC_ALL'"),
    rule("commands", "ssh.kind in ['exec', 'scp', 'sftp', 'shell']"),
    rule("cards", "true", "Mask", masking=[{"detector": "CreditCard", "strategy": {"type": "Partial", "keepLast": 4}}]),
)  # fmt: skip


@pytest.fixture(scope="module")
def target() -> Iterator[Sshd]:
    with sshd("decisions") as server:
        yield server


@pytest.fixture(scope="module")
def gateway(target: Sshd) -> Iterator[SshGateway]:
    with ssh_gateway(target, GUARD, recording="Full") as made:
        yield made


@pytest.fixture
def agent(gateway: SshGateway, tmp_path: Path) -> Side:
    return through(gateway, tmp_path)


def lines(done: Done) -> list[str]:
    """What the gateway said on standard error."""
    return [line.removeprefix("ostiary: ") for line in done.said.splitlines() if line.startswith("ostiary: ")]


def transcript(gateway: SshGateway, text: str) -> str:
    """Of the session in which this was asked for."""
    def look() -> str | None:
        for event in reversed(gateway.records()):
            if event["type"] == "request" and text in event["text"] and "ended" in event:
                return str(gateway.run("session", event["session"], "--full"))
        return None

    return until(look, f"{text} is in the record", 20)


def test_a_denied_command_ends_with_126_and_says_why(gateway: SshGateway, agent: Side) -> None:
    done = agent.ssh("target", "sudo rm -rf /srv/x")
    assert (done.code, done.out) == (126, b"")
    reason, hint, answer = lines(done)
    assert reason.startswith("Nothing is deleted here. (rule default/guard#no-rm) [")
    assert hint == "Move it to /tmp."
    told = json.loads(answer)
    assert (told["decision"], told["rule"]) == ("Deny", "no-rm")
    assert told["because"][0]["value"] is True
    seen = gateway.run("session", told["request"])
    assert "$ sudo rm -rf /srv/x" in seen
    assert "✗ Deny  default/guard#no-rm" in seen


def test_output_is_masked_and_recorded_as_it_was_seen(gateway: SshGateway, agent: Side) -> None:
    done = agent.ok("echo card 4111111111111111; echo oops >&2")
    assert done.out == b"card ************1111\n"
    seen = transcript(gateway, "echo card 4111111111111111; echo oops")
    assert "card ************1111\n" in seen
    assert "oops" in seen
    assert "ok  exit 0" in seen


def test_files_are_decided_one_by_one_and_stand_in_the_record_with_their_digests(
    gateway: SshGateway, agent: Side
) -> None:
    agent.there("hosts", b"127.0.0.1 localhost\n")
    agent.there("web.key", b"secret")
    (agent.remote / "link").symlink_to("web.key")
    batch = agent.file("batch", (
        f"get {agent.remote}/hosts got\n-get {agent.remote}/web.key x\n-get {agent.remote}/link y\n"
        f"rename {agent.remote}/hosts {agent.remote}/moved\n"
    ).encode())  # fmt: skip
    done = agent.tool("sftp", "-o", "BatchMode=no", "-b", str(batch), "target")
    assert done.code == 0, done.said
    assert (agent.directory / "got").read_bytes() == b"127.0.0.1 localhost\n"
    assert not (agent.directory / "x").exists()
    assert not (agent.directory / "y").exists() or (agent.directory / "y").read_bytes() == b""
    assert (agent.remote / "moved").exists()
    seen = transcript(gateway, "sftp session")
    places = [seen.index(each) for each in ("sftp session", "sftp read", "20 B read sha256 ", "sftp rename")]
    assert places == sorted(places)
    assert "✗ Deny  default/guard#no-keys  Keys stay where they are." in seen
    assert "default/guard#no-links" in seen


class Waits(threading.Thread):
    """`ssh target …` that waits for a person."""

    def __init__(self, agent: Side, command: str) -> None:
        super().__init__(daemon=True)
        self._agent, self._command = agent, command
        self.done: Done | None = None
        self.start()

    def run(self) -> None:
        self.done = self._agent.ssh("target", self._command)

    def result(self) -> Done:
        self.join(60)
        assert self.done is not None
        return self.done


def asked(gateway: SshGateway, text: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = (json.loads(line) for line in gateway.run("approvals", "--json").splitlines())
        return next((each for each in found if text in each["approval"]["spec"]["request"]["summary"]), None)

    return until(look, f"somebody is asked about {text}", 30)


def test_a_command_waits_for_a_person_and_runs_once(gateway: SshGateway, agent: Side) -> None:
    waiting = Waits(agent, "echo restart web")
    name = asked(gateway, "restart web")["approval"]["metadata"]["name"]
    shown = gateway.run("approval", name)
    assert f"run echo restart web on {gateway.target.user}@127.0.0.1:{gateway.target.port}" in shown
    assert "What it is, read from what was sent (nothing was run)" in shown
    assert "runs        echo restart web" in shown
    gateway.run("approve", name)
    done = waiting.result()
    assert (done.code, done.out) == (0, b"restart web\n")
    said = lines(done)
    assert said[0].startswith(f"Waiting up to 30 s for approval {name} by a member of ops.")
    assert said[-1].startswith("Approved by ")
    seen = transcript(gateway, "echo restart web")
    assert f"approval {name}" in seen
    assert "approved by" in seen


def test_a_person_says_no(gateway: SshGateway, agent: Side) -> None:
    waiting = Waits(agent, "echo restart db")
    name = asked(gateway, "restart db")["approval"]["metadata"]["name"]
    gateway.run("deny", name, "--reason", "Not on Fridays.")
    done = waiting.result()
    assert done.code == 126
    assert any("denied it: Not on Fridays." in line for line in lines(done))


def test_who_leaves_while_it_is_decided_leaves_the_question(gateway: SshGateway, agent: Side) -> None:
    with agent.running("target", "echo restart all") as process:
        name = asked(gateway, "restart all")["approval"]["metadata"]["name"]
        process.kill()
    transcript(gateway, "echo restart all")
    assert "the client stopped waiting" in transcript(gateway, "echo restart all")
    assert asked(gateway, "restart all")["approval"]["metadata"]["name"] == name
    gateway.run("approve", name)
    done = agent.ssh("target", "echo restart all")
    assert (done.code, done.out) == (0, b"restart all\n")


def test_variables_are_let_through_one_by_one(gateway: SshGateway, agent: Side) -> None:
    agent.configure(SendEnv="LC_ALL MY_TOKEN")
    done = agent.ssh("target", "echo $LC_ALL $MY_TOKEN", MY_TOKEN="x")
    assert done.out == b"C.UTF-8\n"
    seen = transcript(gateway, "echo $LC_ALL $MY_TOKEN")
    assert "with LC_ALL=C.UTF-8; without MY_TOKEN, which no policy allows" in seen


def test_a_shell_is_recorded_and_plays(gateway: SshGateway, agent: Side, tmp_path: Path) -> None:
    with agent.terminal("target", columns=90, rows=20) as screen:
        screen.type("echo $((6*7)) is it; exit\n")
        screen.until("42 is it")
        assert screen.ended() == 0
    seen = transcript(gateway, "shell")
    assert "42 is it" in seen
    assert "90x20" in seen
    requests = [each for each in gateway.records() if each["type"] == "request"]
    session = next(each for each in reversed(requests) if each["text"] == "shell")
    cast = tmp_path / "shell.cast"
    gateway.run("session", session["session"], "--cast", str(cast))
    header, *events = (json.loads(line) for line in cast.read_text().splitlines())
    assert (header["width"], header["height"]) == (90, 20)
    assert "42 is it" in "".join(data for _, code, data in events if code == "o")


def test_a_session_may_read_so_much(target: Sshd, tmp_path: Path) -> None:
    little = rule("little", "request.session.bytesRead < 150000 && request.session.rowsWritten == 0")
    with ssh_gateway(target, policy("p", little)) as gateway:
        agent = through(gateway, tmp_path)
        for name in ("one", "two", "three"):
            agent.there(name, bytes(100_000))
        names = ("one", "two", "three")
        batch = agent.file("batch", "".join(f"-get {agent.remote}/{name} {name}\n" for name in names).encode())
        agent.tool("sftp", "-o", "BatchMode=no", "-b", str(batch), "target")
        got = [agent.directory / name for name in names]
        sizes = [path.stat().st_size if path.exists() else 0 for path in got]
        assert sizes == [100_000, 100_000, 0], "the third begins when 200,000 bytes are read, in one session"


def test_without_recordings_there_are_no_shells(target: Sshd, tmp_path: Path) -> None:
    with ssh_gateway(target, recording="Metadata") as gateway:
        agent = through(gateway, tmp_path)
        done = agent.ssh("-tt", "target")
        assert done.code == 126
        assert b"Interactive sessions are always recorded" in done.out + done.err
        assert agent.ok("echo hello").out == b"hello\n"


def test_what_policies_forbid_now_ends(gateway: SshGateway, target: Sshd, tmp_path: Path) -> None:
    with ssh_gateway(target, recording="Full") as other:
        agent = through(other, tmp_path)
        with agent.running("target", "sleep 60", stdin=subprocess.DEVNULL) as process:
            until(lambda: "sleep 60" in other.run("sessions", "--live"), "it runs", 20)
            other.configure(policy("none", rule("nothing", "ssh.command == 'true'")), recording="Full")
            assert process.wait(30) != 0
            assert process.stderr is not None
            assert b"The policies that are in force now do not let it through" in process.stderr.read()
