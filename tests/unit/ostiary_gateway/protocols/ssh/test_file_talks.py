"""A session of SFTP in the core: content takes the short way, and every request after it is still looked at."""

from __future__ import annotations

from support.sftp_talks import INIT, VERSION, handle, named, opening, own, status, writing
from support.ssh_talks import Play, no, yes

from ostiary_gateway.protocols.ssh import sftp_wire, wire
from ostiary_gateway.protocols.ssh.file_talks import is_scp, talk_of
from ostiary_gateway.protocols.ssh.sftp_wire import request

WRITE = sftp_wire.F_WRITE | sftp_wire.F_CREAT


class Sftp:
    def __init__(self, window: int = 1 << 21) -> None:
        self.play = Play(
            lambda question: no("It is secret.") if "secret" in question.text else yes(),
            talks=lambda question, _: talk_of(question, lambda: 0.0), is_scp=is_scp,
        )  # fmt: skip
        self.key = self.play.session_channel(window=window)
        self.play.c(wire.request(self.key, b"subsystem", True, wire.string(b"sftp")))
        self.play.t(wire.success(self.key)).t(wire.adjust(self.key, 1 << 21))
        self.client(INIT)
        (asked,) = self.target(VERSION)[1]
        self.target(named(own(asked), b"/home/agent"))

    def client(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        return self._say(self.play.session.client_data, data)

    def target(self, data: bytes) -> tuple[list[bytes], list[bytes]]:
        return self._say(self.play.session.target_data, data)

    def _say(self, way: object, data: bytes) -> tuple[list[bytes], list[bytes]]:
        """What the client and the target hear of it."""
        lines = self.play.client, self.play.target
        for line in lines:
            line.payloads.clear()
            line.clear()
        way(self.key, memoryview(data))  # type: ignore[operator]
        self.play._settle()
        client, target = ([each[9:] for each in line.payloads if each[0] == wire.CHANNEL_DATA] for line in lines)
        return client, target


def test_content_passes_and_what_follows_it_is_decided() -> None:
    talk = Sftp()
    assert talk.client(opening(1, b"/f", WRITE)) == ([], [opening(1, b"/f", WRITE)])
    assert talk.target(handle(1, b"h")) == ([handle(1, b"h")], [])
    sent = writing(2, b"h", 0, b"x" * 60_000)
    for at in range(0, len(sent), 10_000):
        assert talk.client(sent[at : at + 10_000]) == ([], [sent[at : at + 10_000]])
    assert talk.target(status(2)) == ([status(2)], [])
    told, upstream = talk.client(opening(3, b"/secret"))
    assert upstream == []
    assert b"It is secret." in told[0]
    (channel,) = talk.play.session.channels.values()
    assert channel.plain is None


def test_a_client_that_does_not_read_its_answers_may_not_send_for_ever() -> None:
    talk = Sftp(window=4000)
    talk.client(opening(1, b"/f", WRITE))
    talk.target(handle(1, b"h"))
    (channel,) = talk.play.session.channels.values()
    refused = request(sftp_wire.REMOVE, 2, wire.string(b"/secret"))
    written = writing(3, b"g", 0, b"x")
    sent = 0
    while sent < 100_000 and len(refused) + len(written) <= channel.up.granted:
        talk.client(refused)
        talk.client(written)  # to no file: refused as well
        talk.play.t(wire.adjust(talk.key, 1))
        sent += 1
    assert sent < 100_000
    assert channel.down.waiting < 8 << 20, "what its window let it send, and the answers to that"
