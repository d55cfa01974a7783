"""The verb and the kind of every command of PostgreSQL 18."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Final

from .facts_walk import Tree

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


TRANSACTIONS = {
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
        verb = TRANSACTIONS.get(body["kind"], (verb, ""))[0]
    elif kind in ("GrantStmt", "GrantRoleStmt") and not body.get("is_grant"):
        verb = "REVOKE"
    elif kind == "VariableSetStmt" and body["kind"].startswith("VAR_RESET"):
        verb = "RESET"
    elif kind == "FetchStmt" and body.get("ismove"):
        verb = "MOVE"
    elif kind == "VacuumStmt" and not body.get("is_vacuumcmd"):
        verb = "ANALYZE"
    return verb, what if isinstance(what, str) else what(body)


def name_command(kind: str, body: Tree) -> str:
    """A command in words: `DELETE`, `DROP TABLE`, `SELECT INTO`, `COPY TO FILE`, `ALTER TABLE DROP COLUMN`."""
    if kind == "SelectStmt":
        return "SELECT INTO" if "intoClause" in body else "VALUES" if "valuesLists" in body else "SELECT"
    if kind == "CopyStmt":
        end = "PROGRAM" if body.get("is_program") else "FILE" if "filename" in body else ""
        return f"COPY FROM {end or 'STDIN'}" if body.get("is_from") else f"COPY TO {end or 'STDOUT'}"
    if kind == "AlterTableCmd":
        return f"ALTER TABLE {_subcommand(body['subtype'])}"
    name = " ".join(filter(None, name_statement(kind, body)))
    return f"{name} {_SUBCOMMANDS[kind]}" if kind in _SUBCOMMANDS else name


_SUBCOMMANDS = {
    "RenameStmt": "RENAME",
    "AlterObjectSchemaStmt": "SET SCHEMA",
    "AlterOwnerStmt": "OWNER TO",
    "AlterTableMoveAllStmt": "SET TABLESPACE",
}


@functools.lru_cache(maxsize=256)
def _subcommand(subtype: str) -> str:
    """AT_DropColumn → DROP COLUMN: the grammar's own names, in words."""
    return " ".join(re.findall(r"[A-Z][a-z]+|[A-Z]+(?![a-z])", subtype.removeprefix("AT_"))).upper()
