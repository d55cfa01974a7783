"""Whether a statement's literals are mere values: then what it does is the same whatever they are."""

from __future__ import annotations

from typing import Final

from .facts_parse import Json, Unparsable, parse_statements
from .folding import positions

MAX_TEXT: Final = 8192
"""Characters; longer texts are not looked at."""

_VERBS: Final = frozenset(("SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt"))

_PLACES: Final = frozenset(
    (
        ("A_Expr", "lexpr"), ("A_Expr", "rexpr"), ("A_ArrayExpr", "elements"), ("BoolExpr", "args"),
        ("CaseExpr", "arg"), ("CaseExpr", "defresult"), ("CaseWhen", "expr"), ("CaseWhen", "result"),
        ("CoalesceExpr", "args"), ("MinMaxExpr", "args"), ("NullTest", "arg"), ("ResTarget", "val"),
        ("RowExpr", "args"), ("SelectStmt", "limitCount"), ("SelectStmt", "limitOffset"),
        ("SelectStmt", "valuesLists"),
    )
)  # fmt: skip
"""(type of a node, its field) where a constant is nothing but a value. Not so: ORDER BY 1, GROUP BY 1, varchar(1)."""

_TYPES: Final = frozenset(
    (
        "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "varchar", "bpchar", "date",
        "time", "timetz", "timestamp", "timestamptz", "interval", "uuid", "json", "jsonb", "bytea", "inet",
        "cidr",
    )
)  # fmt: skip
"""Types that take no name of anything from a string, as regclass does."""

_FUNCTIONS: Final = frozenset(
    (
        "abs", "array_agg", "array_length", "array_to_string", "avg", "btrim", "ceil", "ceiling",
        "char_length", "concat", "concat_ws", "count", "date_part", "date_trunc", "extract", "floor",
        "format", "generate_series", "greatest", "json_build_object", "jsonb_build_object", "left", "length",
        "lower", "lpad", "ltrim", "max", "md5", "min", "mod", "now", "nullif", "octet_length", "power",
        "replace", "right", "round", "rpad", "rtrim", "sign", "split_part", "sqrt", "string_agg", "strpos",
        "substr", "substring", "sum", "to_char", "to_date", "to_number", "to_timestamp", "trim", "trunc",
        "upper",
    )
)  # fmt: skip
"""Functions whose arguments are values: they are no names, no queries, no settings."""


def mere_values(text: bytes) -> bool:
    """True if every literal that `fold` takes out of this text is a value of an expression, and nothing else."""
    try:
        shown = text.decode()
        if len(shown) > MAX_TEXT:
            return False
        statements = parse_statements(shown)
    except (Unparsable, UnicodeDecodeError, RecursionError):
        return False
    if len(statements) != 1 or statements[0].type not in _VERBS:
        return False
    seen: set[int] = set()
    tree = statements[0].tree
    offset = text.find(statements[0].text.encode())
    try:
        return offset >= 0 and _walk({statements[0].type: tree}, ("", ""), text, seen) and seen == positions(text)
    except RecursionError:
        return False


def _walk(value: Json, place: tuple[str, str], text: bytes, seen: set[int]) -> bool:
    """False if a constant stands where it is more than a value. `place`: the node and the field that hold it."""
    if isinstance(value, list):
        return all(_walk(item, place, text, seen) for item in value)
    if not isinstance(value, dict):
        return True
    for name, inner in value.items():
        if name == "A_Const":
            if not _constant(inner, place, text, seen):
                return False
        elif name == "List" and isinstance(inner, dict):
            if not _walk(inner.get("items"), place, text, seen):
                return False
        elif name[:1].isupper() and isinstance(inner, dict):
            if not _node(name, inner, text, seen):
                return False
        elif not _walk(inner, (place[0], name), text, seen):
            return False
    return True


def _node(kind: str, fields: dict[str, Json], text: bytes, seen: set[int]) -> bool:
    for field, inner in fields.items():
        place = (kind, field)
        value = (place == ("TypeCast", "arg") and _name(fields.get("typeName"), "names") in _TYPES) or (
            place == ("FuncCall", "args") and _name(fields, "funcname") in _FUNCTIONS
        )
        if value:
            place = ("A_Expr", "lexpr")
        if isinstance(inner, dict) and field[:1].islower() and not _is_node(inner):
            # A field that holds a struct without its type's name (a SelectStmt's withClause, larg, rarg; a typeName).
            if not _node(_STRUCTS.get(field, field), inner, text, seen):
                return False
        elif not _walk(inner, place, text, seen):
            return False
    return True


_STRUCTS: Final = {"larg": "SelectStmt", "rarg": "SelectStmt"}


def _is_node(value: dict[str, Json]) -> bool:
    """A node is written {"Type": {…}}."""
    return len(value) == 1 and next(iter(value))[:1].isupper()


def _constant(constant: Json, place: tuple[str, str], text: bytes, seen: set[int]) -> bool:
    if not isinstance(constant, dict):
        return False
    if "ival" not in constant and "sval" not in constant:
        return True  # NULL, TRUE, a number that is not folded, a bit string: it stands in the key
    location = constant.get("location", 0)
    if place not in _PLACES or not isinstance(location, int):
        return False
    if text[location : location + 1] == b"-":
        location += 1
        while text[location : location + 1].isspace():
            location += 1
    seen.add(location)
    return True


def _name(holder: Json, field: str) -> str:
    """An unqualified name, or one of pg_catalog; empty for any other."""
    names = holder.get(field) if isinstance(holder, dict) else None
    if not isinstance(names, list):
        return ""
    found: list[str] = []
    for name in names:
        inner = name.get("String") if isinstance(name, dict) else None
        word = inner.get("sval") if isinstance(inner, dict) else None
        found.append(word if isinstance(word, str) else "")
    if len(found) == 2 and found[0] == "pg_catalog":
        return found[1]
    return found[0] if len(found) == 1 else ""
