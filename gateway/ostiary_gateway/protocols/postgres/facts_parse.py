"""PostgreSQL's own parser, bounded: text in, plain dicts out, and no input that can crash the process.

libpg_query's JSON tree is used, not its protobuf one: a walk over dicts takes a fifth of the time, and protobuf
gives up at a depth of 100, which 50 concatenations reach. Its C code recurses without a guard, so what could
nest deeper than an 8 MiB stack bears is refused before it gets there.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from postgast import PgQueryError, fingerprint, scan
from postgast.native import lib

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None
Tree = dict[str, Json]

MAX_BYTES = 16 << 20
"""Longest text that is parsed, in bytes. The gateway's own limit (maxRequestBytes) is far below."""

UNSCANNED_BYTES = 64 << 10
"""Up to this length no text can nest deeper than the parser's stack bears: a level costs two bytes, and 50,000
levels were measured to fit into 8 MiB."""

MAX_CHAIN = 40_000
"""Tokens that one expression may chain (`1+1+1…`), over all brackets that are open."""

MAX_COPIES = 2_000_000
"""Tokens that the tree may hold once the source of `(a, b) = source` stands under every column."""

_MULTIPLE = re.compile(r"\)\s*(?:=|--|/\*)")
_SET_WORD = re.compile(r"set", re.IGNORECASE)

_BROKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|(?<=[\[,])\{\}\}(?=[,\]])')
"""A string, or an empty datum with a brace too many."""

_COMMA, _SEMICOLON, _EQUALS = 44, 59, 61
_OPEN = frozenset((40, 91))
_CLOSE = frozenset((41, 93))
_COMMENTS = frozenset((275, 276))
_SET = 660


OPERATOR_RUN = 500
"""Characters; see `_rescanned`."""
_OPERATORS = re.compile(r"[~!@#^&|`?+\-*/%<>=]{500,}")


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
    if len(data) > OPERATOR_RUN and any(_rescanned(run[0]) for run in _OPERATORS.finditer(text)):
        raise Unparsable(f"the text has a run of more than {OPERATOR_RUN} operator characters")
    if len(data) > UNSCANNED_BYTES and _chain(text) > MAX_CHAIN:
        raise Unparsable(f"the text nests too deeply: an expression chains more than {MAX_CHAIN} tokens")
    if _MULTIPLE.search(text) and _SET_WORD.search(text) and _copies(text) > MAX_COPIES:
        raise Unparsable("the text assigns one source to too many columns at once")
    return data


def _rescanned(run: str) -> bool:
    """True if PostgreSQL's scanner would read this run of operator characters again and again.

    It matches a whole run, then gives back what follows a comment's start, and every + and - at the end of an operator:
    32 kB of such text take seconds. A line of dashes or stars takes none.
    """
    signs = run.count("+")
    return run.count("/*") > 50 or (signs > 0 and signs + run.count("-") > OPERATOR_RUN // 2)


def _scan(text: str) -> Any:
    """The tokens of a text. Raises Unparsable: what cannot be scanned cannot be parsed either."""
    try:
        return scan(text).tokens
    except PgQueryError as error:
        raise Unparsable(error.message) from None
    except UnicodeDecodeError:
        # The message quotes the text and was cut inside a character.
        raise Unparsable("syntax error") from None


def _copies(text: str) -> int:
    """Tokens that the tree will hold: `(a, b) = source` copies its source to every column, and sources nest."""
    total = factor = pending = 0
    factor = pending = 1
    stack: list[tuple[int, int, int, bool]] = []
    columns, assigned, previous, before = 1, 0, 0, False
    for token in _scan(text):
        kind = token.token
        if kind in _COMMENTS:
            continue
        if kind in _OPEN:
            stack.append((factor, pending, columns, previous in (_COMMA, _SET)))
            factor, pending, columns = factor * pending, 1, 1
        elif kind in _CLOSE and stack:
            assigned = columns
            factor, pending, columns, before = stack.pop()
        elif kind == _EQUALS and previous == 41 and before:
            pending = max(assigned, 1)
        elif kind == _COMMA:
            columns += 1
            pending = 1
        elif kind == _SEMICOLON:
            stack.clear()
            factor = pending = 1
        total += factor * pending
        previous = kind
    return total


def _chain(text: str) -> int:
    """Most tokens that may end up inside one another: those since the last comma, over all open brackets."""
    deepest = open_before = here = 0
    stack: list[int] = []
    for token in _scan(text):
        kind = token.token
        if kind in (_COMMA, _SEMICOLON):
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
    except (PgQueryError, UnicodeDecodeError):
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
    # libpg_query writes the variables of triggers (TG_OP …) as `{}}`, which no JSON reader takes.
    repaired = _BROKEN.sub(lambda found: b"{}" if found[0] == b"{}}" else found[0], raw)
    try:
        functions = json.loads(repaired)
    except RecursionError:
        raise Unparsable("the body nests too deeply") from None
    except ValueError:
        raise Unparsable("the parser's answer cannot be read") from None
    return [entry for entry in functions if isinstance(entry, dict)]


def _tokens(text: str) -> list[tuple[str, int, int]]:
    """(word, first byte, byte behind) of every token of a text that parses, comments left out."""
    data = text.encode("utf-8")
    return [
        (data[token.start : token.end].decode("utf-8", "replace").upper(), token.start, token.end)
        for token in _scan(text)
        if token.token not in _COMMENTS
    ]


def _from(text: str, start: int, end: int | None = None) -> str:
    return text.encode("utf-8")[start:end].decode("utf-8", "replace").strip()


def after_keyword(text: str, keyword: str) -> str:
    """The text behind the first token `keyword` outside brackets. Empty if there is none."""
    depth = 0
    for word, _, end in _tokens(text):
        depth += (word in "([") - (word in ")]")
        if depth == 0 and word == keyword:
            return _from(text, end)
    return ""


def explained(text: str) -> str:
    """The statement behind EXPLAIN and its options. Empty if it cannot be told from them."""
    tokens = _tokens(text)[1:]
    depth = 0
    if tokens and tokens[0][0] == "(" and tokens[1][0] in _EXPLAIN_OPTIONS:
        for number, (word, _, _) in enumerate(tokens):
            depth += (word == "(") - (word == ")")
            if depth == 0:
                return _from(text, tokens[number + 1][1]) if number + 1 < len(tokens) else ""
    return next((_from(text, start) for word, start, _ in tokens if word not in ("ANALYZE", "ANALYSE", "VERBOSE")), "")


_EXPLAIN_OPTIONS = frozenset(
    ("ANALYZE", "ANALYSE", "VERBOSE", "COSTS", "SETTINGS", "GENERIC_PLAN", "BUFFERS", "SERIALIZE", "WAL", "TIMING")
) | frozenset(("SUMMARY", "MEMORY", "FORMAT"))


def bracket(text: str) -> str:
    """What stands inside the first pair of brackets. Empty if there is none."""
    depth = first = 0
    for word, start, end in _tokens(text):
        if word == "(":
            first = first if depth else end
            depth += 1
        elif word == ")":
            depth -= 1
            if depth == 0:
                return _from(text, first, start)
    return ""
