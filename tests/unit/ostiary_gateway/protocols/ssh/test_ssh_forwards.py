"""Forwards and global requests, played packet by packet: each is decided, and a target opens only what was granted."""

from __future__ import annotations

import pytest
from support.ssh_talks import Play, Said, no, yes

from ostiary_gateway.protocols.ssh import state, wire
from ostiary_gateway.protocols.ssh.questions import Question

TCP = wire.string(b"db") + wire.u32(5432) + wire.string(b"127.0.0.1") + wire.u32(40000)
LISTEN = wire.string(b"localhost") + wire.u32(8080)
FORWARDED = wire.string(b"localhost") + wire.u32(8080) + wire.string(b"10.0.0.9") + wire.u32(555)


def opened(play: Play, kind: bytes = b"direct-tcpip", more: bytes = TCP, sender: int = 5) -> Play:
    return play.c(wire.open_channel(kind, sender, 1000, 500, more))


def test_a_local_forward_is_decided_and_then_passes_bytes_both_ways() -> None:
    play = Play(lambda _question: None)
    opened(play)
    assert play.heard == ([], [])
    (question,) = play.open
    assert question.facts["direction"] == "local"
    assert question.facts["destination"] == {"host": "db", "port": 5432, "path": ""}
    assert question.detail == {"origin": "127.0.0.1:40000"}
    play.decide(yes())
    assert [line[:46] for line in play.target.heard()] == ["OPEN direct-tcpip 0 window 1000 limit 500 \\x00"[:46]]
    play.t(wire.confirmation(0, 9, 2000, 32768))
    assert play.heard == (["OPENED 5 0 window 2000 limit 32768"], [])
    play.c(wire.data(0, b"ping")).t(wire.data(0, b"pong")).t(wire.adjust(0, 4)).c(wire.adjust(0, 4))
    assert play.heard == (["DATA 5 pong", "ADJUST 5 4"], ["DATA 9 ping", "ADJUST 9 4"])
    play.c(wire.eof(0)).t(wire.data(0, b"rest")).t(wire.eof(0)).t(wire.close(0)).c(wire.close(0))
    assert play.heard == (["DATA 5 rest", "EOF 5", "CLOSE 5"], ["EOF 9", "CLOSE 9"])
    assert play.said[0].ended == "ok"
    assert (play.said[0].detail["stdinBytes"], play.said[0].detail["stdoutBytes"]) == (4, 8)
    assert play.session.idle


def test_a_denied_forward_is_not_opened_and_says_why() -> None:
    play = opened(Play(lambda _question: no("Not there. [s/1]", "Ask.")))
    assert play.heard == (["NOT-OPENED 5 1 ostiary: Not there. [s/1] Ask."], [])
    assert play.session.idle


def test_what_the_target_cannot_reach_is_told_as_it_says_it() -> None:
    play = opened(Play())
    play.t(wire.open_failure(0, 2, b"Connection refused", b"en"))
    assert play.client.heard() == ["NOT-OPENED 5 2 Connection refused"]
    assert play.said[0].ended == "error"
    assert play.session.idle


def test_a_unix_socket_is_a_path() -> None:
    play = opened(
        Play(), b"direct-streamlocal@openssh.com", wire.string(b"/run/docker.sock") + wire.string(b"") + wire.u32(0)
    )
    assert play.asked[0].facts["destination"] == {"host": "", "port": 0, "path": "/run/docker.sock"}


@pytest.mark.parametrize("kind", [b"tun@openssh.com", b"forwarded-tcpip", b"x11", b"auth-agent@openssh.com"])
def test_other_kinds_of_channels_are_unknown(kind: bytes) -> None:
    play = opened(Play(), kind, b"")
    assert play.heard == (["NOT-OPENED 5 3 ostiary: nobody knows this kind of channel"], [])
    assert play.asked == []


def test_a_remote_forward_is_decided_and_each_of_its_connections_again() -> None:
    play = Play()
    play.c(wire.global_request(b"tcpip-forward", True, LISTEN))
    assert play.heard[1][0].startswith("GLOBAL tcpip-forward ?")
    play.t(wire.request_success())
    assert play.client.heard() == ["GLOBAL-OK"]
    assert play.said[0].ended == "ok"
    play.t(wire.open_channel(b"forwarded-tcpip", 4, 100, 50, FORWARDED))
    first, second = play.asked
    assert (first.facts["destination"], first.facts["direction"]) == (second.facts["destination"], "remote")
    assert second.detail == {"origin": "10.0.0.9:555"}
    assert play.client.heard()[0].startswith("OPEN forwarded-tcpip 0 window 100 limit 50")
    play.c(wire.confirmation(0, 6, 300, 200))
    assert play.target.heard() == ["OPENED 4 0 window 300 limit 200"]
    play.t(wire.data(0, b"hello")).c(wire.data(0, b"hi"))
    assert play.heard == (["DATA 6 hello"], ["DATA 4 hi"])


def test_a_connection_that_is_denied_is_not_opened_for_the_target() -> None:
    play = Play()
    play.c(wire.global_request(b"tcpip-forward", True, LISTEN)).t(wire.request_success())
    assert play.heard
    play.policy = lambda _question: no("Not now.")
    play.t(wire.open_channel(b"forwarded-tcpip", 4, 100, 50, FORWARDED))
    assert play.heard == ([], ["NOT-OPENED 4 1 ostiary: Not now."])


def test_a_client_that_does_not_want_the_connection_says_so_to_the_target() -> None:
    play = Play()
    play.c(wire.global_request(b"tcpip-forward", True, LISTEN)).t(wire.request_success())
    play.t(wire.open_channel(b"forwarded-tcpip", 4, 100, 50, FORWARDED))
    play.target.heard()
    play.c(wire.open_failure(0, 2, b"nobody there"))
    assert play.target.heard() == ["NOT-OPENED 4 2 nobody there"]
    assert play.said[1].ended == "error"


def test_the_port_that_the_target_picks_is_the_one_that_is_granted() -> None:
    play = Play()
    play.c(wire.global_request(b"tcpip-forward", True, wire.string(b"") + wire.u32(0)))
    play.t(wire.request_success(wire.u32(40123)))
    assert play.client.heard() == ["GLOBAL-OK 40123"]
    assert play.said[0].detail == {"port": 40123}
    for port, opens in ((40123, True), (40124, False)):
        more = wire.string(b"127.0.0.1") + wire.u32(port) + wire.string(b"a") + wire.u32(1)
        play.t(wire.open_channel(b"forwarded-tcpip", 4, 100, 50, more))
        assert bool(play.client.heard()) is opens


def test_a_forward_that_ended_grants_nothing_more() -> None:
    play = Play()
    play.c(wire.global_request(b"tcpip-forward", True, LISTEN)).t(wire.request_success())
    play.c(wire.global_request(b"cancel-tcpip-forward", True, LISTEN)).t(wire.request_success())
    assert play.client.heard() == ["GLOBAL-OK", "GLOBAL-OK"]
    play.target.heard()
    play.t(wire.open_channel(b"forwarded-tcpip", 4, 100, 50, FORWARDED))
    assert play.heard == ([], ["NOT-OPENED 4 1 ostiary: nobody asked for this"])
    play.c(wire.global_request(b"cancel-tcpip-forward", True, LISTEN))
    assert play.heard == (["GLOBAL-NO"], [])


def test_a_target_opens_nothing_that_nobody_asked_for() -> None:
    play = Play()
    path = wire.string(b"/tmp/x") + wire.string(b"")
    origin = wire.string(b"1.2.3.4") + wire.u32(6000)
    for kind, more in (
        (b"forwarded-tcpip", FORWARDED), (b"forwarded-streamlocal@openssh.com", path), (b"x11", origin),
        (b"auth-agent@openssh.com", b""), (b"session", b""),
    ):  # fmt: skip
        play.t(wire.open_channel(kind, 4, 100, 50, more))
        assert play.heard == ([], ["NOT-OPENED 4 1 ostiary: nobody asked for this"]), kind
    assert play.asked == []


def test_a_remote_unix_socket_is_granted_by_its_path() -> None:
    play = Play()
    play.c(wire.global_request(b"streamlocal-forward@openssh.com", True, wire.string(b"/tmp/s")))
    play.t(wire.request_success())
    play.t(wire.open_channel(b"forwarded-streamlocal@openssh.com", 4, 9, 9, wire.string(b"/tmp/s") + wire.string(b"")))
    assert [each.facts["destination"] for each in play.asked] == [{"host": "", "port": 0, "path": "/tmp/s"}] * 2


def test_the_agents_keys_are_lent_to_who_was_allowed_as_long_as_it_is_there() -> None:
    play = Play()
    key = play.session_channel()
    play.c(wire.request(key, b"auth-agent-req@openssh.com", False))
    assert play.target.heard() == ["REQUEST 3 auth-agent-req@openssh.com ?"]
    play.t(wire.success(key))
    assert play.client.heard() == []
    play.t(wire.open_channel(b"auth-agent@openssh.com", 4, 100, 50))
    assert play.client.heard() == ["OPEN auth-agent@openssh.com 1 window 100 limit 50"]
    assert [each.kind for each in play.asked] == ["agent", "agent"]
    play.c(wire.close(key)).t(wire.close(key))
    play.target.heard()
    play.t(wire.open_channel(b"auth-agent@openssh.com", 5, 100, 50))
    assert play.target.heard() == ["NOT-OPENED 5 1 ostiary: nobody asked for this"]


def test_a_display_for_one_connection_is_for_one() -> None:
    play = Play()
    key = play.session_channel()
    more = b"\x01" + wire.string(b"MIT-MAGIC-COOKIE-1") + wire.string(b"secret") + wire.u32(0)
    play.c(wire.request(key, b"x11-req", True, more)).t(wire.success(key))
    origin = wire.string(b"127.0.0.1") + wire.u32(6010)
    play.t(wire.open_channel(b"x11", 4, 100, 50, origin)).t(wire.open_channel(b"x11", 5, 100, 50, origin))
    assert [line[:8] for line in play.client.heard()] == ["OK 7", "OPEN x11"]
    assert "secret" not in repr(play.asked)


def test_global_requests_wait_for_the_one_that_is_decided_and_are_answered_in_order() -> None:
    play = Play(lambda _question: None)
    play.c(wire.global_request(b"tcpip-forward", True, LISTEN))
    play.c(wire.global_request(b"keepalive@openssh.com", True))
    play.c(wire.global_request(b"no-more-sessions@openssh.com", False))
    assert play.heard == ([], [])
    play.decide(yes())
    assert play.heard[0] == []
    play.t(wire.request_failure())
    assert play.client.heard() == ["GLOBAL-NO", "GLOBAL-NO"]
    assert play.said[0].ended == "error"
    play.c(wire.open_channel(b"session", 7, 1, 300))
    assert play.session.over.startswith("The client broke the protocol: a session was opened")


def test_a_denied_remote_forward_fails_and_the_next_is_decided() -> None:
    def policy(question: Question) -> Said:
        return no() if question.facts["destination"] == {"host": "localhost", "port": 8080, "path": ""} else yes()

    play = Play(policy)
    play.c(wire.global_request(b"tcpip-forward", True, LISTEN))
    assert play.heard == (["GLOBAL-NO"], [])
    play.c(wire.global_request(b"tcpip-forward", True, wire.string(b"localhost") + wire.u32(9090)))
    assert len(play.target.heard()) == 1


def test_what_the_target_asks_of_everybody_is_answered_here() -> None:
    play = Play()
    play.t(wire.global_request(b"keepalive@openssh.com", True))
    play.t(wire.global_request(b"hostkeys-00@openssh.com", False, wire.string(b"key")))
    assert play.heard == ([], ["GLOBAL-NO"])


def test_channels_come_by_the_hundred_and_no_more() -> None:
    play = Play()
    for number in range(state.MAX_SESSIONS + 1):
        play.c(wire.open_channel(b"session", number, 1000, 32768))
    for number in range(state.MAX_FORWARDS + 1):
        opened(play, sender=number)
    assert play.client.heard() == [
        f"NOT-OPENED {state.MAX_SESSIONS} 4 ostiary: too many channels are open",
        f"NOT-OPENED {state.MAX_FORWARDS} 4 ostiary: too many channels are open",
    ]
    assert not play.session.over


def test_a_client_that_asks_without_end_is_disconnected() -> None:
    play = Play(lambda _question: None)
    for _ in range(1000):
        play.c(wire.global_request(b"tcpip-forward", True, LISTEN))
    assert "too many requests" in play.session.over
