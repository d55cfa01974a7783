"""Words and numbers of pages: times, sizes, counts, and text of others that cannot play tricks."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote

from markupsafe import Markup, escape

from ostiary_gateway.audit.transcript_words import bytes_text, duration
from ostiary_gateway.visible import visible as _visible

__all__ = ["bytes_text", "duration"]

_BREAKS: Final = re.compile(r"([/@:.\-_]+)")
_UNITS: Final = ((86_400.0, "d"), (3600.0, "h"), (60.0, "min"), (1.0, "s"))


def visible(text: object, *, lines: bool = True) -> str:
    """Text of others, with what would hide or reorder it shown as escapes."""
    return _visible(str(text).replace("\r\n", "\n") if lines else str(text), lines=lines)


def moment(at: float) -> str:
    """Date and time in UTC, to the second."""
    return _time(at).strftime("%Y-%m-%d %H:%M:%S")


def day(at: float) -> str:
    """The date, as people say it."""
    return _time(at).strftime("%a %d %b %Y")


def clock(at: float) -> str:
    """The time of day, to the second."""
    return _time(at).strftime("%H:%M:%S")


def iso(at: float) -> str:
    """For machines."""
    return _time(at).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _time(at: float) -> datetime:
    try:
        return datetime.fromtimestamp(at, UTC)
    except (OverflowError, ValueError, OSError):
        return datetime.fromtimestamp(0, UTC)


def span(seconds: float) -> str:
    """A time that has passed or is left, in its largest unit and the next: 3 min, 2 h 5 min."""
    seconds = max(0.0, seconds)
    for index, (size, unit) in enumerate(_UNITS):
        if seconds >= size:
            first = int(seconds // size)
            if first < 10 and size > 60:
                smaller, its = _UNITS[index + 1]
                if second := int(seconds % size // smaller):
                    return f"{first} {unit} {second} {its}"
            return f"{first} {unit}"
    return "0 s"


def ago(at: float, now: float) -> str:
    """How long since."""
    return "now" if now - at < 1 else f"{span(now - at)} ago"


def count(number: int) -> str:
    """With its thousands apart."""
    return f"{number:,}"


def compact(number: int) -> str:
    """Short enough for a small place: 12.3k."""
    if number < 10_000:
        return f"{number:,}"
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if number >= size:
            amount = number / size
            return f"{amount:.1f}{unit}" if amount < 100 else f"{amount:.0f}{unit}"
    return str(number)


def plural(number: int, one: str, many: str = "") -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def breakable(text: object) -> Markup:
    """A name that may break at its punctuation."""
    parts = _BREAKS.split(visible(text, lines=False))
    return Markup("").join(
        escape(part) + Markup("<wbr>") if index % 2 else escape(part) for index, part in enumerate(parts)
    )


def one_line(text: object) -> str:
    """Text of others on one line."""
    return " ".join(visible(text).split())


def path_piece(text: object) -> str:
    """A piece of an address."""
    return quote(str(text), safe="")


def snippet(text: str, found: re.Pattern[str] | None = None, size: int = 280) -> str:
    """So many characters of a text on one line, around the first of what was looked for."""
    shown = one_line(text[: 64 * 1024])
    if len(shown) <= size:
        return shown
    hit = found.search(shown) if found is not None else None
    start = max(0, min(hit.start() - size // 4, len(shown) - size)) if hit is not None and hit.end() > size else 0
    return f"{'…' if start else ''}{shown[start : start + size]}{'…' if start + size < len(shown) else ''}"


DONE: Final = {
    "approved": "Approved. The request may run once now.",
    "denied": "Denied. The agent is told so, with your reason.",
    "counted": "Your answer is in. More people must approve before the request may run.",
    "killed": "Ended. The agent is told by whom and why.",
    "ending": "It is being ended. The agent is told by whom and why.",
    "signed-out": "You are signed out.",
    "too-late": "Too late: this was decided already, or its time is over. Below is how it stands.",
}
"""What a page says after a form was sent, by the code in `?done=`."""
