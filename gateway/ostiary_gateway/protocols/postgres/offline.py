"""Facts of SQL without a target, for the tests of policies and for explaining: every table that is named is there.

Functions are those of PostgreSQL 18; any other is unknown, and so opaque. A gateway asks the target's catalog, so what
it says of the same text may be more exact (the columns of a view) or stricter (a trigger).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from ostiary_policy.facts import RelationFacts, SqlFacts, StatementFacts

from .catalog import Catalog, Wanted
from .facts import Parsed, Scope, parse, resolve

SCHEMA = "public"
"""Where a table is that is named without its schema."""


def sql_facts(text: str, *, database: str, user: str, params: Sequence[str | None] = ()) -> SqlFacts:
    """The facts of `sql`. Raises ValueError for a text that no server would take."""
    if "\0" in text:
        raise ValueError("PostgreSQL takes no text with a NUL character")
    parsed = parse(text)
    analysis = resolve(parsed, _catalog(), Scope((SCHEMA,), user, database))
    if isinstance(analysis, Wanted):
        raise ValueError("its facts cannot be told without a target")
    schemas = _schemas(parsed)
    return {
        "text": text,
        "database": database,
        "user": user,
        "inTransaction": False,
        "statements": [_assumed(statement.facts, schemas) for statement in analysis.statements],
        "params": list(params),
    }


@cache
def _catalog() -> Catalog:
    """Reading PostgreSQL's own functions takes longer than all the rest."""
    return Catalog.offline()


def _schemas(parsed: Parsed) -> dict[str, set[str]]:
    """Name of a relation → the schemas that it is named with."""
    found: dict[str, set[str]] = {}
    for statement in parsed.statements:
        for use in statement.draft.relations:
            found.setdefault(use.name, set()).add(use.schema or _home(use.name))
    return found


def _home(name: str) -> str:
    """PostgreSQL keeps the names that begin with pg_ to itself."""
    return "pg_catalog" if name.startswith("pg_") else SCHEMA


def _assumed(facts: StatementFacts, schemas: Mapping[str, set[str]]) -> StatementFacts:
    relations: list[RelationFacts] = []
    for relation in facts["relations"]:
        homes = [relation["schema"]] if relation["schema"] else sorted(schemas.get(relation["name"], {SCHEMA}))
        relations.extend({**relation, "schema": home} for home in homes)
    return {**facts, "relations": relations}
