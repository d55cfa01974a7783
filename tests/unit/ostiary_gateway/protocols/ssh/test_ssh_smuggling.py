"""What a client may try beside what is decided: names that are none, ports that are others, requests out of turn."""

from __future__ import annotations

import pytest
from support.ssh_talks import Play, Said, no, yes

from ostiary_gateway.protocols.ssh import wire
from ostiary_gateway.protocols.ssh.questions import Question


def exec_(key: int, command: bytes) -> bytes:
    return wire.request(key, b"exec", True, wire.string(command))


def env(key: int, name: bytes, value: bytes = b"v") -> bytes:
    return wire.request(key, b"env", True, wire.string(name) + wire.string(value))


@pytest.mark.parametrize(
    "name", [b"", b"LC_A=B", b"LC_A\n", b"LC_\xff", b"LC_A\x00B", b"1A", b"LC A", b"LC_" + b"A" * 300], ids=repr
)
def test_what_is_no_name_of_a_variable_is_asked_of_nobody_and_never_goes_on(name: bytes) -> None:
    play = Play()
    key = play.session_channel()
    play.c(env(key, name)).c(env(key, b"LC_A")).c(exec_(key, b"env"))
    to_client, to_target = play.heard
    assert to_client[:2] == ["NO 7", "OK 7"]
    assert [(each.kind, each.facts.get("name")) for each in play.asked] == [("env", "LC_A"), ("exec", None)]
    assert to_target == ["REQUEST 3 env LC_A v", "REQUEST 3 exec ? env"]


@pytest.mark.parametrize("port", [65_536, 65_536 + 22, 2**32 - 1])
def test_a_port_that_another_would_be_made_of_ends_the_session(port: int) -> None:
    where = wire.string(b"127.0.0.1") + port.to_bytes(4, "big")
    from_where = wire.string(b"127.0.0.1") + (0).to_bytes(4, "big")
    for packet in (
        wire.open_channel(b"direct-tcpip", 7, 1000, 32_768, where + from_where),
        wire.global_request(b"tcpip-forward", True, where),
    ):
        play = Play().c(packet)
        assert (play.asked, play.heard) == ([], ([], []))
        assert play.session.over == "The client broke the protocol: a port is beyond 65535."


def test_nothing_changes_what_is_being_decided() -> None:
    play = Play(lambda question: None if question.kind == "exec" else yes())
    key = play.session_channel()
    play.c(exec_(key, b"approved"))
    play.c(env(key, b"LC_A")).c(wire.request(key, b"auth-agent-req@openssh.com", True)).c(exec_(key, b"another"))
    assert play.heard == ([], [])
    play.decide(yes())
    assert play.heard == ([], ["REQUEST 3 exec ? approved"])
    play.t(wire.success(key))
    assert play.heard == (["OK 7", "NO 7", "NO 7", "NO 7"], [])
    assert [each.kind for each in play.asked] == ["exec"]


@pytest.mark.parametrize("again", [b"exec", b"shell", b"subsystem"])
def test_a_channel_has_one_program(again: bytes) -> None:
    play = Play()
    key = play.running(b"first")
    play.c(wire.request(key, again, True, b"" if again == b"shell" else wire.string(b"second")))
    assert play.heard == (["NO 7"], [])
    assert [each.facts["command"] for each in play.asked] == ["first"]


def test_what_comes_after_a_denial_is_heard_by_nobody() -> None:
    play = Play(lambda question: no() if question.facts.get("command") == "bad" else yes())
    key = play.session_channel()
    play.c(exec_(key, b"bad"))
    assert play.heard[1] == ["CLOSE 3"]
    play.c(exec_(key, b"good")).c(env(key, b"LC_A")).c(wire.eof(key))
    assert play.heard == ([], [])
    assert [each.facts["command"] for each in play.asked] == ["bad"]


def test_who_closes_while_people_are_asked_runs_nothing_however_they_decide() -> None:
    play = Play(lambda _question: None)
    key = play.session_channel()
    play.c(exec_(key, b"late"))
    question = play.open[0]
    play.c(wire.close(key))
    assert "CLOSE 3" in play.heard[1]
    said = yes()
    play.session.answer(question, said)
    assert not any("exec" in line for line in play.target.heard())
    assert said.ended == "skipped"


@pytest.mark.parametrize(
    "kind",
    [
        b"session",
        b"x11",
        b"auth-agent@openssh.com",
        b"forwarded-tcpip",
        b"forwarded-streamlocal@openssh.com",
        b"tun@openssh.com",
    ],
)
def test_a_target_opens_nothing_that_nobody_asked_for(kind: bytes) -> None:
    play = Play()
    play.running()
    where, path = wire.string(b"127.0.0.1") + (22).to_bytes(4, "big"), wire.string(b"/tmp/s") + wire.string(b"")
    more = {b"x11": where, b"forwarded-tcpip": where * 2, b"forwarded-streamlocal@openssh.com": path}
    play.t(wire.open_channel(kind, 9, 1000, 32_768, more.get(kind, b"")))
    assert play.heard == ([], ["NOT-OPENED 9 1 ostiary: nobody asked for this"])


def test_the_keys_of_an_agent_are_lent_to_what_asked_for_them_and_decided_each_time() -> None:
    answers: list[Said] = []

    def policy(question: Question) -> Said:
        answers.append(yes() if question.kind != "agent" or len([a for a in answers if a.allowed]) < 2 else no())
        return answers[-1]

    play = Play(policy)
    key = play.session_channel()
    play.c(wire.request(key, b"auth-agent-req@openssh.com", True)).t(wire.success(key))
    play.c(exec_(key, b"ssh-add -l")).t(wire.success(key))
    assert play.heard is not None
    play.t(wire.open_channel(b"auth-agent@openssh.com", 9, 1000, 32_768))
    assert play.heard == ([], ["NOT-OPENED 9 1 ostiary: Not allowed. [s/1]"])
    play.t(wire.close(key))
    assert play.heard is not None
    play.t(wire.open_channel(b"auth-agent@openssh.com", 9, 1000, 32_768))
    assert play.heard == ([], ["NOT-OPENED 9 1 ostiary: nobody asked for this"])


def test_replies_that_nobody_waits_for_reach_nobody() -> None:
    play = Play()
    key = play.running()
    play.t(wire.success(key)).t(wire.failure(key)).t(wire.request_success(b"")).t(wire.request_failure())
    play.c(wire.success(key)).c(wire.request_failure())
    assert play.heard == ([], [])
    assert not play.session.over


def test_a_target_is_not_heard_before_a_program_was_let_through() -> None:
    play = Play(lambda _question: None)
    key = play.session_channel()
    play.c(exec_(key, b"id"))
    play.t(wire.data(key, b"Password: ")).t(wire.exit_status(key, 0))
    assert play.heard[0] == []
