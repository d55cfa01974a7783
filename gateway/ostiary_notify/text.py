"""Text that agents wrote, on its way to people: nothing in it is hidden, steers a program, or calls anybody. Pure."""

from __future__ import annotations

import unicodedata
from typing import Final

_HIDDEN: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that show as nothing, or change how the rest shows."""
_JOINER: Final = "\u2060"
"""Shows as nothing, and breaks a word that would be a mention or a link."""


def visible(text: str, *, lines: bool = True) -> str:
    """Characters that cannot be seen are written out, as `\\u202e`."""
    if text.isprintable():
        return text
    keep = "\n\t" if lines else ""
    return "".join(
        c if c in keep or unicodedata.category(c) not in _HIDDEN else c.encode("unicode_escape").decode() for c in text
    )


def cut(text: str, most: int) -> str:
    """At most so many characters; what is missing is said."""
    if len(text) <= most:
        return text
    note = f"… ({len(text):,} characters)"
    return text[: most - len(note)] + note


def one_line(text: str, most: int) -> str:
    """Cut to one line, everything visible."""
    return cut(visible(" ".join(text.split()), lines=False), most)


def harmless(text: str) -> str:
    """For a place where the receiver reads markup: mentions, links, code and markup come out as what was written."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "ˋ")
    text = text.replace("@", f"@{_JOINER}").replace("://", f":{_JOINER}//").replace("www.", f"www{_JOINER}.")
    for mark in "*_~[]|\\":
        text = text.replace(mark, f"{_JOINER}{mark}{_JOINER}") if mark in text else text
    return text
