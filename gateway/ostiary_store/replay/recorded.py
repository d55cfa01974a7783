"""A request as the record has it, with all that a decision may read of its session."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ostiary_gateway.audit.reader import Session, SessionReader

Json = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request. Times are seconds since the epoch."""

    id: str
    begun: float
    connection: str
    """`namespace/name`."""
    protocol: str
    subject: Json
    client: Json
    session: Json
    """The `detail` of the session's opening: database, login …"""
    opened: float
    text: str
    detail: Json
    decision: Json
    """As it was recorded: action, rule, masks, matched …"""
    before: tuple[int, int, int] = (0, 0, 0)
    """Requests, rows and bytes of the session before this one, as far as they are recorded."""

    @property
    def session_id(self) -> str:
        return self.id.rpartition("-")[0]


@dataclass(slots=True)
class _SoFar:
    """What the requests of a session did, by their number: they may end in another order than they began."""

    rows: int = 0
    bytes: int = 0
    seen: int = field(default=0)


def requests(reader: SessionReader, sessions: Iterable[Session], *, since: float = 0.0) -> Iterator[Recorded]:
    """The requests of these sessions that began at `since` or later, but for those of which nothing is recorded."""
    for session in sessions:
        if session.protocol == "Gateway":
            continue
        opening = next((event.fields for event in reader.events(session, rare=True) if event.kind == "open"), None)
        if opening is None:
            continue
        yield from of_session(reader, session, opening, since=since)


def of_session(reader: SessionReader, session: Session, opening: Json, *, since: float = 0.0) -> Iterator[Recorded]:
    """The same of one session, whose open event has the fields `opening`."""
    so_far = _SoFar()
    for request in reader.requests(session):
        if request.begun is not None:
            begun = request.begun.fields
            at = _number(begun.get("at"))
            if at >= since:
                yield Recorded(
                    request.id, at, session.connection, session.protocol, mapping(opening.get("subject")),
                    mapping(opening.get("client")), mapping(opening.get("detail")), session.opened,
                    str(begun.get("text", "")), mapping(begun.get("detail")), mapping(begun.get("decision")),
                    (max(request.number - 1, 0), so_far.rows, so_far.bytes),
                )  # fmt: skip
        if request.ended is not None:
            so_far.rows += int(_number(request.ended.fields.get("rows")))
            so_far.bytes += int(_number(request.ended.fields.get("bytes")))


def mapping(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
