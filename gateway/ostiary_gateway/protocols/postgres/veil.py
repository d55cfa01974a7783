"""Hides secrets in what people are shown of SQL. No I/O.

Only literals, comments, numbers and quoted names are ever hidden: what would run is shown, whatever it reads like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

from ostiary_gateway.masking.detectors import Detectors
from ostiary_policy.masking import MaskPlan

HIDDEN: Final = "[redacted]"
MAX_NESTED: Final = 8
"""Strings inside strings that are looked into."""

_ON: Final = r"(?:[ \t\f\v]|--[^\n\r]*+)*+[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*+[\n\r])*+"
"""What may stand between two parts of one string: it has a new line."""
_START: Final = r"(?:[A-Za-z_]|[^\x00-\x7f])"
_WORD = rf"{_START}(?:\w|[^\x00-\x7f])*+"
_PLAIN, _ESCAPED = r"'(?:[^']|'')*+(?:'|\Z)", r"'(?:[^'\\]|''|\\.)*+(?:'|\\?\Z)"
_TOKEN: Final = re.compile(
    rf"""
      (?P<space>[ \t\n\r\f\v]++ | --[^\n\r]*+)
    | (?P<comment>/\*)
    | (?P<escaped>[eE]{_ESCAPED}(?:{_ON}{_ESCAPED})*+)
    | (?P<string>(?:[uU]&|[bBxXnN])?{_PLAIN}(?:{_ON}{_PLAIN})*+)
    | (?P<dollar>\$(?P<tag>(?:{_WORD})?)\$.*?(?:\$(?P=tag)\$|\Z))
    | (?P<name>(?:[uU]&)?"(?:[^"]|"")*+(?:"|\Z))
    | (?P<word>{_START}(?:[\w$]|[^\x00-\x7f])*+)
    | (?P<number>[0-9]++)
    | (?P<link>::|:=|=>|=|\))
    | (?P<other>\$[0-9]++|.)
    """,
    re.DOTALL | re.VERBOSE,
)
"""As PostgreSQL cuts SQL, with standard_conforming_strings on. A comment's end is looked for apart: comments nest."""
_COMMENT_EDGE: Final = re.compile(r"/\*|\*/")
_SECRET: Final = re.compile(
    r"(?:^|_|\W)(?:password|passwd|passphrase|secret|api_?key|access_?key|token|connection)", re.IGNORECASE
)
"""Names of secrets: the literal behind one is hidden."""


class Veil:
    """Hides secrets in texts; `touched` tells whether there was any."""

    def __init__(self, plan: MaskPlan) -> None:
        self._detectors = Detectors(plan.detectors)
        self.touched = False

    def text(self, text: str) -> str:
        """SQL, or a plan of it, as a person may see it."""
        shown = self._sql(text, 0)
        self.touched = self.touched or shown != text
        return shown

    def value(self, text: str) -> str:
        """A value as a person may see it."""
        shown = self._detected(text)
        self.touched = self.touched or shown != text
        return shown

    def everything(self, value: object, key: str = "") -> object:
        """The same for all strings in a JSON value. Those with the key `text` are SQL."""
        if isinstance(value, str):
            return self.text(value) if key == "text" else self.value(value)
        if isinstance(value, Mapping):
            return {name: self.everything(item, name) for name, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.everything(item) for item in value]
        return value

    def _detected(self, text: str) -> str:
        if not self._detectors:
            return text
        masked = self._detectors.mask(text.encode("utf-8", "replace"))
        return HIDDEN if masked is None else masked.decode("utf-8", "replace")

    def _sql(self, text: str, depth: int) -> str:
        pieces = []
        awaits, before = False, ""  # whether a literal that comes now is a secret, and the token before
        for kind, token in _tokens(text):
            if kind in ("space", "comment"):
                pieces.append(self._detected(token))
                continue
            if kind in ("string", "escaped", "dollar"):
                pieces.append(f"'{HIDDEN}'" if awaits else self._literal(kind, token, depth))
                awaits = False
            elif kind in ("word", "name"):
                if not (awaits and (before == "::" or token.lower() in ("is", "to"))):
                    awaits = _SECRET.search(token) is not None
                pieces.append(token if kind == "word" else self._name(token))
            else:
                awaits = awaits and kind == "link"
                pieces.append(self._detected(token) if kind == "number" else token)
            before = token
        return "".join(pieces)

    def _literal(self, kind: str, token: str, depth: int) -> str:
        """A literal, and what it holds if that is SQL: the body of DO, the text of EXECUTE."""
        start, end = _edges(token)
        inner = token[start:end]
        if depth < MAX_NESTED:
            if kind == "dollar":
                inner = self._sql(inner, depth + 1)
            elif token[0] == "'":
                said = inner.replace("''", "'")  # of several parts too: what is between them stays
                if (shown := self._sql(said, depth + 1)) != said:
                    inner = shown.replace("'", "''")
        return token[:start] + self._detected(inner) + token[end:]

    def _name(self, token: str) -> str:
        start, end = _edges(token)
        return token[:start] + self._detected(token[start:end]) + token[end:]


def _edges(token: str) -> tuple[int, int]:
    """Where the inside of a quoted token begins and ends; its end may be missing."""
    mark = re.search(r"'|\"|\$[^$]*\$", token)
    assert mark is not None
    whole = len(token) >= mark.end() + len(mark[0]) and token.endswith(mark[0])
    return mark.end(), len(token) - (len(mark[0]) if whole else 0)


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        assert found is not None
        kind, start, at = found.lastgroup or "", at, found.end()
        if kind == "comment":
            at = _comment_end(text, at)
        yield kind, text[start:at]


def _comment_end(text: str, at: int) -> int:
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(text, at)
        if edge is None:
            return len(text)
        depth += 1 if edge[0] == "/*" else -1
        at = edge.end()
    return at
