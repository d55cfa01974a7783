"""One request as pages show it: what was asked, decided and answered, in blocks below each other. Plain data, no I/O.

A block has a `kind`, by which templates know it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    number: bool = False
    """Values stand to the right."""


@dataclass(frozen=True, slots=True)
class Grid:
    """A result set, or a table or list of the Kubernetes API."""

    kind: ClassVar[str] = "grid"
    columns: tuple[Column, ...]
    rows: tuple[tuple[str | None, ...], ...]
    """None is NULL."""
    count: int
    """Rows that came; more than `rows` if not all are shown."""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """An error or notice of PostgreSQL."""

    kind: ClassVar[str] = "report"
    error: bool
    severity: str
    code: str
    message: str
    more: tuple[tuple[str, str], ...] = ()
    """DETAIL, HINT, CONTEXT."""


@dataclass(frozen=True, slots=True)
class Copied:
    """Data of COPY."""

    kind: ClassVar[str] = "copied"
    size: int
    binary: bool
    text: str = ""
    """Its beginning, unless it is binary."""
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """Something with a syntax."""

    kind: ClassVar[str] = "document"
    language: str
    """sql, json, yaml or bash."""
    text: str
    hidden: int = 0
    """Lines that are not shown."""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A Status of the Kubernetes API."""

    kind: ClassVar[str] = "verdict"
    good: bool
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class WatchEvent:
    type: str
    """ADDED, MODIFIED, DELETED, ERROR, BOOKMARK."""
    object: str
    """`Kind namespace/name`"""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Watched:
    """Events of a watch."""

    kind: ClassVar[str] = "watched"
    events: tuple[WatchEvent, ...]
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Stream:
    """What a command read or wrote, in the order in which it did."""

    kind: ClassVar[str] = "stream"
    channel: str
    """stdin, stdout or stderr; `terminal`: what a terminal showed, without what steers it."""
    text: str
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Terminal:
    """A recording that can be played: `cast_href` gives it as asciicast v2."""

    kind: ClassVar[str] = "terminal"
    cast_href: str
    columns: int
    rows: int
    tty: bool
    """False: a command without a terminal."""


@dataclass(frozen=True, slots=True)
class DiffLine:
    kind: str
    """`+`, `-`, `@` (a heading) or empty."""
    text: str


@dataclass(frozen=True, slots=True)
class Diff:
    """What a write to the Kubernetes API changes, as a dry run told."""

    kind: ClassVar[str] = "diff"
    lines: tuple[DiffLine, ...]
    hidden: int = 0


@dataclass(frozen=True, slots=True)
class Plain:
    """Text without a syntax."""

    kind: ClassVar[str] = "plain"
    text: str
    hidden: int = 0
    """Lines that are not shown."""


@dataclass(frozen=True, slots=True)
class Remark:
    """The console's own word on what is shown: binary data, a recording that was cut, a damaged one."""

    kind: ClassVar[str] = "remark"
    text: str
    bad: bool = False


AnyBlock = Grid | Report | Copied | Document | Verdict | Watched | Stream | Terminal | Diff | Plain | Remark


@dataclass(frozen=True, slots=True)
class Matched:
    """A rule that held."""

    policy: str
    """namespace/name"""
    rule: str
    action: str
    enforced: bool
    priority: int = 0


@dataclass(frozen=True, slots=True)
class DecisionView:
    """What was decided, by which rule."""

    id: str
    action: str
    policy: str = ""
    """namespace/name; empty if no rule decided."""
    rule: str = ""
    revision: str = ""
    message: str = ""
    hint: str = ""
    refused: str = ""
    """What was refused under any policy: the SQLSTATE or word."""
    errors: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    """`public.customers.email (Partial)`"""
    matched: tuple[Matched, ...] = ()


@dataclass(frozen=True, slots=True)
class Answered:
    """A person's answer to a question."""

    approver: str
    verdict: str
    """Approve or Deny."""
    reason: str = ""
    at: float | None = None
    acting: str = ""


@dataclass(frozen=True, slots=True)
class AskedPeople:
    """The question that a request raised."""

    name: str
    state: str
    waited: float | None
    answers: tuple[Answered, ...] = ()
    href: str = ""


@dataclass(frozen=True, slots=True)
class RequestView:
    """One request from its begin to its end."""

    id: str
    session: str
    number: int
    """0: what belongs to no request."""
    protocol: str
    kind: str
    """statement, call, command, shell, file, forward, or other."""
    begun: float | None
    ended: float | None
    text: str
    """What was asked, whole: the SQL, `GET /api/v1/pods`, the command."""
    language: str
    """Of the text: sql, bash or empty."""
    href: str
    parameters: tuple[str | None, ...] = ()
    notes: tuple[str, ...] = ()
    """What else was asked: as whom, with which environment, dry run …"""
    warnings: tuple[str, ...] = ()
    """What it does cannot be known, and why."""
    asked: tuple[AnyBlock, ...] = ()
    """Body or diff of a call."""
    decision: DecisionView | None = None
    approval: AskedPeople | None = None
    outcome: str = ""
    """ok, error, denied, skipped, lost; empty while it runs."""
    result: str = ""
    """Command tags, status code, exit code."""
    good: bool = True
    """False: the result is an error."""
    failure: str = ""
    rows: int = 0
    bytes: int = 0
    answered: tuple[AnyBlock, ...] = ()
    recorded: int | None = None
    """Bytes kept of the response; None: none were to be kept."""
    truncated: bool = False
    missing: bool = False
    expired: bool = False
    """The response's retention is over."""
    cast_href: str = ""
    """Its recording as asciicast v2, if it can be played."""
    response_href: str = ""
    """The response from its beginning, paged, as JSON; empty if there is none."""
