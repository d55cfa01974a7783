"""Utility commands: their verb and kind, and what their text says. Queries and data changes: facts_walk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from . import plpgsql
from .facts_model import CopyEffect
from .facts_parse import after_keyword, bracket
from .facts_walk import Tree, Walk, check_pinned, constant, handles, selective, target, words

_KINDS = {
    "ACCESS_METHOD": "ACCESS METHOD",
    "DEFACL": "DEFAULT PRIVILEGES",
    "DOMCONSTRAINT": "CONSTRAINT",
    "FDW": "FOREIGN DATA WRAPPER",
    "FOREIGN_SERVER": "SERVER",
    "LARGEOBJECT": "LARGE OBJECT",
    "MATVIEW": "MATERIALIZED VIEW",
    "OPCLASS": "OPERATOR CLASS",
    "OPFAMILY": "OPERATOR FAMILY",
    "STATISTIC_EXT": "STATISTICS",
    "TABCONSTRAINT": "CONSTRAINT",
    "TSCONFIGURATION": "TEXT SEARCH CONFIGURATION",
    "TSDICTIONARY": "TEXT SEARCH DICTIONARY",
    "TSPARSER": "TEXT SEARCH PARSER",
    "TSTEMPLATE": "TEXT SEARCH TEMPLATE",
    "ATTRIBUTE": "TYPE",
    "COLUMN": "TABLE",
}


def kind_of(object_type: str) -> str:
    """OBJECT_FOREIGN_TABLE → FOREIGN TABLE, and the names that SQL has for the rest."""
    name = object_type.removeprefix("OBJECT_")
    return _KINDS.get(name, name.replace("_", " "))


Kind = str | Callable[[Tree], str]
COMMANDS: Final[dict[str, tuple[str, Kind]]] = {
    "SelectStmt": ("SELECT", lambda b: "TABLE" if "intoClause" in b else ""),
    "InsertStmt": ("INSERT", ""),
    "UpdateStmt": ("UPDATE", ""),
    "DeleteStmt": ("DELETE", ""),
    "MergeStmt": ("MERGE", ""),
    "CopyStmt": ("COPY", ""),
    "VariableSetStmt": ("SET", ""),
    "VariableShowStmt": ("SHOW", ""),
    "TransactionStmt": ("BEGIN", ""),
    "PrepareStmt": ("PREPARE", ""),
    "ExecuteStmt": ("EXECUTE", ""),
    "DeallocateStmt": ("DEALLOCATE", ""),
    "DeclareCursorStmt": ("DECLARE", "CURSOR"),
    "ClosePortalStmt": ("CLOSE", "CURSOR"),
    "FetchStmt": ("FETCH", "CURSOR"),
    "ExplainStmt": ("EXPLAIN", ""),
    "DoStmt": ("DO", ""),
    "CallStmt": ("CALL", "PROCEDURE"),
    "ListenStmt": ("LISTEN", ""),
    "UnlistenStmt": ("UNLISTEN", ""),
    "NotifyStmt": ("NOTIFY", ""),
    "LockStmt": ("LOCK", "TABLE"),
    "DiscardStmt": ("DISCARD", lambda b: b["target"].removeprefix("DISCARD_")),
    "ConstraintsSetStmt": ("SET", "CONSTRAINTS"),
    "CheckPointStmt": ("CHECKPOINT", ""),
    "TruncateStmt": ("TRUNCATE", "TABLE"),
    "CreateTableAsStmt": ("CREATE", lambda b: kind_of(b["objtype"])),
    "RefreshMatViewStmt": ("REFRESH", "MATERIALIZED VIEW"),
    "VacuumStmt": ("VACUUM", ""),
    "ClusterStmt": ("CLUSTER", "TABLE"),
    "ReindexStmt": ("REINDEX", lambda b: b["kind"].removeprefix("REINDEX_OBJECT_")),
    "CreateStmt": ("CREATE", "TABLE"),
    "CreateForeignTableStmt": ("CREATE", "FOREIGN TABLE"),
    "ViewStmt": ("CREATE", "VIEW"),
    "IndexStmt": ("CREATE", "INDEX"),
    "CreateSchemaStmt": ("CREATE", "SCHEMA"),
    "CreateSeqStmt": ("CREATE", "SEQUENCE"),
    "CreateFunctionStmt": ("CREATE", lambda b: "PROCEDURE" if b.get("is_procedure") else "FUNCTION"),
    "CreateTrigStmt": ("CREATE", "TRIGGER"),
    "CreateEventTrigStmt": ("CREATE", "EVENT TRIGGER"),
    "RuleStmt": ("CREATE", "RULE"),
    "CreatePolicyStmt": ("CREATE", "POLICY"),
    "CreateStatsStmt": ("CREATE", "STATISTICS"),
    "CreateDomainStmt": ("CREATE", "DOMAIN"),
    "CompositeTypeStmt": ("CREATE", "TYPE"),
    "CreateEnumStmt": ("CREATE", "TYPE"),
    "CreateRangeStmt": ("CREATE", "TYPE"),
    "DefineStmt": ("CREATE", lambda b: kind_of(b["kind"])),
    "CreateCastStmt": ("CREATE", "CAST"),
    "CreateConversionStmt": ("CREATE", "CONVERSION"),
    "CreateTransformStmt": ("CREATE", "TRANSFORM"),
    "CreateOpClassStmt": ("CREATE", "OPERATOR CLASS"),
    "CreateOpFamilyStmt": ("CREATE", "OPERATOR FAMILY"),
    "CreateAmStmt": ("CREATE", "ACCESS METHOD"),
    "CreatePLangStmt": ("CREATE", "LANGUAGE"),
    "CreateExtensionStmt": ("CREATE", "EXTENSION"),
    "CreateFdwStmt": ("CREATE", "FOREIGN DATA WRAPPER"),
    "CreateForeignServerStmt": ("CREATE", "SERVER"),
    "CreateUserMappingStmt": ("CREATE", "USER MAPPING"),
    "CreateRoleStmt": ("CREATE", "ROLE"),
    "CreatedbStmt": ("CREATE", "DATABASE"),
    "CreateTableSpaceStmt": ("CREATE", "TABLESPACE"),
    "CreatePublicationStmt": ("CREATE", "PUBLICATION"),
    "CreateSubscriptionStmt": ("CREATE", "SUBSCRIPTION"),
    "ImportForeignSchemaStmt": ("IMPORT", "FOREIGN SCHEMA"),
    "LoadStmt": ("LOAD", ""),
    "AlterTableStmt": ("ALTER", lambda b: kind_of(b["objtype"])),
    "AlterTableMoveAllStmt": ("ALTER", lambda b: kind_of(b["objtype"])),
    "AlterDomainStmt": ("ALTER", "DOMAIN"),
    "AlterDefaultPrivilegesStmt": ("ALTER", "DEFAULT PRIVILEGES"),
    "AlterTableSpaceOptionsStmt": ("ALTER", "TABLESPACE"),
    "AlterExtensionStmt": ("ALTER", "EXTENSION"),
    "AlterExtensionContentsStmt": ("ALTER", "EXTENSION"),
    "AlterFdwStmt": ("ALTER", "FOREIGN DATA WRAPPER"),
    "AlterForeignServerStmt": ("ALTER", "SERVER"),
    "AlterUserMappingStmt": ("ALTER", "USER MAPPING"),
    "AlterPolicyStmt": ("ALTER", "POLICY"),
    "AlterEventTrigStmt": ("ALTER", "EVENT TRIGGER"),
    "AlterRoleStmt": ("ALTER", "ROLE"),
    "AlterRoleSetStmt": ("ALTER", "ROLE"),
    "AlterSeqStmt": ("ALTER", "SEQUENCE"),
    "AlterOpFamilyStmt": ("ALTER", "OPERATOR FAMILY"),
    "AlterStatsStmt": ("ALTER", "STATISTICS"),
    "AlterFunctionStmt": ("ALTER", lambda b: kind_of(b["objtype"])),
    "AlterObjectDependsStmt": ("ALTER", lambda b: kind_of(b["objectType"])),
    "AlterObjectSchemaStmt": ("ALTER", lambda b: kind_of(b["objectType"])),
    "AlterOwnerStmt": ("ALTER", lambda b: kind_of(b["objectType"])),
    "RenameStmt": ("ALTER", lambda b: kind_of(b["relationType" if _of_relation(b) else "renameType"])),
    "AlterOperatorStmt": ("ALTER", "OPERATOR"),
    "AlterTypeStmt": ("ALTER", "TYPE"),
    "AlterEnumStmt": ("ALTER", "TYPE"),
    "AlterCollationStmt": ("ALTER", "COLLATION"),
    "AlterDatabaseStmt": ("ALTER", "DATABASE"),
    "AlterDatabaseSetStmt": ("ALTER", "DATABASE"),
    "AlterDatabaseRefreshCollStmt": ("ALTER", "DATABASE"),
    "AlterSystemStmt": ("ALTER", "SYSTEM"),
    "AlterTSDictionaryStmt": ("ALTER", "TEXT SEARCH DICTIONARY"),
    "AlterTSConfigurationStmt": ("ALTER", "TEXT SEARCH CONFIGURATION"),
    "AlterPublicationStmt": ("ALTER", "PUBLICATION"),
    "AlterSubscriptionStmt": ("ALTER", "SUBSCRIPTION"),
    "DropStmt": ("DROP", lambda b: kind_of(b["removeType"])),
    "DropdbStmt": ("DROP", "DATABASE"),
    "DropRoleStmt": ("DROP", "ROLE"),
    "DropTableSpaceStmt": ("DROP", "TABLESPACE"),
    "DropUserMappingStmt": ("DROP", "USER MAPPING"),
    "DropSubscriptionStmt": ("DROP", "SUBSCRIPTION"),
    "DropOwnedStmt": ("DROP", "OWNED"),
    "ReassignOwnedStmt": ("REASSIGN", "OWNED"),
    "GrantStmt": ("GRANT", lambda b: kind_of(b["objtype"])),
    "GrantRoleStmt": ("GRANT", "ROLE"),
    "CommentStmt": ("COMMENT", lambda b: kind_of(b["objtype"])),
    "SecLabelStmt": ("SECURITY LABEL", lambda b: kind_of(b["objtype"])),
}


def _of_relation(body: Tree) -> bool:
    return body["renameType"] in ("OBJECT_COLUMN", "OBJECT_ATTRIBUTE", "OBJECT_TABCONSTRAINT")


_TRANSACTIONS = {
    "TRANS_STMT_BEGIN": ("BEGIN", "BEGIN"),
    "TRANS_STMT_START": ("START TRANSACTION", "BEGIN"),
    "TRANS_STMT_COMMIT": ("COMMIT", "COMMIT"),
    "TRANS_STMT_ROLLBACK": ("ROLLBACK", "ROLLBACK"),
    "TRANS_STMT_SAVEPOINT": ("SAVEPOINT", "SAVEPOINT"),
    "TRANS_STMT_RELEASE": ("RELEASE", "RELEASE"),
    "TRANS_STMT_ROLLBACK_TO": ("ROLLBACK TO", "ROLLBACK_TO"),
    "TRANS_STMT_PREPARE": ("PREPARE TRANSACTION", "PREPARE_TRANSACTION"),
    "TRANS_STMT_COMMIT_PREPARED": ("COMMIT PREPARED", "COMMIT_PREPARED"),
    "TRANS_STMT_ROLLBACK_PREPARED": ("ROLLBACK PREPARED", "ROLLBACK_PREPARED"),
}


def name_statement(kind: str, body: Tree) -> tuple[str, str]:
    """(verb, kind) of a statement. ("", "") for a type that is not known, which the walk concedes."""
    command = COMMANDS.get(kind)
    if command is None:
        return "", ""
    verb, what = command
    if kind == "TransactionStmt":
        verb = _TRANSACTIONS.get(body["kind"], (verb, ""))[0]
    elif kind in ("GrantStmt", "GrantRoleStmt") and not body.get("is_grant"):
        verb = "REVOKE"
    elif kind == "VariableSetStmt" and body["kind"].startswith("VAR_RESET"):
        verb = "RESET"
    elif kind == "FetchStmt" and body.get("ismove"):
        verb = "MOVE"
    elif kind == "VacuumStmt" and not body.get("is_vacuumcmd"):
        verb = "ANALYZE"
    return verb, what if isinstance(what, str) else what(body)


def _rows_of(walk: Walk) -> None:
    if not walk.inner:
        walk.draft.effect(row_free=True)


# Definitions: everything below changes the schema and no rows, unless its handler says more.

_DEFINITIONS = (
    [kind for kind, (verb, _) in COMMANDS.items() if verb in ("CREATE", "ALTER", "DROP", "GRANT", "COMMENT", "SECURITY LABEL")]
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
    CreateStmt CreateForeignTableStmt CreateTableAsStmt ViewStmt CreateSchemaStmt CreateFunctionStmt CreateTrigStmt RuleStmt
    CreatePolicyStmt AlterPolicyStmt DefineStmt CreateCastStmt CreateDomainStmt CreateExtensionStmt AlterExtensionStmt
    ImportForeignSchemaStmt RenameStmt AlterObjectSchemaStmt AlterTableStmt AlterFunctionStmt AlterDomainStmt DropStmt
    CreateEventTrigStmt AlterEventTrigStmt DropOwnedStmt
    """.split()
)


def _define(kind: str) -> Callable[[Walk, Tree], None]:
    reason = _CONCEDED.get(kind)
    rebinds = kind in _REBINDS

    def handler(walk: Walk, body: Tree) -> None:
        walk.changes()
        walk.draft.ddl = True
        walk.draft.rebinds |= rebinds
        _rows_of(walk)
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
    parts = [part for part in words(names)]
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
for _kind in _DEFINITIONS:
    handles(_kind)(_define(_kind))


@handles("TruncateStmt")
def truncate(walk: Walk, body: Tree) -> None:
    walk.changes()
    event = "TRUNCATE CASCADE" if body.get("behavior") == "DROP_CASCADE" else "TRUNCATE"
    for item in body.get("relations", ()):
        walk.draft.truncates.append(walk.touch(item["RangeVar"], "write", columns=("*",), event=event))


# Settings and the session


@handles("VariableSetStmt")
def set_variable(walk: Walk, body: Tree) -> None:
    setting(walk, body, lasting=False)


def setting(walk: Walk, body: Tree, lasting: bool) -> None:
    """SET and RESET. `lasting`: for sessions or calls to come, not for this one."""
    kind, name = body["kind"], body.get("name", "").lower()
    if kind == "VAR_RESET_ALL":
        names = ["*"]
    elif kind == "VAR_SET_MULTI":
        names = [item["DefElem"]["defname"] for item in body.get("args", ())]
        if name == "transaction snapshot":
            names = ["transaction_snapshot"]
    else:
        names = [name]
    for each in names:
        if lasting:
            walk.draft.settings[each] = None
        else:
            walk.setting(each)
    values = [constant(item) for item in body.get("args", ())]
    if kind == "VAR_SET_VALUE":
        check_pinned(walk, name, values)
    if name == "search_path" or kind == "VAR_RESET_ALL":
        if walk.inner and not lasting:
            walk.draft.path_changed = True
        elif kind == "VAR_SET_VALUE" and not lasting and not body.get("is_local"):
            path = [value for value in values if value is not None]
            if len(path) == len(values) and "$user" not in path:
                walk.draft.effect(search_path=tuple(path))
    elif name in ("role", "session_authorization") and walk.inner and not lasting:
        walk.draft.path_changed = True


@handles("VariableShowStmt")
def show(walk: Walk, body: Tree) -> None:
    """SHOW reads a setting."""


@handles("DiscardStmt")
def discard(walk: Walk, body: Tree) -> None:
    walk.draft.read_only = False
    if walk.inner:
        walk.draft.concede("it discards the session's state")
    if body["target"] == "DISCARD_ALL":
        walk.setting("*")
        walk.draft.effect(deallocates="*", closes_cursor="*")
    elif body["target"] in ("DISCARD_TEMP", "DISCARD_SEQUENCES"):
        walk.changes()
        walk.draft.ddl |= body["target"] == "DISCARD_TEMP"
    _rows_of(walk)


@handles("TransactionStmt")
def transaction(walk: Walk, body: Tree) -> None:
    kind = body["kind"]
    effect = _TRANSACTIONS.get(kind, ("", ""))[1]
    if not effect:
        walk.draft.concede(f"a transaction command that is not known: {kind}")
    if not walk.inner:
        walk.draft.effect(transaction=effect, savepoint=body.get("savepoint_name", ""), row_free=True)
    if effect in ("PREPARE_TRANSACTION", "COMMIT_PREPARED", "ROLLBACK_PREPARED"):
        walk.draft.read_only = False
        walk.draft.writes = effect != "ROLLBACK_PREPARED"
        if effect == "COMMIT_PREPARED":
            walk.draft.concede("what the prepared transaction did does not stand in the text")
            walk.draft.ddl = True
    for item in body.get("options", ()):
        option = item["DefElem"]
        walk.draft.settings[option["defname"]] = None
        if option["defname"] == "transaction_read_only" and constant(option.get("arg")) != "1":
            walk.draft.read_only = False
    if walk.inner:
        walk.draft.read_only = False


@handles("ListenStmt", "UnlistenStmt", "NotifyStmt", "CheckPointStmt", "ConstraintsSetStmt")
def outward(walk: Walk, body: Tree) -> None:
    """They change no data, but others, or later statements, feel them."""
    walk.draft.read_only = False
    _rows_of(walk)


@handles("LockStmt")
def lock(walk: Walk, body: Tree) -> None:
    walk.draft.read_only = False
    for item in body.get("relations", ()):
        walk.touch(item["RangeVar"], "read", columns=())
    _rows_of(walk)


# Statements that hold or run other statements


@handles("ExplainStmt")
def explain(walk: Walk, body: Tree) -> None:
    """Without ANALYZE nothing runs. One ANALYZE that is not plainly off is enough."""
    runs = walk.draft.runs
    analyze = False
    for item in body.get("options", ()):
        option = item["DefElem"]
        if option["defname"] == "analyze":
            value = constant_option(option)
            analyze |= value is None or value.lower() not in ("off", "false", "0")
    walk.draft.runs = runs and analyze
    effects = walk.draft.effects
    ddl, rebinds = walk.draft.ddl, walk.draft.rebinds
    walk.node(body["query"])
    inner = walk.draft.effects
    if not walk.inner:
        walk.draft.effects = effects
        walk.draft.effect(
            has_params=inner.has_params,
            executes=inner.executes,
            pinned=inner.pinned,
            may_change_session=inner.may_change_session and analyze,
        )
        if analyze:
            text = _explained(walk.text)
            walk.draft.effect(estimable=bool(text), explain_text=text)
        else:
            walk.draft.effect(row_free=True)
    if not analyze:
        walk.draft.ddl, walk.draft.rebinds = ddl, rebinds
    walk.draft.runs = runs


def _explained(text: str) -> str:
    """The statement behind EXPLAIN and its options."""
    rest = after_keyword(text, "EXPLAIN")
    if rest.startswith("("):
        rest = bracket(rest)[1]
    else:
        while rest[:7].upper() in ("ANALYZE", "ANALYSE", "VERBOSE"):
            rest = rest[7:].lstrip()
    return rest


def constant_option(option: Tree) -> str | None:
    """The value of a DefElem as text; None if it has none."""
    arg = option.get("arg")
    if not arg:
        return None
    for kind, body in arg.items():
        if kind == "String":
            return str(body.get("sval", ""))
        if kind == "Integer":
            return str(body.get("ival", 0))
        if kind == "Float":
            return str(body.get("fval", ""))
        if kind == "Boolean":
            return "true" if body.get("boolval") else "false"
        if kind == "TypeName":
            return words(body.get("names", []))[-1]
    return "?"


@handles("PrepareStmt")
def prepare(walk: Walk, body: Tree) -> None:
    for item in body.get("argtypes", ()):
        walk.node(item)
    if walk.inner:
        walk.draft.concede("it prepares a statement out of sight")
    walk.node(body["query"])
    if not walk.inner:
        text = after_keyword(walk.text, "AS")
        walk.draft.prepared_text, walk.draft.prepared_name = text, body["name"]
        walk.draft.effect(has_params=False, estimable=bool(text), explain_text=text)


@handles("ExecuteStmt")
def execute(walk: Walk, body: Tree) -> None:
    for item in body.get("params", ()):
        walk.node(item)
    if walk.inner and walk.draft.verb != "CREATE":
        walk.draft.concede("it runs a prepared statement out of sight")
    walk.draft.executes.append(body["name"])
    if not walk.inner:
        walk.draft.effect(executes=body["name"])


@handles("DeallocateStmt")
def deallocate(walk: Walk, body: Tree) -> None:
    if walk.inner:
        walk.draft.concede("it deallocates a prepared statement out of sight")
    walk.draft.effect(deallocates=body.get("name", "*"))
    _rows_of(walk)


@handles("DeclareCursorStmt")
def declare(walk: Walk, body: Tree) -> None:
    if walk.inner:
        walk.draft.concede("it declares a cursor out of sight")
    walk.draft.effect(declares_cursor=body["portalname"], estimable=True, explain_text=walk.text)
    walk.node(body["query"])


@handles("ClosePortalStmt")
def close(walk: Walk, body: Tree) -> None:
    walk.draft.effect(closes_cursor=body.get("portalname", "*"))
    _rows_of(walk)


@handles("FetchStmt")
def fetch(walk: Walk, body: Tree) -> None:
    walk.draft.fetches.append(body["portalname"])
    walk.draft.effect(fetches=body["portalname"])


@handles("CallStmt")
def call(walk: Walk, body: Tree) -> None:
    walk.node({"FuncCall": body["funccall"]})
    walk.draft.read_only = False
    walk.draft.writes = True


@handles("DoStmt")
def do(walk: Walk, body: Tree) -> None:
    options = {item["DefElem"]["defname"]: constant_option(item["DefElem"]) for item in body.get("args", ())}
    language = (options.get("language") or "plpgsql").lower()
    if language != "plpgsql":
        walk.draft.concede(f"the block is in {language}")
        return
    inner, walk.inner = walk.inner, True
    plpgsql.read_block(walk, options.get("as") or "")
    walk.inner = inner


# COPY


@handles("CopyStmt")
def copy(walk: Walk, body: Tree) -> None:
    columns = tuple(words(body.get("attlist", ())))
    incoming = body.get("is_from", False)
    for item in body.get("options", ()):
        walk.inside("DefElem", item["DefElem"])
    if incoming:
        target(walk, body["relation"], "INSERT", columns or ("*",))
        if "whereClause" in body:
            walk.node(body["whereClause"])
    elif "query" in body:
        walk.node(body["query"])
    else:
        use = walk.touch(body["relation"], "read", columns=columns or ("*",))
        use.only = True
        walk.draft.copy_relation, walk.draft.copy_columns = use, columns
    if body.get("is_program"):
        walk.draft.concede("it runs a program on the server")
    elif "filename" in body:
        # A file of the server: reading one changes nothing, but no agent should do either unasked.
        walk.draft.read_only = False
        walk.draft.writes = True
    elif not walk.inner:
        walk.draft.effect(copy=_copy_effect(walk, body, incoming))


def _copy_effect(walk: Walk, body: Tree, incoming: bool) -> CopyEffect:
    options: dict[str, Any] = {}
    for item in body.get("options", ()):
        options[item["DefElem"]["defname"]] = item["DefElem"]
    text = {name: constant_option(option) for name, option in options.items()}
    form = (text.get("format") or "text").lower()
    csv = form == "csv"
    quote = text.get("quote") or '"'
    header = options.get("header")
    forced = options.get("force_quote", {}).get("arg", {})
    query = "query" in body
    inside = bracket(walk.text)[0] if query else ""
    if query:
        walk.draft.effect(estimable=bool(inside), explain_text=inside)
    delimiter, null = text.get("delimiter"), text.get("null")
    return CopyEffect(
        direction="in" if incoming else "out",
        format=form,
        delimiter=delimiter if delimiter is not None else "," if csv else "\t",
        null=null if null is not None else "" if csv else "\\N",
        quote=quote,
        escape=text.get("escape") or quote,
        header=header is not None and (text["header"] or "true").lower() not in ("false", "off", "0"),
        force_quote=("*",) if "A_Star" in forced else tuple(words(forced.get("List", {}).get("items", []))),
        encoding=text.get("encoding") or "",
        select_text=inside,
    )


def outer_conditions(kind: str, body: Tree) -> tuple[bool, bool]:
    """(has WHERE, has LIMIT) of the outermost query."""
    if kind in ("PrepareStmt", "DeclareCursorStmt", "CreateTableAsStmt", "CopyStmt", "ExplainStmt", "ViewStmt"):
        query = body.get("query")
        if not query:
            return False, False
        ((kind, body),) = query.items()
    if kind == "ExplainStmt" or kind != "SelectStmt":
        return False, False
    return selective(body.get("whereClause")), "limitCount" in body

