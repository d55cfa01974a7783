# cython: annotation_typing=False
"""One request's way to the API server and back: credential, connection, a second try where it is safe, response."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ostiary_gateway.checkpoint import Gate
from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.identity.proof import Identity
from ostiary_policy.answer import Reason

from . import answers, request_detail
from .answers import refused
from .forwarding import finished, request_start, upgrade_start
from .questions import Admission, Header, Reply, Unmaskable
from .state import Turn
from .streams import Tunnel
from .tunnelling import Tunnelling
from .upstream import ServerConnection, UpstreamError
from .wire import End, ResponseEvent, ResponseHead, Upgraded, WireError, encode_response_head

if TYPE_CHECKING:
    from .lobby import KubernetesLobby

log = structlog.get_logger(__name__)

RELIEF_EVERY: Final = 65_536
"""Bytes of the server after which the record is asked whether it keeps up."""
MAX_SETTLED: Final = 1 << 20
"""Bytes of a conflict's body that are looked at before the client gets it."""
MAX_TRIES: Final = 6
"""How often one request is sent, decided anew because its objects have changed meanwhile."""

_SAFE: Final = ("GET", "HEAD", "OPTIONS")
_monotonic = time.monotonic


class Client(Protocol):
    """The side that the response is for."""

    active: float
    """When bytes last came (monotonic)."""

    @property
    def turn(self) -> Turn | None:
        """What is under way."""

    @property
    def gate(self) -> Gate | None: ...

    @property
    def identity(self) -> Identity | None: ...

    @property
    def writable(self) -> bool: ...

    def write(self, parts: list[bytes]) -> None: ...

    def go_on(self, turn: Turn, admission: Admission) -> None:
        """It was decided anew."""

    def reply(self, turn: Turn, reply: Reply) -> None:
        """The gateway's own answer ends the turn."""

    def end_turn(self, turn: Turn, parts: list[bytes]) -> None:
        """The response has ended, with these bytes."""

    def break_off(self, reason: str) -> None:
        """Ends the connection in the middle of a response, so that nobody takes it for whole."""

    def wait(self, work: Coroutine[object, object, None]) -> None:
        """Does it in a task, which ends with the client at the latest."""

    def tunnelled(self, turn: Turn, tunnelling: Tunnelling) -> None:
        """The API server has agreed to an upgrade: from now on the client's bytes are for that."""

    def read(self, more: bool) -> None:
        """Whether more is to be read from the client."""

    def tunnel_ended(self, reason: str) -> None:
        """There is nothing more to say to either side."""


class Exchange:
    """A client's at the API server: one request at a time."""

    def __init__(self, lobby: KubernetesLobby, client: Client) -> None:
        self.sent = 0
        """Bytes that went to the server and were not counted."""
        self._lobby = lobby
        self._client = client
        self._server: ServerConnection | None = None
        self._kept_back: tuple[ResponseHead, list[bytes]] | None = None
        """A response that is looked at whole before the client gets it."""
        self._unsent: list[bytes] = []
        """The head of one that a mask must have whole: if it cannot be masked, the client still gets an error."""
        self._begun = False
        """Something of the response is on its way to the client."""
        self._relieving = False
        self._unrelieved = 0
        self._tunnelling: Tunnelling | None = None

    def forward(self, turn: Turn) -> None:
        """Sends what was admitted: at once, if a connection is free and the credential is there."""
        identity = self._client.identity
        assert identity is not None
        self._begun = False
        upstream = self._lobby.upstream
        try:
            credentials = upstream.login.ready(identity)
        except CredentialError as problem:
            self._away(turn, str(problem))
            return
        if credentials is not None and (server := upstream.take()) is not None:
            self._send(turn, server, credentials)
        else:
            self._client.wait(self._reach(turn, identity))

    def stop(self) -> None:
        """Gives up what is under way: the server stops what it does for it."""
        server, self._server = self._server, None
        self._kept_back = None
        self._unsent = []
        if self._tunnelling is not None:
            self._tunnelling.end("client", "the client left")
        elif server is not None:
            server.abort()

    def hold(self) -> None:
        """The client is slow."""
        if self._server is not None:
            self._server.pause()

    def release(self) -> None:
        """The client takes more."""
        if self._server is not None and not self._relieving:
            self._server.resume()

    async def _reach(self, turn: Turn, identity: Identity) -> None:
        """Gets a credential, a connection, or both."""
        upstream = self._lobby.upstream
        try:
            credentials = await upstream.credentials(identity)
            server = upstream.take() if turn.tries == 0 else None
            server = server or await upstream.connect()
        except (UpstreamError, CredentialError) as problem:
            self._away(turn, str(problem))
        else:
            self._send(turn, server, credentials)

    def _send(self, turn: Turn, server: ServerConnection, credentials: list[Header]) -> None:
        admission = turn.admission
        assert admission is not None
        assert admission.forward is not None
        request = admission.forward
        head = request.head
        start = admission.start or request_start(head.method, head.target, head.headers, self._lobby.upstream.host)
        if turn.tunnel is not None:
            start = upgrade_start(head, turn.tunnel.request_headers, self._lobby.upstream.host)
        data = finished(head.method, start, credentials, request.body, upgrade=turn.tunnel is not None)
        turn.tries += 1
        self._server = server
        self.sent += len(data)
        server.send(head.method, data, self, upgrade=turn.tunnel is not None)

    # -- Taker

    def answered(self, items: list[ResponseEvent]) -> None:
        client = self._client
        turn = client.turn
        client.active = _monotonic()
        if turn is None:
            return
        parts, self._unsent = self._unsent, []
        for item in items:
            if isinstance(item, bytes):
                if not self._body(turn, item, parts):
                    return
            elif isinstance(item, ResponseHead):
                if not self._head(turn, item, parts):
                    return
            elif isinstance(item, End):
                self._server = None
                self._ended(turn, parts)
                return
            else:
                assert isinstance(item, Upgraded)
                self._upgraded(turn, item.rest)
                return
        if turn.waits:
            self._unsent = parts
            return
        self._begun = True
        client.write(parts)
        if turn.cutting and turn.over:
            self.stop()
            client.end_turn(turn, [turn.last()])

    def lost(self, problem: str) -> None:
        turn, server = self._client.turn, self._server
        self._server = self._kept_back = None
        self._unsent = []
        if self._tunnelling is not None:
            self._tunnelling.end("server", problem)
            return
        if turn is None:
            return
        if turn.begun:
            log.warning("response broken off", connection=self._lobby.site.name, problem=problem)
            self._client.break_off(problem)
            return
        stale = server is not None and server.used > 1
        identity = self._client.identity
        if stale and turn.tries == 1 and turn.request.head.method in _SAFE and identity is not None:
            self._client.wait(self._reach(turn, identity))
            return
        self._broken(turn, problem)

    def tunnelled(self, data: bytes) -> None:
        self._client.active = _monotonic()
        if self._tunnelling is not None:
            self._tunnelling.from_server(data)

    def server_writable(self, writable: bool) -> None:
        """Requests are sent whole: only what goes through a tunnel has to wait."""
        if self._tunnelling is not None:
            self._tunnelling.server_writable(writable)

    def _upgraded(self, turn: Turn, rest: bytes) -> None:
        """What `_head` has let through is a tunnel from here on."""
        server = self._server
        assert server is not None
        assert turn.tunnel is not None
        self._tunnelling = Tunnelling(turn.tunnel, server, self._client)
        self._client.tunnelled(turn, self._tunnelling)
        if rest:
            self._tunnelling.from_server(rest)

    def _head(self, turn: Turn, head: ResponseHead, parts: list[bytes]) -> bool:
        """False if the response goes no further."""
        admission = turn.admission
        assert admission is not None
        if head.status == 401:
            self.stop()
            self._unauthorized(turn)
            return False
        if head.status == 101 and turn.tunnel is not None:
            return self._agree(turn, turn.tunnel, head)
        if admission.settle is not None and head.status in (409, 422):
            self._kept_back = head, []
            return True
        return self._show(turn, head, parts)

    def _agree(self, turn: Turn, tunnel: Tunnel, head: ResponseHead) -> bool:
        try:
            headers = tunnel.accepted(head)
        except WireError as problem:
            self._broken(turn, problem.message)
            return False
        headers = [*headers, (answers.REQUEST_HEADER, turn.record.encode())]
        turn.begun, turn.status = True, 101
        self._client.write([encode_response_head(101, b"Switching Protocols", headers, length=None, close=False)])
        return True

    def _show(self, turn: Turn, head: ResponseHead, parts: list[bytes]) -> bool:
        admission = turn.admission
        assert admission is not None
        record = admission.verdict.request.encode()
        try:
            parts.append(turn.head(head, record, admission.shapers, admission.headers, admission.recorder))
        except Unmaskable as problem:
            self._unmaskable(turn, str(problem))
            return False
        return True

    def _body(self, turn: Turn, data: bytes, parts: list[bytes]) -> bool:
        if self._kept_back is not None:
            kept = self._kept_back[1]
            kept.append(data)
            return sum(map(len, kept)) <= MAX_SETTLED or self._pass_on(turn, parts)
        try:
            parts += turn.body(data)
        except Unmaskable as problem:
            self._unmaskable(turn, str(problem))
            return False
        if turn.recorded:
            self.take_record(turn)
        self._unrelieved += len(data)
        if self._unrelieved > RELIEF_EVERY:
            self._unrelieved = 0
            self._relieve_if_needed()
        return True

    def _ended(self, turn: Turn, parts: list[bytes]) -> None:
        if self._kept_back is not None:
            self._client.wait(self._settle(turn, *self._kept_back))
            self._kept_back = None
            return
        try:
            parts += turn.end()
        except Unmaskable as problem:
            self._unmaskable(turn, str(problem))
            return
        self._client.end_turn(turn, parts)

    def _pass_on(self, turn: Turn, parts: list[bytes]) -> bool:
        """The response that was kept back goes to the client after all."""
        assert self._kept_back is not None
        head, kept = self._kept_back
        self._kept_back = None
        return self._show(turn, head, parts) and all(self._body(turn, data, parts) for data in kept)

    async def _settle(self, turn: Turn, head: ResponseHead, kept: list[bytes]) -> None:
        """A conflict that may be the gateway's own: decided anew, or passed on."""
        admission = turn.admission
        assert admission is not None
        again: Admission | None = None
        if admission.settle is not None and turn.tries < MAX_TRIES:
            again = await admission.settle(head.status, b"".join(kept))
        if again is not None:
            if (gate := self._client.gate) is not None:
                gate.end(turn.number, "skipped", request_detail.of_end(head.status), 0, 0)
            self._client.go_on(turn, again)
            return
        parts: list[bytes] = []
        if self._show(turn, head, parts) and all(self._body(turn, data, parts) for data in kept):
            self._ended(turn, parts)

    def take_record(self, turn: Turn) -> None:
        """What the client has seen goes into the record."""
        if (gate := self._client.gate) is not None:
            for piece in turn.recorded:
                gate.response(turn.number, piece)
        turn.recorded.clear()

    def _relieve_if_needed(self) -> None:
        gate, server = self._client.gate, self._server
        if gate is None or server is None or self._relieving or not gate.recorder.pressure:
            return
        self._relieving = True
        server.pause()
        self._client.wait(self._relieve(gate))

    async def _relieve(self, gate: Gate) -> None:
        try:
            await gate.recorder.relieved()
        finally:
            self._relieving = False
        if self._server is not None and self._client.writable:
            self._server.resume()

    # -- no response that could be passed on

    def _away(self, turn: Turn, problem: str) -> None:
        """The API server cannot be asked: nothing was done."""
        site = self._lobby.site
        self._lobby.counters.upstream_error(site.name, "connect")
        record = turn.record
        log.error("target not available", connection=site.name, problem=problem, record=record)
        # Without Retry-After: with it kubectl would ask ten times, each discovery anew, and say nothing for minutes.
        self._client.reply(
            turn,
            refused(
                503, "ServiceUnavailable", f"The API server of {site.connection.metadata.name} cannot be asked now.",
                "Try again later; the gateway's log says under this id what is wrong.", record=record,
            ),
        )  # fmt: skip

    def _unauthorized(self, turn: Turn) -> None:
        """The gateway's credential is refused: not the agent's, which a 401 would say."""
        identity = self._client.identity
        if turn.tries == 1 and identity is not None and self._lobby.upstream.login.refused(identity):
            self._client.wait(self._reach(turn, identity))
        else:
            self._away(turn, "the API server does not take the gateway's credential")

    def _broken(self, turn: Turn, problem: str) -> None:
        self.stop()
        log.warning("no response", connection=self._lobby.site.name, problem=problem, record=turn.record)
        reply = refused(
            502, "InternalError", f"The API server gave no response that can be passed on: {problem}.",
            "Whether it did what was asked is not known: look before you send it again.", record=turn.record,
            means=Reason.TARGET,
        )  # fmt: skip
        self._client.reply(turn, reply)

    def _unmaskable(self, turn: Turn, problem: str) -> None:
        self.stop()
        log.warning("response withheld", connection=self._lobby.site.name, problem=problem, record=turn.record)
        if self._begun:
            self._client.break_off(problem)
            return
        reply = refused(
            502, "InternalError", f"The response cannot be masked as the policies want, and is withheld: {problem}",
            "What was asked for may have been done.", record=turn.record, means=Reason.MASKING,
        )  # fmt: skip
        self._client.reply(turn, reply)
