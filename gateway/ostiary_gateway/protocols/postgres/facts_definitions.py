"""Definitions: commands that change the schema, and what runs or is read while they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from . import plpgsql
from .facts_commands import COMMANDS
from .facts_settings import setting
from .facts_walk import Tree, Walk, handles, words

# Definitions: everything below changes the schema and no rows, unless its handler says more.

_DEFINITIONS = (
    [
        kind
        for kind, (verb, _) in COMMANDS.items()
        if verb in ("CREATE", "ALTER", "DROP", "GRANT", "COMMENT", "SECURITY LABEL")
    ]
    + ["ReassignOwnedStmt", "ImportForeignSchemaStmt", "LoadStmt", "RefreshMatViewStmt", "VacuumStmt", "ClusterStmt"]
    + ["ReindexStmt", "AlterTableCmd", "TableLikeClause", "CreateTableAsStmt"]
)
_CONCEDED = {
    "CreateExtensionStmt": "it runs the extension's script",
    "AlterExtensionStmt": "it runs the extension's script",
    "LoadStmt": "it loads a library into the server",
    "ImportForeignSchemaStmt": "what it creates is decided by another server",
    "CreateSubscriptionStmt": "another server decides what it writes",
    "AlterSubscriptionStmt": "another server decides what it writes",
    "DropOwnedStmt": "what a role owns does not stand in the text",
    "ReassignOwnedStmt": "what a role owns does not stand in the text",
}
_REBINDS = frozenset(
    """
    ViewStmt CreateFunctionStmt CreateTrigStmt RuleStmt CreatePolicyStmt AlterPolicyStmt DefineStmt CreateCastStmt
    CreateDomainStmt CreateExtensionStmt AlterExtensionStmt ImportForeignSchemaStmt RenameStmt AlterObjectSchemaStmt
    AlterFunctionStmt AlterDomainStmt DropStmt CreateEventTrigStmt AlterEventTrigStmt DropOwnedStmt
    """.split()  # noqa: SIM905
)
"""What may give a known name another meaning, or make known statements do more. A new table does neither."""

_KEEPS_MEANING = frozenset(
    f"AT_{name}"
    for name in """
    AddColumn DropColumn ColumnDefault SetNotNull DropNotNull AlterColumnType SetStatistics SetStorage SetCompression
    SetOptions ResetOptions SetRelOptions ResetRelOptions ChangeOwner AddConstraint DropConstraint ValidateConstraint
    AddIndexConstraint SetLogged SetUnLogged AddIdentity SetIdentity DropIdentity DropExpression ReplicaIdentity
    ClusterOn
    """.split()  # noqa: SIM905
)
"""ALTER TABLE: what these run is shown when they are decided. A new foreign key may cascade, so it is not meant."""


def _define(kind: str) -> Callable[[Walk, Tree], None]:
    reason = _CONCEDED.get(kind)
    rebinds = kind in _REBINDS

    def handler(walk: Walk, body: Tree) -> None:
        walk.changes()
        walk.draft.ddl = True
        walk.draft.rebinds |= rebinds
        walk.row_free()
        if reason is not None:
            walk.draft.concede(reason)
        special = DEFINERS.get(kind)
        if special is not None:
            special(walk, body)
        else:
            relations(walk, kind, body)

    return handler


def relations(walk: Walk, kind: str, body: Tree, *skip: str, event: str = "") -> None:
    """Every relation that stands directly in a definition is defined; expressions inside it are read."""
    rest = list(skip)
    for key, value in body.items():
        if key in skip:
            continue
        if isinstance(value, dict) and (value.get("relname") or "RangeVar" in value):
            walk.touch(value.get("RangeVar", value), "define", columns=("*",), event=event)
            rest.append(key)
        elif isinstance(value, list) and any("RangeVar" in item for item in value if isinstance(item, dict)):
            for item in value:
                walk.touch(item["RangeVar"], "define", columns=("*",), event=event)
            rest.append(key)
    walk.inside(kind, body, *rest)


def _named(walk: Walk, names: list[Tree], drop_last: int = 0) -> None:
    """A relation that a definition names as a list of strings."""
    parts = words(names)
    parts = parts[: len(parts) - drop_last]
    if parts:
        schema = parts[-2] if len(parts) > 1 else ""
        walk.touch({"relname": parts[-1], "schemaname": schema, "inh": True}, "define", columns=("*",))


_RELATION_OBJECTS = frozenset(
    f"OBJECT_{name}" for name in ("TABLE", "VIEW", "MATVIEW", "INDEX", "SEQUENCE", "FOREIGN_TABLE")
)
_PART_OBJECTS = frozenset(f"OBJECT_{name}" for name in ("TRIGGER", "POLICY", "RULE", "COLUMN", "TABCONSTRAINT"))


def _objects(walk: Walk, object_type: str, item: Tree) -> None:
    names = item.get("List", {}).get("items", [])
    if object_type in _RELATION_OBJECTS:
        _named(walk, names)
    elif object_type in _PART_OBJECTS:
        _named(walk, names, 1)


def _drop(walk: Walk, body: Tree) -> None:
    for item in body.get("objects", ()):
        _objects(walk, body["removeType"], item)
    if body["removeType"] in ("OBJECT_TABLE", "OBJECT_MATVIEW", "OBJECT_FOREIGN_TABLE"):
        walk.draft.truncates.extend(walk.draft.relations)
        if not walk.inner:
            walk.draft.effect(row_free=False)


def _comment(walk: Walk, body: Tree) -> None:
    _objects(walk, body["objtype"], body["object"])


def _create(walk: Walk, body: Tree) -> None:
    relations(walk, "CreateStmt", body, "inhRelations", event="CREATE")
    for item in body.get("inhRelations", ()):
        walk.touch(item["RangeVar"], "define", columns=("*",))


def _foreign_table(walk: Walk, body: Tree) -> None:
    _create(walk, body["base"])
    walk.inside("CreateForeignTableStmt", body, "base")


def _view(walk: Walk, body: Tree) -> None:
    walk.touch(body["view"], "define", columns=("*",), event="CREATE")
    walk.inside("ViewStmt", body, "view")


def _create_as(walk: Walk, body: Tree) -> None:
    walk.inside("CreateTableAsStmt", body)
    if not walk.inner:
        walk.draft.effect(row_free=False, estimable=True, explain_text=walk.text)


def _sequence(walk: Walk, body: Tree) -> None:
    relations(walk, "CreateSeqStmt", body, event="CREATE")


def _composite(walk: Walk, body: Tree) -> None:
    walk.inside("CompositeTypeStmt", body, "typevar")


def _like(walk: Walk, body: Tree) -> None:
    walk.touch(body["relation"], "read", columns=("*",))


def _alter_table(walk: Walk, body: Tree) -> None:
    relations(walk, "AlterTableStmt", body, event="MAINTAIN")


def _alter_cmd(walk: Walk, body: Tree) -> None:
    if body["subtype"] not in _KEEPS_MEANING or "CONSTR_FOREIGN" in str(body.get("def", "")):
        walk.draft.rebinds = True
    definition = body.get("def", {})
    name = definition.get("PartitionCmd", {}).get("name")
    if name is not None:
        walk.touch(name, "define", columns=("*",), event="MAINTAIN")
    if "RangeVar" in definition:
        walk.touch(definition["RangeVar"], "define", columns=("*",))
        return
    walk.inside("AlterTableCmd", body, *(("def",) if name is not None else ()))


def _maintain(kind: str) -> Callable[[Walk, Tree], None]:
    def handler(walk: Walk, body: Tree) -> None:
        if "relation" not in body and "rels" not in body:
            walk.draft.concede("it works on every table that the role may maintain")
        relations(walk, kind, body, "rels", event="MAINTAIN")
        for item in body.get("rels", ()):
            relation = item["VacuumRelation"].get("relation")
            if relation is not None:
                walk.touch(relation, "define", columns=("*",), event="MAINTAIN")

    return handler


def _refresh(walk: Walk, body: Tree) -> None:
    walk.touch(body["relation"], "write", columns=("*",), event="REFRESH")
    if not walk.inner:
        walk.draft.effect(row_free=False)


def _settings_of(walk: Walk, body: Tree) -> None:
    """ALTER ROLE, DATABASE, SYSTEM … SET: for sessions to come."""
    setting(walk, body["setstmt"], lasting=True)


def _function(walk: Walk, body: Tree) -> None:
    """The body does not run now, but it is what the function will do."""
    options = {item["DefElem"]["defname"]: item["DefElem"].get("arg", {}) for item in body.get("options", ())}
    language = options.get("language", {}).get("String", {}).get("sval", "sql").lower()
    for item in body.get("options", ()):
        statement = item["DefElem"].get("arg", {}).get("VariableSetStmt")
        if statement is not None:
            setting(walk, statement, lasting=True)
    walk.inside("CreateFunctionStmt", body, "funcname", "options", "sql_body", "parameters")
    for item in body.get("parameters", ()):
        walk.inside("FunctionParameter", item["FunctionParameter"])
    inner, walk.inner = walk.inner, True
    if "sql_body" in body:
        walk.node(body["sql_body"])
    else:
        source = words(options.get("as", {}).get("List", {}).get("items", []))
        if language == "sql":
            walk.body(source[0] if source else "", "the function's body")
        elif language == "plpgsql":
            plpgsql.read_function(walk, source[0] if source else "", body)
        else:
            walk.draft.concede(f"the function's body is in {language}")
    walk.inner = inner


def _alter_function(walk: Walk, body: Tree) -> None:
    for item in body.get("actions", ()):
        statement = item["DefElem"].get("arg", {}).get("VariableSetStmt")
        if statement is not None:
            setting(walk, statement, lasting=True)


def _rule(walk: Walk, body: Tree) -> None:
    walk.touch(body["relation"], "define", columns=("*",))
    inner, walk.inner = walk.inner, True
    walk.inside("RuleStmt", body, "relation")
    walk.inner = inner


def _schema(walk: Walk, body: Tree) -> None:
    inner, walk.inner = walk.inner, True
    walk.inside("CreateSchemaStmt", body)
    walk.inner = inner


def _grant(walk: Walk, body: Tree) -> None:
    relations(walk, "GrantStmt", body)


def _nothing(walk: Walk, body: Tree) -> None:
    """The names in it are of no relation, and nothing in it runs."""


DEFINERS: Final[dict[str, Callable[[Walk, Tree], None]]] = {
    "DropStmt": _drop,
    "CommentStmt": _comment,
    "SecLabelStmt": _comment,
    "CreateStmt": _create,
    "CreateForeignTableStmt": _foreign_table,
    "ViewStmt": _view,
    "CreateTableAsStmt": _create_as,
    "CreateSeqStmt": _sequence,
    "CompositeTypeStmt": _composite,
    "TableLikeClause": _like,
    "AlterTableStmt": _alter_table,
    "AlterTableCmd": _alter_cmd,
    "VacuumStmt": _maintain("VacuumStmt"),
    "ClusterStmt": _maintain("ClusterStmt"),
    "ReindexStmt": _maintain("ReindexStmt"),
    "RefreshMatViewStmt": _refresh,
    "AlterRoleSetStmt": _settings_of,
    "AlterDatabaseSetStmt": _settings_of,
    "AlterSystemStmt": _settings_of,
    "CreateFunctionStmt": _function,
    "AlterFunctionStmt": _alter_function,
    "RuleStmt": _rule,
    "CreateSchemaStmt": _schema,
    "GrantStmt": _grant,
    "AlterOwnerStmt": lambda walk, body: relations(walk, "AlterOwnerStmt", body, "object", "newowner"),
    "RenameStmt": lambda walk, body: relations(walk, "RenameStmt", body, "object"),
    "AlterObjectSchemaStmt": lambda walk, body: relations(walk, "AlterObjectSchemaStmt", body, "object"),
    "AlterObjectDependsStmt": lambda walk, body: relations(walk, "AlterObjectDependsStmt", body, "object"),
    "AlterDefaultPrivilegesStmt": _nothing,
    "DefineStmt": _nothing,
    "CreateCastStmt": _nothing,
    "CreateOpClassStmt": _nothing,
    "AlterOpFamilyStmt": _nothing,
    "AlterOperatorStmt": _nothing,
    "AlterTypeStmt": _nothing,
    "AlterExtensionContentsStmt": _nothing,
}


@handles("TruncateStmt")
def truncate(walk: Walk, body: Tree) -> None:
    """TRUNCATE: its estimate is what the relations hold."""
    walk.changes()
    event = "TRUNCATE CASCADE" if body.get("behavior") == "DROP_CASCADE" else "TRUNCATE"
    for item in body.get("relations", ()):
        walk.draft.truncates.append(walk.touch(item["RangeVar"], "write", columns=("*",), event=event))


for _kind in _DEFINITIONS:
    handles(_kind)(_define(_kind))
