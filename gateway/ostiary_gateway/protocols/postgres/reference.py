"""What the gateway knows of one database: its catalog, asked for aside and kept for a while; texts already read."""

from __future__ import annotations

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, Generic, TypeVar

from ostiary_gateway.loop import give_back
from ostiary_policy.masking import MaskPlan, Strategy

from .catalog import Catalog, Wanted
from .facts import Analysis, Parsed, Scope, parse, resolve
from .lineage import column_target_query, load_column_targets
from .literal_places import mere_values
from .marks import Marks
from .origins import MASKED_VIEWS, Origins
from .rows import Field, parse_row_description
from .upstream import Aside, QuestionFailed

CATALOG_AGE: Final = 30.0
"""Seconds after which the catalog is asked again. DDL through this gateway is seen at once."""
MAX_TEXTS: Final = 4096
MAX_CHARACTERS: Final = 4 * 1024 * 1024
"""Of all texts that are kept together: what was read of a text takes up to a hundred times its length."""
MAX_KEPT_TEXT: Final = 8192
"""Characters; what is kept for each session, it keeps of shorter texts only."""
MAX_KEPT_STATEMENTS: Final = 16
"""A text of more statements is not kept: it takes much memory, and seldom comes again."""
MAX_NAMES: Final = 500_000
"""Names that the catalog is remembered to have or not to have; then it is asked again."""
BIG_TEXT: Final = 32_768
"""Characters; a longer text is parsed in a thread (a 1 MB statement takes 100 ms)."""
MAX_ROUNDS: Final = 16
"""Questions to the catalog for one statement: views on views, functions in functions."""

_SIZE: Final = """
WITH RECURSIVE tree AS (
    SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2
    UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON t.oid = i.inhparent
)
SELECT CASE WHEN min(c.reltuples) >= 0 THEN sum(c.reltuples)::bigint::text END
FROM pg_catalog.pg_class c JOIN tree USING (oid) WHERE c.relkind <> 'p'
"""

Known = Callable[[str], Parsed | None]
"""A session's prepared statements, or its cursors, by name."""


_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class _Kept(Generic[_Key, _Value]):
    """What was made of texts; the oldest goes when there are too many, or too long ones."""

    def __init__(self) -> None:
        self._items: OrderedDict[_Key, tuple[int, _Value]] = OrderedDict()
        self._characters = 0

    def get(self, key: _Key) -> _Value | None:
        found = self._items.get(key)
        return None if found is None else found[1]

    def keep(self, key: _Key, characters: int, value: _Value) -> None:
        before = self._items.pop(key, None)
        self._characters += characters - (0 if before is None else before[0])
        self._items[key] = characters, value
        while len(self._items) > MAX_TEXTS or self._characters > MAX_CHARACTERS:
            _, (gone, _) = self._items.popitem(last=False)
            self._characters -= gone


class Unresolvable(Exception):
    """The catalog does not tell enough to know what a statement does."""


class Reference:
    """Shared by the sessions of one Connection in one database."""

    def __init__(self, aside: Aside, server_version: int) -> None:
        self.aside = aside
        self.planner = aside.another()
        """For EXPLAIN and descriptions: what an agent makes slow there keeps nobody from the catalog."""
        self.catalog = Catalog(server_version)
        self.changes = 0
        """Times that DDL was seen through the gateway."""
        self.stale_at = time.monotonic() + CATALOG_AGE
        """By the monotonic clock: when the catalog is asked again."""
        self._texts: _Kept[str, Parsed] = _Kept()
        self._analyses: _Kept[tuple[str, Scope], tuple[int, Analysis]] = _Kept()
        self._keys: _Kept[bytes, tuple[bytes, Analysis, bool | None]] = _Kept()
        """By a text without its literals: the first such text and its analysis; later, whether the literals matter."""
        self.marks = Marks()
        self._origins: dict[MaskPlan, Origins] = {}
        self._fingerprints = False
        self._loading = asyncio.Lock()

    def drop(self) -> None:
        """Closes the connections for questions now."""
        self.aside.drop()
        self.planner.drop()

    def forget(self) -> None:
        """After DDL: names may mean something else now."""
        self.changes += 1
        self._ask_again()

    def _ask_again(self) -> None:
        self.catalog.forget()
        self.stale_at = time.monotonic() + CATALOG_AGE
        self._origins.clear()

    def _age(self) -> None:
        if time.monotonic() > self.stale_at:
            self._ask_again()

    def need_fingerprints(self) -> None:
        """A policy reads them: from now on they are worked out."""
        if not self._fingerprints:
            self._fingerprints = True
            self._analyses = _Kept()

    def generation(self) -> int:
        """It changes when what was known of the catalog may be wrong."""
        self._age()
        return self.catalog.generation

    def literals_are_values(self, key: bytes, text: bytes, analysis: Analysis) -> bool:
        """True if all texts with this key (`fold`) do the same. It takes a second text to find out.

        The tree says that the literals are values of expressions; two texts' facts must agree on top of that.
        """
        known = self._keys.get(key)
        if known is None:
            self._keys.keep(key, len(key), (text, analysis, None))
            return False
        first, before, answer = known
        if answer is None and first != text:
            if _scopes(before) != _scopes(analysis):
                self._keys.keep(key, len(key), (text, analysis, None))
                return False
            answer = _essence(before) == _essence(analysis) and mere_values(text) and mere_values(first)
            self._keys.keep(key, len(key), (b"", Analysis(()), answer))
        return bool(answer)

    def parsed(self, text: str) -> Parsed | None:
        """The text, read, if that is cheap; None if it has to be read in a thread."""
        found = self._texts.get(text)
        if found is None:
            if len(text) > BIG_TEXT:
                return None
            found = self._keep(text, parse(text))
        return found

    def _keep(self, text: str, parsed: Parsed) -> Parsed:
        if len(text) <= BIG_TEXT and len(parsed.statements) <= MAX_KEPT_STATEMENTS:
            self._texts.keep(text, len(text), parsed)
        return parsed

    def analysis(self, text: str, scope: Scope, prepared: Known, cursors: Known) -> Analysis | None:
        """What the text does, if the catalog knows enough already."""
        self._age()
        key = (text, scope)
        kept = self._analyses.get(key)
        if kept is not None and kept[0] == self.catalog.generation:
            return kept[1]
        parsed = self.parsed(text)
        if parsed is None:
            return None
        found = resolve(parsed, self.catalog, scope, prepared, cursors, fingerprints=self._fingerprints)
        return self._keep_analysis(key, parsed, found) if isinstance(found, Analysis) else None

    async def analyse(self, text: str, scope: Scope, prepared: Known, cursors: Known) -> Analysis:
        """What the text does. Raises Unresolvable, UpstreamError, QuestionFailed or TimeoutError."""
        if self.catalog.names > MAX_NAMES:
            self._ask_again()
        parsed = self.parsed(text)
        if parsed is None:
            parsed = await asyncio.to_thread(_parse_large, text)
        for _ in range(MAX_ROUNDS):
            found = resolve(parsed, self.catalog, scope, prepared, cursors, fingerprints=self._fingerprints)
            if isinstance(found, Analysis):
                return self._keep_analysis((text, scope), parsed, found)
            await self._load(found)
        raise Unresolvable("the statement reaches through more views and functions than the gateway follows")

    def _keep_analysis(self, key: tuple[str, Scope], parsed: Parsed, analysis: Analysis) -> Analysis:
        named = any(s.effects.executes is not None or s.effects.fetches is not None for s in analysis.statements)
        if len(parsed.text) <= BIG_TEXT and len(parsed.statements) <= MAX_KEPT_STATEMENTS and not named:
            self._analyses.keep(key, len(parsed.text), (self.catalog.generation, analysis))
        return analysis

    @staticmethod
    def lasting(text: str, analysis: Analysis) -> bool:
        """True if a session may keep what it makes of this analysis: it is small, and likely to come again."""
        return len(text) <= MAX_KEPT_TEXT and len(analysis.statements) <= MAX_KEPT_STATEMENTS

    async def _load(self, wanted: Wanted) -> None:
        async with self._loading:
            for query in self.catalog.queries(wanted):
                generation = self.catalog.generation
                rows = await self.aside.query(query.sql, query.params)
                if generation != self.catalog.generation:
                    return  # it may have been read before what made the catalog forget
                self.catalog.load(query, rows)

    def mark(self, plan: MaskPlan, column: tuple[int, int]) -> None:
        """A detector of the plan has hit this column (table OID, attribute number)."""
        if self.marks.add(plan, column):
            # Whatever was kept of statements did not follow it.
            self._origins.pop(plan, None)
            self.catalog.generation += 1

    def origins(self, plan: MaskPlan) -> Origins | None:
        """Where the columns are that the plan hides, if that was asked before."""
        self._age()
        return self._origins.get(plan)

    async def find_origins(self, plan: MaskPlan) -> Origins:
        """Asks the catalog for the masked columns, and for the views that show them."""
        generation = self.catalog.generation
        targets: Mapping[tuple[int, int], Strategy] = {}
        if plan.columns:
            sql, arrays = column_target_query(plan.columns)
            rows = await self.aside.query(sql, [array(items) for items in arrays])
            targets = load_column_targets([tuple(int(value or 0) for value in row) for row in rows], plan)
        marked = self.marks.of(plan)
        oids = sorted({oid for oid, _ in (*targets, *marked)})
        views = await self.aside.query(MASKED_VIEWS, [array(str(oid) for oid in oids)]) if oids else []
        origins = Origins(targets, views, self.catalog, marked)
        if generation == self.catalog.generation:
            self._origins[plan] = origins
        return origins

    async def size(self, relations: tuple[tuple[str, str], ...]) -> int | None:
        """Rows of these tables (schema, name) with their partitions, by the last ANALYZE; None if one never was."""
        total = 0
        for schema, name in relations:
            ((rows,),) = await self.aside.query(_SIZE, (schema, name))
            if rows is None:
                return None
            total += int(rows)
        return total

    async def describe(self, select: str, search_path: str, role: str) -> tuple[Field, ...]:
        """The columns of a query that is not run."""
        body = await self.planner.describe(select, search_path, role)
        return parse_row_description(body) if body else ()


def _scopes(analysis: Analysis) -> list[Scope | None]:
    return [statement.scope for statement in analysis.statements]


def _essence(analysis: Analysis) -> list[tuple[dict[str, object], object]]:
    """Facts and effects without the texts."""
    return [
        (
            {name: value for name, value in statement.facts.items() if name != "text"},
            replace(statement.effects, explain_text=""),
        )
        for statement in analysis.statements
    ]


def _parse_large(text: str) -> Parsed:
    """In a thread. The tree of a large text takes up to a hundred times its length, for a moment."""
    try:
        return parse(text)
    finally:
        give_back()


def array(items: Iterable[str]) -> str:
    """A text[] in PostgreSQL's notation."""
    return "{" + ",".join('"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"' for item in items) + "}"


def estimate(explained: str) -> int:
    """Rows of a plan (EXPLAIN FORMAT JSON): those that its ModifyTable nodes change, else those that it returns."""
    try:
        plan = json.loads(explained)[0]["Plan"]
        changed = _changed(plan)
        return int(plan["Plan Rows"]) if changed is None else changed
    except (KeyError, IndexError, TypeError, ValueError) as problem:
        raise QuestionFailed("", f"the plan cannot be read: {problem}") from None


def _changed(plan: dict[str, object]) -> int | None:
    """Rows below every ModifyTable node, in data-modifying CTEs too. None if nothing is modified."""
    children = plan.get("Plans", [])
    assert isinstance(children, list)
    totals = [total for child in children if (total := _changed(child)) is not None]
    if plan.get("Node Type") == "ModifyTable":
        sources = [c for c in children if c.get("Parent Relationship") not in ("InitPlan", "SubPlan")]
        own = sum(int(str(child["Plan Rows"])) for child in sources)
        totals.append(max(own, int(str(plan.get("Plan Rows", 0)))))
    return sum(totals) if totals else None
