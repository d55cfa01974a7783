"""What may go into the engine: values that it would cut, choke on or crash on are refused before it sees them."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite

from ostiary_policy.schema import BY_PATH

MAX_DEPTH = 64
MAX_VALUES = 200_000
"""Values in all facts of a request together."""
MAX_CHARACTERS = 64 << 20
"""Characters in all strings of a request together."""

_NAMES = frozenset(path.rpartition(".")[2] for path in BY_PATH)
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


class RefusedFacts(ValueError):
    """Facts that no expression may be evaluated on. The text says which and why; it never holds a value."""


def check_facts(facts: Mapping[str, object]) -> None:
    """Raise RefusedFacts unless every value is one that the engine takes as it is.

    Plain dict (string keys), list, str, int, float, bool, None; nothing that is only like them. Strings without NUL
    (it would cut them) and without lone surrogates; integers of 64 bits; finite numbers; at most MAX_DEPTH deep.
    """
    values, characters = 0, 0
    level: list[object] = list(facts.values())
    for depth in range(MAX_DEPTH + 1):
        if not level:
            return
        values += len(level)
        if values > MAX_VALUES:
            raise RefusedFacts(f"the facts have more than {MAX_VALUES} values")
        below: list[object] = []
        for value in level:
            if type(value) is str:
                characters += len(value)
                if "\0" in value or not (value.isascii() or _has_utf8(value)):
                    raise RefusedFacts(_WRONG_TEXT)
            elif type(value) is bool or value is None:
                continue
            elif type(value) is dict:
                # The names of facts are what nearly all keys are; they need no second look.
                for key in () if value.keys() <= _NAMES else value:
                    if type(key) is not str:
                        raise RefusedFacts(f"an object has a key that is no string but {type(key).__name__}")
                    characters += len(key)
                    if "\0" in key or not (key.isascii() or _has_utf8(key)):
                        raise RefusedFacts(_WRONG_TEXT)
                below.extend(value.values())
            elif type(value) is list:
                below.extend(value)
            elif type(value) is int:
                if not _INT_MIN <= value <= _INT_MAX:
                    raise RefusedFacts("an integer does not fit into 64 bits")
            elif type(value) is float:
                if not isfinite(value):
                    raise RefusedFacts("a number is not finite")
            else:
                raise RefusedFacts(f"a value is a {type(value).__name__}, which is no plain value")
        if characters > MAX_CHARACTERS:
            raise RefusedFacts(f"the facts have more than {MAX_CHARACTERS} characters")
        level = below
        if depth == MAX_DEPTH:
            break
    raise RefusedFacts(f"the facts are nested deeper than {MAX_DEPTH}")


_WRONG_TEXT = "a string has a NUL character or half a character (a lone surrogate)"


def _has_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
