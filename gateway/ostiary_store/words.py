"""What somebody types into a search: words, "phrases", -exclusions and beginnings*. Pure; both stores search by it.

A text fits if every part of the search occurs in it and nothing that is excluded does. Case does not matter. Words are
runs of letters and digits, so `_`, `.`, `/`, `-`, `:` and the like lie between words; a part that has such signs in it
(card_number, "DROP TABLE x") must also stand in the text as given. Signs around a word are not looked at.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SEPARATORS: Final = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""All signs of ASCII. An index of words takes them for spaces."""

MOST_PARTS: Final = 32
"""More parts of a search are not looked at."""

MOST_TEXT: Final = 2_000
"""Nor more characters."""

_PART: Final = re.compile(r'(-?)(?:"([^"]*)(?:"|$)|(\S+))')
_WORD: Final = re.compile(r"[^\W_]+")


class Part(NamedTuple):
    """`words` occur as words; the last one begins a word, if `begins`. `phrase` stands in the text, if it is not
    empty."""

    words: tuple[str, ...]
    begins: bool = False
    phrase: str = ""


class Words(NamedTuple):
    """A search. Everything is in lower case."""

    parts: tuple[Part, ...] = ()
    excluded: tuple[Part, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.parts or self.excluded)

    def fits(self, text: str) -> bool:
        """What a store's index must say of the text."""
        text = text.lower()
        found = frozenset(_WORD.findall(text))
        return all(_occurs(part, text, found) for part in self.parts) and not any(
            _occurs(part, text, found) for part in self.excluded
        )


def parse(text: str) -> Words:
    """Never fails: what cannot be searched for is left out."""
    parts: list[Part] = []
    excluded: list[Part] = []
    for match in _PART.finditer(text.replace("\0", " ")[:MOST_TEXT].lower()):
        minus, quoted, bare = match.groups()
        part = _bare(bare) if quoted is None else _quoted(quoted)
        if part is not None and len(parts) + len(excluded) < MOST_PARTS:
            (excluded if minus else parts).append(part)
    return Words(tuple(dict.fromkeys(parts)), tuple(dict.fromkeys(excluded)))


def _bare(text: str) -> Part | None:
    begins = text.endswith("*")
    inner = text.strip(SEPARATORS)
    words = tuple(_WORD.findall(inner))
    if not words:
        phrase = text.strip("*")
        return Part((), False, phrase) if phrase else None
    return Part(words, begins, "" if words == (inner,) else inner)


def _quoted(text: str) -> Part | None:
    words = tuple(_WORD.findall(text))
    if not text.strip():
        return None
    return Part(words, False, "" if words == (text,) else text)


def _occurs(part: Part, text: str, found: frozenset[str]) -> bool:
    if part.phrase and part.phrase not in text:
        return False
    whole = part.words[:-1] if part.begins else part.words
    if not found.issuperset(whole):
        return False
    return not part.begins or any(word.startswith(part.words[-1]) for word in found)
