"""What the recorder's loop side and its writer's thread share: the open sessions, what is handed over, the counters."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["open", "begin", "frame", "end", "close", "lost", "gap", "refused", "approval"]


@dataclass(slots=True, eq=False)
class SessionState:
    """A session that is open. The loop owns the first part, the writer's thread the second."""

    id: str
    sid: int
    full: bool = True
    """Responses are kept."""
    metadata: bool = True
    """Requests are kept; denials are in any case."""
    limit: int = 0
    """Bytes kept of one response."""
    open_requests: dict[str, ResponseState | None] = field(default_factory=dict)
    missing: int = 0
    """Events that could not be taken in, to be said by a gap event."""
    unopened: Op | None = None
    """The opening event, where it could not be taken in yet."""
    requests: int = 0
    denied: int = 0
    asked: int = 0
    errors: int = 0
    rows: int = 0
    size: int = 0
    """Bytes of responses, as the ends of the requests say."""

    seq: int = 0
    """Of the next event."""
    head: bytes = b""
    sealed: int = 0
    """`seq` when it was sealed last."""


@dataclass(slots=True, eq=False)
class ResponseState:
    """A response on its way. `parts` are not handed over yet; `handed` bytes are."""

    parts: list[bytes] = field(default_factory=list)
    waiting: int = 0
    handed: int = 0
    size: int = 0
    missing: bool = False


@dataclass(frozen=True, slots=True)
class SessionRow:
    """What the `session` table holds of a new session."""

    opened: float
    connection: str
    protocol: str
    username: str
    recording: str


Op = tuple[
    Kind,
    SessionState,
    bytes,
    list[bytes] | None,
    "asyncio.Future[None] | None",
    object,
]
"""kind, session, body, response bytes, who waits for it, and: open: SessionRow · begin: (id, body) of the decision ·
frame: (request, offset) · close, lost: the time."""


@dataclass(slots=True)
class Stats:
    """Counters since the start. Plain integers, to be read at any time."""

    events: int = 0
    batches: int = 0
    durable_batches: int = 0
    response_bytes: int = 0
    """Bytes of responses written, before compression."""
    stored_bytes: int = 0
    """The same, as stored."""
    dropped: int = 0
    """Events and parts of responses that are missing in the record, since it could not be written."""
    refused: int = 0
    """Durable begins that raised RecordError."""
    truncated: int = 0
    """Responses cut at the limit."""
    misplaced: int = 0
    """Events of sessions that are not open."""
    failures: int = 0
    """Transactions that failed."""
    seals: int = 0
    sessions: int = 0
    """Sessions open now."""
