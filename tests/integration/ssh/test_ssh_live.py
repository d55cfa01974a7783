"""What runs over SSH can be looked at and ended by who owns the gateway; the agent is told by whom and why."""

from __future__ import annotations

import getpass
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ssh_gateway import SshGateway, ssh_gateway
from support.ssh_pairs import Side, through
from support.sshd import Sshd, sshd
from support.waiting import until


@pytest.fixture(scope="module")
def target() -> Iterator[Sshd]:
    with sshd("live") as server:
        yield server


@pytest.fixture(scope="module", params=["one process", "two workers"])
def gateway(request: pytest.FixtureRequest, target: Sshd) -> Iterator[SshGateway]:
    more = ("--workers", "2") if request.param == "two workers" else ()
    with ssh_gateway(target, arguments=more) as made:
        yield made


@pytest.fixture
def agent(gateway: SshGateway, tmp_path: Path) -> Side:
    return through(gateway, tmp_path)


def live(gateway: SshGateway) -> list[dict[str, Any]]:
    return [json.loads(line) for line in gateway.run("sessions", "--live", "--json").splitlines()]


def running(gateway: SshGateway, text: str) -> dict[str, Any]:
    """The request that runs this."""
    def look() -> dict[str, Any] | None:
        return next((run for each in live(gateway) for run in each["running"] if text in run["text"]), None)

    return until(look, f"{text} runs", 20)


def test_who_is_in_and_what_runs(gateway: SshGateway, agent: Side) -> None:
    with agent.running("target", "sleep 61"):
        request = running(gateway, "sleep 61")
        session = next(each for each in live(gateway) if each["session"] == request["request"].split("-")[0])
        assert (session["username"], session["connection"], session["protocol"]) == ("planner", "default/host", "SSH")
        assert session["client"]["address"] == "127.0.0.1"
        table = gateway.run("sessions", "--live")
        assert "sleep 61" in table
        assert session["session"] in table
    until(lambda: not live(gateway), "nobody is in", 20)
    assert gateway.run("sessions", "--live").strip() == "No session is open."


def test_a_request_is_ended_and_its_agent_hears_by_whom_and_why(gateway: SshGateway, agent: Side) -> None:
    with agent.running("target", "echo begun; sleep 62") as process:
        request = running(gateway, "sleep 62")["request"]
        assert gateway.run("kill", request, "--reason", "maintenance") == f"Ended {request}.\n"
        out, err = process.communicate(timeout=20)
        assert (out, process.returncode) == (b"begun\n", 255)
        assert f"Ended by {getpass.getuser()}: maintenance." in err.decode()
    assert f"Ended by {getpass.getuser()}: maintenance." in json.dumps(gateway.records())


def test_a_session_is_ended_with_all_that_runs_in_it(gateway: SshGateway, agent: Side) -> None:
    with agent.running("target", "sleep 63") as process:
        session = running(gateway, "sleep 63")["request"].split("-")[0]
        gateway.run("kill", session[:15], "--reason", "enough")
        _, err = process.communicate(timeout=20)
        assert process.returncode != 0
        assert f"Ended by {getpass.getuser()}: enough." in err.decode()
    closed = [each for each in gateway.records() if each.get("session") == session and "reason" in each]
    assert f"Ended by {getpass.getuser()}: enough." in json.dumps(closed)


def test_what_is_not_there_cannot_be_ended(gateway: SshGateway) -> None:
    for target in ("01m84dyhg88bkm3kgxn6", "01m84dyhg88bkm3kgxn6-3", "x"):
        with pytest.raises((AssertionError, subprocess.CalledProcessError), match="There is no open session"):
            gateway.run("kill", target)


def test_nothing_runs_in_a_session_that_has_its_answers(gateway: SshGateway, agent: Side) -> None:
    control = agent.directory / "control"
    shared = ("-o", f"ControlPath={control}", "-o", "ControlMaster=auto", "-o", "ControlPersist=60")
    try:
        agent.ssh(*shared, "target", "true", noted=False)
        agent.ssh(*shared, "target", "exit 3", noted=False)
        agent.ssh(*shared, "target", "cat", stdin=b"x" * 100_000, noted=False)
        agent.ssh(*shared, "-s", "target", "upper", stdin=b"x", noted=False)
        file = agent.file("file", b"content")
        agent.tool("scp", *shared, str(file), f"target:{agent.remote}/copy", noted=False)
        agent.tool("scp", "-O", *shared, f"target:{agent.remote}/copy", str(file), noted=False)
        agent.tool("scp", *shared, "target:/nowhere/at/all", str(file), noted=False)
        (session,) = live(gateway)
        assert session["requests"] > 6
        assert session["running"] == []
    finally:
        agent.ssh(*shared, "-O", "exit", "target", noted=False)
