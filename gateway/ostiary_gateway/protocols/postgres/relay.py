# cython: annotation_typing=False
"""One PostgreSQL session's I/O: two legs, the frontend and the backend between them, and what they must wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Coroutine
from typing import Final, cast

import structlog

from ostiary_gateway.approvals.store import ApprovalsError, TooManyQuestions
from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.audit.intake import Pending
from ostiary_gateway.checkpoint import Gate
from ostiary_gateway.leg import Leg

from . import answers, wire
from .backend import Backend, Listener
from .desk import Desk
from .frontend import Frontend
from .questions import Ask, Outcome, Refused, Settings, Wait
from .reference import Reference, Unresolvable
from .state import Running, SessionState
from .upstream import QuestionFailed, ServerSession, Target, UpstreamError, cancel
from .wire import FatalError, ProtocolViolation

log = structlog.get_logger(__name__)

MAX_WAITING: Final = 262_144
"""Bytes of the client that may wait while a request is decided."""
RELIEF_EVERY: Final = 8192
"""Bytes of the server after which the record is asked whether it keeps up."""
PARTING: Final = 5.0
"""Seconds that a client gets to read the last words."""

_TROUBLES: Final = (
    OSError, TimeoutError, ValueError, UpstreamError, QuestionFailed, Unresolvable, ApprovalsError, TooManyQuestions,
)  # fmt: skip
"""What may come of what is waited for; who asked for it knows what to say."""

_READ = Wait.READ
_monotonic = time.monotonic


class Relay(Listener):
    """A session from the end of the login to its close."""

    def __init__(
        self, client: Leg, server: ServerSession, gate: Gate, state: SessionState, reference: Reference, target: Target,
        *, database: str, max_request: int,
    ) -> None:  # fmt: skip
        self.gate = gate
        self.target = target
        self.active = _monotonic()
        """When bytes last came from either side."""
        self._client = client
        self._server = server
        self._state = state
        self._backend = Backend(state, self, record=gate.full)
        self._desk = Desk(gate, reference, state, database=database)
        self._desk.asking.tell = self._tell
        self._frontend = Frontend(state, max_request=max_request, admit=self._desk.admit)
        self._waiting: Wait | None = None
        """What the frontend waits for; None while it runs, and while a request is decided."""
        loop = asyncio.get_running_loop()
        self._over: asyncio.Future[str] = loop.create_future()
        self._loop = loop
        self._tasks: asyncio.TaskGroup
        self._children: set[asyncio.Task[None]] = set()
        self._relieving = False
        self._inbox_paused = False
        self._unrelieved = 0
        """Bytes of the server since the record was last asked whether it keeps up."""
        self._to_client = self._to_server = 0
        """Bytes that the counters were not told of."""

    @property
    def busy(self) -> bool:
        """True while the server owes an answer, or a person: it may be long in coming."""
        return bool(len(self._state.awaited) or self._desk.asking.waiting)

    @property
    def idle(self) -> bool:
        """True if nothing is under way: no reply is owed, no transaction is open."""
        return not len(self._state.awaited) and self._state.status == b"I"

    async def run(self, settings: tuple[str, ...], greeting: bytes) -> None:
        """The session: `settings` as SHOWN, `greeting` ends the login. Returns when it is over, however it ended."""
        client, server = self._client, self._server.leg
        reason = "the gateway stopped"
        try:
            self._desk.settings(settings)
            async with asyncio.TaskGroup() as self._tasks:
                client.write(greeting)
                server.attach(self._from_server, lambda writable: self._hold(client, "server", writable))
                client.attach(self._from_client, lambda writable: self._hold(server, "client", writable))
                self._pump(None)
                await asyncio.wait((client.lost, server.lost, self._over), return_when=asyncio.FIRST_COMPLETED)
                reason = self._part()
                self._over.cancel()
                for child in self._children:
                    child.cancel()
                if not client.lost.done():
                    client.close()
                    await asyncio.wait((client.lost,), timeout=PARTING)
        finally:
            self._end(reason)

    def stop(self, code: str, message: str, hint: str = "") -> None:
        """Ends the session with a FATAL error to the client."""
        if waiting := self._desk.asking.waiting:
            hint = f"Approval {waiting} stays open. Connect again, and send the statement again once it is approved."
        if not self._over.done():
            if not self._backend.in_a_message:
                detail = answers.ended(code, message, hint, self.gate.id)
                self._client.write(wire.error_response(code, message, severity="FATAL", detail=detail, hint=hint))
            self._over.set_result(message)

    async def cancel(self) -> None:
        """A CancelRequest with this session's key came."""
        if self._desk.asking.cancel():
            return
        try:
            await cancel(self.target, self._server.process, self._server.key)
        except UpstreamError as problem:
            log.warning("cancel failed", session=self.gate.id, problem=str(problem))

    def _part(self) -> str:
        """Why the session is over; and what a client must still be told."""
        if self._over.done():
            return self._over.result()
        if self._client.lost.done() or self._frontend.closed:
            return "the client left"
        if not (self._backend.fatal or self._backend.in_a_message):
            message = "The database server closed the connection unexpectedly."
            hint = "Connect again; whether the last statement ran is not known."
            detail = answers.ended("08006", message, hint, self.gate.id)
            self._client.write(wire.error_response("08006", message, severity="FATAL", detail=detail, hint=hint))
        return "the server closed the connection"

    def _end(self, reason: str) -> None:
        self._frontend.close()
        for leg in (self._client, self._server.leg):
            leg.abort()
        for entry in self._state.awaited:
            if entry.running is not None:
                self.ended(entry.running, "lost")
        self.count_bytes()
        self.gate.close(reason)

    # -- bytes

    def _from_client(self, data: bytes) -> None:
        if self._over.done():
            return
        self.active = _monotonic()
        inbox = self._frontend.inbox
        inbox.feed(data)
        if self._waiting is _READ:
            self._pump(None)
        elif len(inbox) > MAX_WAITING:
            self._inbox_paused = True
            self._client.pause("inbox")

    def _from_server(self, data: bytes) -> None:
        self.active = _monotonic()
        if self._over.done():
            return
        backend = self._backend
        backend.notices = self._desk.notices
        try:
            backend.feed(data)
        except ProtocolViolation as problem:
            self._send_to_client()
            self._break("08P01", f"The server broke the protocol: {problem}.", "Nothing more of its answer was sent.")
            return
        except FatalError as problem:
            self._send_to_client()
            self._break(problem.code, problem.message, problem.hint)
            return
        self._send_to_client()
        if backend.fatal:
            # The server closes after these words; a proxy in between may not.
            if not self._over.done():
                self._over.set_result("the server ended the session")
            return
        self._unrelieved += len(data)
        if self._unrelieved > RELIEF_EVERY:
            self._unrelieved = 0
            if self.gate.recorder.pressure and not self._relieving:
                self._relieving = True
                self._server.leg.pause("record")
                self._spawn(self._relieve())
        waiting = self._waiting
        if waiting is not None and waiting is not _READ and self._frontend.may_go_on(waiting):
            self._pump(None)

    async def _relieve(self) -> None:
        await self.gate.recorder.relieved()
        self._relieving = False
        self._server.leg.resume("record")

    def _hold(self, other: Leg, reason: str, writable: bool) -> None:
        if writable:
            other.resume(reason)
        else:
            other.pause(reason)

    def _send_to_client(self) -> None:
        parts = self._backend.to_client
        if not parts:
            return
        if len(parts) == 1:
            part = parts[0]
            self._to_client += len(part)
            self._client.write(part)
        else:
            for part in parts:
                self._to_client += len(part)
            self._client.write_all(parts)
        parts.clear()

    def _send_to_server(self) -> None:
        parts = self._frontend.to_server
        if not parts:
            return
        part = parts[0] if len(parts) == 1 else b"".join(parts)
        self._to_server += len(part)
        self._server.leg.write(part)
        parts.clear()

    def count_bytes(self) -> None:
        """Tells the counters what went through since the last time."""
        self.gate.transferred("to_client", self._to_client)
        self.gate.transferred("to_upstream", self._to_server)
        self._to_client = self._to_server = 0

    def _tell(self, message: bytes) -> None:
        """A word of the gateway's own, between two of the server's messages."""
        if not (self._over.done() or self._backend.in_a_message):
            self.gate.transferred("to_client", len(message))
            self._client.write(message)

    def _break(self, code: str, message: str, hint: str) -> None:
        log.warning("session broken", session=self.gate.id, reason=message)
        self.stop(code, message, hint)

    # -- the frontend's steps

    def _pump(self, outcome: Outcome) -> None:
        """Runs the frontend until it has to wait."""
        if self._over.done():
            return
        self._waiting = None
        try:
            effect = self._frontend.advance(outcome)
            while effect is not _READ:
                if effect is None:
                    self._send_to_server()
                    if not self._over.done():
                        self._over.set_result("the client left")
                    return
                if isinstance(effect, Wait):
                    if not self._frontend.may_go_on(effect):
                        break
                    outcome = None
                elif isinstance(effect, Refused):
                    outcome = self._desk.refuse(effect.text, effect.denial)
                elif isinstance(effect, Settings):
                    self._desk.settings(effect.values)
                    outcome = None
                else:
                    assert isinstance(effect, Ask)
                    break
                effect = self._frontend.advance(outcome)
        except ProtocolViolation as problem:
            self._break("08P01", f"The message was not understood: {problem}.", "The session was closed.")
            return
        except FatalError as problem:
            self._break(problem.code, problem.message, problem.hint)
            return
        if isinstance(effect, Wait):
            self._waiting = effect
            if effect is _READ:
                if self._inbox_paused:
                    self._inbox_paused = False
                    self._client.resume("inbox")
            elif effect is Wait.TURN:
                self._loop.call_soon(self._pump, None)
        else:
            self._wait_for(self._desk.waiting)
        self._send_to_server()
        if self._state.skipped:
            for running in self._state.skipped:
                self.ended(running, "skipped")
            self._state.skipped.clear()

    def _wait_for(self, awaitable: Awaitable[object]) -> None:
        if isinstance(awaitable, Pending):
            awaitable.then(self._durable)
        elif isinstance(awaitable, asyncio.Future):
            awaitable.add_done_callback(self._came)
        else:
            work = cast("Coroutine[object, object, object]", awaitable)
            self._spawn(self._await(work))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._tasks.create_task(work)
        self._children.add(task)
        task.add_done_callback(self._children.discard)

    async def _await(self, work: Coroutine[object, object, object]) -> None:
        value, error = None, None
        try:
            value = await work
        except _TROUBLES as problem:
            error = problem
        self._resume(value, error)

    def _durable(self, failure: str) -> None:
        self._resume(None, RecordError(failure) if failure else None)

    def _came(self, future: asyncio.Future[object]) -> None:
        if future.cancelled():
            return
        problem = future.exception()
        if problem is not None and not isinstance(problem, Exception):
            raise problem
        self._resume(None if problem is not None else future.result(), problem)

    def _resume(self, value: object, error: Exception | None) -> None:
        if self._over.done():
            return
        admission = self._desk.resume(value, error)
        if admission is None:
            self._wait_for(self._desk.waiting)
        else:
            self._pump(admission)

    # -- what the backend tells (Listener)

    def response(self, running: Running, data: bytes | memoryview) -> None:
        self.gate.response(running.verdict.number, data)

    def ended(self, running: Running, outcome: str) -> None:
        self._desk.ended(running, outcome)

    def parameter(self, name: str, value: str) -> None:
        self._desk.parameter(name, value)

    def defined(self) -> None:
        self._desk.reference.forget()
