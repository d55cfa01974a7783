"""The speed table: rows with what is wanted and what was measured, and docs/speed.md that keeps it."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BEGIN, END = "<!-- benchmarks/run.py writes from here -->", "<!-- to here -->"
PAGE = Path(__file__).parents[1] / "docs" / "speed.md"


@dataclass(frozen=True)
class Row:
    """One line of the table. `values` has one number for each round; for ratios more is better, for units less."""

    work: str
    at_least: float
    aim: float
    values: tuple[float, ...]
    unit: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def reached(self) -> str:
        """What of it was reached, by the median."""
        for wanted, word in ((self.aim, "the aim"), (self.at_least, "yes")):
            if self.median <= wanted if self.unit else self.median >= wanted:
                return word
        return "no"

    def told(self, value: float) -> str:
        """A value with its unit."""
        if not self.unit:
            return f"{value:.2f}"
        return f"{value:,.1f} {self.unit}" if abs(value) < 10 else f"{value:,.0f} {self.unit}"

    @property
    def cells(self) -> list[str]:
        spread = ""
        if len(self.values) > 1:
            spread = f" ({self.told(min(self.values))} to {self.told(max(self.values))})"
        return [self.work, self.told(self.at_least), self.told(self.aim), self.told(self.median) + spread, self.reached]


def spread(values: Sequence[float]) -> float:
    """How far the extremes are apart, as a part of the median."""
    return (max(values) - min(values)) / statistics.median(values)


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def wanted(rows: Sequence[Row]) -> str:
    """The table with what is wanted."""
    return markdown(["work", "at least", "aim", "measured", "reached"], [row.cells for row in rows])


def machine(seconds: float, rounds: int, noise: Sequence[float]) -> str:
    """What it was measured on, how long, and how restless it was."""
    today = datetime.datetime.now(datetime.UTC).date()
    linux = platform.release().partition("-")[0]
    restless = ""
    if noise:
        restless = (
            f" The direct connection's own rate differed by {statistics.median(noise):.0%} between the rounds of a "
            f"load (median over the loads; at most {max(noise):.0%})."
        )
    return (
        f"Measured on {today}: {os.cpu_count()} cores, Linux {linux}, CPython {platform.python_version()}, PostgreSQL "
        f"18; {rounds} rounds of {seconds:g} s each, the targets taking turns; the median of the rounds, and from the "
        f"worst to the best.{restless}"
    )


def write(text: str) -> None:
    """Put the tables between their marks in docs/speed.md."""
    page = PAGE.read_text("utf-8")
    before, mark, rest = page.partition(BEGIN)
    _, other, after = rest.partition(END)
    if not mark or not other:
        raise SystemExit(f"{PAGE} has lost its marks: {BEGIN} … {END}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{after}", "utf-8")
    print(f"\nwritten to docs/{PAGE.name}")
