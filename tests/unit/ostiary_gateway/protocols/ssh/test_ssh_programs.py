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


PTY = wire.string(b"xterm") + wire.u32(80) + wire.u32(24) + wire.u32(0) * 2 + wire.string(b"\x00")


def test_terminal_and_environment_wait_for_the_program_that_they_are_for() -> None:
    play = Play(lambda question: no() if question.facts["name"] == "LD_PRELOAD" else yes())
    key = play.session_channel()
    play.c(wire.request(key, b"pty-req", True, PTY))
    play.c(wire.request(key, b"env", True, wire.string(b"LANG") + wire.string(b"C")))
    play.c(wire.request(key, b"env", True, wire.string(b"LD_PRELOAD") + wire.string(b"/x.so")))
    assert play.heard == (["OK 7", "OK 7", "NO 7"], [])
    play.policy = lambda _question: None
    play.c(wire.request(key, b"shell", True))
    assert play.heard == ([], [])
    (question,) = play.open
    assert (question.kind, question.facts["pty"], question.facts["env"]) == ("shell", True, {"LANG": "C"})
    assert question.detail == {"terminal": "80x24", "env": {"LANG": "C"}, "envRefused": ["LD_PRELOAD"]}
    play.decide(yes())
    _, target = play.heard
    assert [line.split()[2] for line in target] == ["pty-req", "env", "shell"]
    play.t(wire.success(key)).t(wire.success(key))
    assert play.heard == (["OK 7"], [])


def test_a_terminal_whose_name_is_none_is_refused() -> None:
    play = Play()
    key = play.session_channel()
    more = wire.string(b"() { :; }; id") + wire.u32(80) * 4 + wire.string(b"")
    play.c(wire.request(key, b"pty-req", True, more)).c(wire.request(key, b"pty-req", True, PTY))
    play.c(wire.request(key, b"pty-req", True, PTY))
    assert play.heard == (["NO 7", "OK 7", "NO 7"], [])


def test_a_target_that_gives_no_terminal_is_named() -> None:
    play = Play()
    key = play.session_channel()
    play.c(wire.request(key, b"pty-req", True, PTY)).c(wire.request(key, b"shell", True))
    assert play.client.heard() == ["OK 7"]
    play.t(wire.failure(key)).t(wire.success(key))
    assert play.client.heard() == ["ERR 7 ostiary: the target gives no terminal\\r\\n", "OK 7"]


def test_of_what_is_denied_neither_terminal_nor_environment_reach_the_target() -> None:
    play = Play(lambda question: yes() if question.kind == "env" else no())
    key = play.session_channel()
    play.c(wire.request(key, b"pty-req", True, PTY))
    play.c(wire.request(key, b"env", False, wire.string(b"A") + wire.string(b"1")))
    play.c(wire.request(key, b"exec", True, wire.string(b"top")))
    assert play.target.heard() == ["CLOSE 3"]
    assert "ERR 7 ostiary: Not allowed. [s/1]\\r\\n" in play.client.heard()


def test_replies_come_in_the_order_of_their_requests_whoever_makes_them() -> None:
    play = Play()
    key = play.session_channel()
    play.c(wire.request(key, b"auth-agent-req@openssh.com", True))
    play.c(wire.request(key, b"nobody@knows", True))
    play.c(wire.request(key, b"exec", True, wire.string(b"a")))
    assert play.heard == ([], ["REQUEST 3 auth-agent-req@openssh.com ?", "REQUEST 3 exec ? a"])
    play.t(wire.failure(key))
    assert play.client.heard() == ["NO 7", "NO 7"]
    play.t(wire.success(key))
    assert play.client.heard() == ["OK 7"]


def test_who_does_not_get_the_agents_keys_is_told_in_one_line_and_the_command_runs() -> None:
    play = Play(lambda question: no("Not lent.", "Hint.", "{}") if question.kind == "agent" else yes())
    key = play.session_channel()
    play.c(wire.request(key, b"auth-agent-req@openssh.com", False)).c(
        wire.request(key, b"exec", True, wire.string(b"a"))
    )
    assert play.heard == (["ERR 7 ostiary: Not lent.\\n"], ["REQUEST 3 exec ? a"])


def test_one_channel_runs_one_program() -> None:
    play = Play()
    key = play.running()
    for kind in (b"exec", b"subsystem"):
        play.c(wire.request(key, kind, True, wire.string(b"sftp")))
    play.c(wire.request(key, b"shell", True))
    assert play.heard == (["NO 7"] * 3, [])
    assert len(play.asked) == 1


def test_what_the_target_itself_refuses_is_no_program_and_its_record_says_so() -> None:
    play = Play()
    key = play.session_channel()
    play.c(wire.request(key, b"subsystem", True, wire.string(b"nothing"))).t(wire.failure(key))
    assert play.client.heard() == ["NO 7"]
    assert (play.said[0].ended, play.said[0].detail["refused"]) == ("error", "the target refused it")
    play.c(wire.eof(key)).c(wire.close(key)).t(wire.close(key))
    assert play.client.heard() == ["CLOSE 7"]
    assert play.session.idle


def test_stdin_waits_at_the_client_until_it_is_decided() -> None:
    play = Play(lambda _question: None)
    key = play.session_channel(target_window=5000)
    play.c(wire.request(key, b"exec", False, wire.string(b"cat"))).t(wire.adjust(key, 2000))
    assert play.heard == ([], [])
    play.decide(yes())
    assert play.heard == (["ADJUST 7 7000"], ["REQUEST 3 exec cat"])


def test_data_before_it_is_decided_breaks_the_window_and_ends_the_session() -> None:
    play = Play(lambda _question: None)
    key = play.session_channel(target_window=5000)
    play.c(wire.request(key, b"exec", False, wire.string(b"cat"))).c(wire.data(key, b"early"))
    assert play.session.over == "The client broke the protocol: data came before it was decided what it is for."
    assert play.heard == ([], [])


def test_data_without_a_program_ends_the_session() -> None:
    play = Play()
    key = play.session_channel(target_window=5000)
    play.c(wire.data(key, b"early"))
    assert play.session.over.startswith("The client broke the protocol: more data came")


def test_signals_breaks_and_sizes_go_in_their_order_with_data() -> None:
    play = Play()
    key = play.running()
    size = wire.u32(132) + wire.u32(50) + wire.u32(0) * 2
    play.c(wire.data(key, b"a")).c(wire.request(key, b"window-change", False, size)).c(wire.data(key, b"b"))
    play.c(wire.request(key, b"signal", False, wire.string(b"INT"))).c(wire.request(key, b"break", True, wire.u32(500)))
    play.c(wire.request(key, b"eow@openssh.com", False))
    heard = play.target.heard()
    assert [line.split()[2] for line in heard] == ["a", "window-change", "b", "signal", "break", "eow@openssh.com"]
    play.t(wire.success(key))
    assert play.client.heard() == ["OK 7"]
    play.t(wire.exit_status(key, 130)).t(wire.close(key))
    assert play.said[0].detail["signals"] == ["INT"]
    assert play.said[0].detail["terminal"] == "132x50"


def test_the_targets_words_are_carried_in_their_order() -> None:
    play = Play()
    key = play.running()
    play.t(wire.data(key, b"1")).t(wire.extended(key, 1, b"2")).t(wire.request(key, b"eow@openssh.com", False))
    play.t(wire.request(key, b"xon-xoff", False, b"\x01")).t(wire.data(key, b"3"))
    play.t(wire.exit_signal(key, b"SEGV", b"dumped")).t(wire.eof(key)).t(wire.close(key))
    kinds = [line.split()[0] + " " + line.split()[2] if len(line.split()) > 2 else line for line in play.client.heard()]
    assert kinds == [
        "DATA 1", "ERR 2", "REQUEST eow@openssh.com", "REQUEST xon-xoff", "DATA 3", "REQUEST exit-signal", "EOF 7",
        "CLOSE 7",
    ]  # fmt: skip
    assert (play.said[0].ended, play.said[0].detail["exitSignal"]) == ("error", "SEGV")
    assert play.said[0].detail["stdoutBytes"] == 2
    assert play.said[0].detail["stderrBytes"] == 1


def test_what_nobody_knows_is_refused_at_the_gateway() -> None:
    play = Play()
    key = play.running()
    play.c(wire.request(key, b"winadj@putty.projects.tartarus.org", True))
    play.t(wire.request(key, b"keepalive@openssh.com", True)).t(wire.request(key, b"new@target", False, b"x"))
    assert play.heard == (["NO 7"], ["NO 3"])
    assert play.session.unknown == 2


def test_a_client_that_leaves_while_it_is_decided_is_waited_for_by_nobody() -> None:
    play = Play(lambda _question: None)
    key = play.session_channel()
    play.c(wire.request(key, b"exec", True, wire.string(b"a"))).c(wire.eof(key)).c(wire.close(key))
    assert play.open == []
    assert play.heard == ([], ["CLOSE 3"])
    late = yes()
    play.session.answer(play.asked[0], late)
    assert late.ended == "skipped"
    assert play.heard == ([], [])
    play.t(wire.close(key))
    assert play.client.heard() == ["CLOSE 7"]
    assert play.session.idle


def test_what_comes_behind_a_question_keeps_its_order() -> None:
    play = Play(lambda _question: None)
    key = play.session_channel()
    play.c(wire.request(key, b"exec", True, wire.string(b"a"))).c(wire.request(key, b"exec", True, wire.string(b"b")))
    play.c(wire.request(key, b"signal", False, wire.string(b"HUP"))).c(wire.eof(key))
    play.decide(yes())
    assert play.target.heard() == ["REQUEST 3 exec ? a", "REQUEST 3 signal HUP", "EOF 3"]
    assert play.client.heard() == []
    play.t(wire.success(key))
    assert play.client.heard() == ["OK 7", "NO 7"]


def test_a_waiting_client_is_told_on_stderr() -> None:
    play = Play(lambda _question: None)
    key = play.session_channel()
    play.c(wire.request(key, b"exec", True, wire.string(b"a")))
    play.session.tell(play.open[0], "ostiary: waiting for approval apr-1")
    assert play.client.heard() == ["ERR 7 ostiary: waiting for approval apr-1\\n"]
    play.decide(yes(lines=("Approved by ann.",)))
    assert play.heard[0] == ["ERR 7 ostiary: Approved by ann.\\n"]


def test_a_client_that_leaves_a_running_command_is_recorded_as_that() -> None:
    play = Play()
    key = play.running()
    play.c(wire.close(key)).t(wire.close(key))
    assert play.said[0].ended == "lost"
    assert play.heard == (["CLOSE 7"], ["CLOSE 3"])


def test_a_killed_command_says_why_and_is_made_to_end_at_the_target() -> None:
    play = Play()
    key = play.running()
    assert play.session.end_request(1, "Ended by ann.")
    assert play.heard == (
        ["ERR 7 ostiary: Ended by ann.\\n", "REQUEST 7 exit-signal " + repr(
            wire.string(b"TERM") + b"\x00" + wire.string(b"Ended by ann.") + wire.string(b"")
        )[2:-1], "EOF 7", "CLOSE 7"],
        ["REQUEST 3 signal TERM"],
    )  # fmt: skip
    assert (play.said[0].ended, play.said[0].detail["ended"]) == ("error", "Ended by ann.")
    play.c(wire.close(key))
    assert play.session.due == 3.0
    play.later(3)
    assert play.heard == ([], ["REQUEST 3 signal KILL", "CLOSE 3"])
    play.t(wire.data(key, b"late")).t(wire.close(key))
    assert play.heard == ([], [])
    assert play.session.idle
    assert play.session.due is None
    assert not play.session.end_request(1, "again")


def test_a_killed_command_that_ends_by_itself_is_over() -> None:
    play = Play()
    key = play.running()
    play.session.end_request(1, "Ended.")
    play.c(wire.close(key)).t(wire.exit_signal(key, b"TERM", b"")).t(wire.close(key))
    assert play.target.heard() == ["REQUEST 3 signal TERM", "CLOSE 3"]
    assert play.session.idle


def test_who_leaves_a_killed_command_leaves_it_no_time() -> None:
    play = Play()
    play.running()
    play.session.end_request(1, "Ended.")
    play.session.lost()
    assert play.target.heard() == ["REQUEST 3 signal TERM", "REQUEST 3 signal KILL", "CLOSE 3"]


def test_policies_that_change_end_what_they_would_not_let_through() -> None:
    play = Play()
    play.running(b"first")
    play.session.recheck(lambda question, _: "Not any more." if question.facts["command"] == "first" else "")
    heard, _ = play.heard
    assert heard[0] == "ERR 7 ostiary: Not any more.\\n"
    assert play.said[0].detail["ended"] == "Not any more."
    play.session.recheck(lambda _question, _admission: "Twice?")
    assert play.heard == ([], [])


def test_a_lost_target_is_told_to_what_runs() -> None:
    play = Play()
    play.running()
    play.session.lost("The target has closed the connection.")
    assert play.heard == (["ERR 7 ostiary: The target has closed the connection.\\n"], [])
    assert play.said[0].ended == "lost"


def test_a_lost_client_ends_every_request_once() -> None:
    play = Play()
    play.running(b"a")
    play.mine, play.theirs = 8, 4
    play.running(b"b")
    play.session.lost()
    play.session.lost()
    assert [said.ended for said in play.said] == ["lost", "lost"]
    assert play.heard == ([], [])
