"""Utility commands: their verb and kind, and what their text says. Queries and data changes: facts_walk."""

from __future__ import annotations

from typing import Any

from . import plpgsql
from .facts_changes import target
from .facts_commands import TRANSACTIONS
from .facts_model import CopyEffect, Level
from .facts_parse import after_keyword, bracket, explained
from .facts_walk import Tree, Walk, constant, constant_option, handles, selective, words

# The session


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
    walk.row_free()


@handles("TransactionStmt")
def transaction(walk: Walk, body: Tree) -> None:
    kind = body["kind"]
    effect = TRANSACTIONS.get(kind, ("", ""))[1]
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
    walk.row_free()


@handles("LockStmt")
def lock(walk: Walk, body: Tree) -> None:
    walk.draft.read_only = False
    for item in body.get("relations", ()):
        walk.touch(item["RangeVar"], "read", columns=())
    walk.row_free()


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
    outer = walk.draft.static
    walk.draft.static = {}
    ddl, rebinds = walk.draft.ddl, walk.draft.rebinds
    walk.node(body["query"])
    inner, walk.draft.static = walk.draft.static, outer
    kept: dict[str, Any] = {name: inner[name] for name in ("has_params", "executes", "pinned") if name in inner}
    if analyze and "may_change_session" in inner:
        kept["may_change_session"] = True
    walk.draft.effect(**kept)
    if not walk.inner:
        if analyze:
            text = explained(walk.text)
            walk.draft.effect(estimable=bool(text), explain_text=text)
        else:
            walk.draft.effect(row_free=True)
    if not analyze:
        walk.draft.ddl, walk.draft.rebinds = ddl, rebinds
    walk.draft.runs = runs


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
    walk.row_free()


@handles("DeclareCursorStmt")
def declare(walk: Walk, body: Tree) -> None:
    if walk.inner:
        walk.draft.concede("it declares a cursor out of sight")
    walk.draft.effect(declares_cursor=body["portalname"], estimable=True, explain_text=walk.text)
    walk.node(body["query"])


@handles("ClosePortalStmt")
def close(walk: Walk, body: Tree) -> None:
    walk.draft.effect(closes_cursor=body.get("portalname", "*"))
    walk.row_free()


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
        outer, walk.level = walk.level, Level()
        target(walk, body["relation"], "INSERT", columns or ("*",))
        if "whereClause" in body:
            walk.node(body["whereClause"])
        walk.level = outer
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
    inside = bracket(walk.text) if query else ""
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
