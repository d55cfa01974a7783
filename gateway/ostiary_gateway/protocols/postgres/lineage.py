"""Where a masked column may come out under another name: which columns of a result are withheld, and why not more.

Two halves. `column_target_query` asks the catalog which (table OID, attribute number) the rules mean; the server
then tells a plain column's origin in RowDescription, through aliases, sub-queries and CTEs. What has no plain origin
(expressions, set operations, views, RETURNING of what was just written) is followed in the parse tree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from ostiary_gateway.protocols.postgres.facts_parse import Unparsable, parse_statements
from ostiary_gateway.protocols.postgres.rows import Field
from ostiary_gateway.protocols.postgres.taint import MARK, REDACT, Column, Columns, Taint, TooDeep, derived, strongest
from ostiary_policy.masking import ColumnMask, MaskPlan, Strategy, stronger

BOOL = 16
_MAX_VIEWS = 32

Targets = Mapping[tuple[int, int], Strategy]
"""Strategy by table OID and attribute number."""

STATISTICS = {
    "pg_statistic": ("stavalues1", "stavalues2", "stavalues3", "stavalues4", "stavalues5"),
    "pg_statistic_ext_data": ("stxdmcv", "stxdexpr", "stxdhistogram"),
    "pg_stats": ("most_common_vals", "histogram_bounds", "most_common_elems", "range_bounds_histogram"),
    "pg_stats_ext": ("most_common_vals", "most_common_val_nulls"),
    "pg_stats_ext_exprs": ("most_common_vals", "histogram_bounds", "most_common_elems", "expr"),
}
"""Columns of the system catalogs that hold samples of any column's values; masked wherever a column is."""


@dataclass(frozen=True, slots=True)
class RelationView:
    """A relation as lineage needs it.

    `definition`: the SELECT of a view or materialized view; empty for what stores its own rows; None where it is not
    known, and may read anything.
    """

    oid: int
    schema: str
    name: str
    columns: tuple[tuple[int, str], ...]
    """(attnum, name) in order, without dropped ones."""
    definition: str | None = ""


class CatalogView(Protocol):
    """What lineage asks of the catalog."""

    def relation(self, schema: str, name: str) -> RelationView | None:
        """By schema, or through search_path where it is empty. None: there is none that is known."""

    def carries(self, schema: str, name: str, arguments: int) -> bool:
        """True if a function's result may hold what is not in its arguments: it reads relations, or is not known."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """What one statement does with masked columns. Depends on its text, the masks and the catalog: may be kept."""

    columns: Columns | None
    """None: not followed."""
    touches: Strategy | None
    """The strongest strategy of what the statement reads; None if it reads nothing that is masked."""
    copies: bool
    """It would write a masked column's values to where no mask follows: refuse it, or mask what it writes to."""
    relations: frozenset[int] | None = None
    """OIDs of the relations that its names were taken to mean; None: not compared with what the server says."""

    def withheld(self, fields: Sequence[Field]) -> dict[int, Strategy]:
        """Strategy by index of the result's column. A bool is never withheld: it cannot hold a value.

        Where the server names a relation in RowDescription that the statement was not taken to mean (a temporary one
        of the same name, say), or answers with other columns (a rule), nothing that was followed holds, and all is
        withheld.
        """
        columns, taint = self._aligned(len(fields)), derived(self.touches)
        named = {field.table_oid for field in fields} - {0}
        if self._misread(len(fields)) or (self.relations is not None and not self.relations.issuperset(named)):
            columns, taint = None, REDACT
        if columns is None:
            if taint is None:
                return {}
            columns = (Column(None, taint),) * len(fields)
        return {
            index: column.taint
            for index, (field, column) in enumerate(zip(fields, columns, strict=True))
            if column.taint is not None and field.type_oid != BOOL
        }

    def derived_of_marks(self, fields: Sequence[Field]) -> dict[int, Strategy]:
        """The same where it was marks that were followed: nothing is withheld that is not seen to be made of them."""
        columns = self._aligned(len(fields))
        if self.touches is None:
            return {}
        if columns is None:
            # Which of the result's columns is made of marked ones is not known: none of them, or all.
            made = any(column.taint not in (None, MARK) for column in self.columns or ())
            columns = (Column(None, REDACT if made else None),) * len(fields)
        return {
            index: column.taint
            for index, (field, column) in enumerate(zip(fields, columns, strict=True))
            if column.taint is not None and column.taint != MARK and field.type_oid != BOOL
        }

    def _misread(self, count: int) -> bool:
        """True if the result has a number of columns that the statement's text cannot have."""
        if self.columns is None:
            return False
        gaps = sum(column.gap for column in self.columns)
        return count < len(self.columns) - gaps or (not gaps and count != len(self.columns))

    def _aligned(self, count: int) -> Columns | None:
        """The columns that were followed, laid over those of the result; None if they do not fit."""
        if self.columns is None:
            return None
        gaps = [index for index, column in enumerate(self.columns) if column.gap]
        missing = count - len(self.columns)
        if not gaps:
            return self.columns if missing == 0 else None
        if len(gaps) > 1 or missing < -1:
            return None
        (gap,) = gaps
        return (*self.columns[:gap], *(self.columns[gap],) * (missing + 1), *self.columns[gap + 1 :])


UNTOUCHED = Lineage((Column(None, None, gap=True),), None, copies=False)
"""Of a statement that reads nothing that is masked."""
UNKNOWN = Lineage(None, REDACT, copies=False)
"""Of a statement whose text is not known (a cursor or prepared statement that was not seen): all is withheld."""


def lineage_of(text: str, targets: Targets, catalog: CatalogView, *, marks: bool = False) -> Lineage:
    """Follow the masked columns through one statement. What cannot be read or followed is withheld as a whole.

    `marks`: the targets are columns whose values detectors find where they are shown as they are.
    """
    follower = _Follower(targets, catalog, marks)
    try:
        statements = parse_statements(text)
        if len(statements) != 1:
            return UNKNOWN
        taint = Taint(follower.relation, follower.carries, marks=marks)
        columns = taint.statement(statements[0].type, statements[0].tree)
    except (Unparsable, TooDeep, RecursionError):
        return UNKNOWN
    if columns is None:
        return Lineage(None, follower.touched or REDACT, taint.copies)
    return Lineage(columns, follower.touched, taint.copies, frozenset(follower.relations))


def withheld_columns(text: str, fields: Sequence[Field], targets: Targets, catalog: CatalogView) -> dict[int, Strategy]:
    """`lineage_of(…).withheld(fields)`, for one statement and its result."""
    return lineage_of(text, targets, catalog).withheld(fields) if targets else {}


class _Follower:
    """Looks relations up, and follows views into what they read."""

    def __init__(self, targets: Targets, catalog: CatalogView, marks: bool = False) -> None:
        self._marks = marks
        self._targets = targets
        self._catalog = catalog
        self._known: dict[tuple[str, str], Columns] = {}
        self._views: list[int] = []
        self.relations: set[int] = set()
        self.touched: Strategy | None = None

    def relation(self, schema: str, name: str) -> Columns:
        key = (schema, name)
        if key not in self._known:
            self._known[key] = self._columns(schema, name)
        columns = self._known[key]
        self.touched = strongest((self.touched, *(column.taint for column in columns)))
        return columns

    def carries(self, schema: str, name: str, arguments: int) -> bool:
        if not self._catalog.carries(schema, name, arguments):
            return False
        self.touched = strongest((self.touched, REDACT))
        return True

    def _columns(self, schema: str, name: str) -> Columns:
        found = self._catalog.relation(schema, name)
        if found is None:
            # The server will say that it does not exist, or it was made since the catalog was read.
            return (Column(None, REDACT, gap=True),)
        self.relations.add(found.oid)
        if found.schema == "pg_catalog" and name in STATISTICS and not self._marks:
            held = STATISTICS[name]
            return tuple(Column(column, REDACT if column in held else None) for _, column in found.columns)
        own = tuple(Column(column, self._targets.get((found.oid, attnum))) for attnum, column in found.columns)
        if found.definition == "":
            return own
        seen = self._view(found.oid, found.definition) if found.definition is not None else None
        if seen is None or len(seen) != len(own) or any(column.gap for column in seen):
            taint = REDACT if seen is None else derived(strongest(column.taint for column in seen))
            return tuple(Column(column.name, strongest((column.taint, taint))) for column in own)
        return tuple(
            Column(column.name, strongest((column.taint, through.taint)))
            for column, through in zip(own, seen, strict=True)
        )

    def _view(self, oid: int, definition: str) -> Columns | None:
        if oid in self._views or len(self._views) >= _MAX_VIEWS:
            return None
        self._views.append(oid)
        try:
            statements = parse_statements(definition)
            if len(statements) != 1:
                return None
            taint = Taint(self.relation, self.carries, marks=self._marks)
            return taint.statement(statements[0].type, statements[0].tree)
        except (Unparsable, TooDeep, RecursionError):
            return None
        finally:
            self._views.pop()


COLUMN_TARGETS = """
WITH RECURSIVE mask AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS m(schema, relation, attribute, ordinal)
), named AS (
  SELECT DISTINCT m.ordinal, c.oid AS relation, a.attname
  FROM mask m
  JOIN pg_catalog.pg_namespace n ON m.schema = '*' OR n.nspname = m.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND (m.relation = '*' OR c.relname = m.relation)
  JOIN pg_catalog.pg_attribute a
    ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND (m.attribute = '*' OR a.attname = m.attribute)
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND (m.schema <> '*' OR n.nspname !~ '^(pg_|information_schema$)')
), family(ordinal, relation, attname, up) AS (
  SELECT ordinal, relation, attname, NULL::boolean FROM named
  UNION
  SELECT f.ordinal, CASE WHEN i.inhparent = f.relation THEN i.inhrelid ELSE i.inhparent END, f.attname,
         i.inhrelid = f.relation
  FROM family f
  JOIN pg_catalog.pg_inherits i
    ON (i.inhparent = f.relation AND f.up IS NOT TRUE) OR (i.inhrelid = f.relation AND f.up IS NOT FALSE)
)
SELECT DISTINCT f.ordinal::int4 AS ordinal, f.relation::oid AS relation, a.attnum::int2 AS attnum
FROM family f
JOIN pg_catalog.pg_attribute a
  ON a.attrelid = f.relation AND a.attname = f.attname AND a.attnum > 0 AND NOT a.attisdropped
"""
"""Columns that the rules mean, with partitions and children below and parents above: (ordinal from 1, OID, attnum)."""


def column_target_query(columns: Sequence[ColumnMask]) -> tuple[str, list[list[str]]]:
    """The query and its three text[] parameters: schemas, tables, columns of the masks, in order."""
    return COLUMN_TARGETS, [
        [mask.schema for mask in columns],
        [mask.table for mask in columns],
        [mask.column for mask in columns],
    ]


def load_column_targets(rows: Iterable[Sequence[int]], plan: MaskPlan) -> dict[tuple[int, int], Strategy]:
    """Strategy by (table OID, attnum) from the query's rows (as ints); where two masks meet the stronger wins."""
    targets: dict[tuple[int, int], Strategy] = {}
    for ordinal, relation, attnum in rows:
        strategy = plan.columns[ordinal - 1].strategy
        known = targets.get((relation, attnum))
        targets[relation, attnum] = strategy if known is None else stronger(known, strategy)
    return targets
