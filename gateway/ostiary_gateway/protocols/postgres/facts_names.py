"""Names: the path they are searched in, and the columns that a query mentions of a relation."""

from __future__ import annotations

from .catalog_model import Relation
from .facts_model import RelationUse, Scope


def quote(name: str) -> str:
    """A name as SQL quotes it."""
    return '"' + name.replace('"', '""') + '"'


def search(scope: Scope) -> tuple[str, ...]:
    """The path that names are searched in: temporary relations and pg_catalog first, unless they are listed."""
    path = scope.search_path
    if "pg_catalog" not in path:
        path = ("pg_catalog", *path)
    return path if "pg_temp" in path else ("pg_temp", *path)


def split_path(value: str, scope: Scope) -> tuple[str, ...]:
    """The schemas of a search_path as pg_proc.proconfig has it."""
    parts = []
    rest = value
    while rest.strip():
        rest = rest.strip()
        if rest.startswith('"'):
            end = 1
            while (end := rest.find('"', end)) >= 0 and rest[end : end + 2] == '""':
                end += 2
            if end < 0:
                break
            parts.append(rest[1:end].replace('""', '"'))
            rest = rest[end + 1 :].lstrip().removeprefix(",")
        else:
            item, _, rest = rest.partition(",")
            parts.append(item.strip().lower())
    return tuple(scope.role if part == "$user" else part for part in parts if part)


def mentioned(use: RelationUse, relation: Relation | None) -> tuple[str, ...]:
    """The columns of a relation that its query mentions. `*` for its whole row, and for what is not known."""
    level = use.level
    if level is None:
        return ("*",)
    columns = {column for alias, column in level.qualified if alias == use.alias}
    if level.star:
        columns.add("*")
    if relation is None:
        if level.names - {use.alias}:
            columns.add("*")
        return tuple(columns)
    own = set(relation.columns.values())
    columns = {column for column in columns if column == "*" or column in own}
    columns |= level.names & own
    if (
        use.alias in level.names
        and use.alias not in own
        and not any(alias == use.alias for alias, _ in level.qualified)
    ):
        columns.add("*")
    return tuple(columns)
