"""A second opinion on where commands stand in a line: tree-sitter's grammar of Bash.

It recovers from errors and guesses, so it never makes facts: where it sees other commands than the strict reader,
or an error, the line is opaque.
"""

from __future__ import annotations

import tree_sitter_bash
from tree_sitter import Language, Parser, Query, QueryCursor

_LANGUAGE = Language(tree_sitter_bash.language())
_PARSER = Parser(_LANGUAGE)
_COMMANDS = Query(_LANGUAGE, "(command_name) @name [(declaration_command) (unset_command) (test_command)] @other")
WITHOUT_NAME = frozenset(("[", "[[", "declare", "typeset", "export", "readonly", "local", "unset", "unsetenv"))
"""Commands that the grammar has nodes of their own for."""


def agrees(text: str, places: set[int], escaped: list[tuple[int, int]]) -> bool:
    """True if commands begin at just these places. What is in `escaped` is not compared."""
    data = text.encode()
    root = _PARSER.parse(data).root_node
    if root.has_error:
        return False
    seen = {node.start_byte for node in QueryCursor(_COMMANDS).captures(root).get("name", ())}
    if len(data) != len(text):
        starts = {len(text[:place].encode()) for place in places}
        parts = [(len(text[:start].encode()), len(text[:stop].encode())) for start, stop in escaped]
    else:
        starts, parts = places, escaped
    if parts:
        seen = {place for place in seen if not any(start <= place < stop for start, stop in parts)}
    return seen == starts
