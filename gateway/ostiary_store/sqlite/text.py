"""Texts as the full-text index has them, and what is looked for in its language. Pure."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_WORD: Final = re.compile(r"\w+")
_TERM: Final = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')


class Match(NamedTuple):
    """What must occur, and what must not, in the language of FTS5; empty if there is nothing such."""

    wanted: str
    unwanted: str


def indexed(text: str) -> str:
    """Its words, with a space between them."""
    return " ".join(_WORD.findall(text.lower()))


def match(query: str) -> Match:
    """A query's words and phrases (see model.RequestQuery)."""
    wanted: list[str] = []
    unwanted: list[str] = []
    for minus, phrase, word in _TERM.findall(query):
        found = _WORD.findall((phrase or word).lower())
        if not found:
            continue
        term = f'"{" ".join(found)}"' + ("*" if word.endswith("*") else "")
        (unwanted if minus else wanted).append(term)
    return Match(" AND ".join(wanted), " OR ".join(unwanted))
