"""A session of the SSH core, played: what each side sends, what each side then hears, and what is asked in between."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.protocols.ssh import wire
from ostiary_gateway.protocols.ssh.questions import Admission, Question
from ostiary_gateway.protocols.ssh.state import Session
from ostiary_gateway.protocols.ssh.talks import Talk

WINDOW = 2_097_152
LIMIT = 32_768


class Line(list[str]):
    """What goes to one side, in words."""

    def __init__(self) -> None:
        super().__init__()
        self.payloads: list[bytes] = []

    def send(self, payload: bytes) -> None:
        self.payloads.append(payload)
        self.append(words(payload))

    def send_data(self, channel: int, data: bytes | memoryview) -> None:
        self.send(wire.data(channel, data))

    def heard(self) -> list[str]:
        """What came since the last time."""
        found = self[:]
        self.clear()
        return found


@dataclass(eq=False)
class Said(Admission):
    """An admission that remembers what became of it."""

    ends: list[tuple[str, dict[str, object], int]] = field(default_factory=list)
    frames: bytearray = field(default_factory=bytearray)
    count: int = 1

    @property
    def number(self) -> int:
        return self.count

    @property
    def request(self) -> str:
        return f"s/{self.count}"

    def record(self, data: bytes) -> None:
        self.frames += data

    def end(self, outcome: str, detail: Any, size: int) -> None:
        self.ends.append((outcome, dict(detail), size))

    @property
    def ended(self) -> str:
        """The outcome; it must be told once."""
        assert len(self.ends) == 1, self.ends
        return self.ends[0][0]

    @property
    def detail(self) -> dict[str, object]:
        assert len(self.ends) == 1, self.ends
        return self.ends[0][1]


def yes(**more: Any) -> Said:
    return Said(True, **more)


def no(*lines: str) -> Said:
    return Said(False, lines=lines or ("Not allowed. [s/1]",))


def masked(detectors: Detectors, **more: Any) -> Said:
    return Said(True, detectors=detectors, **more)


class Play:
    """One session. `policy`: what is said of a question at once; None: it stays open until `decide`."""

    def __init__(
        self,
        policy: Callable[[Question], Said | None] = lambda _question: yes(),
        talks: Callable[[Question, Admission], Talk | None] = lambda _question, _admission: None,
        **more: Any,
    ) -> None:
        self.client, self.target = Line(), Line()
        self.time = 0.0
        self.session = Session(self.client, self.target, now=lambda: self.time, talks=talks, **more)
        self.policy = policy
        self.open: list[Question] = []
        self.asked: list[Question] = []
        self.said: list[Said] = []
        self.mine, self.theirs = 7, 3
        """Numbers of the client's and of the target's channel."""

    def c(self, payload: bytes) -> Play:
        """The client sends a packet."""
        self.session.from_client(payload)
        return self._settle()

    def t(self, payload: bytes) -> Play:
        """The target sends a packet."""
        self.session.from_target(payload)
        return self._settle()

    def _settle(self) -> Play:
        while self.session.questions or self.session.withdrawn:
            for question in self.session.withdrawn:
                if question in self.open:
                    self.open.remove(question)
            self.session.withdrawn.clear()
            if not self.session.questions:
                break
            question = self.session.questions.pop(0)
            self.asked.append(question)
            said = self.policy(question)
            if said is None:
                self.open.append(question)
                self.session.progress(question)
            else:
                self.said.append(said)
                self.session.answer(question, said)
        return self

    def decide(self, said: Said) -> Play:
        """Says something of the oldest open question."""
        self.said.append(said)
        self.session.answer(self.open.pop(0), said)
        return self._settle()

    def later(self, seconds: float) -> Play:
        self.time += seconds
        self.session.tick()
        return self

    @property
    def heard(self) -> tuple[list[str], list[str]]:
        """What client and target have heard since the last time."""
        return self.client.heard(), self.target.heard()

    # -- what most sessions begin with

    def session_channel(self, *, window: int = WINDOW, target_window: int = 0) -> int:
        """Opens one; the gateway's number of it. Nothing of that is in `heard` any more."""
        self.c(wire.open_channel(b"session", self.mine, window, LIMIT))
        key = wire.read_open(self.target.payloads[-1]).sender
        self.t(wire.confirmation(key, self.theirs, target_window, LIMIT))
        assert self.heard is not None
        return key

    def running(self, command: bytes = b"true", *, window: int = WINDOW, target_window: int = 100_000) -> int:
        """A command that was let through and has begun; the gateway's number of its channel."""
        key = self.session_channel(window=window)
        self.c(wire.request(key, b"exec", True, wire.string(command)))
        self.t(wire.success(key)).t(wire.adjust(key, target_window))
        assert self.heard is not None
        return key


def words(payload: bytes) -> str:
    """A packet as a line of a transcript."""
    match payload[0]:
        case wire.GLOBAL_REQUEST:
            asked = wire.read_global(payload)
            return f"GLOBAL {asked.kind.decode()} {_wants(asked.wants)}{_bytes(asked.more)}".rstrip()
        case wire.REQUEST_SUCCESS:
            return f"GLOBAL-OK {_bytes(payload[1:])}".rstrip()
        case wire.REQUEST_FAILURE:
            return "GLOBAL-NO"
        case wire.CHANNEL_OPEN:
            opened = wire.read_open(payload)
            head = f"OPEN {opened.kind.decode()} {opened.sender} window {opened.window} limit {opened.limit}"
            return f"{head} {_bytes(opened.more)}".rstrip()
        case wire.CHANNEL_OPEN_CONFIRMATION:
            agreed = wire.read_confirmation(payload)
            return f"OPENED {agreed.recipient} {agreed.sender} window {agreed.window} limit {agreed.limit}"
        case wire.CHANNEL_OPEN_FAILURE:
            failed = wire.read_failure(payload)
            return f"NOT-OPENED {failed.recipient} {failed.code} {failed.message.decode()}"
        case wire.CHANNEL_WINDOW_ADJUST:
            return f"ADJUST {wire.recipient_of(payload)} {wire.read_adjust(payload)}"
        case wire.CHANNEL_DATA:
            return f"DATA {wire.recipient_of(payload)} {_bytes(payload[9:])}"
        case wire.CHANNEL_EXTENDED_DATA:
            return f"ERR {wire.recipient_of(payload)} {_bytes(payload[13:])}"
        case wire.CHANNEL_EOF:
            return f"EOF {wire.recipient_of(payload)}"
        case wire.CHANNEL_CLOSE:
            return f"CLOSE {wire.recipient_of(payload)}"
        case wire.CHANNEL_REQUEST:
            made = wire.read_request(payload)
            if made.kind == b"exit-status":
                return f"REQUEST {made.recipient} exit-status {int.from_bytes(made.more, 'big')}"
            return f"REQUEST {made.recipient} {made.kind.decode()} {_wants(made.wants)}{_bytes(made.more)}".rstrip()
        case wire.CHANNEL_SUCCESS:
            return f"OK {wire.recipient_of(payload)}"
        case wire.CHANNEL_FAILURE:
            return f"NO {wire.recipient_of(payload)}"
    raise AssertionError(payload)


def _wants(wants: bool) -> str:
    return "? " if wants else ""


def _bytes(data: bytes) -> str:
    """Strings of SSH as they are, numbers as such; what is neither, as Python writes bytes."""
    reader, found = wire.Reader(data), []
    try:
        while reader.at < len(data):
            found.append(reader.string().decode("ascii"))
        return " ".join(found)
    except (wire.WireError, UnicodeDecodeError):
        pass
    if len(data) == 4 and data[0] == 0:
        return str(int.from_bytes(data, "big"))
    return repr(data)[2:-1] if len(data) <= 80 else f"{len(data)} bytes"
