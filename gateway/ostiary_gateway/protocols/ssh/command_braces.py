"""Brace expansion as Bash does it, for words whose text is known: `{a,b}c`, `{1..3}`, nested, bounded."""

from __future__ import annotations

import re
from itertools import pairwise

MOST = 256
"""Words that one word may become; and steps on the way are a small multiple of it."""
_NUMBERS = re.compile(r"(-?\d{1,9})\.\.(-?\d{1,9})(?:\.\.(-?\d{1,9}))?\Z")
_LETTERS = re.compile(r"([A-Za-z])\.\.([A-Za-z])(?:\.\.(-?\d{1,9}))?\Z")


class TooMany(Exception):
    """The word becomes more words than are looked at."""


def braces(word: str) -> list[str]:
    """The words that an unquoted word becomes; itself alone where it has no expansion."""
    budget = [MOST * 8]
    return _expand(word, budget)


def _expand(word: str, budget: list[int]) -> list[str]:
    """`budget`: steps left, shared by all calls for one word."""
    start = 0
    while True:
        budget[0] -= 1
        if budget[0] < 0:
            raise TooMany
        opening = word.find("{", start)
        if opening < 0:
            return [word]
        closing, commas = _group(word, opening, budget)
        if closing < 0:
            start = opening + 1
            continue
        inside = word[opening + 1 : closing]
        if commas:
            edges = [opening, *commas, closing]
            items = [each for left, right in pairwise(edges) for each in _expand(word[left + 1 : right], budget)]
        else:
            sequence = _sequence(inside)
            if sequence is None:
                start = opening + 1
                continue
            items = sequence
        before = word[:opening]
        after = _expand(word[closing + 1 :], budget)
        if len(items) * len(after) > MOST:
            raise TooMany
        return [before + item + rest for item in items for rest in after]


def _group(word: str, opening: int, budget: list[int]) -> tuple[int, list[int]]:
    """Where the brace that `opening` opens is closed, -1 if nowhere; and the commas that part its items."""
    depth = 0
    commas: list[int] = []
    for at in range(opening, len(word)):
        char = word[at]
        if char == "{":
            depth += 1
        elif char == "}":
            depth -= 1
            if not depth:
                budget[0] -= (at - opening) // 64
                return at, commas
        elif char == "," and depth == 1:
            commas.append(at)
    budget[0] -= (len(word) - opening) // 64
    return -1, []


def _sequence(inside: str) -> list[str] | None:
    """The items of `1..5`, `a..e` and `01..10..3`; None if it is no sequence."""
    numbers = _NUMBERS.match(inside)
    if numbers is not None:
        first, last, step = numbers.groups()
        low, high = int(first), int(last)
        width = max(len(first), len(last)) if _padded(first) or _padded(last) else 0
        return [f"{number:0{width}d}" if width else str(number) for number in _range(low, high, step)]
    letters = _LETTERS.match(inside)
    if letters is not None:
        first, last, step = letters.groups()
        return [chr(number) for number in _range(ord(first), ord(last), step)]
    return None


def _padded(number: str) -> bool:
    digits = number.lstrip("-")
    return len(digits) > 1 and digits[0] == "0"


def _range(low: int, high: int, step: str | None) -> range:
    by = abs(int(step)) if step else 1
    by = by or 1
    found = range(low, high + 1, by) if low <= high else range(low, high - 1, -by)
    if len(found) > MOST:
        raise TooMany
    return found
