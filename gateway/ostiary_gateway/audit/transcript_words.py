"""Words and numbers of transcripts, and what every part of one needs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from rich.console import RenderableType
from rich.syntax import Syntax
from rich.text import Text

from ostiary_gateway.audit.reader import Request, SessionReader
from ostiary_gateway.visible import visible

CELL = 60
"""Characters of a value that a table shows."""


@dataclass(frozen=True, slots=True)
class Options:
    """rows: of each result; None shows all. cell: characters of each value; None shows all."""

    rows: int | None = 10
    cell: int | None = CELL
    theme: str = "ansi_dark"


class View(Protocol):
    """What is a protocol's own in a transcript."""

    def login(self, detail: Mapping[str, object]) -> Iterable[tuple[str, str]]:
        """More lines of the heading, name and text. `detail` is that of the session's beginning."""

    def asked(self, text: str, detail: Mapping[str, object], options: Options) -> list[RenderableType]:
        """What was asked."""

    def answered(self, reader: SessionReader, request: Request, width: int, options: Options) -> list[RenderableType]:
        """What came back, from the recorded response."""

    def result(self, detail: Mapping[str, object]) -> Text:
        """How it ended, in a word or two behind the outcome. `detail` is that of the request's end."""

    def failure(self, detail: Mapping[str, object]) -> str:
        """The error, where its response is not recorded; empty if there was none."""


def highlighted(text: str, language: str, options: Options) -> Text:
    """Text in a language that Pygments knows. It cannot steer the terminal."""
    shown = visible(text, lines=True).strip()
    found = Syntax("", language, theme=options.theme, background_color="default").highlight(shown)
    found.rstrip()
    return found


def cell(value: str | None, options: Options) -> Text:
    """A value in a table; None is NULL."""
    if value is None:
        return Text("NULL", "dim italic")
    if options.cell is not None and len(value) > options.cell:
        return Text(visible(value[: options.cell])).append("…", "dim")
    return Text(visible(value))


def more(hidden: int, what: str) -> Text:
    """That so many are not shown."""
    return Text(f"… {hidden:,} more {what}{'s' if hidden > 1 else ''}", "dim italic")


def pieces(reader: SessionReader, request: Request, views: list[RenderableType]) -> Iterator[bytes]:
    """The recorded response. That it is damaged is added to the views."""
    try:
        yield from reader.response(request)
    except (LookupError, ValueError) as error:
        views.append(Text(f"the recorded response is damaged: {error}. `ostiary verify` says more.", "bold red"))


def moment(at: float) -> str:
    """Date and time, in UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(at: float) -> str:
    """The time of day, with milliseconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def duration(seconds: float) -> str:
    """In the unit that fits."""
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def bytes_text(size: int) -> str:
    """Bytes, in the unit that fits."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{size} B"


def mapping(value: object) -> Mapping[str, object]:
    """The value, or an empty one if it is none."""
    return value if isinstance(value, dict) else {}


def items(value: object) -> list[object]:
    """The value, or an empty one if it is none."""
    return value if isinstance(value, list) else []
