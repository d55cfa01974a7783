"""One client's session after its login: the two legs, the core between them, and the desk that decides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

import structlog

from ostiary_policy.answer import Reason

from .file_talks import is_scp, talk_of
from .questions import Admission, Decided, Question
from .state import Session

if TYPE_CHECKING:
    from .desk import Desk
    from .talks import Talk
    from .transport import Leg

log = structlog.get_logger(__name__)

PROTOCOL_ERROR: Final = 2
CONNECTION_LOST: Final = 10
BY_APPLICATION: Final = 11
"""Why a connection ends (RFC 4253, 11.1)."""
MAX_WAITING: Final = 4096
"""Packets for a target that is not there yet."""


class _Later:
    """Keeps what is for the target until it is there."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []

    def send(self, payload: bytes) -> None:
        self.packets.append(payload)

    def send_data(self, channel: int, data: bytes | memoryview) -> None:
        raise AssertionError("there is no channel before the target is there")


class _ClientSide:
    def __init__(self, relay: Relay, session: Session) -> None:
        self._relay = relay
        self.packet = session.from_client
        self.data = session.client_data

    def batch_done(self) -> None:
        self._relay.settle()

    def pause(self) -> None:
        self._relay.hold_target(True)

    def resume(self) -> None:
        self._relay.hold_target(False)

    def lost(self, problem: str) -> None:
        self._relay.client_lost(problem)


class _TargetSide:
    def __init__(self, relay: Relay, session: Session) -> None:
        self._relay = relay
        self.packet = session.from_target
        self.data = session.target_data

    def batch_done(self) -> None:
        self._relay.settle()

    def pause(self) -> None:
        self._relay.hold_client(True)

    def resume(self) -> None:
        self._relay.hold_client(False)

    def lost(self, problem: str) -> None:
        self._relay.target_lost(problem)


class Relay:
    """From the end of the agent's login to the close.

    The target's leg may come later (`attach`): until then nothing is sent to it, and clients wait. `client_side` and
    `target_side` are the receivers of the legs; the lobby sets `leg.receiver` to them.
    """

    def __init__(self, desk: Desk, client: Leg) -> None:
        loop = asyncio.get_running_loop()
        self.over: asyncio.Future[str] = loop.create_future()
        """Why the session is over, once it is. `run` ends with that."""
        self.rows = 0
        """Of checkpoint.Tally: there are none."""
        self._loop = loop
        self._desk = desk
        self._client = client
        self._target: Leg | None = None
        self._held = False
        self._later = _Later()
        spec = desk.gate.connection.spec
        self._content = spec.keeps_files
        self._longest = spec.limits.max_request_bytes
        self._session = Session(
            client, self._later, now=time.monotonic, digests=spec.recording != "None", talks=self._talk, is_scp=is_scp,
            recorded=spec.limits.max_recorded_bytes,
        )  # fmt: skip
        self.client_side = _ClientSide(self, self._session)
        self.target_side = _TargetSide(self, self._session)
        self._tasks: dict[Question, asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = ""
        self._counted = (0, 0)
        self._settling = False

    def _talk(self, question: Question, _admission: Admission) -> Talk | None:
        return talk_of(question, time.monotonic, content=self._content)

    # -- the session

    async def run(self) -> str:
        """Until the session is over, however it ends; says why. Cancelled: both legs are closed, all requests ended."""
        reason = "the gateway stopped"
        try:
            async with asyncio.TaskGroup() as self._group:
                self.settle()
                reason = await self.over
                self._drop()
        finally:
            self._drop()
            self._group = None
        return reason

    def _drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        session, gate = self._session, self._desk.gate
        session.lost()
        if session.unknown or session.crowded:
            log.info(
                "refused without asking", connection=gate.name, session=gate.id, unknown=session.unknown,
                crowded=session.crowded,
            )  # fmt: skip
            session.unknown = session.crowded = 0
        for task in self._tasks.values():
            task.cancel()
        for leg in (self._target, self._client):
            if leg is not None:
                leg.disconnect(BY_APPLICATION, "The session is over.")

    def attach(self, target: Leg) -> None:
        """The target is there, logged in."""
        if self.over.done():
            target.disconnect(BY_APPLICATION, "The session is over.")
            return
        self._target = self._session.target = target
        for payload in self._later.packets:
            target.send(payload)
        self._later.packets.clear()
        if self._held:
            target.pause_reading()

    def _end(self, code: int, message: str, reason: str = "") -> None:
        """Ends now: the client hears why."""
        if self.over.done():
            return
        self._session.lost()
        self._client.disconnect(code, message)
        if self._target is not None:
            self._target.disconnect(BY_APPLICATION, "The session is over.")
        self.over.set_result(reason or message)

    @property
    def active(self) -> float:
        """time.monotonic() when something came last from either side."""
        heard = self._client.heard
        if self._target is not None and self._target.heard > heard:
            heard = self._target.heard
        return heard

    @property
    def bytes(self) -> int:
        """What the client was sent by the target so far (checkpoint.Tally), of what still runs too."""
        session = self._session
        running = (channel.streams for channel in session.channels.values() if channel.admission is not None)
        return session.read + sum(streams.size for streams in running if streams is not None)

    @property
    def written(self) -> int:
        """Rows, of which there are none."""
        return 0

    @property
    def idle(self) -> bool:
        """True while no channel is open and nothing is being decided."""
        return self._session.idle

    @property
    def busy(self) -> bool:
        """True while something runs that may rightly be silent for long, or something is being decided."""
        return self._session.busy

    def leave(self, message: str) -> None:
        """Ends as soon as nothing is under way."""
        self._leaving = self._leaving or message
        self.settle()

    def stop(self, message: str) -> None:
        """Ends now: what runs hears why on stderr, then the client is disconnected with the same words."""
        if not self.over.done():
            self._session.lost(message)
            self._end(BY_APPLICATION, message)

    def target_away(self, message: str) -> None:
        """The target could not be reached, or refuses the login."""
        self.stop(message)

    def recheck(self) -> None:
        """Other policies are in force: what they would not let through ends."""
        if not self.over.done():
            self._session.recheck(self._desk.still)
            self.settle()

    def end_request(self, number: int, message: str) -> bool:
        """Ends one running request of this session. False: it does not run."""
        found = self._session.end_request(number, message)
        self.settle()
        return found

    def count_bytes(self) -> None:
        """Tells the counters what went through since the last time."""
        gate, before = self._desk.gate, self._counted
        came = (self._client.received, self._target.received if self._target is not None else 0)
        self._counted = came
        gate.transferred("to_upstream", came[0] - before[0])
        gate.transferred("to_client", came[1] - before[1])

    # -- the legs

    def hold_target(self, hold: bool) -> None:
        """The client does not read: nothing more is read of the target."""
        self._held = hold
        if self._target is not None:
            if hold:
                self._target.pause_reading()
            else:
                self._target.resume_reading()

    def hold_client(self, hold: bool) -> None:
        if hold:
            self._client.pause_reading()
        else:
            self._client.resume_reading()

    def client_lost(self, problem: str) -> None:
        if not self.over.done():
            self._session.lost()
            self.over.set_result(f"the client was lost: {problem}" if problem else "the client left")

    def target_lost(self, problem: str) -> None:
        if not self.over.done():
            message = "The target has closed the connection"
            log.info("target lost", connection=self._desk.gate.name, session=self._desk.gate.id, problem=problem)
            self._session.lost(f"{message}.")
            self._end(CONNECTION_LOST, f"{message}.", f"{message}: {problem}" if problem else message)

    # -- what is to be decided

    def settle(self) -> None:
        """Decides what is asked, and looks whether the session goes on. After every batch of packets."""
        session = self._session
        if self._settling or self._group is None or self.over.done():
            # What came before `run` is settled by that.
            return
        self._settling = True
        try:
            while session.questions or session.withdrawn:
                for question in _taken(session.withdrawn):
                    if (task := self._tasks.pop(question, None)) is not None:
                        task.cancel()
                for question in _taken(session.questions):
                    self._decide(question)
        finally:
            self._settling = False
        if session.over:
            gate = self._desk.gate
            log.warning("session broken off", connection=gate.name, session=gate.id, reason=session.over)
            self._end(PROTOCOL_ERROR, session.over)
        elif self._leaving and session.idle:
            self._end(BY_APPLICATION, self._leaving)
        elif session.timed:
            self._set_timer()

    def _decide(self, question: Question) -> None:
        session = self._session

        def tell(line: str) -> None:
            session.tell(question, line)

        question.tell = tell
        size = sum(map(len, question.exact))
        if size > self._longest:
            message = (
                f"It is {size} bytes long; limits.maxRequestBytes of this Connection lets {self._longest} through."
            )
            decided: Decided = self._desk.refuse(question, "size", Reason.LIMIT, message, "Send it as a file.")
        else:
            decided = self._desk.decide(question)
        if isinstance(decided, Admission):
            session.answer(question, decided)
            return
        session.progress(question)
        assert self._group is not None, "nothing is decided before the session runs"
        self._tasks[question] = self._group.create_task(self._wait(question, decided))

    async def _wait(self, question: Question, decided: Awaitable[Admission]) -> None:
        try:
            admission = await decided
        finally:
            self._tasks.pop(question, None)
        self._session.answer(question, admission)
        self.settle()

    # -- what happens later

    def _set_timer(self) -> None:
        due = self._session.due
        if due is None:
            return
        at = self._loop.time() + due
        if self._timer is not None:
            if self._timer.when() <= at + 0.001:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(at, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self.over.done():
            self._session.tick()
            self.settle()


def _taken(items: list[Question]) -> list[Question]:
    found = items[:]
    items.clear()
    return found
