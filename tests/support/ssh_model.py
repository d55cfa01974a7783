"""An SSH session driven by bytes, and watched: whatever both ends do, what the gateway sends keeps to RFC 4254."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from support.ssh_talks import Play, Said

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.protocols.ssh import wire
from ostiary_gateway.protocols.ssh.questions import Admission, Question
from ostiary_policy.masking import DetectorMask, Strategy

CARDS = Detectors([DetectorMask("CreditCard", Strategy("Redact"))])
TEXT = b"a card 4111 1111 1111 1111 and\nmore of it 4111111111111111 \r\n"
PTY = wire.string(b"vt100") + wire.u32(80) + wire.u32(24) + wire.u32(0) * 2 + wire.string(b"")
X11 = b"\x00" + wire.string(b"MIT") + wire.string(b"cookie") + wire.u32(0)
KINDS: list[tuple[bytes, bytes]] = [
    (b"exec", wire.string(b"run this")), (b"shell", b""), (b"subsystem", wire.string(b"sftp")),
    (b"pty-req", PTY), (b"env", wire.string(b"A") + wire.string(b"1")), (b"auth-agent-req@openssh.com", b""),
    (b"x11-req", X11), (b"window-change", wire.u32(1) * 4), (b"signal", wire.string(b"TERM")), (b"break", wire.u32(1)),
    (b"eow@openssh.com", b""), (b"unknown@x", b"zz"), (b"exec", wire.string(b"another")),
]  # fmt: skip
LISTEN = wire.string(b"") + wire.u32(2222)
TCP = wire.string(b"db") + wire.u32(2222) + wire.string(b"a") + wire.u32(1)
PROGRAMS = (b"exec", b"shell", b"subsystem")


@dataclass
class _Seen:
    """A channel as one end knows it. `mine`: its own number; `its`: the gateway's, once it is known."""

    mine: int
    its: int = -1
    credit: int = 0
    """What the gateway may send."""
    limit: int = 0
    window: int = 0
    """What this end may send."""
    eof: bool = False
    closed: bool = False
    """Of the gateway's."""
    sent_eof: bool = False
    sent_close: bool = False
    owed: int = 0
    """Replies that this end waits for."""
    asked: int = 0
    """Replies that the gateway waits for."""
    programs: int = 0


@dataclass
class End:
    """The client or the target: checks everything that the gateway says to it."""

    name: str
    by_mine: dict[int, _Seen] = field(default_factory=dict)
    opening: dict[int, _Seen] = field(default_factory=dict)
    """What this end has opened, and the gateway has not answered."""
    offered: list[wire.Open] = field(default_factory=list)
    """What the gateway has opened, and this end has not answered."""
    globals_owed: int = 0
    globals_asked: int = 0
    kinds: list[bytes] = field(default_factory=list)
    """Requests that came."""
    opens: list[bytes] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    numbers: int = 10

    def send(self, payload: bytes) -> None:
        number = payload[0]
        if number == wire.CHANNEL_OPEN:
            opened = wire.read_open(payload)
            self.offered.append(opened)
            self.opens.append(opened.kind)
            return
        if number == wire.GLOBAL_REQUEST:
            self.globals_asked += wire.read_global(payload).wants
            self.kinds.append(wire.read_global(payload).kind)
            return
        if number in (wire.REQUEST_SUCCESS, wire.REQUEST_FAILURE):
            self.globals_owed -= 1
            assert self.globals_owed >= 0, "a reply to a global request that nobody made"
            return
        if number == wire.CHANNEL_OPEN_FAILURE:
            assert self.opening.pop(wire.read_failure(payload).recipient, None) is not None, "nobody opened it"
            return
        if number == wire.CHANNEL_OPEN_CONFIRMATION:
            agreed = wire.read_confirmation(payload)
            seen = self.opening.pop(agreed.recipient)
            seen.its, seen.window = agreed.sender, agreed.window
            self.by_mine[seen.mine] = seen
            return
        seen = self.by_mine[wire.recipient_of(payload)]
        assert not seen.closed, f"{self.name}: a packet after CLOSE"
        self._channel(seen, number, payload)

    def _channel(self, seen: _Seen, number: int, payload: bytes) -> None:
        if number in (wire.CHANNEL_DATA, wire.CHANNEL_EXTENDED_DATA):
            size = len(payload) - (9 if number == wire.CHANNEL_DATA else 13)
            assert 0 < size <= seen.limit, f"{self.name}: a packet that is too large or empty"
            assert not seen.eof, f"{self.name}: data after EOF"
            seen.credit -= size
            assert seen.credit >= 0, f"{self.name}: the window is overdrawn"
        elif number == wire.CHANNEL_WINDOW_ADJUST:
            seen.window += wire.read_adjust(payload)
            assert seen.window <= wire.MAX_WINDOW
        elif number == wire.CHANNEL_EOF:
            assert not seen.eof, f"{self.name}: EOF twice"
            seen.eof = True
        elif number == wire.CHANNEL_CLOSE:
            seen.closed = True
            self._forget(seen)
        elif number in (wire.CHANNEL_SUCCESS, wire.CHANNEL_FAILURE):
            seen.owed -= 1
            assert seen.owed >= 0, f"{self.name}: a reply that nobody waits for"
        else:
            request = wire.read_request(payload)
            seen.asked += request.wants
            self.kinds.append(request.kind)
            if request.kind in PROGRAMS:
                seen.programs += 1
                assert seen.programs == 1, "a second program on one channel"
                self.commands.append(request.kind + request.more)

    def send_data(self, channel: int, data: bytes | memoryview) -> None:
        self.send(wire.data(channel, data))

    def _forget(self, seen: _Seen) -> None:
        if seen.closed and seen.sent_close:
            del self.by_mine[seen.mine]

    def close(self, seen: _Seen) -> bytes:
        seen.sent_close = True
        self._forget(seen)
        return wire.close(seen.its)

    def new(self, window: int, limit: int) -> _Seen:
        self.numbers += 1
        return _Seen(self.numbers, credit=window, limit=limit)


class Reversing:
    """A talk that asks about every piece, and then says it backwards and twice."""

    def __init__(self) -> None:
        self.to_client: list[bytes | memoryview] = []
        self.to_stderr: list[bytes] = []
        self.to_target: list[bytes | memoryview] = []
        self.questions: list[Question] = []
        self.over = ""
        self.held = 0
        self.client_done = False
        self._queue: list[bytes] = []
        self._eof = False
        self.ends = 0

    def passes_up(self, data: bytes | memoryview) -> bool:
        return False

    def passes_down(self, data: bytes | memoryview) -> bool:
        return False

    def from_client(self, data: bytes | memoryview) -> None:
        self._queue.append(bytes(data))
        self.held += len(data)
        if len(self._queue) == 1:
            self._ask()

    def _ask(self) -> None:
        self.questions.append(Question("sftp", {"operation": "read"}, "read"))

    def from_target(self, data: bytes | memoryview) -> None:
        self.to_client.append(bytes(data)[::-1] * 2)
        if data[:1] == b"~":
            self.to_target.append(b"and now?")

    def client_eof(self) -> None:
        self._eof = True
        self.client_done = not self._queue

    def target_eof(self) -> None:
        self.to_client.append(b"the end")

    def answer(self, question: Question, admission: Admission) -> None:
        data = self._queue.pop(0)
        self.held -= len(data)
        if admission.allowed:
            self.to_target.append(data[::-1] * 2)
        elif data[:1] == b"~":
            self.over = "that is not talked about"
        else:
            self.to_client.append(b"no")
        admission.end("ok", {}, 0)
        if self._queue:
            self._ask()
        self.client_done = self._eof and not self._queue

    def recheck(self, still: Callable[[Question, Admission], str]) -> None:
        if why := still(Question("sftp", {}, ""), Admission(True)):
            self.over = why

    def ended(self) -> None:
        self.ends += 1

    def end_detail(self) -> dict[str, object]:
        return {"talk": True}


class Model:
    """Reads what both ends do from bytes, two for each step: what, and with how much of it."""

    def __init__(self, data: bytes) -> None:
        self.client, self.target = End("client"), End("target")
        self.talks: list[Reversing] = []
        self.play = Play(self._policy, self._talk)
        self.play.client, self.play.target = self.client, self.target  # type: ignore[assignment]
        self.play.session.client, self.play.session.target = self.client, self.target
        self.mood = 0
        self.allowed: list[Question] = []
        for at in range(0, len(data) - 1, 2):
            self._step(data[at], data[at + 1], data[at + 2 :])
            if self.play.session.over:
                break
        self.over = self.play.session.over
        self._finish()

    # -- what is decided

    def _policy(self, question: Question) -> Said | None:
        if self.mood % 3 == 0:
            return None
        return self._said(question)

    def _said(self, question: Question) -> Said:
        allowed = self.mood % 5 != 1
        if allowed:
            self.allowed.append(question)
        made = Said(allowed, lines=("because",), detectors=CARDS if self.mood & 16 else None, keeps=bool(self.mood & 8))
        made.count = len(self.play.said) + 1
        return made

    def _talk(self, question: Question, _admission: Admission) -> Reversing | None:
        if question.kind != "sftp":
            return None
        made = Reversing()
        self.talks.append(made)
        return made

    # -- steps

    def _step(self, what: int, how: int, rest: bytes) -> None:
        client, target, play = self.client, self.target, self.play
        match what % 26:
            case 0:
                seen = client.new(how * 40, 256 + how * 100)
                client.opening[seen.mine] = seen
                play.c(wire.open_channel(b"session", seen.mine, seen.credit, seen.limit))
            case 1:
                seen = client.new(how * 40, 256 + how)
                client.opening[seen.mine] = seen
                play.c(wire.open_channel(b"direct-tcpip", seen.mine, seen.credit, seen.limit, TCP))
            case 2 | 3:
                if (seen := _pick(client, how >> 4)) is not None:
                    kind, more = KINDS[(how & 15) % len(KINDS)]
                    wants = what & 32 == 0
                    seen.owed += wants
                    play.c(wire.request(seen.its, kind, wants, more))
            case 4 | 5:
                self._data(client, how, play.c, 0)
            case 6:
                self._eof(client, how, play.c)
            case 7:
                if (seen := _pick(client, how)) is not None:
                    play.c(client.close(seen))
            case 8:
                self._adjust(client, how, play.c)
            case 9:
                self._answer_open(target, how, play.t)
            case 10 | 11:
                self._data(target, how, play.t, 0)
            case 12:
                self._data(target, how, play.t, 1)
            case 13:
                self._eof(target, how, play.t)
            case 14:
                if (seen := _pick(target, how)) is not None:
                    play.t(target.close(seen))
            case 15:
                self._adjust(target, how, play.t)
            case 16 | 17:
                if (seen := _pick(target, how >> 1)) is not None and seen.asked:
                    seen.asked -= 1
                    play.t(wire.failure(seen.its) if how & 1 else wire.success(seen.its))
            case 18:
                if (seen := _pick(target, how >> 1)) is not None:
                    play.t(wire.exit_status(seen.its, 1) if how & 1 else wire.exit_signal(seen.its, b"HUP", b""))
            case 19:
                kind = (b"forwarded-tcpip", b"auth-agent@openssh.com", b"x11", b"odd")[how & 3]
                more = (TCP.replace(b"\0\0\0\2db", b"\0\0\0\0", 1), b"", wire.string(b"") + wire.u32(1), b"")[how & 3]
                seen = target.new(how * 40, 1 + how)
                target.opening[seen.mine] = seen
                play.t(wire.open_channel(kind, seen.mine, seen.credit, seen.limit, more))
            case 20:
                self._answer_open(client, how, play.c)
            case 21:
                kind = (b"tcpip-forward", b"cancel-tcpip-forward", b"keepalive@openssh.com", b"odd")[how & 3]
                client.globals_owed += how < 128
                play.c(wire.global_request(kind, how < 128, LISTEN if how & 3 < 2 else b""))
            case 22:
                if target.globals_asked:
                    target.globals_asked -= 1
                    play.t(wire.request_success() if how & 1 else wire.request_failure())
            case 23:
                self.mood = how
                if play.open:
                    play.decide(self._said(play.open[0]))
            case 24:
                play.later(how / 50)
                if how & 1:
                    play.session.end_request(how >> 1, "enough")
                elif how & 2:
                    play.session.recheck(lambda _question, _admission: "changed" if how & 4 else "")
            case _:
                if rest and (payload := bytes((80 + what % 21,)) + rest[: how % 32]):
                    (play.c if how & 1 else play.t)(payload)
                    # What it did is not known here; if it was well-formed the rest is not watched.
                    self.play.session.over = self.play.session.over or "raw"

    def _data(self, end: End, how: int, say: object, code: int) -> None:
        seen = _pick(end, how & 3)
        if seen is None or seen.sent_eof or seen.sent_close:
            return
        size = min(seen.window + (how == 255), 1 + how * 3)
        if not size:
            return
        content = (TEXT * 16)[:size] if how & 4 else b"~" * size
        seen.window -= size
        payload = wire.extended(seen.its, code, content) if code else wire.data(seen.its, content)
        say(payload)  # type: ignore[operator]

    def _eof(self, end: End, how: int, say: object) -> None:
        if (seen := _pick(end, how)) is not None and not seen.sent_eof:
            seen.sent_eof = True
            say(wire.eof(seen.its))  # type: ignore[operator]

    def _adjust(self, end: End, how: int, say: object) -> None:
        if (seen := _pick(end, how & 3)) is not None:
            seen.credit += how * 10
            say(wire.adjust(seen.its, how * 10))  # type: ignore[operator]

    def _answer_open(self, end: End, how: int, say: object) -> None:
        if not end.offered:
            return
        offered = end.offered.pop(0)
        if how % 7 == 3:
            say(wire.open_failure(offered.sender, 2, b"no"))  # type: ignore[operator]
            return
        seen = end.new(how * 30, 1 + how * 40)
        seen.its, seen.window = offered.sender, offered.window
        end.by_mine[seen.mine] = seen
        say(wire.confirmation(seen.its, seen.mine, seen.credit, seen.limit))  # type: ignore[operator]

    # -- what must hold at the end

    def _finish(self) -> None:
        decided = [question.exact[0] for question in self.allowed if question.exact]
        kinds = [question.kind for question in self.allowed]
        for command in self.target.commands:
            kind = "shell" if command[:5] == b"shell" else "exec" if command[:4] == b"exec" else "sftp"
            assert kind in kinds, f"{command!r} was not decided"
            assert kind != "exec" or any(command.endswith(text) for text in decided)
        assert self.target.opens.count(b"direct-tcpip") <= kinds.count("forward")
        assert self.target.kinds.count(b"tcpip-forward") <= kinds.count("forward")
        assert len(self.client.opens) <= kinds.count("forward") + kinds.count("agent") + kinds.count("x11")
        self.play.session.lost()
        for said in self.play.said:
            assert said.allowed <= len(said.ends) <= 1, (said, said.ends)
        assert all(talk.ends == 1 for talk in self.talks)
        assert not self.play.session.channels


def _pick(end: End, index: int) -> _Seen | None:
    found = [seen for seen in end.by_mine.values() if not seen.sent_close and seen.its >= 0]
    return found[index % len(found)] if found else None
