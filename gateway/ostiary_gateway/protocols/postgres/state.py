# cython: annotation_typing=False
"""What a PostgreSQL session is in the middle of: replies that the server owes, prepared statements, portals.

Client messages run ahead of their replies (pipelining), so a name means what the server will take it for only when
the reply has come. Every message that was sent leaves an `Awaited`; replies take them off in order, and an error
takes off all up to the next Sync, because the server skips those (PostgreSQL documentation, "Extended Query").
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final, cast

from .settings_sum import SettingsSum
from .wire import INT16, Reader, parse_bind

if TYPE_CHECKING:
    from ostiary_gateway.checkpoint import Verdict

    from .facts import Analysis
    from .found import Found
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


class Prepared:
    """A prepared statement, by Parse or by SQL PREPARE."""

    __slots__ = ("decided", "declared_types", "description", "found", "name", "raw", "text", "types")

    def __init__(
        self, name: bytes, text: str, declared_types: tuple[int, ...] = (), raw: bytes | None = None
    ) -> None:
        self.name = name
        self.text = text
        self.raw = text.encode() if raw is None else raw
        self.declared_types = declared_types
        self.types: tuple[int, ...] | None = None
        self.description: bytes | None = None
        """Its RowDescription's body, b"" for no rows, None if it is not known."""
        self.decided = ""
        """Revision of the bundle under which it was allowed at Parse."""
        self.found: Found | None = None
        """What was found out about its text last."""

    @property
    def parameter_types(self) -> tuple[int, ...]:
        """The parameters' types: the server's word where it was asked, else the client's (0: not declared)."""
        return self.types if self.types is not None else self.declared_types


class Portal:
    """A portal: a prepared statement with its parameters, or a cursor declared in SQL."""

    __slots__ = ("bind", "changes", "description", "epoch", "name", "path", "statement")

    def __init__(
        self, name: bytes, statement: Prepared, bind: bytes = b"", path: tuple[str, str] | None = None,
        changes: int = -1,
    ) -> None:  # fmt: skip
        self.name = name
        self.statement = statement
        self.bind = bind
        """The body of its Bind message; empty for a cursor."""
        self.description: bytes | None = None
        self.path = path
        """search_path and role that its names were resolved by; None if they cannot be told."""
        self.changes = changes
        """How many changes of the catalog were known when it was made."""
        self.epoch = -1
        """The Sync epoch in which it was bound."""


class Running:
    """A request that was let through, until it has ended."""

    __slots__ = (
        "analysis", "bytes", "completed", "described", "error", "mask", "plain", "rows", "shown", "tags", "text",
        "verdict", "written",
    )  # fmt: skip

    def __init__(
        self, text: str, verdict: Verdict, analysis: Analysis, mask: ResponseMask | None, plain: bool = False
    ) -> None:
        self.text = text
        self.plain = plain
        """True if it changes nothing that another message's meaning depends on."""
        self.verdict = verdict
        self.analysis = analysis
        self.mask = mask
        self.described: bytes | None = None
        """RowDescription's body of the rows that come now."""
        self.shown: bytes | None = None
        """The RowDescription that the record has seen last."""
        self.completed = 0
        self.rows = 0
        self.bytes = 0
        self.written = 0
        self.tags: list[str] | None = None
        self.error: tuple[str, str] | None = None


class Awaited:
    """A reply that the server owes. `hidden`: the client did not ask, and sees nothing of it."""

    __slots__ = (
        "denial", "failed", "hidden", "kind", "name", "portal", "portal_kind", "previous", "running", "statement",
        "values",
    )  # fmt: skip

    def __init__(
        self, kind: int, running: Running | None = None, denial: Denial | None = None, hidden: bool = False,
        name: bytes = b"", portal_kind: bool = False, statement: Prepared | None = None, portal: Portal | None = None,
        previous: Prepared | Portal | None = None, values: list[str] | None = None,
    ) -> None:  # fmt: skip
        self.kind = kind
        """A Kind."""
        self.running = running
        self.denial = denial
        self.hidden = hidden
        self.name = name
        self.portal_kind = portal_kind
        self.statement = statement
        self.portal = portal
        self.previous = previous
        self.values = values
        """Where a hidden SHOW leaves what it showed."""
        self.failed = False


class Owed:
    """The replies that are owed, in order. `first`: the next one; None if there is none."""

    __slots__ = ("_at", "_entries", "first")

    def __init__(self) -> None:
        self.first: Awaited | None = None
        self._entries: list[Awaited | None] = []
        self._at = 0
        """Where `first` stands; what is before it has been answered."""

    def __len__(self) -> int:
        return len(self._entries) - self._at

    def __iter__(self) -> Iterator[Awaited]:
        return iter(cast("list[Awaited]", self._entries[self._at :]))

    @property
    def last(self) -> Awaited | None:
        """The one that was owed last; None if there is none."""
        return self._entries[-1] if self.first is not None else None

    def append(self, entry: Awaited) -> None:
        """One more is owed."""
        if self.first is None:
            self.first = entry
        self._entries.append(entry)

    def answered(self) -> Awaited:
        """Takes the first one off."""
        entry = self.first
        assert entry is not None
        entries = self._entries
        entries[self._at] = None
        at = self._at + 1
        if at == len(entries):
            entries.clear()
            at = 0
            self.first = None
        else:
            if at >= COMPACT and at * 2 >= len(entries):
                del entries[:at]
                at = 0
            self.first = entries[at]
        self._at = at
        return entry


class Changes:
    """Names whose meaning changes by messages that are under way: the Sync epoch of the latest, and how many there are.

    The unnamed one is kept apart, since it is nearly always that.
    """

    __slots__ = ("_epoch", "_named", "_unnamed")

    def __init__(self) -> None:
        self._named: dict[bytes, tuple[int, int]] = {}
        self._unnamed = 0
        """Changes of the unnamed one."""
        self._epoch = 0

    def add(self, name: bytes, epoch: int) -> None:
        """A change was sent."""
        if not name:
            self._unnamed += 1
            self._epoch = epoch
            return
        before = self._named.get(name)
        self._named[name] = (epoch, 1 if before is None else before[1] + 1)

    def doubtful(self, name: bytes, epoch: int) -> bool:
        """True if what the name means depends on a reply that has not come, and a Sync lies between."""
        if not name:
            return self._unnamed > 0 and self._epoch != epoch
        if not self._named:
            return False
        latest = self._named.get(name)
        return latest is not None and latest[0] != epoch

    def any_doubtful(self, epoch: int) -> bool:
        """True if some name is."""
        if self._unnamed and self._epoch != epoch:
            return True
        return bool(self._named) and self._named_doubtful(epoch)

    def _named_doubtful(self, epoch: int) -> bool:
        return any(latest != epoch for latest, _ in self._named.values())

    def settle(self, name: bytes) -> bool:
        """The first change of the name was answered. True if more are under way."""
        if not name:
            if self._unnamed:
                self._unnamed -= 1
            return self._unnamed > 0
        latest = self._named.get(name)
        if latest is None:
            return False
        if latest[1] > 1:
            self._named[name] = (latest[0], latest[1] - 1)
            return True
        del self._named[name]
        return False


class SessionState:
    """One session's protocol state. Pure bookkeeping: it never sees a socket."""

    __slots__ = (
        "awaited", "bytes", "copy_ended", "copying", "ddl_sent", "epoch", "has_temp", "portals", "rebound", "rows",
        "settings", "skipped", "skipping", "statements", "status", "touched_session", "uncommitted_ddl",
        "unsettled_portals", "unsettled_statements", "unsure", "written",
    )  # fmt: skip

    def __init__(self, session: str = "", settings: Mapping[str, str] | None = None) -> None:
        self.awaited = Owed()
        self.statements: dict[bytes, Prepared] = {}
        self.portals: dict[bytes, Portal] = {}
        self.unsettled_statements = Changes()
        self.unsettled_portals = Changes()
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
        self.settings = SettingsSum(session, settings or {})

    @property
    def held(self) -> int:
        """Bytes of the statements and parameters that have names."""
        texts = sum(len(statement.text) for statement in self.statements.values())
        return texts + sum(len(portal.bind) + len(portal.statement.text) for portal in self.portals.values())

    def change(self, portal: bool, name: bytes) -> None:
        """A change of the name was sent."""
        changes = self.unsettled_portals if portal else self.unsettled_statements
        changes.add(name, self.epoch)

    def doubtful(self, portal: bool, name: bytes) -> bool:
        """True if what the name means depends on a reply that has not come, and a Sync lies between."""
        changes = self.unsettled_portals if portal else self.unsettled_statements
        return changes.doubtful(name, self.epoch)

    def in_doubt(self) -> bool:
        """True if some name is doubtful."""
        return self.unsettled_statements.any_doubtful(self.epoch) or self.unsettled_portals.any_doubtful(self.epoch)

    def settle(self, entry: Awaited, executed: bool, ok: bool) -> None:
        """A Parse, Bind or Close was answered (`executed`), or skipped by the server after an error."""
        changes = self.unsettled_portals if entry.portal_kind else self.unsettled_statements
        more = changes.settle(entry.name)
        if not ok:
            self._undo(entry, executed, more)

    def _undo(self, entry: Awaited, executed: bool, more: bool) -> None:
        """The change did not happen: the name means what it meant before. `more`: later changes are under way."""
        later = [
            other
            for other in (self.awaited if more else ())
            if other is not entry
            and other.kind in CHANGES
            and other.portal_kind == entry.portal_kind
            and other.name == entry.name
        ]
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
        owed = self.awaited.first is not None
        if self.settings.open and status == b"I":
            self.settings.ended(more=owed)
        committed = False
        if status == b"I" and not owed:
            committed, self.uncommitted_ddl, self.rebound = self.uncommitted_ddl, False, False
            self.forget_portals()
        return committed

    def forget_portals(self) -> None:
        """Outside a transaction the server has none left, but for cursors WITH HOLD, which SQL declared."""
        if self.portals and self.status == b"I" and self.awaited.first is None:
            for portal in self.portals.values():
                if not portal.bind:
                    break
            else:
                self.portals.clear()
                return
            self.portals = {name: portal for name, portal in self.portals.items() if not portal.bind}


COMPACT: Final = 64
"""Replies that have come, after which what is kept of them is thrown away."""
CHANGES: Final = frozenset({Kind.PARSE, Kind.BIND, Kind.CLOSE})
"""Kinds that change what a name means."""


def result_formats(bind: bytes) -> tuple[int, ...]:
    """The result formats at the end of a Bind message's body."""
    return parse_bind(bind).result_formats


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
