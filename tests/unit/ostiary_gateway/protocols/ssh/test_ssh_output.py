"""What a command reads and writes: masked across packets, recorded as the client saw it, counted and digested."""

from __future__ import annotations

import hashlib

from support.ssh_talks import Play, masked, yes

from ostiary_gateway.audit.stream_recording import Chunk, Kind, Recording
from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.output import INTERACTIVE, PLAIN
from ostiary_gateway.protocols.ssh import wire
from ostiary_policy.masking import DetectorMask, Strategy

CARDS = Detectors([DetectorMask("CreditCard", Strategy("Redact"))])
PTY = wire.string(b"xterm") + wire.u32(80) + wire.u32(24) + wire.u32(0) * 2 + wire.string(b"\x00")


def shell(play: Play) -> int:
    key = play.session_channel()
    play.c(wire.request(key, b"pty-req", False, PTY)).c(wire.request(key, b"shell", False))
    play.t(wire.success(key)).t(wire.adjust(key, 100_000))
    assert play.heard
    return key


def chunks(frames: bytes) -> list[tuple[Kind, bytes]]:
    found = list(Recording([frames]).chunks())
    assert all(isinstance(each, Chunk) for each in found)
    return [(each.kind, each.data) for each in found if isinstance(each, Chunk)]


def test_a_value_that_spans_packets_is_masked_on_both_streams() -> None:
    play = Play(lambda _question: masked(CARDS))
    key = play.running()
    for piece in (b"card 4111 11", b"11 1111 1", b"111 end\n"):
        play.t(wire.data(key, piece))
    assert play.client.heard() == ["DATA 7 card [redacted] end\\n"]
    play.t(wire.extended(key, 1, b"4111111")).t(wire.extended(key, 1, b"111111111\n"))
    assert play.client.heard() == ["ERR 7 [redacted]\\n"]


def test_a_prompt_without_an_end_goes_after_a_moment() -> None:
    play = Play(lambda _question: masked(CARDS))
    key = shell(play)
    play.t(wire.data(key, b"one\r\n$ "))
    assert play.client.heard() == ["DATA 7 one\\r\\n"]
    assert play.session.due == INTERACTIVE
    play.later(INTERACTIVE)
    assert play.client.heard() == ["DATA 7 $ "]
    assert play.session.due is None


def test_what_is_typed_comes_back_at_once() -> None:
    play = Play(lambda _question: masked(CARDS))
    key = shell(play)
    play.c(wire.data(key, b"l")).t(wire.data(key, b"l"))
    assert play.client.heard() == ["DATA 7 l"]


def test_without_a_terminal_there_is_more_time() -> None:
    play = Play(lambda _question: masked(CARDS))
    key = play.running()
    play.t(wire.data(key, b"no end"))
    assert play.session.due == PLAIN


def test_the_end_lets_go_what_was_held_before_it_is_told() -> None:
    play = Play(lambda _question: masked(CARDS))
    key = play.running()
    play.t(wire.data(key, b"4111111111111111")).t(wire.exit_status(key, 0)).t(wire.eof(key)).t(wire.close(key))
    assert play.client.heard() == ["REQUEST 7 exit-status 0", "DATA 7 [redacted]", "EOF 7", "CLOSE 7"]
    assert play.said[0].detail["stdoutBytes"] == len("[redacted]")


def test_a_lost_target_lets_go_before_it_is_told() -> None:
    play = Play(lambda _question: masked(CARDS))
    key = play.running()
    play.t(wire.data(key, b"last words"))
    play.session.lost("Gone.")
    assert play.client.heard() == ["DATA 7 last words", "ERR 7 ostiary: Gone.\\n"]


def test_a_close_without_an_eof_lets_go_too() -> None:
    play = Play(lambda _question: masked(CARDS))
    key = play.running()
    play.t(wire.extended(key, 1, b"bye")).t(wire.close(key))
    assert play.client.heard() == ["ERR 7 bye", "CLOSE 7"]


def test_the_words_of_a_signal_are_masked_too() -> None:
    play = Play(lambda _question: masked(CARDS))
    key = play.running()
    play.t(wire.exit_signal(key, b"ABRT", b"bad card 4111111111111111"))
    (heard,) = play.client.heard()
    assert "4111" not in heard


def test_the_recording_holds_what_the_client_saw_and_typed() -> None:
    play = Play(lambda _question: masked(CARDS, keeps=True, lines=("Approved by ann.",)))
    key = shell(play)
    play.c(wire.data(key, b"cat card\r")).t(wire.data(key, b"cat card\r\n4111111111111111\r\n"))
    play.c(wire.request(key, b"window-change", False, wire.u32(132) + wire.u32(43) + wire.u32(0) * 2))
    play.t(wire.extended(key, 1, b"oops\n")).c(wire.eof(key))
    play.session.end_request(1, "Ended.")
    assert chunks(bytes(play.said[0].frames)) == [
        (Kind.RESIZE, b"\x00\x50\x00\x18"),
        (Kind.NOTE, b"ostiary: Approved by ann.\r\n"),
        (Kind.STDIN, b"cat card\r"),
        (Kind.STDOUT, b"cat card\r\n[redacted]\r\n"),
        (Kind.RESIZE, b"\x00\x84\x00\x2b"),
        (Kind.STDERR, b"oops\n"),
        (Kind.CLOSED, b""),
        (Kind.NOTE, b"ostiary: Ended.\r\n"),
    ]
    assert Recording([bytes(play.said[0].frames)]).tty


def test_what_is_not_kept_is_counted_and_digested() -> None:
    play = Play()
    key = play.running()
    play.c(wire.data(key, b"in")).t(wire.data(key, b"out")).t(wire.data(key, b"put")).t(wire.extended(key, 1, b"err"))
    play.later(2.5).t(wire.exit_status(key, 7)).t(wire.close(key))
    said = play.said[0]
    assert said.frames == b""
    assert said.ends == [
        (
            "ok",
            {
                "seconds": 2.5, "stdinBytes": 2, "stdoutBytes": 6, "stderrBytes": 3, "exitStatus": 7,
                "stdinSha256": hashlib.sha256(b"in").hexdigest(), "stdoutSha256": hashlib.sha256(b"output").hexdigest(),
                "stderrSha256": hashlib.sha256(b"err").hexdigest(),
            },
            9,
        )
    ]  # fmt: skip
    assert play.session.read == 9


def test_where_nothing_is_recorded_nothing_is_digested() -> None:
    play = Play(digests=False)
    key = play.running()
    play.t(wire.data(key, b"out")).t(wire.close(key))
    assert "stdoutSha256" not in play.said[0].detail


def test_a_recording_ends_where_the_record_takes_no_more_and_bytes_go_on() -> None:
    play = Play(lambda _question: yes(keeps=True), recorded=1000)
    key = play.running()
    for _ in range(10):
        play.t(wire.data(key, b"x" * 400))
    assert len(play.client.heard()) == 10
    assert 1000 <= len(play.said[0].frames) < 1500
    play.t(wire.close(key))
    assert play.said[0].detail["stdoutBytes"] == 4000
    assert play.said[0].detail["stdoutSha256"] == hashlib.sha256(b"x" * 4000).hexdigest()


def test_a_shell_ends_where_the_record_takes_no_more() -> None:
    play = Play(lambda _question: yes(keeps=True, whole=True), recorded=1000)
    key = shell(play)
    for _ in range(3):
        play.t(wire.data(key, b"x" * 400))
    heard = [each.split()[0] for each in play.client.heard()]
    assert heard == ["DATA", "DATA", "DATA", "ERR", "REQUEST", "EOF", "CLOSE"]
    assert "maxRecordedBytes" in str(play.said[0].detail["ended"])
