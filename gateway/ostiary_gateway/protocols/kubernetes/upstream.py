# cython: annotation_typing=False
"""The way to one API server: connections that are kept for the next request, and questions of the gateway's own."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from typing import Final, Protocol, cast

import structlog

from ostiary_gateway.credentials.kubernetes import UpstreamLogin
from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.identity.proof import Identity

from .dry_runs import DryRuns
from .forwarding import request_bytes
from .questions import Header, Question, QuestionFailed, UpstreamAnswer
from .wire import End, ResponseEvent, ResponseHead, ResponseReader, Upgraded, WireError

log = structlog.get_logger(__name__)

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP and TLS together."""
QUESTION_TIMEOUT: Final = 40.0
"""Seconds for one question: an admission webhook may take 30."""
MAX_IDLE: Final = 64
"""Connections that are kept without a request."""
IDLE: Final = 60.0
"""Seconds that one is kept so: less than the 90 after which an API server closes it."""

_monotonic = time.monotonic


class UpstreamError(Exception):
    """The API server cannot be reached, or breaks off. The message names no secret."""


class Taker(Protocol):
    """Who a response is for. Called on the event loop."""

    def answered(self, items: list[ResponseEvent]) -> None:
        """More of the response, in order. After End the connection belongs to somebody else."""

    def lost(self, problem: str) -> None:
        """The connection is gone; no End comes."""

    def tunnelled(self, data: bytes) -> None:
        """Bytes after an upgrade."""

    def server_writable(self, writable: bool) -> None:
        """Whether the server takes more."""


class ServerConnection(asyncio.Protocol):
    """One connection to the API server, for one request at a time."""

    def __init__(self, upstream: Upstream, context: ssl.SSLContext | None) -> None:
        self.context = context
        self.used = 0
        """Requests so far."""
        self.since = 0.0
        """Since when it has none (monotonic)."""
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._reader: ResponseReader | None = None
        self._taker: Taker | None = None
        self._raw = self._paused = False

    # -- asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        taker, reader = self._taker, self._reader
        if taker is None or reader is None:
            self.abort()  # nobody asked
            return
        if self._raw:
            taker.tunnelled(data)
            return
        try:
            items = reader.feed(data)
        except WireError as problem:
            self._break(problem.message)
            return
        self._deliver(taker, items)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._upstream.gone(self)
        taker, reader = self._taker, self._reader
        if taker is None or reader is None:
            return
        if not self._raw and exc is None:
            try:
                items = reader.eof()
            except WireError as problem:
                self._taker = None
                taker.lost(problem.message)
                return
            self._deliver(taker, items)
            return
        self._taker = None
        taker.lost("the API server closed the connection" if exc is None else f"the API server is gone: {exc}")

    def pause_writing(self) -> None:
        if self._taker is not None:
            self._taker.server_writable(False)

    def resume_writing(self) -> None:
        if self._taker is not None:
            self._taker.server_writable(True)

    # -- for who uses it

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def send(self, method: str, data: bytes, taker: Taker, *, upgrade: bool = False) -> None:
        """A request, whole. Its response goes to `taker`."""
        reader = self._reader
        if reader is None:
            self._reader = ResponseReader(method, upgrade=upgrade)
        else:
            reader.begin(method, upgrade=upgrade)
        self._taker = taker
        self.used += 1
        assert self._transport is not None
        self._transport.write(data)

    def write(self, data: bytes) -> None:
        """Bytes after an upgrade."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def write_all(self, parts: Sequence[bytes]) -> None:
        """Bytes after an upgrade."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.writelines(parts)

    def pause(self) -> None:
        """Stops reading: who takes the response is slow."""
        if not self._paused and self._transport is not None and not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            if self._transport is not None and not self._transport.is_closing():
                self._transport.resume_reading()

    def abort(self) -> None:
        """Gives up the request, if there is one, and the connection: the server stops what it does for it."""
        self._taker = None
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """After what is still to be sent."""
        if self._transport is not None:
            self._transport.close()

    # --

    def _deliver(self, taker: Taker, items: list[ResponseEvent]) -> None:
        if not items:
            return
        last = items[-1]
        if isinstance(last, End):
            # Given back first: who takes the response may send the next request at once.
            self._taker = None
            self.resume()
            if self._reader is not None and self._reader.reusable:
                self._upstream.give_back(self)
            else:
                self.close()
        elif isinstance(last, Upgraded):
            self._raw = True
        taker.answered(items)

    def _break(self, problem: str) -> None:
        taker = self._taker
        self.abort()
        if taker is not None:
            taker.lost(problem)


class Upstream:
    """The API server of a Connection, and the gateway's credential there. Made anew when either changes."""

    def __init__(self, login: UpstreamLogin) -> None:
        self.login = login
        self.retired = False
        self.dry_runs = DryRuns()
        self.host = _host_header(login.host, login.port, tls=True)
        self._idle: list[ServerConnection] = []
        self._open: set[ServerConnection] = set()

    def take(self) -> ServerConnection | None:
        """A connection that is free; None if there is none."""
        idle = self._idle
        while idle:
            found = idle.pop()
            if found.usable:
                return found
        return None

    async def connect(self) -> ServerConnection:
        """A new connection. Raises UpstreamError."""
        login = self.login
        try:
            context = login.context()
        except CredentialError as problem:
            raise UpstreamError(str(problem)) from None
        where = f"{login.host}:{login.port}"
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                made = ServerConnection(self, context)
                await asyncio.get_running_loop().create_connection(
                    lambda: made, login.host, login.port, ssl=context,
                    server_hostname=login.server_name,
                )  # fmt: skip
        except TimeoutError:
            raise UpstreamError(f"no answer from {where} within {CONNECT_TIMEOUT:.0f} s") from None
        except ssl.SSLCertVerificationError as problem:
            text = problem.verify_message.rstrip(".")
            raise UpstreamError(f"the certificate of {where} is not accepted: {text}") from None
        except OSError as problem:
            raise UpstreamError(f"cannot connect to {where}: {str(problem) or type(problem).__name__}") from None
        self._open.add(made)
        return made

    def give_back(self, connection: ServerConnection) -> None:
        """Its response has ended, and the next request may use it."""
        if self.retired or len(self._idle) >= MAX_IDLE:
            connection.close()
            return
        connection.since = _monotonic()
        self._idle.append(connection)

    def gone(self, connection: ServerConnection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self) -> None:
        """Closes what was not used for long, and what was made with certificates that are not trusted any more."""
        try:
            context = self.login.context()
        except CredentialError:
            context = None
        limit = _monotonic() - IDLE
        for connection in list(self._idle):
            if connection.since < limit or connection.context is not context:
                self._idle.remove(connection)
                connection.close()

    def retire(self) -> None:
        """Another takes its place: connections are closed as their requests end."""
        self.retired = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()

    @property
    def gone_by(self) -> bool:
        """It was replaced, and nothing is under way there any more."""
        return self.retired and not self._open

    async def close(self) -> None:
        """Lets go of everything at once."""
        self.retire()
        for connection in list(self._open):
            connection.abort()
        await self.login.close()

    # -- questions of the gateway's own

    async def ask(self, identity: Identity, questions: tuple[Question, ...]) -> tuple[UpstreamAnswer, ...]:
        """Asks all at one time, with the credential that the identity's requests get. Raises QuestionFailed."""
        if len(questions) == 1:
            return (await self._ask(identity, questions[0]),)
        try:
            async with asyncio.TaskGroup() as tasks:
                asked = [tasks.create_task(self._ask(identity, each)) for each in questions]
        except* QuestionFailed as group:
            problem: BaseException = group.exceptions[0]
            raise QuestionFailed(str(problem)) from None
        return tuple(each.result() for each in asked)

    async def _ask(self, identity: Identity, question: Question) -> UpstreamAnswer:
        try:
            async with asyncio.timeout(QUESTION_TIMEOUT):
                found = await self._ask_once(identity, question)
                if found.status == 401 and self.login.refused(identity):
                    found = await self._ask_once(identity, question)
        except TimeoutError:
            raise QuestionFailed(f"no answer within {QUESTION_TIMEOUT:.0f} s") from None
        except (UpstreamError, CredentialError) as problem:
            raise QuestionFailed(str(problem)) from None
        if found.status == 401:
            raise QuestionFailed("the API server does not take the gateway's credential")
        return found

    async def _ask_once(self, identity: Identity, question: Question) -> UpstreamAnswer:
        credentials = await self.credentials(identity)
        data = request_bytes(question.method, question.target, question.headers, question.body, self.host, credentials)
        if (kept := self.take()) is not None:
            try:
                return await self._put(kept, question, data)
            except _Stale:
                pass  # it was closed while nobody used it
        try:
            return await self._put(await self.connect(), question, data)
        except _Stale:
            raise UpstreamError("the API server closed the connection") from None

    async def _put(self, connection: ServerConnection, question: Question, data: bytes) -> UpstreamAnswer:
        """Raises _Stale if the connection ends before an answer begins."""
        taker = _Collector(connection, question.limit)
        connection.send(question.method, data, taker)
        try:
            return await taker.answer
        finally:
            if taker.answer.cancelled():
                connection.abort()

    async def credentials(self, identity: Identity) -> list[Header]:
        """What proves to the API server who asks. Raises CredentialError."""
        ready = self.login.ready(identity)
        return ready if ready is not None else await self.login.headers(identity)


class _Stale(Exception):
    """The connection went before anything of an answer came."""


class _Collector:
    """Takes one whole answer."""

    def __init__(self, connection: ServerConnection, limit: int) -> None:
        self.answer: asyncio.Future[UpstreamAnswer] = asyncio.get_running_loop().create_future()
        self._connection = connection
        self._limit = limit
        self._head: ResponseHead | None = None
        self._parts: list[bytes] = []
        self._size = 0

    def answered(self, items: list[ResponseEvent]) -> None:
        for item in items:
            if isinstance(item, ResponseHead):
                self._head = item
            elif isinstance(item, End):
                assert self._head is not None
                head = self._head
                content_type = next((value for name, value in head.headers if name == b"content-type"), b"")
                found = UpstreamAnswer(head.status, content_type, b"".join(self._parts), tuple(head.headers))
                if not self.answer.done():
                    self.answer.set_result(found)
            elif isinstance(item, Upgraded):
                self._fail(UpstreamError("the API server changed the protocol unasked"))
                return
            else:
                self._parts.append(item)
                self._size += len(item)
                if self._size > self._limit:
                    self._fail(UpstreamError(f"the answer is larger than {self._limit} bytes"))
                    return

    def lost(self, problem: str) -> None:
        if not self.answer.done():
            self.answer.set_exception(_Stale() if self._head is None else UpstreamError(problem))

    def tunnelled(self, data: bytes) -> None:
        raise AssertionError("no question is an upgrade")

    def server_writable(self, writable: bool) -> None:
        pass

    def _fail(self, problem: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(problem)
        self._connection.abort()


def _host_header(host: str, port: int, *, tls: bool) -> bytes:
    shown = f"[{host}]" if ":" in host else host
    return (shown if port == (443 if tls else 80) else f"{shown}:{port}").encode()
