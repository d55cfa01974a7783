"""One channel in the middle: its numbers at both ends, both windows, what was asked, and the replies owed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from . import wire
from .wire import CHANNEL_FAILURE, CHANNEL_SUCCESS, ChannelRequest, Sink, WireError

if TYPE_CHECKING:
    from .output import Streams
    from .questions import Admission, Question
    from .talks import Talk
    from .windows import Flow

MAX_OWED: Final = 256
"""Replies that one channel may be owed."""
MAX_HELD: Final = 128
"""Requests that one channel may make before it is decided what runs on it."""
MAX_HELD_BYTES: Final = 128 * 1024
MAX_INBOX: Final = 128
"""Packets that may wait while a request before them is being decided."""


class Slot:
    """The place of one reply in their order. `reply`: the number of the message; 0 as long as it is not known."""

    __slots__ = ("done", "more", "reply", "visible")

    def __init__(self, *, visible: bool, reply: int = 0, done: Callable[[bool], None] | None = None) -> None:
        self.visible = visible
        """Whether the client wants to hear it."""
        self.reply = reply
        self.more = b""
        self.done = done
        """Takes whether it was a success."""


class Owed:
    """Replies in the order of their requests, whoever makes them."""

    __slots__ = ("_slots",)

    def __init__(self) -> None:
        self._slots: deque[Slot] = deque()

    def ask(self, slot: Slot) -> None:
        """The target will say."""
        if len(self._slots) >= MAX_OWED:
            raise WireError("too many requests came whose replies are still owed")
        self._slots.append(slot)

    def told(self, reply: int) -> None:
        """The gateway says itself, as soon as it is its turn."""
        self.ask(Slot(visible=True, reply=reply))

    def filled(self, reply: int, more: bytes = b"") -> Slot | None:
        """The target's reply to the oldest request that waits for one; None if there is none."""
        for slot in self._slots:
            if not slot.reply:
                slot.reply, slot.more = reply, more
                return slot
        return None

    def due(self) -> list[Slot]:
        """What the client may hear now."""
        found: list[Slot] = []
        while self._slots and self._slots[0].reply:
            slot = self._slots.popleft()
            if slot.visible:
                found.append(slot)
        return found


class Channel:
    """`key` is the gateway's own number of it, towards both ends."""

    __slots__ = (
        "admission", "by_client", "client_closed", "client_eof", "client_id", "client_limit", "client_window", "cut",
        "down", "env", "held", "held_bytes", "inbox", "key", "kill_at", "kind", "lending", "opened", "owed", "plain",
        "question", "ran", "refused", "request", "started", "streams", "talk", "target_closed", "target_eof",
        "target_id", "target_limit", "target_window", "terminal", "told_client", "told_client_eof", "told_target",
        "told_target_eof", "up",
    )  # fmt: skip

    def __init__(self, key: int, kind: bytes, *, by_client: bool) -> None:
        self.key = key
        self.kind = kind
        self.by_client = by_client
        self.client_id = self.client_window = self.client_limit = 0
        self.target_id = self.target_window = self.target_limit = 0
        self.opened = False
        """Both ends have agreed to it; only then are there windows."""
        self.up: Flow
        """From the client to the target."""
        self.down: Flow
        self.client_eof = self.target_eof = self.told_client_eof = self.told_target_eof = False
        self.client_closed = self.target_closed = False
        """Who has sent CLOSE."""
        self.told_client = self.told_target = False
        """To whom CLOSE was sent."""
        self.question: Question | None = None
        """What is being decided; packets of the client wait behind it."""
        self.request: ChannelRequest | None = None
        """The request that the question is about."""
        self.inbox: deque[bytes] = deque()
        self.owed = Owed()
        self.held: list[tuple[bytes, bytes]] = []
        """Requests that go to the target with the program that they are for: kind, and what belongs to it."""
        self.held_bytes = 0
        self.terminal: wire.Terminal | None = None
        self.env: dict[str, str] = {}
        self.refused: list[str] = []
        """Names of environment variables that were refused."""
        self.started = False
        """A program was let through, or a forward."""
        self.cut = False
        """The gateway has ended it: nothing of either side goes on."""
        self.kill_at: float | None = None
        """When what runs at the target is killed, since it did not end by itself."""
        self.ran: Question | None = None
        self.admission: Admission | None = None
        """Of what runs; None if nothing does, or it was ended in the record."""
        self.lending: list[Admission] = []
        """Of the agent's keys or display, as long as the target has not said that it takes them."""
        self.streams: Streams | None = None
        self.plain: Streams | None = None
        """The same, if bytes pass as they are: the way of bulk data."""
        self.talk: Talk | None = None

    def hold(self, kind: bytes, more: bytes) -> bool:
        """Keeps a request for later. False if there are too many."""
        if len(self.held) >= MAX_HELD or self.held_bytes + len(more) > MAX_HELD_BYTES:
            return False
        self.held.append((kind, more))
        self.held_bytes += len(more)
        return True

    def wait(self, payload: bytes) -> None:
        """A packet comes behind a question."""
        if len(self.inbox) >= MAX_INBOX:
            raise WireError("too many requests came on a channel that waits for a decision")
        self.inbox.append(payload)

    def reply(self, request: ChannelRequest, ok: bool) -> None:
        """The gateway's own answer, in its turn."""
        if request.wants:
            self.owed.told(CHANNEL_SUCCESS if ok else CHANNEL_FAILURE)
            self.send_replies()

    def replied(self, reply: int) -> None:
        """The target has answered."""
        slot = self.owed.filled(reply)
        if slot is None:
            return
        self.send_replies()
        if slot.done is not None:
            slot.done(reply == CHANNEL_SUCCESS)

    def send_replies(self) -> None:
        for slot in self.owed.due():
            if not self.told_client:
                make = wire.success if slot.reply == CHANNEL_SUCCESS else wire.failure
                self.down.packet(make(self.client_id))

    def say(self, text: bytes) -> None:
        """On the client's standard error."""
        if self.opened and not self.told_client and not self.told_client_eof and text:
            self.down.extended(wire.STDERR, text)

    @property
    def due(self) -> float | None:
        """When something must happen on it by itself; None: nothing must."""
        held = self.streams.due if self.streams is not None and not self.cut else None
        if self.kill_at is None or held is None:
            return self.kill_at if held is None else held
        return min(self.kill_at, held)

    @property
    def line_end(self) -> str:
        return "\n" if self.terminal is None else "\r\n"

    # -- the end

    def eof_client(self) -> None:
        if not self.told_client and not self.told_client_eof:
            self.told_client_eof = True
            self.down.packet(wire.eof(self.client_id))

    def eof_target(self) -> None:
        if not self.told_target and not self.told_target_eof:
            self.told_target_eof = True
            self.up.packet(wire.eof(self.target_id))

    def close_client(self) -> None:
        if not self.told_client:
            self.told_client = True
            self.down.packet(wire.close(self.client_id))
            self.up.grants = False

    def close_target(self) -> None:
        if not self.told_target:
            self.told_target = True
            self.up.packet(wire.close(self.target_id))
            self.down.grants = False

    def client_left(self, client: Sink) -> None:
        """The client has closed it: what waits for it is for nobody."""
        self.client_closed = True
        waited = not self.down.clear
        self.down.drop()
        if self.told_client and waited:
            client.send(wire.close(self.client_id))

    def target_left(self, target: Sink) -> None:
        self.target_closed = True
        waited = not self.up.clear
        self.up.drop()
        if self.told_target and waited:
            target.send(wire.close(self.target_id))

    @property
    def over(self) -> bool:
        return self.client_closed and self.target_closed and self.told_client and self.told_target
