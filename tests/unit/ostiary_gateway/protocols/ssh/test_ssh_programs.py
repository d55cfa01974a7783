"""Programs on session channels, played packet by packet: what is asked, and what each side hears in which order."""

from __future__ import annotations

from support.ssh_talks import Play, no, yes

from ostiary_gateway.protocols.ssh import wire


def test_a_command_is_decided_before_the_target_hears_of_it_and_then_runs_as_if_directly() -> None:
    play = Play(lambda _question: None)
    play.c(wire.open_channel(b"session", 7, 2_097_152, 32_768))
    assert play.heard == ([], ["OPEN session 0 window 2097152 limit 32768"])
    play.t(wire.confirmation(0, 3, 0, 32_768))
    assert play.heard == (["OPENED 7 0 window 0 limit 32768"], [])
    play.c(wire.request(0, b"exec", True, wire.string(b"uptime")))
    assert play.heard == ([], [])
    assert [(each.kind, each.facts["command"]) for each in play.open] == [("exec", "uptime")]
    play.decide(yes())
    assert play.heard == ([], ["REQUEST 3 exec ? uptime"])
    play.t(wire.adjust(0, 2_097_152)).t(wire.success(0)).c(wire.eof(0))
    assert play.heard == (["ADJUST 7 2097152", "OK 7"], ["EOF 3"])
    play.t(wire.data(0, b"up 3 days\n")).t(wire.eof(0)).t(wire.exit_status(0, 0)).t(wire.close(0))
    assert play.heard == (["DATA 7 up 3 days\\n", "EOF 7", "REQUEST 7 exit-status 0", "CLOSE 7"], [])
    assert play.said[0].ended == "ok"
    assert play.said[0].detail["exitStatus"] == 0
    play.c(wire.close(0))
    assert play.heard == ([], ["CLOSE 3"])
    assert play.session.idle


def test_what_is_denied_gets_its_reason_on_stderr_and_126() -> None:
    play = Play(lambda _question: no("Not this. [s/1]", "Ask for less."))
    key = play.session_channel()
    play.c(wire.request(key, b"exec", True, wire.string(b"rm -rf /")))
    assert play.heard == (
        [
            "OK 7", "ERR 7 ostiary: Not this. [s/1]\\nostiary: Ask for less.\\n", "REQUEST 7 exit-status 126", "EOF 7",
            "CLOSE 7",
        ],
        ["CLOSE 3"],
    )  # fmt: skip
    play.t(wire.close(key)).c(wire.close(key))
    assert play.heard == ([], [])
    assert play.session.idle
