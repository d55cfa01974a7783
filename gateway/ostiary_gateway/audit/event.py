"""The events of the record, and the interface that every store of them keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
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
    retention: Mapping[str, float] = field(default_factory=dict)
    """Of its Connection: seconds that its `record` and its `responses` are to be kept; what is missing is up to the
    store."""


@dataclass(frozen=True, slots=True)
class LoginRefused:
    """A client was not let in. It has no session; the record keeps it under its own id."""

    id: str
    at: float
    connection: str
    client: Mapping[str, object]
    reason: str


@dataclass(frozen=True, slots=True)
class ApprovalStep:
    """Something became of a question to a person. It belongs to the gateway's own session: a question outlives the
    session that asked."""

    at: float
    name: str
    """`namespace/name` of the ApprovalRequest."""
    step: str
    """Asked, Answered, Approved, Denied, Expired or Consumed."""
    connection: str
    hash: str
    requester: str
    session: str
    """That asked."""
    by: str
    """Who asked, answered, or the session that used the grant."""
    verdict: str
    reason: str
    acting: str
    """In what capacity somebody answered."""


class SessionRecord(Protocol):
    """The record of one open session. Called on the event loop, once or more for every request; never blocks it.

    Requests are numbered from 1 within their session; `request_id` makes the id that people see of it. Cheapest is: all
    of a response, then `end`. `detail` is a JSON object, as a mapping or as bytes that were encoded before.
    """

    def begin(
        self, number: int, at: float, text: str, detail: Mapping[str, object] | bytes, decision: Decision, durable: bool
    ) -> Awaitable[None] | None:
        """A request was decided, and if it was allowed it is about to run.

        text: what was asked, as a person reads it (the SQL). detail: parameters, prepared statement's name.
        None if nothing must be waited for, or an awaitable that ends when the event is durable; requests that begin
        at the same time may share it, so it must not be cancelled. RecordError when it cannot be durable (disk full,
        store away), at once or from the awaitable.
        """

    def response(self, number: int, data: bytes | bytearray | memoryview) -> None:
        """More of the response, in the protocol's own framing, as the client saw it. Copied, or kept if immutable.

        It may also come after the request's end (the error of a denial), or belong to no request (a notification,
        number 0).
        """

    def end(
        self, number: int, at: float, outcome: str, detail: Mapping[str, object] | bytes, rows: int, size: int
    ) -> None:
        """A request has ended. `outcome` is ok, error, denied, skipped or lost (the connection went); `size` in bytes.

        detail: command tags, SQLSTATE, message … `columns` (`[{name, type, format}]`) where the response has rows and
        does not describe them itself.
        """

    def closed(self, at: float, reason: str, requests: int) -> None:
        """The session is over; nothing more comes. `reason` is for people."""


class Recorder(Protocol):
    """Where events go. Called on the event loop; never blocks it.

    `pressure` is True when the caller should stop reading from the target until `relieved()` has ended: responses come
    faster than they can be written.
    """

    def session_opened(self, event: SessionOpened) -> SessionRecord: ...

    def login_refused(self, event: LoginRefused) -> None: ...

    def approval(self, event: ApprovalStep) -> None: ...

    @property
    def pressure(self) -> bool: ...

    async def relieved(self) -> None: ...

    async def close(self) -> None:
        """Everything accepted so far is durable when this returns."""


def request_id(session: str, number: int) -> str:
    """The id of a session's request, as people see it."""
    return f"{session}-{number}"


class RecordError(Exception):
    """The record cannot be written; where it must be, the request may not run."""
