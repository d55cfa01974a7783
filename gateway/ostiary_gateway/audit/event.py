"""The events of the record, and the interface that every store of them keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ostiary_policy.decision import Decision


@dataclass(frozen=True, slots=True)
class SessionOpened:
    """A client has logged in. `at` is seconds since the epoch, as everywhere in the record."""

    session: str
    at: float
    connection: str
    """`namespace/name`."""
    protocol: str
    subject: Mapping[str, object]
    """SubjectFacts."""
    client: Mapping[str, object]
    """ClientFacts."""
    detail: Mapping[str, object]
    """Of the protocol: database, requested user, TLS version …"""
    recording: str
    """None, Metadata or Full."""
    max_recorded: int | None = None
    """Bytes kept of one response; None: as the recorder has it."""


@dataclass(frozen=True, slots=True)
class RequestBegun:
    """A request was decided, and if it was allowed it is about to run."""

    request: str
    session: str
    at: float
    text: str
    """What was asked, as a person reads it (the SQL)."""
    detail: Mapping[str, object]
    """Of the protocol: parameters, prepared statement's name, facts in short."""
    decision: Decision


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request has ended. `outcome` is ok, error, denied, cancelled or lost (the connection went)."""

    request: str
    session: str
    at: float
    outcome: str
    detail: Mapping[str, object]
    """Command tag, SQLSTATE, message … `columns` (`[{name, type, format}]`) where the response has rows and does not
    describe them itself."""
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """The session is over. `reason` is for people."""

    session: str
    at: float
    reason: str
    requests: int


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """A client was not let in. It has no session; the record keeps it under its own id."""

    id: str
    at: float
    connection: str
    client: Mapping[str, object]
    reason: str


class Recorder(Protocol):
    """Where events go. Called on the event loop; never blocks it.

    `begin` returns None if nothing must be waited for, or an awaitable that ends when the event is durable; it
    raises `RecordError` when it cannot be (disk full, store away). `pressure` is True when the caller should stop
    reading from the target until `relieved()` has ended: responses come faster than they can be written.
    """

    def session_opened(self, event: SessionOpened) -> None: ...

    def begin(self, event: RequestBegun, *, durable: bool) -> Awaitable[None] | None: ...

    def response(self, session: str, request: str, data: bytes | bytearray | memoryview) -> None:
        """More of the response, in the protocol's own framing, as the client saw it. Copied or consumed at once.

        It may also come after the request's end (the error of a denial), or belong to no request (a notification, with
        an empty id): it is kept with the id given. Cheapest is: all of the response, then `end`.
        """

    def end(self, event: RequestEnded) -> None: ...

    def session_closed(self, event: SessionClosed) -> None: ...

    def login_refused(self, event: LoginRefused) -> None: ...

    @property
    def pressure(self) -> bool: ...

    async def relieved(self) -> None: ...

    async def close(self) -> None:
        """Everything accepted so far is durable when this returns."""


class RecordError(Exception):
    """The record cannot be written; where it must be, the request may not run."""
