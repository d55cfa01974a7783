"""PostgreSQL's own parser, bounded: text in, plain dicts out, and no input that can crash the process.

libpg_query's JSON tree is used, not its protobuf one: a walk over dicts takes a fifth of the time, and protobuf
gives up at a depth of 100, which 50 concatenations reach. Its C code recurses without a guard, so what could
nest deeper than an 8 MiB stack bears is refused before it gets there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from postgast import PgQueryError, fingerprint, scan
from postgast.native import lib

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
Tree = dict[str, Json]

MAX_BYTES = 16 << 20
"""Longest text that is parsed, in bytes. The gateway's own limit (maxRequestBytes) is far below."""

UNSCANNED_BYTES = 64 << 10
"""Up to this length no text can nest deeper than the parser's stack bears: a level costs two bytes, and 50,000
levels were measured to fit into 8 MiB."""

MAX_CHAIN = 20_000
"""Tokens that one expression may chain (`1+1+1…`), over all brackets that are open."""

_COMMA, _SEMICOLON = 44, 59
_OPEN = frozenset((40, 91))
_CLOSE = frozenset((41, 93))


class Unparsable(Exception):
    """The text cannot be read. The message says why, for people."""


@dataclass(frozen=True, slots=True)
class RawStatement:
    """One statement as the parser cut it out: its own text, without what surrounds it, and its tree."""

    text: str
    type: str
    tree: Tree


def _encode(text: str) -> bytes:
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError:
        raise Unparsable("the text is not valid UTF-8") from None
    if 0 in data:
        raise Unparsable("the text contains a NUL")
    if len(data) > MAX_BYTES:
        raise Unparsable(f"the text is longer than {MAX_BYTES} bytes")
    if len(data) > UNSCANNED_BYTES and _chain(text) > MAX_CHAIN:
        raise Unparsable(f"the text nests too deeply: an expression chains more than {MAX_CHAIN} tokens")
    return data


def _chain(text: str) -> int:
    """Most tokens that may end up inside one another: those since the last comma, over all open brackets."""
    deepest = open_before = here = 0
    stack: list[int] = []
    try:
        tokens = scan(text).tokens
    except PgQueryError as error:
        raise Unparsable(error.message) from None
    for token in tokens:
        kind = token.token
        if kind == _COMMA or kind == _SEMICOLON:
            here = 0
            continue
        here += 1
        if kind in _OPEN:
            stack.append(here)
            open_before += here
            here = 0
        elif kind in _CLOSE and stack:
            here = stack.pop()
            open_before -= here
        if open_before + here > deepest:
            deepest = open_before + here
    return deepest


def parse_statements(text: str) -> list[RawStatement]:
    """The statements of `text`, in order. Raises Unparsable, and nothing else."""
    data = _encode(text)
    result = lib.pg_query_parse(data)
    try:
        if result.error:
            message: bytes = result.error.contents.message or b"unknown error"
            raise Unparsable(message.decode("utf-8", "replace"))
        raw: bytes = result.parse_tree
    finally:
        lib.pg_query_free_parse_result(result)
    try:
        document = json.loads(raw)
    except RecursionError:
        raise Unparsable("the text nests too deeply") from None
    except ValueError:
        raise Unparsable("the parser's answer cannot be read") from None
    statements = []
    for entry in document.get("stmts", ()):
        start = entry.get("stmt_location", 0)
        length = entry.get("stmt_len", 0)
        piece = data[start : start + length] if length else data[start:]
        ((kind, tree),) = entry["stmt"].items()
        statements.append(RawStatement(piece.decode("utf-8", "replace").strip(), kind, tree))
    return statements


def fingerprint_of(text: str) -> str:
    """libpg_query's fingerprint of one statement that parses, 16 hex digits."""
    try:
        return fingerprint(text).hex
    except PgQueryError:
        return ""


def parse_body(definition: str) -> list[Tree]:
    """What `parse_plpgsql` makes of a CREATE FUNCTION or DO. Raises Unparsable."""
    data = _encode(definition)
    if len(data) > UNSCANNED_BYTES:
        raise Unparsable(f"the body is longer than {UNSCANNED_BYTES} bytes")
    result = lib.pg_query_parse_plpgsql(data)
    try:
        if result.error:
            message: bytes = result.error.contents.message or b"unknown error"
            raise Unparsable(message.decode("utf-8", "replace"))
        raw: bytes = result.plpgsql_funcs
    finally:
        lib.pg_query_free_plpgsql_parse_result(result)
    try:
        functions = json.loads(raw)
    except RecursionError:
        raise Unparsable("the body nests too deeply") from None
    except ValueError:
        raise Unparsable("the parser's answer cannot be read") from None
    return [entry for entry in functions if isinstance(entry, dict)]


def after_keyword(text: str, keyword: str, skip: int = 0) -> str:
    """The text behind the first token `keyword` outside brackets (the `skip`+1-th). Empty if there is none."""
    data = text.encode("utf-8")
    depth = 0
    for token in scan(text).tokens:
        if token.token in _OPEN:
            depth += 1
        elif token.token in _CLOSE:
            depth -= 1
        elif depth == 0 and data[token.start : token.end].decode("utf-8", "replace").upper() == keyword:
            if skip == 0:
                return data[token.end :].decode("utf-8", "replace").strip()
            skip -= 1
    return ""


def bracket(text: str) -> tuple[str, str]:
    """What stands inside the first pair of brackets, and what behind it. Empty if there is none."""
    data = text.encode("utf-8")
    depth = start = 0
    for token in scan(text).tokens:
        if token.token in _OPEN:
            if depth == 0:
                start = token.end
            depth += 1
        elif token.token in _CLOSE:
            depth -= 1
            if depth == 0:
                inside, behind = data[start : token.start], data[token.end :]
                return inside.decode("utf-8", "replace").strip(), behind.decode("utf-8", "replace").strip()
    return "", ""
