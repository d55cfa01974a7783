"""What clients ask for on their channels: a program, with what belongs to it, and then the bytes of it. Pure.

Everything about a program waits until it is decided: terminal and environment go to the target together with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from . import facts, wire
from .channels import Channel, Slot
from .output import Streams
from .questions import EXIT_STATUS, PREFIX, told
from .wire import ChannelRequest, WireError

if TYPE_CHECKING:
    from .questions import Admission, Outcome, Question
    from .state import Session

KILL_AFTER: Final = 3.0
"""Seconds that a program gets to end by itself when the gateway ends it."""
MAX_ENV: Final = 64

T = TypeVar("T")

_PROGRAMS: Final = frozenset((b"exec", b"shell", b"subsystem"))
_BEFORE: Final = frozenset((b"pty-req", b"env", b"x11-req", b"auth-agent-req@openssh.com"))
_NO_TERMINAL: Final = "the target gives no terminal"
_NOT_KEPT: Final = (
    "This session ends: what runs in a shell is recorded, and its record has all that limits.maxRecordedBytes lets it "
    "keep. Open another."
)


class Programs:
    """The channels' requests and bytes of one session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.agents: set[int] = set()
        """Keys of the channels whose target may use the agent's keys."""
        self.displays: dict[int, bool] = {}
        """The same of the display; True: for one connection only."""

    # -- requests of the client

    def client_request(self, channel: Channel, request: ChannelRequest) -> None:
        kind = request.kind
        if channel.kind != b"session":
            self._unknown(channel, request)
        elif kind in _PROGRAMS or kind in _BEFORE:
            if channel.started or channel.cut:
                channel.reply(request, False)
            elif kind in _PROGRAMS:
                self._program(channel, request)
            elif kind == b"pty-req":
                self._terminal(channel, request)
            elif kind == b"env":
                self._env(channel, request)
            elif kind == b"x11-req":
                single = wire.read_x11(request.more).single
                question = facts.x11_question(channel=channel.key, detail={"single": single})
                self._ask(channel, request, question)
            else:
                wire.read_strings(request.more, 0)
                self._ask(channel, request, facts.agent_question(channel=channel.key))
        elif kind == b"window-change":
            self._resize(channel, request)
        elif kind == b"signal":
            self._signal(channel, request)
        elif kind in (b"break", b"eow@openssh.com", b"xon-xoff"):
            if len(request.more) > 4:
                raise WireError("a packet goes on behind its end")
            self._pass(channel, request)
        else:
            self._unknown(channel, request)

    def _unknown(self, channel: Channel, request: ChannelRequest) -> None:
        self._session.unknown += 1
        channel.reply(request, False)

    def _terminal(self, channel: Channel, request: ChannelRequest) -> None:
        terminal = wire.read_terminal(request.more)
        # Its name becomes a variable of the environment.
        named = not terminal.name or wire.is_text(terminal.name)
        kept = named and channel.terminal is None and channel.hold(b"pty-req", request.more)
        if kept:
            channel.terminal = terminal
        channel.reply(request, kept)

    def _resize(self, channel: Channel, request: ChannelRequest) -> None:
        size = wire.read_size(request.more)
        if channel.streams is not None:
            channel.streams.resized(*size)
            self._pass(channel, request)
        else:
            channel.reply(request, channel.hold(request.kind, request.more))

    def _signal(self, channel: Channel, request: ChannelRequest) -> None:
        (name,) = wire.read_strings(request.more, 1)
        if not wire.is_text(name):
            raise WireError("a signal has no name")
        if channel.streams is not None:
            channel.streams.signalled(name.decode())
        self._pass(channel, request)

    def _pass(self, channel: Channel, request: ChannelRequest) -> None:
        """As it came, in its order with data."""
        if not channel.started or channel.told_target:
            channel.reply(request, False)
            return
        if request.wants:
            channel.owed.ask(Slot(visible=True))
        channel.up.packet(wire.request(channel.target_id, request.kind, request.wants, request.more))

    # -- what is decided

    def _ask(self, channel: Channel, request: ChannelRequest, question: Question) -> None:
        channel.question, channel.request = question, request
        self._session.ask(question, channel, self._answered)

    def _env(self, channel: Channel, request: ChannelRequest) -> None:
        name, value = wire.read_strings(request.more, 2)
        question = facts.env_question(name, value, env=channel.env, channel=channel.key)
        if len(channel.env) + len(channel.refused) >= MAX_ENV or channel.held_bytes + len(request.more) > 65536:
            channel.reply(request, False)
        elif not wire.is_variable(name):
            # What is no name of a variable to all programs is one to some: `LC_X=1`, a line's end, half a character.
            channel.refused.append(told(str(question.facts["name"]))[:64])
            channel.reply(request, False)
        else:
            self._ask(channel, request, question)

    def _program(self, channel: Channel, request: ChannelRequest) -> None:
        key, env, detail = channel.key, channel.env, self._detail(channel)
        pty = channel.terminal is not None
        if request.kind == b"shell":
            wire.read_strings(request.more, 0)
            question = facts.shell_question(pty=pty, env=env, channel=key, detail=detail)
        else:
            (text,) = wire.read_strings(request.more, 1)
            if request.kind == b"subsystem":
                question = facts.subsystem_question(text, env=env, channel=key, detail=detail)
            else:
                question = facts.exec_question(text, pty=pty, env=env, channel=key, detail=detail)
                if self._session.is_scp(text):
                    question = facts.scp_question(text, env=env, channel=key, detail=detail)
        self._ask(channel, request, question)

    def _detail(self, channel: Channel) -> dict[str, object]:
        detail: dict[str, object] = {}
        if channel.terminal is not None:
            detail["terminal"] = f"{channel.terminal.columns}x{channel.terminal.rows}"
        if channel.env:
            detail["env"] = dict(channel.env)
        if channel.refused:
            detail["envRefused"] = channel.refused[:MAX_ENV]
        return detail

    def _answered(self, question: Question, admission: Admission) -> None:
        channel = self._session.channels.get(question.channel if question.channel is not None else -1)
        if channel is None or channel.question is not question or channel.request is None:
            admission.end("skipped", {}, 0)
            return
        request = channel.request
        channel.question = channel.request = None
        if request.kind in _PROGRAMS:
            if admission.allowed:
                self._start(channel, request, question, admission)
            else:
                self._deny(channel, request, admission)
        elif request.kind == b"env":
            self._env_answered(channel, request, question, admission)
        elif admission.allowed:
            self._lend(channel, request, admission)
        else:
            # In brief: `ssh -A` is often a habit, and the command may do without.
            for line in admission.lines[:1]:
                channel.say(f"{PREFIX}{line}{channel.line_end}".encode())
            channel.reply(request, False)

    def _env_answered(
        self, channel: Channel, request: ChannelRequest, question: Question, admission: Admission
    ) -> None:
        name, value = str(question.facts["name"]), str(question.facts["value"])
        allowed = admission.allowed and channel.hold(b"env", request.more)
        if allowed:
            channel.env[name] = value
        else:
            channel.refused.append(name[:64])
        admission.end("ok" if allowed else "skipped", {}, 0)
        channel.reply(request, allowed)

    def _lend(self, channel: Channel, request: ChannelRequest, admission: Admission) -> None:
        """The agent's keys or its display."""

        def done(ok: bool) -> None:
            if admission not in channel.lending:
                return
            channel.lending.remove(admission)
            admission.end("ok" if ok else "error", {}, 0)
            if not ok:
                return
            if request.kind == b"x11-req":
                self.displays[channel.key] = wire.read_x11(request.more).single
            else:
                self.agents.add(channel.key)

        channel.lending.append(admission)
        channel.owed.ask(Slot(visible=request.wants, done=done))
        channel.up.packet(wire.request(channel.target_id, request.kind, True, request.more))

    def _deny(self, channel: Channel, request: ChannelRequest, admission: Admission) -> None:
        channel.reply(request, True)
        channel.say(admission.stderr(pty=channel.terminal is not None))
        self._leave(channel, EXIT_STATUS)

    def _leave(self, channel: Channel, status: int) -> None:
        """The gateway's own end of a channel, in the order of a program's."""
        channel.cut = True
        channel.plain = None
        if channel.kind == b"session":
            channel.down.packet(wire.exit_status(channel.client_id, status))
        channel.eof_client()
        channel.close_client()
        channel.up.drop()
        channel.close_target()

    def _start(self, channel: Channel, request: ChannelRequest, question: Question, admission: Admission) -> None:
        session, tty = self._session, channel.terminal is not None
        channel.started = True
        channel.ran, channel.admission = question, admission
        channel.talk = talk = session.talks(question, admission)
        size = (channel.terminal.columns, channel.terminal.rows) if channel.terminal is not None else (0, 0)
        channel.streams = streams = Streams(
            admission.mask, None if talk is not None or not admission.keeps else admission.record,
            tty=tty, size=size, now=session.now, digests=session.digests and talk is None, limit=session.recorded,
        )  # fmt: skip
        up = channel.up
        for kind, more in channel.held:
            if kind == b"pty-req":
                channel.owed.ask(Slot(visible=False, done=lambda ok: None if ok else self._no_terminal(channel)))
            up.packet(wire.request(channel.target_id, kind, kind == b"pty-req", more))
        channel.held.clear()
        if request.wants:
            channel.owed.ask(Slot(visible=True, done=lambda ok: None if ok else self._not_started(channel)))
        up.packet(wire.request(channel.target_id, request.kind, request.wants, request.more))
        if admission.lines:
            self._note(channel, admission.stderr(pty=tty))
        if talk is None and streams.plain:
            channel.plain = streams
        if admission.detectors is not None:
            session.timed.add(channel.key)
        up.grants = True
        up.grant(force=True)
        if talk is not None:
            self.drain(channel)

    def _no_terminal(self, channel: Channel) -> None:
        self._note(channel, f"{PREFIX}{_NO_TERMINAL}{channel.line_end}".encode())

    def _not_started(self, channel: Channel) -> None:
        """The target itself refuses the program."""
        channel.plain = None
        channel.cut = True
        if channel.streams is not None:
            channel.streams.result = {"refused": "the target refused it"}
        self.ended(channel)

    def _note(self, channel: Channel, text: bytes) -> None:
        if channel.streams is not None and channel.admission is not None:
            channel.streams.note(text)
        channel.say(text)

    # -- bytes

    def client_data(self, channel: Channel, content: memoryview) -> None:
        if channel.cut or channel.told_target or (channel.started and channel.admission is None):
            # What runs has ended: the client does not know that yet.
            return
        streams = channel.streams
        if streams is None:
            raise WireError("data came before a program was asked for")
        streams.stdin(content)
        if channel.talk is not None and not channel.talk.passes_up(content):
            channel.talk.from_client(content)
            self.drain(channel)
        else:
            channel.up.data(content)
            self._session.grant(channel)
            self._passes(channel, streams)

    def target_data(self, channel: Channel, content: memoryview, code: int) -> None:
        if channel.cut or channel.told_client or (channel.started and channel.admission is None):
            return
        streams = channel.streams
        if streams is None:
            # Before any program was asked for a target has nothing to say; who knows what it would be.
            channel.down.grant()
            return
        if code:
            channel.down.extended(code, streams.stderr(content))
        elif channel.talk is not None:
            if not channel.talk.passes_down(content):
                channel.talk.from_target(content)
                self.drain(channel)
                return
            streams.out_bytes += len(content)
            channel.down.data(content)
        else:
            channel.down.data(streams.stdout(content))
        channel.down.grant()
        self._passes(channel, streams)

    def _passes(self, channel: Channel, streams: Streams) -> None:
        """Once nothing is kept of what goes through, it is not looked at; unless it must be kept."""
        if streams.full and channel.admission is not None and channel.admission.whole:
            self.cut(channel, _NOT_KEPT)
        elif streams.plain and channel.talk is None:
            channel.plain = streams

    def client_eof(self, channel: Channel) -> None:
        if channel.streams is not None and channel.admission is not None:
            channel.streams.stdin_closed()
        if channel.talk is not None:
            channel.talk.client_eof()
            self.drain(channel)
        else:
            channel.eof_target()

    def target_eof(self, channel: Channel) -> None:
        if channel.talk is not None:
            channel.talk.target_eof()
            self.drain(channel)
        self.release(channel)
        channel.eof_client()

    def release(self, channel: Channel) -> None:
        """Output that was held back goes."""
        if channel.streams is not None and not channel.told_client and not channel.told_client_eof:
            stdout, stderr = channel.streams.release()
            channel.down.data(stdout)
            channel.down.extended(wire.STDERR, stderr)
            channel.down.grant()

    def drain(self, channel: Channel) -> None:
        """What a talk has to say goes where it belongs."""
        talk, session = channel.talk, self._session
        if talk is None:
            return
        streams = channel.streams
        for question in _taken(talk.questions):
            question.channel = channel.key
            session.ask(question, channel, self._talk_answered)
        if not channel.cut:
            for piece in _taken(talk.to_target):
                if not channel.told_target_eof and not channel.told_target:
                    channel.up.data(piece)
            for piece in _taken(talk.to_client):
                if channel.told_client_eof or channel.told_client:
                    continue
                if streams is not None:
                    streams.out_bytes += len(piece)
                channel.down.data(piece)
            for text in _taken(talk.to_stderr):
                self._note(channel, text)
            if channel.client_eof and talk.client_done:
                channel.eof_target()
            if talk.over:
                if streams is not None:
                    streams.result = {"ended": talk.over}
                self._note(channel, f"{PREFIX}{told(talk.over)}{channel.line_end}".encode())
                self._leave(channel, EXIT_STATUS)
                return
        channel.down.grant()
        session.grant(channel)

    def _talk_answered(self, question: Question, admission: Admission) -> None:
        channel = self._session.channels.get(question.channel if question.channel is not None else -1)
        if channel is None or channel.talk is None:
            admission.end("skipped", {}, 0)
            return
        channel.talk.answer(question, admission)
        self.drain(channel)

    # -- requests of the target

    def target_request(self, channel: Channel, request: ChannelRequest) -> None:
        kind, streams = request.kind, channel.streams
        known = channel.kind == b"session" and channel.started
        if kind == b"exit-status" and known:
            status = wire.Reader(request.more)
            code = status.u32()
            status.end()
            if streams is not None:
                streams.result = {"exitStatus": code}
        elif kind == b"exit-signal" and known:
            request = self._exit_signal(channel, request)
        elif kind in (b"eow@openssh.com", b"xon-xoff") and known and len(request.more) <= 1:
            pass
        else:
            self._session.unknown += kind != b"keepalive@openssh.com"
            if request.wants:
                channel.up.packet(wire.failure(channel.target_id))
            return
        if request.wants:
            channel.up.packet(wire.success(channel.target_id))
        if not channel.told_client and not channel.cut:
            channel.down.packet(wire.request(channel.client_id, kind, False, request.more))

    def _exit_signal(self, channel: Channel, request: ChannelRequest) -> ChannelRequest:
        reader = wire.Reader(request.more)
        name, dumped, message, language = reader.string(), reader.boolean(), reader.string(), reader.string()
        reader.end()
        if not wire.is_text(name):
            raise WireError("a signal has no name")
        admission = channel.admission
        if admission is not None and admission.detectors is not None:
            message = admission.detectors.mask(message) or b""
        if channel.streams is not None:
            channel.streams.result = {"exitSignal": name.decode()}
        more = wire.string(name) + (b"\x01" if dumped else b"\x00") + wire.string(message) + wire.string(language)
        return ChannelRequest(request.recipient, request.kind, request.wants, more)

    # -- the end

    def target_done(self, channel: Channel) -> None:
        """The target closes it: nothing more comes."""
        if not channel.cut:
            if channel.talk is not None and not channel.target_eof:
                channel.talk.target_eof()
                self.drain(channel)
            if not channel.cut:
                self.release(channel)

    def ended(self, channel: Channel) -> None:
        """What ran on a channel has ended; once."""
        self.agents.discard(channel.key)
        self.displays.pop(channel.key, None)
        channel.kill_at = None
        for each in channel.lending:
            each.end("lost", {}, 0)
        channel.lending.clear()
        admission, channel.admission = channel.admission, None
        if admission is None:
            return
        streams, talk = channel.streams, channel.talk
        channel.plain = channel.talk = None
        detail: dict[str, object] = {}
        size = 0
        if streams is not None:
            detail = streams.end_detail()
            size = streams.size
            self._session.read += size
        if talk is not None:
            talk.ended()
            detail |= talk.end_detail()
        admission.end(_outcome(channel), detail, size)

    def cut(self, channel: Channel, message: str) -> None:
        """The gateway ends what runs: its client hears why, and the target is asked to end it, then made to."""
        if channel.cut or not channel.opened:
            return
        self.release(channel)
        if channel.kind == b"session":
            self._note(channel, f"{PREFIX}{told(message)}{channel.line_end}".encode())
            if not channel.told_client:
                channel.down.packet(wire.exit_signal(channel.client_id, b"TERM", told(message).encode()))
        channel.cut = True
        channel.plain = None
        channel.eof_client()
        channel.close_client()
        channel.up.drop()
        if channel.streams is not None:
            channel.streams.result = {"ended": message}
        if channel.kind == b"session" and channel.started and not channel.told_target:
            channel.up.packet(_signal(channel, b"TERM"))
            channel.kill_at = self._session.now() + KILL_AFTER
            self._session.timed.add(channel.key)
        else:
            channel.close_target()
        self.ended_keeping(channel)

    def ended_keeping(self, channel: Channel) -> None:
        """In the record it is over, although the target may still be at it for a moment."""
        kill_at = channel.kill_at
        self.ended(channel)
        channel.kill_at = kill_at

    def kill(self, channel: Channel) -> None:
        channel.kill_at = None
        if not channel.told_target:
            channel.up.packet(_signal(channel, b"KILL"))
            channel.close_target()


def _signal(channel: Channel, name: bytes) -> bytes:
    return wire.request(channel.target_id, b"signal", False, wire.string(name))


def _outcome(channel: Channel) -> Outcome:
    streams = channel.streams
    if streams is None:
        return "lost"
    result = streams.result
    if "exitStatus" in result:
        return "ok"
    if result:
        return "error"
    if channel.kind != b"session":
        return "ok" if channel.client_closed or channel.target_eof else "lost"
    return "lost"


def _taken(items: list[T]) -> list[T]:
    found = items[:]
    items.clear()
    return found
