"""Windows, played packet by packet: from end to end where nothing changes, kept apart where something does."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.ssh_model import Reversing
from support.ssh_talks import Play, Said, masked, yes

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.protocols.ssh import wire
from ostiary_gateway.protocols.ssh.questions import Question
from ostiary_policy.masking import DetectorMask, Strategy

CARDS = Detectors([DetectorMask("CreditCard", Strategy("Redact"))])


def test_what_one_side_gives_the_other_gets_and_no_byte_waits() -> None:
    play = Play()
    key = play.running(window=1000, target_window=500)
    play.t(wire.data(key, b"x" * 1000)).c(wire.adjust(key, 1)).c(wire.adjust(key, 700)).c(wire.data(key, b"y" * 500))
    assert play.heard == (["DATA 7 1000 bytes"], ["ADJUST 3 1", "ADJUST 3 700", "DATA 3 500 bytes"])


def test_who_sends_more_than_the_window_is_disconnected() -> None:
    play = Play()
    key = play.running(target_window=500)
    play.c(wire.data(key, b"y" * 400)).c(wire.data(key, b"y" * 101))
    assert play.session.over == ("The client broke the protocol: more data came than the window of its channel allows.")
    assert play.target.heard() == ["DATA 3 400 bytes"]
    play.c(wire.data(key, b"more")).t(wire.data(key, b"more"))
    play = Play()
    key = play.running(window=10)
    play.t(wire.extended(key, 1, b"y" * 11))
    assert play.session.over.startswith("The target broke the protocol: more data came")


def test_a_window_has_an_end() -> None:
    play = Play()
    key = play.running(window=0xFFFF_FFFF)
    play.c(wire.adjust(key, 1))
    assert "beyond 2^32" in play.session.over


def test_larger_packets_than_the_other_takes_are_cut() -> None:
    play = Play()
    play.c(wire.open_channel(b"session", 7, 100_000, 1000)).t(wire.confirmation(0, 3, 0, 600))
    play.c(wire.request(0, b"exec", False, wire.string(b"cat"))).t(wire.adjust(0, 10_000))
    assert play.heard
    play.t(wire.data(0, b"x" * 2500)).c(wire.data(0, b"y" * 700))
    assert play.heard == (
        ["DATA 7 1000 bytes", "DATA 7 1000 bytes", "DATA 7 500 bytes"], ["DATA 3 600 bytes", "DATA 3 100 bytes"],
    )  # fmt: skip


def test_the_gateways_own_words_are_taken_from_the_window_and_given_back_late() -> None:
    play = Play(lambda _question: None)
    key = play.session_channel(window=100)
    play.c(wire.request(key, b"exec", False, wire.string(b"a")))
    play.session.tell(play.open[0], "w" * 59)
    play.decide(yes())
    assert play.heard
    play.t(wire.data(key, b"x" * 100)).t(wire.eof(key))
    assert play.heard == (["DATA 7 " + "x" * 40], [])
    play.c(wire.adjust(key, 50))
    assert play.heard == (["DATA 7 " + "x" * 50], [])
    play.c(wire.adjust(key, 50))
    assert play.heard == (["DATA 7 xxxxxxxxxx", "EOF 7"], ["ADJUST 3 40"])


def test_masks_change_lengths_and_neither_window_is_overdrawn() -> None:
    play = Play(lambda _question: masked(CARDS))
    key = play.running(window=100)
    line = b"4111111111111111\n" * 5
    play.t(wire.data(key, line + b"-" * 15))
    heard, target = play.heard
    assert heard == ["DATA 7 " + "[redacted]\\n" * 5]
    assert target == ["ADJUST 3 45"]
    play.t(wire.data(key, b"-" * 45))
    assert play.heard == ([], ["ADJUST 3 45"])


def test_what_a_mask_makes_longer_waits_for_the_client() -> None:
    long = Detectors([DetectorMask("CreditCard", Strategy("Pseudonym", key=b"k" * 32))])
    play = Play(lambda _question: masked(long))
    key = play.running(window=17)
    play.t(wire.data(key, b"4111111111111111\n")).t(wire.eof(key)).t(wire.exit_status(key, 0)).t(wire.close(key))
    heard, target = play.heard
    assert len(heard) == 1
    assert target == []
    play.c(wire.adjust(key, 1000))
    assert [line.split()[0] for line in play.client.heard()] == ["DATA", "EOF", "REQUEST", "CLOSE"]
    assert play.said[0].ended == "ok"


def test_half_closed_is_half_open() -> None:
    play = Play()
    key = play.running()
    play.t(wire.eof(key)).c(wire.data(key, b"still")).t(wire.request(key, b"eow@openssh.com", False))
    assert play.heard == (["EOF 7", "REQUEST 7 eow@openssh.com"], ["DATA 3 still"])
    play.c(wire.eof(key)).c(wire.data(key, b"after"))
    assert play.session.over == "The client broke the protocol: data came after the end of it."


@pytest.mark.parametrize(
    "packet",
    [
        wire.data(99, b"x"), wire.eof(99), wire.close(99), wire.adjust(99, 1), wire.request(99, b"exec", True),
        wire.success(99), wire.confirmation(99, 1, 1, 300), wire.open_failure(99, 1, b""), b"\x5b",
        b"\x5e\x00", b"\x65",
        b"\x60\x00\x00\x00\x00\x00", wire.extended(0, 1, b"x"), b"\x5e\x00\x00\x00\x00\x00\x00\x00\x09x",
        wire.open_channel(b"session", 1, 1, 300, b"more"), wire.open_channel(b"\xff", 1, 1, 300), wire.close(0) + b"x",
        wire.request(0, b"exec", True, wire.string(b"a") + b"b"), wire.request(0, b"\x00", True),
        wire.open_channel(b"direct-tcpip", 1, 1, 300, wire.string(b"h" * 2000) + b"\0" * 12),
        wire.request(0, b"shell", True, b"a"), wire.request(0, b"pty-req", True, b"a"),
    ],
)  # fmt: skip
def test_what_is_no_packet_of_an_open_channel_ends_the_session(packet: bytes) -> None:
    play = Play()
    assert play.session_channel() == 0
    play.c(packet)
    assert play.session.over.startswith("The client broke the protocol: "), packet
    assert play.heard == ([], [])


def test_nothing_comes_after_a_close() -> None:
    play = Play()
    key = play.running()
    play.c(wire.close(key)).c(wire.eof(key))
    assert "not open" in play.session.over


class Reader:
    """An end that takes what comes and gives its window back, a part at a time."""

    def __init__(self, window: int, back: int) -> None:
        self.window, self.back = window, back
        self.data = bytearray()
        self.taken = 0
        self.granted = 0
        """What it may send itself."""

    def send(self, payload: bytes) -> None:
        if payload[0] == wire.CHANNEL_WINDOW_ADJUST:
            self.granted += wire.read_adjust(payload)
        elif payload[0] == wire.CHANNEL_DATA:
            self.data += payload[9:]
            self.taken += len(payload) - 9
            assert self.taken <= self.window

    def send_data(self, channel: int, data: bytes | memoryview) -> None:
        self.send(wire.data(channel, data))

    def gives(self) -> int:
        """How much it gives back now."""
        if self.taken < self.back and self.taken < self.window:
            return 0
        found, self.taken = self.taken, 0
        return found


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300), st.integers(1, 300), st.integers(1, 200), st.integers(1, 200),
    st.sampled_from(["plain", "masked", "talk"]), st.integers(1, 5000),
)  # fmt: skip
def test_whatever_the_windows_all_that_is_sent_arrives(
    down: int, up: int, back: int, size: int, kind: str, amount: int
) -> None:
    def policy(question: Question) -> Said:
        return masked(CARDS) if kind == "masked" and question.kind == "exec" else yes()

    play = Play(policy, lambda _question, _admission: Reversing() if kind == "talk" else None)
    client, target = Reader(down, min(back, down)), Reader(up, min(back, up))
    play.session.client, play.session.target = client, target
    play.c(wire.open_channel(b"session", 7, down, 300)).t(wire.confirmation(0, 3, up, 290))
    target.granted = down
    play.c(wire.request(0, b"exec", False, wire.string(b"cat")))
    text = (b"4111111111111111 and more text\n" * (amount // 31 + 1))[:amount]
    sent = [0, 0]
    for _ in range(amount * 12 + 50):
        moved = False
        for index, (end, say) in enumerate(((client, play.c), (target, play.t))):
            piece = text[sent[index] : sent[index] + min(size, end.granted)]
            if piece:
                sent[index] += len(piece)
                end.granted -= len(piece)
                say(wire.data(0, piece))
                moved = True
            if given := end.gives():
                say(wire.adjust(0, given))
                moved = True
        if not moved:
            break
    assert sent == [amount, amount]
    play.later(1)
    for _ in range(amount * 12):
        if not (given := client.gives()):
            break
        play.c(wire.adjust(0, given))
    assert not play.session.over
    if kind == "talk":
        assert len(client.data) == len(target.data) == 2 * amount
    else:
        assert target.data == text
        if kind == "plain":
            assert client.data == text
        else:
            assert client.data.count(b"[redacted]") == text.count(b"4111111111111111")
            assert b"4111111111111111" not in client.data
