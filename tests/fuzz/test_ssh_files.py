"""Whatever either end says in SFTP and the old scp, in whatever pieces: the same goes on, and only if it may."""

from __future__ import annotations

from collections.abc import Iterator

from support.file_talks import EMAIL, allowed, refused
from support.fuzzing import Target
from support.sftp_talks import INIT, Talking, packets

from ostiary_gateway.protocols.ssh import sftp_wire as wire
from ostiary_gateway.protocols.ssh.questions import Admission, Question
from ostiary_gateway.protocols.ssh.scp import ScpTalk
from ostiary_gateway.protocols.ssh.scp_lines import scp_command
from ostiary_gateway.protocols.ssh.sftp import SftpTalk

COMMANDS = (
    b"scp -r -p -t /srv/", b"scp -r -f /srv/f", b"scp -t /srv", b"scp -r -p -f '/srv/d'", b"scp -f /srv/*",
    b"scp -d -t .",
)  # fmt: skip
PIECES = ((1 << 15, False), (1, False), (7, True), (1, True))
"""How the bytes are cut, and whether what passes whole takes the short way."""

Seen = tuple[bytes, bytes, str, list[str], object]


def parts(data: bytes) -> Iterator[tuple[bool, bytes]]:
    """What is said in turns: two bytes of side and length, then so much. True: by the client."""
    at = 0
    while at + 2 <= len(data):
        head = int.from_bytes(data[at : at + 2], "big")
        yield not head & 0x8000, data[at + 2 : at + 2 + (head & 0x7FFF)]
        at += 2 + (head & 0x7FFF)


def decide(question: Question) -> Admission:
    if "secret" in f"{question.facts['path']}{question.facts.get('target', '')}":
        return refused("It is secret.")
    return allowed(detectors=EMAIL if "masked" in str(question.facts["path"]) else None)


def play(talk: SftpTalk | ScpTalk, data: bytes, size: int, fast: bool) -> Seen:
    found = Talking(talk, decide)
    found.fast = fast
    upstream, told = b"", b""
    for client, said in parts(data):
        for at in range(0, len(said), size):
            piece = said[at : at + size]
            sent, answered = found.client(piece) if client else found.target(piece)
            upstream, told = upstream + sent, told + answered
    over = talk.over
    talk.ended()
    assert talk.held == 0
    begun = [question.text for question in found.asked if not question.quiet and decide(question).allowed]
    ended = [text for text, *_ in found.ends]
    assert sorted(ended) == sorted(begun), "each that was begun has ended once"
    return upstream, told, over, [question.text for question in found.asked], (talk.end_detail(), found.ends)


def alike(seen: list[Seen]) -> Seen:
    first = seen[0]
    for other in seen[1:]:
        if first[2] or other[2]:
            # Whose break is seen first, and what went on before that, differs with the pieces; that it breaks does not.
            assert first[2]
            assert other[2]
            assert other[0].startswith(first[0]) or first[0].startswith(other[0])
        else:
            assert other == first
    return first


def run_sftp(data: bytes) -> object:
    seen = [play(SftpTalk(lambda: 0.0), data, *how) for how in PIECES]
    upstream = seen[1][0]
    for packet in packets(upstream):
        if len(packet) < 9 or len(packet) < 4 + int.from_bytes(packet[:4], "big"):
            break  # the last may be half
        assert packet[4] in wire.NAMES
        assert packet == INIT or packet[4] != wire.INIT or packet[8] < 3
        if packet[4] != wire.WRITE:
            assert b"secret" not in packet, "what was refused went on"
    return alike(seen)


def run_scp(data: bytes) -> object:
    """The first byte tells which end it is."""
    if not data:
        return None
    command = scp_command(COMMANDS[data[0] % len(COMMANDS)])
    assert command is not None
    return alike([play(ScpTalk(command, lambda: 0.0), data[1:], *how) for how in PIECES])


def run_command(data: bytes) -> object:
    command = scp_command(data)
    if command is not None:
        assert command.path
        assert b"\0" not in data
    return command


SFTP = Target("sftp", run_sftp, longest=16384)
SCP = Target("scp", run_scp, longest=16384)
COMMAND = Target("scp_command", run_command)


def test_sftp() -> None:
    SFTP.replay(1500)


def test_scp() -> None:
    SCP.replay(1500)


def test_scp_command() -> None:
    COMMAND.replay(3000)
