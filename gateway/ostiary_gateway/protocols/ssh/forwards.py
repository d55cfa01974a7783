"""Forwards: connections that a target makes for a client, or a client for a target, and the global requests. Pure.

Each forward is decided; a target may only open what was granted, and each such connection is decided again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import facts, wire
from .channels import Channel, Owed, Slot
from .output import Streams
from .wire import REQUEST_FAILURE, REQUEST_SUCCESS, Endpoint, GlobalRequest, WireError

if TYPE_CHECKING:
    from .questions import Admission, Question
    from .state import Session

MAX_GRANTS: Final = 128
"""Remote forwards that a session may have."""
MAX_QUEUED: Final = 128
"""Global requests that may wait while one before them is being decided."""

_LISTEN: Final = (b"tcpip-forward", b"streamlocal-forward@openssh.com")
_CANCEL: Final = {
    b"cancel-tcpip-forward": b"tcpip-forward",
    b"cancel-streamlocal-forward@openssh.com": b"streamlocal-forward@openssh.com",
}
_KEEPALIVE: Final = b"keepalive@openssh.com"
_NO_MORE: Final = b"no-more-sessions@openssh.com"
_NOT_GRANTED: Final = b"ostiary: nobody asked for this"

Grant = tuple[bytes, int]
"""Address and port; a path and -1 of a Unix socket."""


@dataclass(slots=True)
class _Opening:
    """A channel of a forward that is being decided, or opened."""

    more: bytes
    admission: Admission | None = None
    question: Question | None = None


class Forwards:
    """Those of one session."""

    def __init__(self, session: Session) -> None:
        self.no_more_sessions = False
        """The client has promised to open no more."""
        self._session = session
        self._owed = Owed()
        self._queue: deque[GlobalRequest] = deque()
        self._asking = False
        self._grants: dict[Grant, Question] = {}
        self._openings: dict[int, _Opening] = {}
        self._listening: list[Admission] = []
        """Of remote forwards that the target has not agreed to yet."""

    # -- global requests

    def from_client(self, payload: bytes) -> None:
        request = wire.read_global(payload)
        if not wire.is_text(request.kind):
            raise WireError("the kind of a request is no name")
        if self._asking:
            if len(self._queue) >= MAX_QUEUED:
                raise WireError("too many requests came while one of them waits for a decision")
            self._queue.append(request)
        else:
            self._global(request)

    def from_target(self, payload: bytes) -> None:
        """A target asks nothing that a client must hear: its keys are the gateway's to know."""
        request = wire.read_global(payload)
        if request.wants:
            self._session.target.send(wire.request_failure())

    def _global(self, request: GlobalRequest) -> None:
        kind = request.kind
        if kind in _LISTEN:
            self._listen(request)
        elif kind in _CANCEL:
            self._cancel(request)
        elif kind == _NO_MORE:
            self.no_more_sessions = True
            self._reply(request, True)
        else:
            self._session.unknown += kind != _KEEPALIVE
            self._reply(request, False)

    def _reply(self, request: GlobalRequest, ok: bool) -> None:
        if request.wants:
            self._owed.told(REQUEST_SUCCESS if ok else REQUEST_FAILURE)
            self._send_replies()

    def _send_replies(self) -> None:
        for slot in self._owed.due():
            failed = slot.reply == REQUEST_FAILURE
            self._session.client.send(wire.request_failure() if failed else wire.request_success(slot.more))

    def replied(self, payload: bytes) -> None:
        """The target has answered the oldest of what it was asked."""
        more = payload[1:] if payload[0] == REQUEST_SUCCESS else b""
        if len(more) not in (0, 4):
            raise WireError("the reply to a global request goes on behind its end")
        slot = self._owed.filled(payload[0], more)
        if slot is None:
            return
        if slot.done is not None:
            slot.done(payload[0] == REQUEST_SUCCESS)
        self._send_replies()

    def _listen(self, request: GlobalRequest) -> None:
        tcp = request.kind == b"tcpip-forward"
        at = (
            wire.read_listen(request.more)
            if tcp
            else Endpoint(path=wire.read_strings(request.more, 1, wire.MAX_PATH)[0])
        )
        if len(self._grants) >= MAX_GRANTS:
            self._reply(request, False)
            return
        question = self._remote(at)
        self._asking = True

        def answered(question: Question, admission: Admission) -> None:
            if admission.allowed:
                self._forward_listen(request, at, question, admission)
            else:
                self._reply(request, False)
            self._go_on()

        self._session.ask(question, None, answered)

    def _forward_listen(self, request: GlobalRequest, at: Endpoint, question: Question, admission: Admission) -> None:
        slot = Slot(visible=request.wants)
        self._listening.append(admission)

        def done(ok: bool) -> None:
            self._listening.remove(admission)
            port = at.port
            detail: dict[str, object] = {}
            if ok:
                if request.kind == b"tcpip-forward" and not port and len(slot.more) == 4:
                    port = int.from_bytes(slot.more, "big")
                    detail["port"] = port
                self._grants[_grant(at, port)] = question
            admission.end("ok" if ok else "error", detail, 0)

        slot.done = done
        self._owed.ask(slot)
        self._session.target.send(wire.global_request(request.kind, True, request.more))

    def _cancel(self, request: GlobalRequest) -> None:
        kind = _CANCEL[request.kind]
        tcp = kind == b"tcpip-forward"
        at = (
            wire.read_listen(request.more)
            if tcp
            else Endpoint(path=wire.read_strings(request.more, 1, wire.MAX_PATH)[0])
        )
        grant = _grant(at, at.port)
        if grant not in self._grants:
            self._reply(request, False)
            return

        def done(ok: bool) -> None:
            if ok:
                self._grants.pop(grant, None)

        self._owed.ask(Slot(visible=request.wants, done=done))
        self._session.target.send(wire.global_request(request.kind, True, request.more))

    def _go_on(self) -> None:
        self._asking = False
        while self._queue and not self._asking:
            self._global(self._queue.popleft())

    # -- channels that the client opens

    def client_opens(self, asked: wire.Open) -> None:
        if asked.kind == b"direct-tcpip":
            to = wire.read_tcp(asked.more)
        elif asked.kind == b"direct-streamlocal@openssh.com":
            to = wire.read_streamlocal(asked.more, direct=True)
        else:
            self._session.unknown += 1
            problem = b"ostiary: nobody knows this kind of channel"
            self._session.client.send(wire.open_failure(asked.sender, wire.UNKNOWN_TYPE, problem))
            return
        channel = self._session.client_channel(asked)
        question = facts.forward_question(
            "local", host=_text(to.host), port=to.port, path=_text(to.path), channel=channel.key, detail=_origin(to)
        )
        self._ask(channel, asked.more, question, self._client_answered)

    def _ask(
        self, channel: Channel, more: bytes, question: Question, handler: Callable[[Question, Admission], None]
    ) -> None:
        channel.question = question
        self._openings[channel.key] = _Opening(more)
        self._session.ask(question, channel, handler)

    def _decided(self, question: Question, admission: Admission) -> tuple[Channel | None, _Opening | None]:
        key = question.channel if question.channel is not None else -1
        channel, opening = self._session.channels.get(key), self._openings.get(key)
        if channel is None or opening is None or channel.question is not question:
            admission.end("skipped", {}, 0)
            return None, None
        channel.question = None
        if admission.allowed:
            channel.ran, channel.admission = question, admission
        else:
            del self._openings[key], self._session.channels[key]
        return channel, opening

    def _client_answered(self, question: Question, admission: Admission) -> None:
        channel, opening = self._decided(question, admission)
        if channel is None or opening is None:
            return
        if admission.allowed:
            self._session.open_target(channel, opening.more)
        else:
            text = admission.message.encode()
            self._session.client.send(wire.open_failure(channel.client_id, wire.PROHIBITED, text))

    def joined(self, channel: Channel) -> None:
        """Both ends agree: bytes may pass."""
        self._openings.pop(channel.key, None)
        channel.started = True
        channel.streams = channel.plain = Streams(
            None, None, tty=False, size=(0, 0), now=self._session.now, digests=False
        )  # fmt: skip

    # -- channels that the target opens

    def opened(self, asked: wire.Open) -> None:
        question = self._granted(asked) if self._session.room(asked.kind) and asked.kind != b"session" else None
        if question is None or asked.limit < 1:
            self._session.unknown += 1
            self._session.target.send(wire.open_failure(asked.sender, wire.PROHIBITED, _NOT_GRANTED))
            return
        channel = self._session.new_channel(asked.kind, by_client=False)
        channel.target_id, channel.target_window, channel.target_limit = asked.sender, asked.window, asked.limit
        question.channel = channel.key
        self._ask(channel, asked.more, question, self._target_answered)

    def _granted(self, asked: wire.Open) -> Question | None:
        programs = self._session.programs
        if asked.kind == b"forwarded-tcpip":
            at = wire.read_tcp(asked.more)
            grant = self._grants.get((at.host, at.port)) or self._by_port(at.port)
            return self._remote(at) if grant is not None else None
        if asked.kind == b"forwarded-streamlocal@openssh.com":
            at = wire.read_streamlocal(asked.more, direct=False)
            return self._remote(at) if (at.path, -1) in self._grants else None
        if asked.kind == b"auth-agent@openssh.com" and programs.agents:
            wire.read_strings(asked.more, 0)
            return facts.agent_question()
        if asked.kind == b"x11" and programs.displays:
            origin = wire.read_origin(asked.more)
            key, single = next(iter(programs.displays.items()))
            if single:
                del programs.displays[key]
            return facts.x11_question(detail=_origin(origin))
        return None

    def _by_port(self, port: int) -> Question | None:
        """Servers name the address that they listen at in ways of their own; the port says which forward it is."""
        found = [question for (_, known), question in self._grants.items() if known == port]
        return found[0] if len(found) == 1 else None

    def _remote(self, at: Endpoint) -> Question:
        return facts.forward_question(
            "remote", host=_text(at.host), port=at.port, path=_text(at.path), detail=_origin(at)
        )

    def _target_answered(self, question: Question, admission: Admission) -> None:
        channel, opening = self._decided(question, admission)
        if channel is None or opening is None:
            return
        session = self._session
        if admission.allowed:
            window, limit = channel.target_window, min(channel.target_limit, 65_536)
            session.client.send(wire.open_channel(channel.kind, channel.key, window, limit, opening.more))
        else:
            text = admission.message.encode()
            session.target.send(wire.open_failure(channel.target_id, wire.PROHIBITED, text))

    # -- the end

    def closed(self, channel: Channel) -> None:
        self._openings.pop(channel.key, None)

    def lost(self) -> None:
        """The session is over."""
        for each in self._listening:
            each.end("lost", {}, 0)
        self._listening.clear()
        self._grants.clear()
        self._openings.clear()
        self._queue.clear()


def _grant(at: Endpoint, port: int) -> Grant:
    return (at.path, -1) if at.path else (at.host, port)


def _text(data: bytes) -> str:
    return facts.text_of(data)[0]


def _origin(at: Endpoint) -> dict[str, object]:
    return {"origin": f"{_text(at.origin)}:{at.origin_port}"} if at.origin else {}
