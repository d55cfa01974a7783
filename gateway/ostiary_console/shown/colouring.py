"""Light colours for SQL, CEL, shell, JSON and YAML, and marks on what a search found, as HTML that is safe.

Each language is one regular expression without backtracking, so a hostile text takes no longer than another. A lexer
this small is wrong at the edges, and only colours are at stake: every character is there, escaped, in its order.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from markupsafe import Markup, escape

from ostiary_console.shown.words import visible

MAX_COLOURED: Final = 20_000
"""Characters that are coloured. What is longer stays plain."""

_SQL_WORDS: Final = (
    "all alter analyze and any as asc begin between by call case cast check cluster collate column comment commit "
    "concurrently constraint copy create cross current cursor database deallocate declare default delete desc "
    "distinct do drop else end except execute exists explain extension false fetch filter first for foreign from "
    "full function grant group having if ilike in index inner insert intersect into is isolation join key "
    "language last lateral left like limit listen lock materialized natural not notify null nulls offset on only "
    "or order outer over partition policy prepare primary procedure recursive references refresh reindex reset "
    "returning revoke right role rollback rows savepoint schema select sequence session set show similar start "
    "table temporary then to transaction trigger true truncate union unique unlisten update user using vacuum "
    "values view when where window with"
)
_CEL_WORDS: Final = "true false null in has all exists exists_one map filter size"
_SHELL_WORDS: Final = "if then else elif fi for while until do done case esac in function sudo export exec eval"

_STRING: Final = r"'[^']*+(?:'|\Z)"
_DOUBLE: Final = r'"(?:[^"\\]|\\.|\\\Z)*+(?:"|\Z)'
_NUMBER: Final = r"(?<![\w.])\d[\w.]*+"


def _language(**kinds: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in kinds.items()), re.IGNORECASE | re.DOTALL)


def _words(words: str) -> str:
    return rf"(?<![\w$.])(?:{'|'.join(sorted(words.split(), key=len, reverse=True))})(?![\w$])"


_LANGUAGES: Final = {
    "sql": _language(
        comment=r"--[^\n]*+|/\*.*?(?:\*/|\Z)", string=_STRING, name=r'"[^"]*+(?:"|\Z)', param=r"\$\d++",
        word=_words(_SQL_WORDS), number=_NUMBER,
    ),
    "cel": _language(
        comment=r"//[^\n]*+", string=r"'(?:[^'\\]|\\.|\\\Z)*+(?:'|\Z)|" + _DOUBLE, word=_words(_CEL_WORDS),
        number=_NUMBER,
    ),
    "bash": _language(
        comment=r"(?<!\S)#[^\n]*+", string=_STRING + "|" + _DOUBLE, param=r"\$(?:\w++|\{[^}]*+\}?)",
        word=_words(_SHELL_WORDS), name=r"[|&;<>]++", number=_NUMBER,
    ),
    "json": _language(
        name=r'"(?:[^"\\]|\\.)*+"(?=\s{0,8}:)', string=_DOUBLE, word=r"\b(?:true|false|null)\b",
        number=r"-?\d[\d.eE+-]*+",
    ),
    "yaml": _language(
        comment=r"(?<!\S)#[^\n]*+", name=r"(?m:^[ -]*+[\w./-]++(?=:(?:\s|$)))", string=_STRING + "|" + _DOUBLE,
        word=r"\b(?:true|false|null)\b", number=_NUMBER,
    ),
}  # fmt: skip
"""Possessive quantifiers throughout: what was taken is not given back."""

Span = tuple[int, int, str]


def coloured(text: str, language: str = "", marks: re.Pattern[str] | None = None) -> Markup:
    """The text as HTML: `<span class="c-…">` by language, `<mark>` where `marks` matches."""
    text = visible(text)
    spans: list[Span] = []
    found = _LANGUAGES.get(language)
    if found is not None and len(text) <= MAX_COLOURED:
        spans = [(m.start(), m.end(), m.lastgroup or "") for m in found.finditer(text)]
    hits = [(m.start(), m.end()) for m in marks.finditer(text)] if marks is not None else []
    return Markup("").join(_pieces(text, spans, hits))


def _pieces(text: str, spans: Sequence[Span], hits: Sequence[tuple[int, int]]) -> Iterator[Markup]:
    """Spans and hits cut each other into pieces, so that what comes out nests as HTML must."""
    edges = sorted({0, len(text), *(edge for span in spans for edge in span[:2]), *(e for hit in hits for e in hit)})
    at_span = at_hit = 0
    for start, end in pairwise(edges):
        while at_span < len(spans) and spans[at_span][1] <= start:
            at_span += 1
        while at_hit < len(hits) and hits[at_hit][1] <= start:
            at_hit += 1
        piece = escape(text[start:end])
        if at_span < len(spans) and spans[at_span][0] <= start:
            piece = Markup('<span class="c-{}">{}</span>').format(spans[at_span][2], piece)
        if at_hit < len(hits) and hits[at_hit][0] <= start:
            piece = Markup("<mark>{}</mark>").format(piece)
        yield piece


_WORD: Final = re.compile(r'(-?)"([^"]*+)"?|(\S++)')
_LETTERS: Final = re.compile(r"[^\W_]++(?:_++[^\W_]++)*+_*+")
MAX_WORDS: Final = 16


def found_words(query: str) -> re.Pattern[str] | None:
    """What a search looks for, as a pattern to mark it: words and "phrases", not those with a minus before them."""
    patterns: list[str] = []
    for match in _WORD.finditer(query):
        minus, phrase, word = match.groups()
        if minus or (word or "").startswith("-"):
            continue
        for each in [phrase] if phrase else _LETTERS.findall(word or ""):
            left = r"(?<!\w)" if each[:1].isalnum() else ""
            right = r"(?!\w)" if each[-1:].isalnum() and not (word or "").endswith("*") else ""
            patterns.append(left + r"\s+".join(map(re.escape, each.split())) + right)
    patterns = [each for each in patterns if each][:MAX_WORDS]
    return re.compile("|".join(patterns), re.IGNORECASE) if patterns else None
