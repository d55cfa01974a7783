"""The values that the facts are made of: what a text says, and what a statement does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ostiary_policy.facts import StatementFacts

from .facts_parse import fingerprint_of


@dataclass(frozen=True, slots=True)
class Scope:
    """What a session makes of names. `search_path` is expanded: `$user` replaced, pg_catalog only if listed.

    `has_temp`: the session may own temporary objects. `uncommitted_ddl`: this transaction ran a statement whose
    Effects say `ddl`. `rebound`: … whose Effects say `rebinds`, so that known names may mean something else.
    `touched`: the session changed settings before, so that the end of a transaction may change them back.
    """

    search_path: tuple[str, ...]
    role: str
    database: str
    has_temp: bool = False
    uncommitted_ddl: bool = False
    rebound: bool = False
    touched: bool = False


@dataclass(frozen=True, slots=True)
class CopyEffect:
    """A COPY through the client. `select_text` is a SELECT with the columns of a COPY … TO, in order."""

    direction: str
    format: str = "text"
    delimiter: str = "\t"
    null: str = "\\N"
    quote: str = '"'
    escape: str = '"'
    header: bool = False
    force_quote: tuple[str, ...] = ()
    encoding: str = ""
    select_text: str = ""


@dataclass(frozen=True, slots=True)
class Effects:
    """What the protocol's state machine must know of a statement.

    `transaction`: BEGIN, COMMIT, ROLLBACK, SAVEPOINT, ROLLBACK_TO, RELEASE, PREPARE_TRANSACTION, COMMIT_PREPARED,
    ROLLBACK_PREPARED or empty. `deallocates` and `closes_cursor` are "*" for all. `pinned` says why the gateway
    refuses the statement under any policy. `explain_text` goes behind EXPLAIN (FORMAT JSON). `truncates` are the
    (schema, name) whose reltuples are the estimate. `masked_reads` are the OIDs of the relations read.
    `rebinds`: names that were known may mean something else afterwards. `search_path` is the path that a plain SET
    leaves, None if it sets none or cannot be told. `definitions`: digests of the relations and
    functions that it reaches.
    """

    transaction: str = ""
    savepoint: str = ""
    prepares: tuple[str, Parsed] | None = None
    deallocates: str | None = None
    executes: str | None = None
    declares_cursor: str | None = None
    closes_cursor: str | None = None
    fetches: str | None = None
    copy: CopyEffect | None = None
    may_change_session: bool = False
    pinned: str = ""
    ddl: bool = False
    rebinds: bool = False
    estimable: bool = False
    explain_text: str = ""
    row_free: bool = False
    truncates: tuple[tuple[str, str], ...] = ()
    masked_reads: frozenset[int] = frozenset()
    has_params: bool = False
    search_path: tuple[str, ...] | None = None
    definitions: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: its facts for the policy, its effects for the protocol, and what its names were resolved in."""

    facts: StatementFacts
    effects: Effects
    scope: Scope | None = None


@dataclass(frozen=True, slots=True)
class Analysis:
    """All statements of one text, in order."""

    statements: tuple[Statement, ...]


@dataclass(slots=True, eq=False)
class Level:
    """One query's own names: the columns that it mentions, and those that the queries inside it mention."""

    parent: Level | None = None
    names: set[str] = field(default_factory=set)
    qualified: set[tuple[str, str]] = field(default_factory=set)
    star: bool = False


@dataclass(slots=True, eq=False)
class RelationUse:
    """A relation as the text names it. `columns` is None where the Level's mentions tell them."""

    schema: str
    name: str
    access: str
    alias: str
    level: Level | None = None
    columns: tuple[str, ...] | None = None
    event: str = ""
    only: bool = False
    oid: int = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A function call as the text writes it. `count` < 0: the number of arguments is not known."""

    schema: str
    name: str
    count: int


@dataclass(slots=True, eq=False)
class Draft:
    """What one statement's text says, before the catalog is asked. Built once, then only read."""

    verb: str = ""
    kind: str = ""
    where: bool = False
    wheres: list[bool] = field(default_factory=list)
    limit: bool = False
    relations: list[RelationUse] = field(default_factory=list)
    calls: dict[Call, None] = field(default_factory=dict)
    column_calls: set[str] = field(default_factory=set)
    operators: set[tuple[str, str]] = field(default_factory=set)
    casts: set[str] = field(default_factory=set)
    settings: dict[str, None] = field(default_factory=dict)
    commands: dict[str, None] = field(default_factory=dict)
    executes: list[str] = field(default_factory=list)
    fetches: list[str] = field(default_factory=list)
    opaque: list[str] = field(default_factory=list)
    read_only: bool = True
    writes: bool = False
    runs: bool = True
    """False under EXPLAIN without ANALYZE: planned only."""
    ddl: bool = False
    rebinds: bool = False
    path_changed: bool = False
    """A body changes what names mean while it runs."""
    static: dict[str, Any] = field(default_factory=dict)
    """The Effects that the text alone decides, by their names."""
    copy_relation: RelationUse | None = None
    copy_columns: tuple[str, ...] = ()
    truncates: list[RelationUse] = field(default_factory=list)
    prepared_text: str = ""
    prepared_name: str = ""

    def effect(self, **changes: object) -> None:
        """Note effects that the text alone decides."""
        self.static.update(changes)

    def concede(self, reason: str) -> None:
        """What this does cannot be known: opaque, and taken to write."""
        if reason not in self.opaque:
            self.opaque.append(reason)
        self.read_only = False
        self.writes = True


class ParsedStatement:
    """One statement's own text, and what its text says."""

    __slots__ = ("_fingerprint", "draft", "text")

    def __init__(self, text: str, draft: Draft, fingerprint: str | None = None) -> None:
        self.text = text
        self.draft = draft
        self._fingerprint = fingerprint

    @property
    def fingerprint(self) -> str:
        """libpg_query's, 16 hex digits; worked out when it is asked for, since it takes a parse of its own."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(self.text)
        return self._fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """A text, read. The same for every session, so it may be kept by its text."""

    text: str
    statements: tuple[ParsedStatement, ...]
    error: str = ""
