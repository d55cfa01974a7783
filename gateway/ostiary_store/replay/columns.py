"""Which columns a statement names, from its text alone: where no catalog says of which table each one is. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from ostiary_gateway.protocols.postgres.facts_parse import Json, Unparsable, parse_statements
from ostiary_policy.facts import RelationFacts, SqlFacts, StatementFacts


@dataclass(slots=True)
class _Named:
    """`unqualified`: columns without a table's name before them. `star`: a `*` that stands for columns."""

    unqualified: set[str]
    star: bool = False


def settle_columns(facts: SqlFacts) -> bool:
    """Puts the columns that are named in the place of `*`, which without a catalog also stands for not known.

    True if it cannot be told of which table each is: then every table has them all.
    """
    try:
        trees = parse_statements(facts["text"])
    except (Unparsable, RecursionError):
        return False
    unsure = False
    if len(trees) != len(facts["statements"]):
        return True
    for statement, tree in zip(facts["statements"], trees, strict=True):
        named = _Named(set())
        try:
            _walk(tree.tree, named)
        except RecursionError:
            unsure = True
            continue
        unsure |= _settle(statement, named)
    return unsure


def _settle(statement: StatementFacts, named: _Named) -> bool:
    read: list[RelationFacts] = [each for each in statement["relations"] if each["access"] == "read"]
    unknown = [each for each in read if "*" in each["columns"]]
    if not named.star:
        for relation in unknown:
            relation["columns"] = sorted({*relation["columns"], *named.unqualified} - {"*"})
    several = len({(each["schema"], each["name"]) for each in read}) > 1
    return several and bool(unknown) and (named.star or bool(named.unqualified))


def _walk(value: Json, named: _Named) -> None:
    if isinstance(value, list):
        for item in value:
            _walk(item, named)
    elif isinstance(value, dict):
        for name, inner in value.items():
            if name == "ColumnRef" and isinstance(inner, dict):
                _column(inner.get("fields"), named)
            else:
                _walk(inner, named)


def _column(fields: Json, named: _Named) -> None:
    if not isinstance(fields, list) or not fields:
        return
    last = fields[-1]
    if isinstance(last, dict) and "A_Star" in last:
        named.star = True
    elif len(fields) == 1 and isinstance(last, dict):
        text = last.get("String")
        name = text.get("sval") if isinstance(text, dict) else None
        if isinstance(name, str):
            named.unqualified.add(name)
