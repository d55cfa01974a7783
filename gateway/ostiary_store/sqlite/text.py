"""Texts as the full-text index has them, and a search in its language. Pure."""

from __future__ import annotations

import re
from typing import Final

from ostiary_store.words import Words

_WORD: Final = re.compile(r"[^\W_]+")
"""As ostiary_store.words has them."""


def indexed(text: str) -> str:
    """Its words, each once, with a space between them."""
    return " ".join(dict.fromkeys(_WORD.findall(text.lower())))


def wanted(search: Words) -> str:
    """What the index is asked for; empty if there is nothing that it can find."""
    terms = [
        f'"{word}"{"*" if part.begins and place == len(part.words) - 1 else ""}'
        for part in search.parts
        for place, word in enumerate(part.words)
    ]
    return " AND ".join(dict.fromkeys(terms))


def indexed_suffices(search: Words) -> bool:
    """Whether what the index finds fits, without a look at the texts."""
    return not search.excluded and not any(part.phrase for part in search.parts)
