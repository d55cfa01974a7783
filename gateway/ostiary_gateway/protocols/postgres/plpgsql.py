"""What PL/pgSQL bodies say: every SQL statement and expression in them is read, and dynamic SQL if it is constant.

`parse_plpgsql` gives statements as JSON and leaves SQL as text. A statement type that is not known here is conceded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from postgast import PgQueryError, scan

from .facts_parse import Unparsable, parse_body, parse_statements

if TYPE_CHECKING:
    from .facts_walk import Tree, Walk

_KNOWN = frozenset(
    f"PLpgSQL_{name}"
    for name in """
    function var row rec recfield type expr exception_block exception condition if_elsif case_when raise_option
    diag_item stmt_block stmt_assign stmt_if stmt_case stmt_loop stmt_while stmt_fori stmt_fors stmt_forc stmt_foreach_a
    stmt_exit
    stmt_return stmt_return_next stmt_return_query stmt_raise stmt_assert stmt_execsql stmt_dynexecute stmt_dynfors
    stmt_getdiag stmt_open stmt_fetch stmt_close stmt_perform stmt_call stmt_commit stmt_rollback promise nsitem
    """.split()  # noqa: SIM905
)
_DYNAMIC = {"PLpgSQL_stmt_dynexecute": "query", "PLpgSQL_stmt_dynfors": "query"}
_ASSIGNMENTS = (3, 4, 5)
_TOKEN_ASSIGN = (":=", "=")


def quoted(source: str) -> str:
    """A source in dollar quotes that it does not contain."""
    number = 0
    while f"ostiary{number}" in source:
        number += 1
    tag = f"$ostiary{number}$"
    return f"{tag}{source} {tag}"


def read_block(walk: Walk, source: str) -> None:
    """The body of a DO."""
    _read(walk, f"DO LANGUAGE plpgsql {quoted(source)}")


def read_function(walk: Walk, source: str, body: Tree) -> None:
    """The body of a CREATE FUNCTION, by its tree."""
    returns = body.get("returnType", {}).get("names", [])
    trigger = [name["String"].get("sval", "") for name in returns][-1:]
    names = [
        item["FunctionParameter"]["name"]
        for item in body.get("parameters", ())
        if item["FunctionParameter"].get("name")
    ]
    setof = bool(body.get("returnType", {}).get("setof"))
    read_source(walk, source, trigger[0] if trigger else "", setof, names, bool(body.get("is_procedure")))


def read_source(
    walk: Walk, source: str, returns: str, setof: bool, arguments: list[str], procedure: bool = False
) -> None:
    """The body of a function. What it takes and returns only decides how RETURN and its variables are read."""
    names = ", ".join('"' + name.replace('"', '""') + '" text' for name in dict.fromkeys(arguments))
    if procedure:
        head = f"CREATE PROCEDURE f({names})"
    elif returns in ("trigger", "event_trigger"):
        head = f"CREATE FUNCTION f() RETURNS {returns}"
    elif setof:
        head = f"CREATE FUNCTION f({names}) RETURNS SETOF record"
    elif returns == "void":
        head = f"CREATE FUNCTION f({names}) RETURNS void"
    else:
        head = f"CREATE FUNCTION f({names}) RETURNS text"
    _read(walk, f"{head} LANGUAGE plpgsql AS {quoted(source)}")


def _read(walk: Walk, definition: str) -> None:
    try:
        functions = parse_body(definition)
    except Unparsable as error:
        walk.draft.concede(f"the PL/pgSQL body cannot be read: {error}")
        return
    if not functions:
        walk.draft.concede("the PL/pgSQL body cannot be read")
    try:
        for function in functions:
            _node(walk, function)
    except RecursionError:
        walk.draft.concede("the PL/pgSQL body nests too deeply")


def _node(walk: Walk, item: Any) -> None:
    if isinstance(item, list):
        for each in item:
            _node(walk, each)
        return
    if not isinstance(item, dict):
        return
    for key, value in item.items():
        if key == "PLpgSQL_expr":
            _expression(walk, value)
        elif key == "dynquery":
            _dynamic(walk, value["PLpgSQL_expr"])
        elif key in _DYNAMIC:
            _dynamic(walk, value[_DYNAMIC[key]]["PLpgSQL_expr"])
            _node(walk, {name: inner for name, inner in value.items() if name != _DYNAMIC[key]})
        elif key.startswith("PLpgSQL_") and key not in _KNOWN:
            walk.draft.concede(f"PL/pgSQL that is not known: {key}")
        elif key in ("PLpgSQL_stmt_commit", "PLpgSQL_stmt_rollback"):
            walk.draft.read_only = False
        else:
            _node(walk, value)


def _expression(walk: Walk, expression: Tree) -> None:
    query, mode = expression["query"], expression.get("parseMode", 0)
    if mode == 0:
        walk.body(query, "a statement of the PL/pgSQL body")
    elif mode in _ASSIGNMENTS:
        left, right = _assignment(query)
        walk.body(f"SELECT {left}", "an assignment of the PL/pgSQL body")
        walk.body(f"SELECT {right}", "an assignment of the PL/pgSQL body")
    elif mode == 2:
        walk.body(f"SELECT {query}", "an expression of the PL/pgSQL body")
    else:
        walk.draft.concede(f"an expression of the PL/pgSQL body has the unknown mode {mode}")


def _assignment(text: str) -> tuple[str, str]:
    """Both sides of `variable[subscript] := expression`."""
    data = text.encode("utf-8")
    depth = 0
    try:
        tokens = scan(text).tokens
    except (PgQueryError, UnicodeDecodeError):
        return text, "("
    for token in tokens:
        piece = data[token.start : token.end].decode("utf-8", "replace")
        if piece in ("(", "["):
            depth += 1
        elif piece in (")", "]"):
            depth -= 1
        elif depth == 0 and piece in _TOKEN_ASSIGN:
            return data[: token.start].decode("utf-8", "replace"), data[token.end :].decode("utf-8", "replace")
    return text, "("


def _dynamic(walk: Walk, expression: Tree) -> None:
    """EXECUTE: read if its text is constant, else conceded. The expression itself runs as well."""
    from .facts_walk import constant

    _expression(walk, expression)
    sql = None
    try:
        statements = parse_statements(f"SELECT {expression['query']}")
    except Unparsable:
        statements = []
    if len(statements) == 1 and statements[0].type == "SelectStmt":
        targets = statements[0].tree.get("targetList")
        if (
            set(statements[0].tree) <= {"targetList", "limitOption", "op"}
            and isinstance(targets, list)
            and len(targets) == 1
        ):
            first: Any = targets[0]
            sql = constant(first["ResTarget"].get("val"))
    if sql is None:
        walk.draft.concede("EXECUTE runs SQL that is put together when it runs")
    else:
        walk.body(sql, "the SQL that EXECUTE runs")
