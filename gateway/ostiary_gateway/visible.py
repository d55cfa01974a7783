"""Text that was written by others, for people's terminals."""

from __future__ import annotations

import unicodedata

HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
"""Unicode categories that are never sent to a terminal: control, format, line separators and what has no meaning."""


def visible(text: str, *, lines: bool = False) -> str:
    """Text that cannot steer a terminal: control, formatting and direction characters are shown, not sent."""
    if text.isprintable():
        return text
    keep = "\n\t" if lines else ""
    return "".join(
        c if c in keep or unicodedata.category(c) not in HIDDEN else c.encode("unicode_escape").decode() for c in text
    )
