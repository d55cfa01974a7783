# cython: annotation_typing=False
"""One client's connection: its requests one after the other, from their bytes to the end of their responses.

A request whose token is known, whose decision is kept and for which a connection to the API server is free goes
through without a task. Whatever must be waited for is waited for in one, and ends when the client goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ssl
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Final, cast

import structlog

from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.audit.intake import Pending
from ostiary_gateway.checkpoint import Gate
from ostiary_gateway.identity.proof import Identity, LoginRefused
from ostiary_policy.facts import ClientFacts

from . import answers, bearer, desk, request_detail
from .answers import refused
from .deadlines import overdue
from .desk import Desk
from .exchange import Exchange
from .questions import Admission, Ask, Reply
from .state import Turn
from .streams import open_tunnel
from .tunnelling import Tunnelling
from .wire import CONTINUE, Request, RequestHead, RequestReader, WireError

if TYPE_CHECKING:
    from .lobby import KubernetesLobby

log = structlog.get_logger(__name__)

MAX_QUEUED: Final = 16
"""Requests that may wait behind the one that is under way; then nothing more is read."""
MAX_EARLY: Final = 65_536  # bytes that may wait for an upgrade to be agreed to
PARTING: Final = 5.0
"""Seconds that a client gets to read the last words."""
LINGER: Final = 0.5
"""Seconds that a client gets to read why it is refused before all of its request came (as in Go's net/http)."""
CUT: Final = 2.0
"""Seconds that a stream gets to come to the end of a line."""

_monotonic, _time = time.monotonic, time.time


class Relay(asyncio.Protocol):
    """From the end of the TLS handshake to the close."""

    def __init__(self, lobby: KubernetesLobby, admitted: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.gate: Gate | None = None
        """The session; None before somebody has proven who it is."""
        self.active = self.opened = _monotonic()
        """When bytes last came from either side; when it began."""
        self.rows = self.bytes = self.written = 0
        """What the session has read and written (checkpoint.Tally)."""
        self.over: asyncio.Future[str] = loop.create_future()
        self._lobby = lobby
        self._admitted = admitted
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._reader = RequestReader(max_body=lobby.site.connection.spec.limits.max_request_bytes)
        self._queue: deque[Request] = deque()
        self.turn: Turn | None = None
        self._exchange = Exchange(lobby, self)
        self._desk: Desk | None = None
        self.identity: Identity | None = None
        self._shown: bytes = b""
        self._headers: object = None
        """The headers that `_identity` was proven by: those of a connection's requests are mostly the same object."""
        self._client: ClientFacts = ClientFacts(address="", application="")
        self.writable = True
        self._renew = False
        self._held = False
        self._leaving = ""
        """Why the session ends after what it is in the middle of; empty if it does not."""
        self._running = self._keeps_bodies = False
        self._unread = False
        """The client may still be sending what nobody will read."""
        self._gone = asyncio.Event()
        self._unfinished = 0.0
        """Since when a request comes that is not complete; 0.0 for none."""
        self._to_client = 0
        self._tasks: asyncio.TaskGroup
        self._tunnelling: Tunnelling | None = None
        self._children: set[asyncio.Task[None]] = set()

    # -- the session

    async def run(self) -> None:
        """Until the connection is over, however it ends."""
        reason = "the gateway stopped"
        try:
            async with asyncio.TaskGroup() as self._tasks:
                reason = await self.over
                self._drop()
                if self._transport is not None:
                    if self._unread:
                        # With bytes unread a close is a reset, and the client may never see what it was told.
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(self._gone.wait(), LINGER)
                    self._transport.close()
                    self._loop.call_later(PARTING, self._transport.abort)
        finally:
            self._drop()
            self.count_bytes()
            if self.gate is not None:
                self.gate.close(reason)

    @property
    def busy(self) -> bool:
        """True while a request is under way."""
        return self.turn is not None

    @property
    def idle(self) -> bool:
        """True if nothing is under way that cannot be ended at any time."""
        turn = self.turn
        return turn is None or (turn.streams and turn.begun)

    @property
    def tunnels(self) -> bool:
        """True while it is an upgraded connection."""
        return self._tunnelling is not None

    def overdue(self, now: float) -> bool:
        """Whether a request takes too long to come. Then the client is told, and the connection ends."""
        problem = overdue(self._reader, self._unfinished, now) if self.turn is None else None
        if problem is not None:
            self._misread(problem)
        return problem is not None

    def forget(self) -> None:
        """The next request has to prove again who asks."""
        self.identity, self._headers, self._shown = None, None, b""

    def renew(self) -> None:
        """The Connection is another by now: the next request begins another session."""
        self._renew = True
        self.forget()

    def leave(self, reason: str) -> None:
        """Ends as soon as nothing is under way that the client would miss. May be called again."""
        self._leaving = self._leaving or reason
        turn = self.turn
        if turn is None:
            if not self._queue:
                self._end(reason)
        elif not turn.begun:
            turn.close = True
        elif turn.streams:
            self._cut(turn)

    def stop(self, status: int, reason: str, message: str, hint: str = "") -> None:
        """Ends now, saying why as far as the response has not begun."""
        self._leaving = message
        turn = self.turn
        if turn is not None and not turn.begun:
            self._cancel()
            self._exchange.stop()
            self.reply(turn, refused(status, reason, message, hint, record=turn.record, close=True))
            return
        if self._tunnelling is not None and turn is not None:
            self._end_stream(turn, message)
            return
        if turn is not None and turn.streams and not turn.cutting:
            self._cut(turn)
            if not self.over.done():
                self._loop.call_later(CUT, self._end, message)
            return
        self._end(message)

    def recheck(self) -> None:
        """Other policies are in force: a stream that they would not let through ends."""
        turn, now = self.turn, self._desk
        if turn is None or now is None or turn.admission is None or turn.admission.ask is None:
            return
        if not turn.begun or not (turn.streams or turn.tunnel is not None):
            return
        if why := now.still(turn.admission.ask, turn.admission):
            self._end_stream(turn, why)

    def _end_stream(self, turn: Turn, why: str) -> None:
        if self._tunnelling is not None:
            self._tunnelling.end("gateway", f"{why} [{turn.record}]")
        else:
            self._cut(turn)

    def break_off(self, reason: str) -> None:
        """Ends the connection in the middle of a response, so that nobody takes it for whole."""
        self._end(reason)
        if self._transport is not None:
            self._transport.abort()

    def _end(self, reason: str) -> None:
        if not self.over.done():
            self.over.set_result(reason)

    def _drop(self) -> None:
        """Gives up what is under way."""
        self._cancel()
        self._exchange.stop()
        turn, self.turn = self.turn, None
        if turn is not None and turn.number and self.gate is not None:
            outcome = "ok" if turn.streams and turn.begun else "lost"
            self.gate.end(turn.number, outcome, request_detail.of_end(turn.status), 0, turn.size)

    def count_bytes(self) -> None:
        """Tells the counters what went through since the last time."""
        if self.gate is not None:
            self.gate.transferred("to_client", self._to_client)
            self.gate.transferred("to_upstream", self._exchange.sent)
            self._to_client = self._exchange.sent = 0

    # -- asyncio.Protocol: the client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple) and peer:
            self._client["address"] = str(peer[0])

    def data_received(self, data: bytes) -> None:
        self.active = _monotonic()
        if self.over.done():
            return
        if self._tunnelling is not None:
            self._tunnelling.from_client(data)
            return
        reader = self._reader
        try:
            came = reader.feed(data)
        except WireError as problem:
            if self.turn is None:
                self._misread(problem)
            return
        if came:
            self._queue.extend(came)
            self._unfinished = 0.0
        elif not self._unfinished:
            self._unfinished = self.active
        if self.turn is None:
            self._next()
        if not self._held and (len(self._queue) > MAX_QUEUED or reader.surplus > MAX_EARLY):
            self._held = True
            self.read(False)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        self._end("the client left")

    def pause_writing(self) -> None:
        self.writable = False
        self._exchange.hold()

    def resume_writing(self) -> None:
        self.writable = True
        self._exchange.release()
        if self.turn is None:
            self._next()

    def write(self, parts: list[bytes]) -> None:
        transport = self._transport
        if not parts or transport is None or transport.is_closing():
            return
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self._to_client += len(data)
        transport.write(data)

    # -- one request after the other

    def _next(self) -> None:
        """Begins what came, until something must be waited for."""
        if self._running:
            return
        self._running = True
        try:
            while self.turn is None and self.writable and not self.over.done():
                if self._queue:
                    self._begin(self._queue.popleft())
                elif self._leaving:
                    self._end(self._leaving)
                elif self._reader.problem is not None:
                    self._misread(self._reader.problem)
                else:
                    break
        finally:
            self._running = False
        if self.turn is None and not self._queue and not self.over.done():
            if self._held:
                self._held = False
                self.read(True)
            if self.identity is None and (head := self._reader.head) is not None:
                self._vouch(head)
            elif self._reader.wants_continue:
                self._reader.wants_continue = False
                self.write([CONTINUE])

    def _vouch(self, head: RequestHead) -> None:
        """A stranger's body is not waited for: who asks is found out by the head."""
        turn = self.turn = Turn(Request(head))
        if self._transport is not None:
            self._transport.pause_reading()
        self.wait(self._vouched(turn, bearer.shown_by(head)))

    async def _vouched(self, turn: Turn, shown: bytes) -> None:
        # Whoever is refused sends a body that nobody wants: nothing more is read.
        turn.close = self._unread = True
        proven = await self._prove(turn, shown)
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()
        if proven and self.turn is turn:
            self.turn, self._unread = None, False
            self._next()

    def _begin(self, request: Request) -> None:
        turn = self.turn = Turn(request)
        head = request.head
        if self._leaving:
            turn.close = True
        identity = self.identity
        if identity is not None:
            if identity.expires is not None and identity.expires <= _time():
                self.forget()
            elif head.headers is self._headers:
                self._decide(turn)
                return
        shown = bearer.shown_by(head)
        if self.identity is not None and shown == self._shown:
            self._headers = head.headers
            self._decide(turn)
            return
        self.wait(self._authenticate(turn, shown))

    async def _authenticate(self, turn: Turn, shown: bytes) -> None:
        if await self._prove(turn, shown):
            self._decide(turn)

    async def _prove(self, turn: Turn, shown: bytes) -> bool:
        """Who asks. A request that does not show it gets 401, whatever it is for, and this is False."""
        site = self._lobby.site
        if site.closed:
            self._lobby.counters.login_refused(site.name, "closed")
            self._refuse_login(turn, 503, "ServiceUnavailable", site.closed, site.closed, "Try again in a while.")
            return False

        async def ask() -> str:
            if not shown:
                raise LoginRefused(
                    "token", "no token", "The request shows no token",
                    f"Send Authorization: Bearer with {site.identities.expected}.",
                )  # fmt: skip
            return bearer.token_of(shown)

        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        certificate = cast("ssl.SSLObject", tls).getpeercert(binary_form=True) if tls is not None else None
        try:
            identity = await site.identities.authenticate(certificate, ask)
        except LoginRefused as problem:
            self.forget()
            self._lobby.counters.login_refused(site.name, problem.kind)
            status, reason = _LOGIN.get(problem.kind, (401, "Unauthorized"))
            self._refuse_login(turn, status, reason, problem.reason, problem.message, problem.hint)
            return False
        if not self._enter(turn, identity):
            return False
        self.identity, self._shown, self._headers = identity, shown, turn.request.head.headers
        return True

    def _refuse_login(self, turn: Turn, status: int, reason: str, recorded: str, message: str, hint: str) -> None:
        record = self._lobby.checkpoint.refuse_login(self._lobby.site.name, self._client, recorded)
        wait = answers.RETRY_AFTER if status != 401 else 0
        self.reply(turn, refused(status, reason, message, hint, record=record, retry_after=wait))

    def _enter(self, turn: Turn, identity: Identity) -> bool:
        """Opens a session for this subject, unless it has one here."""
        if self.gate is not None:
            same = self.gate.identity.subject == identity.subject
            if same and not self._renew:
                self.gate.identity = identity
                return True
            self.count_bytes()
            self.gate.close("the Connection has changed" if same else "the connection went over to another subject")
            self.gate, self._desk = None, None
        self._renew = False
        lobby = self._lobby
        if lobby.full:
            lobby.counters.login_refused(lobby.site.name, "limit")
            record = lobby.checkpoint.refuse_login(lobby.site.name, self._client, "too many sessions")
            self.reply(
                turn,
                refused(
                    429, "TooManyRequests", f"This Connection has {lobby.sessions} sessions already, the most that are "
                    "allowed.", "Close connections that are not needed, or raise spec.limits.maxSessions.",
                    record=record, retry_after=answers.RETRY_AFTER, close=True,
                ),
            )  # fmt: skip
            return False
        self._admitted()
        tls = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        detail: dict[str, object] = {
            "tls": cast("ssl.SSLObject", tls).version() if tls is not None else None,
            "authentication": {"method": identity.method, **dict(identity.shown)},
            "server": lobby.upstream.host.decode(),
        }
        agent = turn.request.head.get(b"user-agent") or b""
        self._client["application"] = agent[:256].decode("latin-1")
        self._keeps_bodies = lobby.site.connection.spec.recording == "Full"
        self.gate = lobby.checkpoint.open(lobby.site.connection, identity, self._client, self, detail)
        self._desk = Desk(self.gate, lobby.upstream, self._client)
        return True

    # -- an upgraded connection

    def tunnelled(self, turn: Turn, tunnelling: Tunnelling) -> None:
        """The API server has agreed."""
        self._tunnelling = tunnelling
        if not self.writable:
            tunnelling.hold()
        if self._held:
            self._held = False
            self.read(True)
        if rest := self._reader.take_rest():
            tunnelling.from_client(rest)

    def read(self, more: bool) -> None:
        """Whether more is to be read from the client."""
        if self._transport is not None and not self._transport.is_closing():
            if more:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def tunnel_ended(self, reason: str) -> None:
        """There is nothing more to say to either side."""
        turn, tunnelling = self.turn, self._tunnelling
        self.turn = None
        if turn is not None and tunnelling is not None and self.gate is not None:
            detail = {"status": turn.status, **tunnelling.tunnel.end_detail()}
            outcome = str(detail.pop("outcome", "lost"))
            self.bytes += tunnelling.tunnel.size
            self.gate.end(turn.number, outcome, request_detail.encoded(detail), 0, tunnelling.tunnel.size)
        self._end(reason)

    # -- deciding

    def _decide(self, turn: Turn) -> None:
        now = self._desk
        assert now is not None
        now.upstream = self._lobby.upstream
        admission = now.admit(turn.request)
        if admission is None:
            self.wait(self._consider(turn, now))
        else:
            self.go_on(turn, admission)

    async def _consider(self, turn: Turn, now: Desk) -> None:
        self.go_on(turn, await now.consider(now.asked))

    def go_on(self, turn: Turn, admission: Admission) -> None:
        """It was decided."""
        turn.admission = admission
        turn.number = admission.verdict.number
        if admission.forward is None:
            assert admission.reply is not None
            self.reply(turn, admission.reply)
            return
        waiter = admission.waiter
        if waiter is None:
            self._send(turn)
        elif isinstance(waiter, Pending):
            waiter.then(functools.partial(self._durable, turn))
        else:
            self.wait(self._made_durable(turn, waiter))

    def _durable(self, turn: Turn, failure: str) -> None:
        if self.turn is not turn:
            return
        if failure:
            self.reply(turn, desk.unrecorded(RecordError(failure)))
        else:
            self._send(turn)

    def _send(self, turn: Turn) -> None:
        ask = turn.admission.ask if turn.admission is not None else None
        if ask is not None:
            turn.full = self._keeps_bodies
            turn.streams = ask.info.streams
            if turn.request.head.upgrade and not self._open_tunnel(turn, ask):
                return
        self._exchange.forward(turn)

    def _open_tunnel(self, turn: Turn, ask: Ask) -> bool:
        """False if it cannot be one; then the client was told."""
        assert turn.admission is not None
        number, gate = turn.number, self.gate
        assert gate is not None
        record = functools.partial(gate.response, number) if turn.full else None
        try:
            turn.tunnel = open_tunnel(ask, turn.admission.verdict.decision.masks, record, now=_monotonic)
        except WireError as problem:
            self.reply(turn, refused(problem.status, problem.reason, problem.message, record=turn.record))
            return False
        return True

    async def _made_durable(self, turn: Turn, waiter: Awaitable[None]) -> None:
        try:
            await waiter
        except RecordError as problem:
            self._durable(turn, str(problem))
        else:
            self._durable(turn, "")

    # -- the end of a response

    def reply(self, turn: Turn, reply: Reply) -> None:
        """The gateway's own answer."""
        if self.turn is not turn or self.over.done():
            return
        if reply.close:
            turn.close = True
        parts = answers.encoded(reply, turn.record, close=turn.close)
        if turn.request.head.method == "HEAD":
            del parts[1:]
        turn.status = reply.status
        turn.begun = True
        admission = turn.admission
        if turn.number and admission is not None and admission.forward is not None and self.gate is not None:
            self.gate.end(turn.number, "error", request_detail.of_end(reply.status), 0, 0)
        turn.number = 0
        self.end_turn(turn, parts)

    def end_turn(self, turn: Turn, parts: list[bytes]) -> None:
        gate = self.gate
        if turn.number and gate is not None:
            if turn.recorded:
                self._exchange.take_record(turn)
            status = turn.status
            self.bytes += turn.size
            if status < 400:
                gate.end(turn.number, "ok", request_detail.of_end(status), 0, turn.size)
            else:
                gate.end(turn.number, "error", request_detail.of_end(status, *turn.error()), 0, turn.size)
        self.turn = None
        self.write(parts)
        if turn.close:
            self._end(self._leaving or "the connection was to end")
        else:
            self._next()

    def _cut(self, turn: Turn) -> None:
        if turn.cut():
            self._cut_now(turn)

    def _cut_now(self, turn: Turn) -> None:
        """Ends a stream between two lines: the client will ask again."""
        self._exchange.stop()
        if self._leaving:
            turn.close = True
        self.end_turn(turn, [turn.last()])

    def _misread(self, problem: WireError) -> None:
        """What came is no request, or could be read in two ways: an answer, and then nothing more."""
        self._lobby.counters.login_refused(self._lobby.site.name, "protocol")
        self._unread = True
        record = ""
        if self.gate is not None:
            record = self.gate.refuse("(no request)", str(problem.status), problem.message).request
        message = f"{problem.message[:1].upper()}{problem.message[1:]}."
        self.write(answers.encoded(refused(problem.status, problem.reason, message, record=record), record, close=True))
        self._end("the protocol was not kept")

    # -- waiting

    def wait(self, work: Coroutine[object, object, None]) -> None:
        """Does it in a task, which ends with the client at the latest."""
        child = self._tasks.create_task(work)
        self._children.add(child)
        child.add_done_callback(self._children.discard)

    def _cancel(self) -> None:
        for child in list(self._children):
            child.cancel()


_LOGIN: Final = {"issuer": (503, "ServiceUnavailable"), "review": (503, "ServiceUnavailable")}
"""Status and reason by what was wrong; 401 otherwise."""
