"""Transcripts of SFTP and scp: a client and a target that say what a test makes them say, and a talk between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from support.file_talks import Watched, allowed

from ostiary_gateway.protocols.ssh import sftp_wire as wire
from ostiary_gateway.protocols.ssh.questions import Admission, Question
from ostiary_gateway.protocols.ssh.scp import ScpTalk
from ostiary_gateway.protocols.ssh.sftp import SftpTalk
from ostiary_gateway.protocols.ssh.sftp_wire import request, string

Ended = tuple[str, str, dict[str, object], int]

INIT = wire.packet(wire.INIT, (3).to_bytes(4, "big"))
VERSION = wire.packet(
    wire.VERSION, (3).to_bytes(4, "big"), string(b"posix-rename@openssh.com"), string(b"1"),
    string(b"limits@openssh.com"), string(b"1"), string(b"secret@example.org"), string(b"9"),
)  # fmt: skip
NO_ATTRIBUTES = bytes(4)
HOME = b"/home/agent"


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def u64(value: int) -> bytes:
    return value.to_bytes(8, "big")


def opening(ident: int, path: bytes, flags: int = wire.F_READ, attributes: bytes = NO_ATTRIBUTES) -> bytes:
    return request(wire.OPEN, ident, string(path), u32(flags), attributes)


def reading(ident: int, handle: bytes, at: int, size: int) -> bytes:
    return request(wire.READ, ident, string(handle), u64(at), u32(size))


def writing(ident: int, handle: bytes, at: int, data: bytes) -> bytes:
    return request(wire.WRITE, ident, string(handle), u64(at), string(data))


def named(ident: int, *names: bytes) -> bytes:
    entries = b"".join(string(name) + string(name) + NO_ATTRIBUTES for name in names)
    return request(wire.NAME, ident, u32(len(names)), entries)


def handle(ident: int, name: bytes) -> bytes:
    return request(wire.HANDLE, ident, string(name))


def status(ident: int, code: int = wire.OK) -> bytes:
    return wire.status(ident, code, "")


def extended(ident: int, name: bytes, *parts: bytes) -> bytes:
    return request(wire.EXTENDED, ident, string(name), *parts)


def packets(data: bytes) -> Iterator[bytes]:
    """The whole packets in these bytes."""
    at = 0
    while at < len(data):
        size = 4 + int.from_bytes(data[at : at + 4], "big")
        yield data[at : at + size]
        at += size


class Talking:
    """A talk whose questions are answered by `decide`, at once; with None they wait."""

    def __init__(self, talk: SftpTalk | ScpTalk, decide: Callable[[Question], Admission] | None) -> None:
        self.talk = talk
        self.decide = decide
        self.asked: list[Question] = []
        self.ends: list[Ended] = []
        """How each request ended that was allowed and has a record."""
        self.stderr = b""
        self.fast = False
        """Whether what passes whole is not looked at, as in the core."""

    def _settled(self) -> tuple[bytes, bytes]:
        """What goes to the target, and what to the client."""
        talk = self.talk
        while talk.questions:
            question = talk.questions.pop(0)
            self.asked.append(question)
            if self.decide is None:
                break
            self.answer(question, self.decide(question))
        sent = b"".join(talk.to_target), b"".join(talk.to_client)
        self.stderr += b"".join(talk.to_stderr)
        for queue in (talk.to_target, talk.to_client, talk.to_stderr):
            queue.clear()
        return sent

    def answer(self, question: Question, admission: Admission) -> None:
        if isinstance(admission, Watched) and not question.quiet:
            admission.ends = lambda outcome, detail, size: self.ends.append((question.text, outcome, detail, size))
        self.talk.answer(question, admission)

    def settle(self) -> tuple[bytes, bytes]:
        return self._settled()

    def client(self, *sent: bytes) -> tuple[bytes, bytes]:
        whole = b"".join(sent)
        if self.fast and self.talk.passes_up(whole):
            return whole, b""
        self.talk.from_client(whole)
        return self._settled()

    def target(self, *sent: bytes) -> tuple[bytes, bytes]:
        whole = b"".join(sent)
        if self.fast and self.talk.passes_down(whole):
            return b"", whole
        self.talk.from_target(whole)
        return self._settled()


class Sftp(Talking):
    """A session of SFTP that has begun."""

    def __init__(
        self, decide: Callable[[Question], Admission] | None = lambda _: allowed(), home: bytes = HOME, **more: object
    ) -> None:
        super().__init__(SftpTalk(lambda: 0.0, **more), decide)  # type: ignore[arg-type]
        assert self.client(INIT) == (INIT, b"")
        asked, told = self.target(VERSION)
        assert told == wire.packet(wire.VERSION, u32(3), *(string(each) for each in (
            b"posix-rename@openssh.com", b"1", b"limits@openssh.com", b"1")))  # fmt: skip
        assert asked == request(wire.REALPATH, own(asked), string(b"."))
        self.target(named(own(asked), home) if home else status(own(asked), wire.FAILURE))

    def opened(self, path: bytes = b"/f", flags: int = wire.F_READ, name: bytes = b"h", ident: int = 1) -> bytes:
        """A handle for a file."""
        self.client(opening(ident, path, flags))
        _, told = self.target(handle(ident, name))
        assert told == handle(ident, name)
        return name


def own(packet: bytes) -> int:
    """The id of a request."""
    return int.from_bytes(packet[5:9], "big")
