"""What a PostgreSQL session is in the middle of: replies that the server owes, prepared statements, portals.

Client messages run ahead of their replies (pipelining), so a name means what the server will take it for only when
the reply has come. Every message that was sent leaves an `Awaited`; replies take them off in order, and an error
takes off all up to the next Sync, because the server skips those (PostgreSQL documentation, "Extended Query").
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from .wire import INT16, Reader

if TYPE_CHECKING:
    from ostiary_gateway.checkpoint import Verdict

    from .facts import Analysis
    from .masks import ResponseMask


class Kind(IntEnum):
    """Which client message a reply is owed to."""

    QUERY = 1
    PARSE = 2
    BIND = 3
    DESCRIBE_STATEMENT = 4
    DESCRIBE_PORTAL = 5
    EXECUTE = 6
    CLOSE = 7
    SYNC = 8
    FUNCTION = 9


ENDS_CYCLE = frozenset({Kind.QUERY, Kind.SYNC, Kind.FUNCTION})
"""Kinds whose last reply is ReadyForQuery."""


@dataclass(frozen=True, slots=True)
class Denial:
    """An ErrorResponse in the place of what was refused. `code` is an SQLSTATE."""

    code: str
    message: str
    detail: str = ""
    hint: str = ""


@dataclass(eq=False, slots=True)
class Prepared:
    """A prepared statement, by Parse or by SQL PREPARE. `description`: its RowDescription's body, b"" for no rows."""

    name: bytes
    text: str
    declared_types: tuple[int, ...] = ()
    types: tuple[int, ...] | None = None
    description: bytes | None = None
    decided: str = ""
    """Revision of the bundle under which it was allowed at Parse."""

    @property
    def parameter_types(self) -> tuple[int, ...]:
        """The parameters' types: the server's word where it was asked, else the client's (0: not declared)."""
        return self.types if self.types is not None else self.declared_types


@dataclass(eq=False, slots=True)
class Portal:
    """A portal: a prepared statement with its parameters, or a cursor declared in SQL."""

    name: bytes
    statement: Prepared
    bind: bytes = b""
    """The body of its Bind message; empty for a cursor."""
    description: bytes | None = None
    path: tuple[str, str] | None = None
    """search_path and role that its names were resolved by; None if they cannot be told."""
    changes: int = -1
    """How many changes of the catalog were known when it was made."""


@dataclass(eq=False, slots=True)
class Running:
    """A request that was let through, until it has ended."""

    id: str
    text: str
    verdict: Verdict
    analysis: Analysis
    mask: ResponseMask | None
    described: bytes | None = None
    """RowDescription's body of the rows that come now."""
    shown: bytes | None = None
    """The RowDescription that the record has seen last."""
    completed: int = 0
    rows: int = 0
    bytes: int = 0
    written: int = 0
    tags: list[str] = field(default_factory=list)
    error: tuple[str, str] | None = None


@dataclass(eq=False, slots=True)
class Awaited:
    """A reply that the server owes. `hidden`: the client did not ask, and sees nothing of it."""

    kind: Kind
    running: Running | None = None
    denial: Denial | None = None
    hidden: bool = False
    name: bytes = b""
    portal_kind: bool = False
    statement: Prepared | None = None
    portal: Portal | None = None
    previous: Prepared | Portal | None = None
    values: list[str] | None = None
    """Where a hidden SHOW leaves what it showed."""
    failed: bool = False


class SessionState:
    """One session's protocol state. Pure bookkeeping: it never sees a socket."""

    __slots__ = (
        "awaited", "bytes", "copy_ended", "copying", "ddl_sent", "epoch", "has_temp", "portals", "rebound", "rows",
        "skipped", "skipping", "statements",
        "status", "touched_session", "uncommitted_ddl", "unsettled", "unsure", "written",
    )  # fmt: skip

    def __init__(self) -> None:
        self.awaited: deque[Awaited] = deque()
        self.statements: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}
        self.unsettled: dict[tuple[bool, bytes], int] = {}
        """Names with a change under way, by (is it a portal, name): the Sync epoch of the latest."""
        self.rows = self.bytes = self.written = 0
        """Rows and bytes sent to the client, and rows changed, by requests that have ended."""
        self.epoch = 0
        self.status = b"I"
        """Transaction status of the last ReadyForQuery: I, T or E."""
        self.copying = False
        """True while the server takes CopyData."""
        self.copy_ended = False
        """True once the client has ended what it copies."""
        self.skipping = False
        """True while the server ignores everything up to a Sync that was not sent yet."""
        self.skipped: list[Running] = []
        """Requests that were let through, and then not sent because of that."""
        self.unsure = False
        """True if the settings that names are resolved by may have changed, and were not asked for since."""
        self.touched_session = False
        """True once such a setting was ever touched: a rollback may then change it back."""
        self.ddl_sent = False
        self.uncommitted_ddl = False
        self.has_temp = False
        self.rebound = False
        """True if names may mean something else than the catalog says, until this transaction has ended."""

    @property
    def held(self) -> int:
        """Bytes of the statements and parameters that have names."""
        texts = sum(len(statement.text) for statement in self.statements.values())
        return texts + sum(len(portal.bind) + len(portal.statement.text) for portal in self.portals.values())

    def change(self, portal: bool, name: bytes) -> None:
        """A change of the name was sent."""
        self.unsettled[portal, name] = self.epoch

    def doubtful(self, portal: bool, name: bytes) -> bool:
        """True if what the name means depends on a reply that has not come, and a Sync lies between."""
        return self.unsettled.get((portal, name), self.epoch) != self.epoch

    @property
    def in_doubt(self) -> bool:
        """True if some name is doubtful."""
        return any(epoch != self.epoch for epoch in self.unsettled.values())

    def settle(self, entry: Awaited, *, executed: bool, ok: bool) -> None:
        """A Parse, Bind or Close was answered (`executed`), or skipped by the server after an error."""
        key = (entry.portal_kind, entry.name)
        later = [
            other
            for other in (self.awaited if key in self.unsettled else ())
            if other is not entry and other.kind in CHANGES and (other.portal_kind, other.name) == key
        ]
        if not later:
            self.unsettled.pop(key, None)
        if ok:
            return
        names: dict[bytes, Prepared | Portal] = self.portals if entry.portal_kind else self.statements  # type: ignore[assignment]
        # Parse drops the unnamed statement before it can fail; of a portal whose Bind failed one cannot tell.
        gone = executed and (entry.portal_kind or not entry.name)
        before = None if gone else entry.previous
        mine = None if entry.kind == Kind.CLOSE else (entry.portal if entry.portal_kind else entry.statement)
        if names.get(entry.name) is mine:
            if before is None:
                names.pop(entry.name, None)
            else:
                names[entry.name] = before
        for other in later:
            if other.previous is mine:
                other.previous = before

    def ready(self, status: bytes) -> bool:
        """ReadyForQuery. True if DDL that others could not see until now may have been committed."""
        if status != self.status and self.touched_session:
            self.unsure = True
        self.status = status
        committed = False
        if status == b"I" and not self.awaited:
            committed, self.uncommitted_ddl, self.rebound = self.uncommitted_ddl, False, False
            self.forget_portals()
        return committed

    def forget_portals(self) -> None:
        """Outside a transaction the server has none left, but for cursors WITH HOLD, which SQL declared."""
        if self.status == b"I" and not self.awaited:
            self.portals = {name: portal for name, portal in self.portals.items() if not portal.bind}


CHANGES: Final = frozenset({Kind.PARSE, Kind.BIND, Kind.CLOSE})
"""Kinds that change what a name means."""


def result_formats(bind: bytes) -> tuple[int, ...]:
    """The result formats at the end of a Bind message's body, without reading its values."""
    reader = Reader(bind, "Bind")
    reader.string(), reader.string()
    for _ in range(reader.count()):
        reader.int16()
    for _ in range(reader.count()):
        length = reader.int32()
        if length != -1:
            reader.skip(length)
    return tuple(reader.int16() for _ in range(reader.count()))


def with_formats(description: bytes, formats: tuple[int, ...]) -> bytes:
    """A statement's RowDescription (its formats are all zero) as it will be for a portal with these result formats."""
    if not formats or not any(formats):
        return description
    reader = Reader(description, "RowDescription")
    out = bytearray(description)
    for index in range(reader.count()):
        reader.string()
        reader.skip(16)
        code = formats[0] if len(formats) == 1 else formats[index] if index < len(formats) else 0
        reader.skip(2)
        INT16.pack_into(out, reader.position - 2, code)
    return bytes(out)
