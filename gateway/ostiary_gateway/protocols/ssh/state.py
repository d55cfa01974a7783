"""One SSH session in the middle, without I/O: packets of the connection protocol (RFC 4254) in, packets and questions
out.

Both legs bring their packets 80 to 100 here; what is to be sent goes to the two sinks at once, and what is to be
decided stands in `questions`. Whoever empties that says `answer` for each, at once or later, in any order, also where
the question is in `withdrawn` by then: nobody waits for it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from . import wire
from .channels import Channel
from .forwards import Forwards
from .programs import Programs
from .questions import PREFIX
from .windows import MAX_WAITING, Flow
from .wire import (
    CHANNEL_REQUEST,
    DATA_HEAD,
    EXTENDED_HEAD,
    Sink,
    WireError,
)

if TYPE_CHECKING:
    from .questions import Admission, Outcome, Question
    from .talks import Talk

MAX_SESSIONS: Final = 64
"""Session channels that a client may have open."""
MAX_FORWARDS: Final = 512
"""Channels of forwards, either way."""
MAX_PACKET: Final = 65_536
"""Bytes of data in one packet that either side is told to send at most, whatever the other takes."""
MIN_PACKET: Final = 256
"""A peer that takes less in one packet only makes work."""
NO_PROGRAM: Final = "no program was asked for"

Handler = Callable[["Question", "Admission"], None]


class Session:
    """All channels and global requests of one client and its target.

    now: seconds of a clock that only grows. talks: the talk of a question that was allowed; None: a plain stream.
    is_scp: whether a command is one end of the old scp.
    digests: whether what commands read and write is hashed for the record. recorded: bytes
    of what one command reads and writes that are kept.
    """

    def __init__(
        self,
        client: Sink,
        target: Sink,
        *,
        now: Callable[[], float],
        talks: Callable[[Question, Admission], Talk | None] = lambda _question, _admission: None,
        is_scp: Callable[[bytes], bool] = lambda _command: False,
        digests: bool = True,
        recorded: int = 1 << 30,
    ) -> None:
        self.client = client
        self.target = target
        """May be replaced as long as no channel is open there."""
        self.questions: list[Question] = []
        self.withdrawn: list[Question] = []
        """Questions that nobody waits for any more."""
        self.over = ""
        """Why the gateway must end the whole connection; empty as long as it need not."""
        self.unknown = 0
        """Requests that were refused because nobody knows them."""
        self.crowded = 0
        """Channels that were refused because there were too many."""
        self.read = 0
        """Bytes that clients were sent of channels that have ended."""
        self.now = now
        self.talks = talks
        self.is_scp = is_scp
        self.digests = digests
        self.recorded = recorded
        self.timed: set[int] = set()
        """Keys of the channels on which something may be due."""
        self.channels: dict[int, Channel] = {}
        self._keys = 0
        self._handlers: dict[Question, tuple[Channel | None, Handler]] = {}
        self.programs = Programs(self)
        self._forwards = Forwards(self)

    # -- packets

    def from_client(self, payload: bytes) -> None:
        """One packet, message number first."""
        if self.over:
            return
        try:
            self._client_packet(payload)
        except WireError as problem:
            self.over = f"The client broke the protocol: {problem}."

    def from_target(self, payload: bytes) -> None:
        if self.over:
            return
        try:
            self._target_packet(payload)
        except WireError as problem:
            self.over = f"The target broke the protocol: {problem}."

    def client_data(self, number: int, content: memoryview) -> None:
        """CHANNEL_DATA of the client, taken apart."""
        channel = self.channels.get(number)
        if channel is not None and (streams := channel.plain) is not None and not channel.client_eof:
            flow = channel.up
            size = len(content)
            if 0 < size <= flow.credit and size <= flow.granted and size <= flow.limit and not flow.waiting:
                flow.granted -= size
                flow.credit -= size
                streams.in_bytes += size
                if streams.in_hash is not None:
                    streams.in_hash.update(content)
                self.target.send_data(flow.receiver, content)
                return
        if self.over:
            return
        try:
            channel = self._client_channel(number)
            if channel.question is not None:
                raise WireError("data came before it was decided what it is for")
            channel.up.took(len(content))
            if channel.client_eof:
                raise WireError("data came after the end of it")
            self.programs.client_data(channel, content)
        except WireError as problem:
            self.over = f"The client broke the protocol: {problem}."

    def target_data(self, number: int, content: memoryview) -> None:
        """CHANNEL_DATA of the target, taken apart."""
        channel = self.channels.get(number)
        if channel is not None and (streams := channel.plain) is not None and not channel.target_eof:
            flow = channel.down
            size = len(content)
            if 0 < size <= flow.credit and size <= flow.granted and size <= flow.limit and not flow.waiting:
                flow.granted -= size
                flow.credit -= size
                streams.out_bytes += size
                if streams.out_hash is not None:
                    streams.out_hash.update(content)
                self.client.send_data(flow.receiver, content)
                return
        if self.over:
            return
        try:
            self._target_data(self._target_channel(number), content, 0)
        except WireError as problem:
            self.over = f"The target broke the protocol: {problem}."

    def _client_packet(self, payload: bytes) -> None:
        match payload[0]:
            case wire.GLOBAL_REQUEST:
                self._forwards.from_client(payload)
            case wire.CHANNEL_OPEN:
                self._client_opens(payload)
            case wire.CHANNEL_OPEN_CONFIRMATION:
                self._client_confirms(payload)
            case wire.CHANNEL_OPEN_FAILURE:
                failed = wire.read_failure(payload)
                channel = self._opening(failed.recipient, by_client=False)
                self.target.send(wire.open_failure(channel.target_id, failed.code, failed.message, failed.language))
                self._forget(channel, "error", {"refused": failed.code})
            case wire.CHANNEL_DATA:
                self.client_data(wire.recipient_of(payload), _content(payload, DATA_HEAD))
            case wire.CHANNEL_EXTENDED_DATA:
                raise WireError("a client has only one stream")
            case wire.CHANNEL_EOF | wire.CHANNEL_REQUEST:
                channel = self._client_channel(wire.recipient_of(payload))
                if channel.question is not None:
                    channel.wait(payload)
                else:
                    self._client_in_order(channel, payload)
            case wire.CHANNEL_WINDOW_ADJUST:
                channel = self._client_channel(wire.recipient_of(payload, 9))
                channel.down.adjusted(wire.read_adjust(payload))
                self._flow(channel)
            case wire.CHANNEL_CLOSE:
                self._client_closes(self._client_channel(wire.recipient_of(payload, 5)))
            case wire.CHANNEL_SUCCESS | wire.CHANNEL_FAILURE:
                # Nothing that wants a reply is ever passed on to a client.
                self._client_channel(wire.recipient_of(payload, 5))
            case wire.REQUEST_SUCCESS | wire.REQUEST_FAILURE:
                pass
            case number:
                raise WireError(f"nobody knows message {number}")

    def _target_packet(self, payload: bytes) -> None:
        match payload[0]:
            case wire.GLOBAL_REQUEST:
                self._forwards.from_target(payload)
            case wire.REQUEST_SUCCESS | wire.REQUEST_FAILURE:
                self._forwards.replied(payload)
            case wire.CHANNEL_OPEN:
                self._forwards.opened(wire.read_open(payload))
            case wire.CHANNEL_OPEN_CONFIRMATION:
                self._target_confirms(payload)
            case wire.CHANNEL_OPEN_FAILURE:
                failed = wire.read_failure(payload)
                channel = self._opening(failed.recipient, by_client=True)
                self.client.send(wire.open_failure(channel.client_id, failed.code, failed.message, failed.language))
                self._forget(channel, "error", {"refused": failed.code})
            case wire.CHANNEL_WINDOW_ADJUST:
                channel = self._target_channel(wire.recipient_of(payload, 9))
                held = channel.talk.held if channel.talk is not None else 0
                if channel.down.waiting >= MAX_WAITING:
                    held = wire.MAX_WINDOW  # as in `grant`: nothing for a client that does not read its answers
                channel.up.adjusted(wire.read_adjust(payload), held)
            case wire.CHANNEL_DATA:
                self.target_data(wire.recipient_of(payload), _content(payload, DATA_HEAD))
            case wire.CHANNEL_EXTENDED_DATA:
                channel = self._target_channel(wire.recipient_of(payload))
                content, code = _content(payload, EXTENDED_HEAD), int.from_bytes(payload[5:9], "big")
                if code == 0:
                    raise WireError("extended data came that is of no type")
                self._target_data(channel, content, code)
            case wire.CHANNEL_EOF:
                channel = self._target_channel(wire.recipient_of(payload, 5))
                if not channel.target_eof:
                    channel.target_eof = True
                    self.programs.target_eof(channel)
            case wire.CHANNEL_REQUEST:
                request = wire.read_request(payload)
                self.programs.target_request(self._target_channel(wire.recipient_of(payload)), request)
            case wire.CHANNEL_SUCCESS | wire.CHANNEL_FAILURE:
                self._target_channel(wire.recipient_of(payload, 5)).replied(payload[0])
            case wire.CHANNEL_CLOSE:
                self._target_closes(self._target_channel(wire.recipient_of(payload, 5)))
            case number:
                raise WireError(f"nobody knows message {number}")

    # -- which channel

    def _client_channel(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None or not channel.opened or channel.client_closed:
            raise WireError("a packet came for a channel that is not open")
        return channel

    def _target_channel(self, number: int) -> Channel:
        channel = self.channels.get(number)
        if channel is None or not channel.opened or channel.target_closed:
            raise WireError("a packet came for a channel that is not open")
        return channel

    def _opening(self, key: int, *, by_client: bool) -> Channel:
        channel = self.channels.get(key)
        if channel is None or channel.opened or channel.by_client is not by_client or channel.question is not None:
            raise WireError("the answer to the opening of a channel came that nobody opens")
        return channel

    # -- opening

    def room(self, kind: bytes) -> bool:
        """Whether one more channel of that kind may be open."""
        sessions = sum(each.kind == b"session" for each in self.channels.values())
        return sessions < MAX_SESSIONS if kind == b"session" else len(self.channels) - sessions < MAX_FORWARDS

    def new_channel(self, kind: bytes, *, by_client: bool) -> Channel:
        while self._keys in self.channels:
            self._keys = (self._keys + 1) & wire.MAX_WINDOW
        key = self._keys
        self._keys = (key + 1) & wire.MAX_WINDOW
        channel = self.channels[key] = Channel(key, kind, by_client=by_client)
        return channel

    def _client_opens(self, payload: bytes) -> None:
        asked = wire.read_open(payload)
        if not wire.is_text(asked.kind):
            raise WireError("the kind of a channel is no name")
        problem = b""
        if asked.limit < MIN_PACKET:
            problem = b"ostiary: the largest packet that you take is too small"
        elif not self.room(asked.kind):
            problem = b"ostiary: too many channels are open"
            self.crowded += 1
        if problem:
            self.client.send(wire.open_failure(asked.sender, wire.SHORTAGE, problem))
            return
        if asked.kind == b"session":
            if asked.more:
                raise WireError("a packet goes on behind its end")
            if self._forwards.no_more_sessions:
                raise WireError("a session was opened after it had said that it opens no more")
            channel = self._from(asked)
            self.open_target(channel, b"")
            return
        self._forwards.client_opens(asked)

    def _from(self, asked: wire.Open) -> Channel:
        channel = self.new_channel(asked.kind, by_client=True)
        channel.client_id, channel.client_window = asked.sender, asked.window
        channel.client_limit = min(asked.limit, MAX_PACKET)
        return channel

    def client_channel(self, asked: wire.Open) -> Channel:
        """A channel that the client wants, and that nobody has decided yet."""
        return self._from(asked)

    def open_target(self, channel: Channel, more: bytes) -> None:
        """Opens it at the target, as the client would have."""
        self.target.send(
            wire.open_channel(channel.kind, channel.key, channel.client_window, channel.client_limit, more)
        )

    def _target_confirms(self, payload: bytes) -> None:
        found = wire.read_confirmation(payload)
        channel = self._opening(found.recipient, by_client=True)
        channel.target_id, channel.target_window, channel.target_limit = found.sender, found.window, found.limit
        self._join(channel, granted=0 if channel.kind == b"session" else found.window)
        self.client.send(wire.confirmation(channel.client_id, channel.key, channel.up.granted, channel.up.limit))

    def _client_confirms(self, payload: bytes) -> None:
        found = wire.read_confirmation(payload)
        channel = self._opening(found.recipient, by_client=False)
        channel.client_id, channel.client_window, channel.client_limit = found.sender, found.window, found.limit
        self._join(channel, granted=channel.target_window)
        self.target.send(wire.confirmation(channel.target_id, channel.key, channel.down.granted, channel.down.limit))

    def _join(self, channel: Channel, *, granted: int) -> None:
        """Both ends agree: from here on there are windows."""
        channel.opened = True
        up_limit, down_limit = min(channel.target_limit, MAX_PACKET), min(channel.client_limit, MAX_PACKET)
        if up_limit < 1 or down_limit < 1:
            raise WireError("a channel was agreed to whose packets hold nothing")
        channel.up = Flow(
            self.target, self.client, receiver=channel.target_id, sender=channel.client_id, limit=up_limit,
            credit=channel.target_window, granted=granted,
        )  # fmt: skip
        channel.down = Flow(
            self.client, self.target, receiver=channel.client_id, sender=channel.target_id, limit=down_limit,
            credit=channel.client_window, granted=channel.client_window,
        )  # fmt: skip
        channel.down.grants = True
        if channel.kind != b"session":
            channel.up.grants = True
            self._forwards.joined(channel)

    # -- what is on a channel

    def _client_in_order(self, channel: Channel, payload: bytes) -> None:
        if payload[0] == CHANNEL_REQUEST:
            request = wire.read_request(payload)
            if not wire.is_text(request.kind):
                raise WireError("the kind of a request is no name")
            if not channel.told_client:
                self.programs.client_request(channel, request)
        else:
            wire.recipient_of(payload, 5)
            if not channel.client_eof:
                channel.client_eof = True
                self.programs.client_eof(channel)

    def _target_data(self, channel: Channel, content: memoryview, code: int) -> None:
        channel.down.took(len(content))
        if channel.target_eof:
            raise WireError("data came after the end of it")
        self.programs.target_data(channel, content, code)

    def _flow(self, channel: Channel) -> None:
        """The client has taken more: what was held back from it for that goes on."""
        if channel.talk is not None:
            self.programs.drain(channel)

    def grant(self, channel: Channel) -> None:
        """Gives the client what the target has room for, unless it does not read what it is told."""
        held = channel.talk.held if channel.talk is not None else 0
        if channel.down.waiting < MAX_WAITING:
            channel.up.grant(held)

    # -- questions

    def ask(self, question: Question, channel: Channel | None, handler: Handler) -> None:
        self._handlers[question] = (channel, handler)
        self.questions.append(question)

    def answer(self, question: Question, admission: Admission) -> None:
        """It is decided, and durably recorded if it must be."""
        found = self._handlers.pop(question, None)
        if found is None or self.over:
            admission.end("skipped", {}, 0)
            return
        channel, handler = found
        try:
            handler(question, admission)
            if channel is not None:
                self.go_on(channel)
        except WireError as problem:
            self.over = f"The client broke the protocol: {problem}."

    def progress(self, question: Question) -> None:
        """Something may have happened to a question that is still being decided."""
        found = self._handlers.get(question)
        if found is not None and found[0] is not None and found[0].talk is not None:
            self._drain(found[0])

    def withdraw(self, question: Question) -> None:
        """Nobody waits for it any more."""
        if self._handlers.pop(question, None) is not None:
            self.withdrawn.append(question)

    def go_on(self, channel: Channel) -> None:
        """What waited behind a question."""
        while channel.inbox and channel.question is None and not channel.told_client:
            self._client_in_order(channel, channel.inbox.popleft())

    def tell(self, question: Question, line: str) -> None:
        """One line on the standard error of the question's channel, if it has one: that an approval is waited for."""
        found = self._handlers.get(question)
        if found is not None and found[0] is not None:
            found[0].say((line + found[0].line_end).encode())

    # -- the end of channels

    def _client_closes(self, channel: Channel) -> None:
        self._withdraw_all(channel)
        channel.client_left(self.client)
        if channel.kill_at is None:
            channel.close_target()
        self._close(channel)

    def _target_closes(self, channel: Channel) -> None:
        self._withdraw_all(channel)
        self.programs.target_done(channel)
        channel.target_left(self.target)
        if channel.kill_at is not None:
            channel.kill_at = None
            channel.close_target()
        channel.close_client()
        self.ended(channel)
        self._close(channel)

    def _withdraw_all(self, channel: Channel) -> None:
        channel.question = None
        channel.inbox.clear()
        for question in [each for each, (where, _) in self._handlers.items() if where is channel]:
            self.withdraw(question)

    def _close(self, channel: Channel) -> None:
        if channel.over:
            self.ended(channel)
            del self.channels[channel.key]
            self.timed.discard(channel.key)
            self._forwards.closed(channel)

    def _forget(self, channel: Channel, outcome: Outcome, detail: dict[str, object]) -> None:
        """It never came to be."""
        del self.channels[channel.key]
        admission, channel.admission = channel.admission, None
        if admission is not None:
            admission.end(outcome, detail, 0)

    def ended(self, channel: Channel) -> None:
        """Whatever ran on it has ended: the record is told, once."""
        self.programs.ended(channel)

    def cut(self, channel: Channel, message: str) -> None:
        """The gateway ends what runs on it, and says why."""
        try:
            self.programs.cut(channel, message)
        except WireError as problem:
            self.over = f"The protocol was broken: {problem}."

    # -- from outside

    def recheck(self, still: Callable[[Question, Admission], str]) -> None:
        """Ends what runs and for which `still` says why it may not any more."""
        for channel in list(self.channels.values()):
            admission, question = channel.admission, channel.ran
            if admission is None or question is None or channel.cut:
                continue
            if why := still(question, admission):
                self.cut(channel, why)
            elif channel.talk is not None:
                channel.talk.recheck(still)
                self._drain(channel)

    def _drain(self, channel: Channel) -> None:
        try:
            self.programs.drain(channel)
        except WireError as problem:
            self.over = f"The protocol was broken: {problem}."

    def end_request(self, number: int, message: str) -> bool:
        """Ends one running request, saying why. False: there is none of that number."""
        for channel in list(self.channels.values()):
            admission = channel.admission
            if admission is not None and admission.number == number and not channel.cut:
                self.cut(channel, message)
                return True
        return False

    @property
    def due(self) -> float | None:
        """Seconds from now until `tick` is wanted; None: it is not."""
        first: float | None = None
        for key in self.timed:
            at = self.channels[key].due
            if at is not None and (first is None or at < first):
                first = at
        return None if first is None else max(0.0, first - self.now())

    def tick(self) -> None:
        """What is due is done."""
        now = self.now()
        try:
            for key in list(self.timed):
                channel = self.channels[key]
                if channel.kill_at is not None and channel.kill_at <= now:
                    self.programs.kill(channel)
                streams = channel.streams
                if streams is not None and streams.due is not None and streams.due <= now:
                    self.programs.release(channel)
        except WireError as problem:
            self.over = f"The protocol was broken: {problem}."

    @property
    def idle(self) -> bool:
        """True if no channel is open and nothing is being decided."""
        return not self.channels and not self._handlers

    @property
    def busy(self) -> bool:
        """True while something runs that may be silent for long, or something is being decided."""
        return bool(self._handlers) or any(
            each.kind == b"session" and each.started and each.terminal is None for each in self.channels.values()
        )

    def say(self, message: str) -> None:
        """Every program's client hears it on standard error."""
        for channel in self.channels.values():
            if channel.kind == b"session" and not channel.cut:
                self.programs.release(channel)
                text = f"{PREFIX}{message}{channel.line_end}".encode()
                if channel.streams is not None:
                    channel.streams.note(text)
                channel.say(text)

    def lost(self, message: str = "") -> None:
        """One of the two is gone, or the gateway ends it: every begun request ends. `message`: what clients hear."""
        if message:
            self.say(message)
        for question in list(self._handlers):
            self.withdraw(question)
        for channel in list(self.channels.values()):
            if channel.kill_at is not None:
                # Nobody will be there later to see to it.
                self.programs.kill(channel)
            channel.target_closed = True
            self.ended(channel)
        self.channels.clear()
        self.timed.clear()
        self._forwards.lost()
        self.over = self.over or message or "the session is over"


def _content(payload: bytes, head: int) -> memoryview:
    view = memoryview(payload)[head:]
    if len(payload) < head or int.from_bytes(payload[head - 4 : head], "big") != len(view):
        raise WireError("data has not the size that it says")
    return view
