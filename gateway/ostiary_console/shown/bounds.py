"""How much of a request a page shows, and what it says of the rest."""

from __future__ import annotations

from dataclasses import dataclass

from ostiary_console.views import Document, Plain, Remark


@dataclass(frozen=True, slots=True)
class Bounds:
    """`lines` of a text, `rows` of a result, `cell` characters of a value, `text` characters of any one text."""

    rows: int = 12
    cell: int = 160
    lines: int = 40
    text: int = 16_384

    def cut(self, text: str) -> tuple[str, int]:
        """What is shown, and how many lines are not (1 also where only the line's rest is missing)."""
        text = text.rstrip("\n")
        lines = text.split("\n", self.lines)
        hidden = 0
        if len(lines) > self.lines:
            hidden = lines[-1].count("\n") + 1
            text = "\n".join(lines[: self.lines])
        if len(text) > self.text:
            hidden += 1 + text.count("\n", self.text)
            text = text[: self.text]
        return text, hidden

    def document(self, text: str, language: str, title: str = "") -> Document:
        shown, hidden = self.cut(text)
        return Document(language, shown, hidden, title)

    def plain(self, text: str) -> Plain:
        shown, hidden = self.cut(text)
        return Plain(shown, hidden)

    def value(self, value: str | None) -> str | None:
        """Of a grid. None is NULL."""
        if value is None or len(value) <= self.cell:
            return value
        return f"{value[: self.cell]}…"


IN_SESSION = Bounds()
WHOLE = Bounds(rows=500, cell=4_000, lines=4_000, text=262_144)
"""On the page of one request."""


def remark(text: str, *, bad: bool = False) -> Remark:
    return Remark(text, bad)
