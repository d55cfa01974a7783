"""Functions of PostgreSQL that do more than compute: they run SQL, change settings, reach relations by name."""

from __future__ import annotations

from . import functions
from .facts_model import RelationUse
from .facts_parse import Unparsable, parse_statements
from .facts_settings import check_pinned, pin
from .facts_walk import SPECIAL, Tree, Walk, constant


def _set_config(walk: Walk, name: str, args: list[Tree]) -> None:
    setting = constant(args[0]) if args else None
    value = constant(args[1]) if len(args) > 1 else None
    if setting is None:
        walk.setting("*")
        pin(walk, "it names a setting for set_config that is no constant")
        return
    walk.setting(setting.lower())
    check_pinned(walk, setting.lower(), None if value is None else [value])


def _runs_sql(walk: Walk, name: str, args: list[Tree]) -> None:
    if name == "ts_rewrite" and len(args) != 2:
        return
    position = functions.RUNS_SQL[name]
    sql = constant(args[position]) if len(args) > position else None
    if sql is None:
        walk.draft.concede(f"{name}() runs SQL that is no constant")
    else:
        walk.body(sql, f"the SQL that {name}() runs")


def _named_relation(walk: Walk, name: str, args: list[Tree]) -> None:
    access = functions.SEQUENCES.get(name, "read")
    relation = constant(args[0]) if args else None
    if relation is not None:
        named = relation_named(relation)
        if named is not None:
            walk.draft.relations.append(RelationUse(named[0], named[1], access, named[1], columns=("*",)))
            return
    if name in functions.READS_RELATION:
        walk.draft.concede(f"{name}() reads a relation that is no constant")
    elif access == "write":
        walk.draft.writes = True


def _unnamed(walk: Walk, name: str, args: list[Tree]) -> None:
    walk.draft.concede(f"{name}(): {functions.READS_UNNAMED[name]}")


def relation_named(text: str) -> tuple[str, str] | None:
    """(schema or "", name) of a relation as a regclass literal names it. None if it is no name."""
    try:
        statements = parse_statements(f"SELECT FROM {text}")
    except Unparsable:
        return None
    source = statements[0].tree.get("fromClause", [{}]) if len(statements) == 1 else [{}]
    relation = source[0].get("RangeVar") if isinstance(source, list) and isinstance(source[0], dict) else None
    if not isinstance(relation, dict):
        return None
    return str(relation.get("schemaname", "")), str(relation["relname"])


SPECIAL["set_config"] = _set_config
SPECIAL.update(dict.fromkeys(functions.RUNS_SQL, _runs_sql))
SPECIAL.update(dict.fromkeys((*functions.SEQUENCES, *functions.READS_RELATION), _named_relation))
SPECIAL.update(dict.fromkeys(functions.READS_UNNAMED, _unnamed))
