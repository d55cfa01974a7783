"""What the target's catalog says of one relation or function."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_FUNCTION = re.compile(r":(?:funcid|opfuncid|aggfnoid|winfnoid|hashfuncid) (\d+)")
_RELATION = re.compile(r":relid (\d+)")
_PERMISSION = re.compile(
    r"RTEPERMISSIONINFO :relid (\d+) :inh \w+ :requiredPerms (\d+) :checkAsUser \d+ :selectedCols \(b([ \d]*)\)"
)
_COMMAND = re.compile(r":commandType ([2-6])")
_WRITES = 1 | 4 | 8 | 16
"""ACL_INSERT, ACL_UPDATE, ACL_DELETE, ACL_TRUNCATE."""
_EVENTS = ((1, "INSERT"), (4, "UPDATE"), (8, "DELETE"))
_ATTRIBUTE_OFFSET = 7
"""Bitmaps of attributes count from the lowest system column, -6, less one."""


@dataclass(frozen=True, slots=True)
class TreeUse:
    """What a stored expression or query (pg_node_tree) names, by OID: no name has to be resolved.

    `reads`: relation → attribute numbers (empty: not known). `writes`: (relation, event). `conceded` says what
    cannot be told.
    """

    functions: frozenset[int] = frozenset()
    reads: tuple[tuple[int, tuple[int, ...]], ...] = ()
    writes: tuple[tuple[int, str], ...] = ()
    conceded: str = ""


NO_TREE = TreeUse()


def read_tree(text: str) -> TreeUse:
    """Read the text of a pg_node_tree."""
    if not text:
        return NO_TREE
    columns: dict[int, set[int]] = {}
    writes: dict[tuple[int, str], None] = {}
    for oid, permissions, selected in _PERMISSION.findall(text):
        bits = int(permissions)
        attributes = {int(number) - _ATTRIBUTE_OFFSET for number in selected.split()}
        if bits & 2 or not bits & _WRITES:
            columns.setdefault(int(oid), set()).update(attributes)
        for bit, event in _EVENTS:
            if bits & bit:
                writes[int(oid), event] = None
    for oid in _RELATION.findall(text):
        number = int(oid)
        if number not in columns and not any(number == written for written, _ in writes):
            columns[number] = set()
    conceded = ""
    if _COMMAND.search(text) and not writes and ":commandType 6" not in text:
        conceded = "a stored command writes what cannot be told"
    return TreeUse(
        frozenset(int(oid) for oid in _FUNCTION.findall(text)),
        tuple((oid, tuple(sorted(numbers))) for oid, numbers in columns.items() if oid),
        tuple(write for write in writes if write[0]),
        conceded,
    )


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation. `kind` is pg_class.relkind; `columns` maps attribute numbers to names, dropped ones left out.

    `rules`: (event, tree); `triggers`: (function OID, pg_trigger.tgtype, WHEN); `references`: (referencing relation,
    confdeltype, confupdtype); `expressions`: defaults, generated columns, checks, indexes; `policies`: row security.
    """

    oid: int
    schema: str
    name: str
    kind: str
    tuples: float
    columns: dict[int, str]
    generated: frozenset[str] = frozenset()
    view: TreeUse = NO_TREE
    rules: tuple[tuple[str, TreeUse], ...] = ()
    triggers: tuple[tuple[int, int, TreeUse], ...] = ()
    policies: TreeUse = NO_TREE
    expressions: TreeUse = NO_TREE
    ancestors: tuple[int, ...] = ()
    descendants: tuple[int, ...] = ()
    references: tuple[tuple[int, str, str], ...] = ()
    definition: str = ""
    """A digest of what it is, of its columns, rules, triggers, policies and expressions."""

    @property
    def built_in(self) -> bool:
        """True if PostgreSQL itself brings it."""
        return self.oid < FIRST_USER_OID


FIRST_USER_OID = 16384
"""OIDs below are of objects that initdb made."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function, procedure or aggregate. `support` are the functions that an aggregate calls."""

    oid: int
    schema: str
    name: str
    arguments: int
    defaults: int
    variadic: bool
    volatility: str
    language: str = "internal"
    source: str = ""
    tree: TreeUse = NO_TREE
    security_definer: bool = False
    settings: tuple[str, ...] = ()
    kind: str = "f"
    returns: str = ""
    returns_set: bool = False
    names: tuple[str, ...] = ()
    extension: bool = False
    support: tuple[int, ...] = ()
    definition: str = ""
    """A digest of all of this."""

    def takes(self, count: int) -> bool:
        """True if a call with that many arguments can mean it. A negative count is not known."""
        if count < 0:
            return True
        if self.variadic and count >= self.arguments - self.defaults - 1:
            return True
        return self.arguments - self.defaults <= count <= self.arguments


@dataclass(frozen=True, slots=True)
class Ambient:
    """What may run without being named: implicit casts, domain checks, column notation, event triggers; and
    operators that users defined, by name."""

    operators: dict[str, tuple[tuple[str, int], ...]] = field(default_factory=dict)
    casts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    implicit: frozenset[int] = frozenset()
    column_functions: dict[str, tuple[int, ...]] = field(default_factory=dict)
    event_triggers: tuple[int, ...] = ()
