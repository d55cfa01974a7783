"""`python -m ostiary_operator.conditions_reference [--check]`: writes the table of reasons in the documentation.

Run from the repository's root. With --check it writes nothing, and exits with 1 if the table has drifted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from ostiary_operator.reconcile.reasons import REASONS

PAGE = Path("docs/connections-in-a-cluster.md")
BEGIN, END = "<!-- reasons: from operator/ostiary_operator/reconcile/reasons.py -->\n", "<!-- end of reasons -->\n"


def tables() -> str:
    """One table for each kind, as Markdown."""
    lines: list[str] = []
    for kind, reasons in groupby(REASONS, key=lambda each: each.kind):
        lines += ["", f"### {kind}", ""]
        lines += ["| condition | | reason | means | what to do |", "| --- | --- | --- | --- | --- |"]
        before = ""
        for each in reasons:
            condition = each.condition if each.condition != before else ""
            before = each.condition
            lines.append(f"| {condition} | {each.status} | `{each.reason}` | {each.meaning} | {each.todo} |")
    return "\n".join(lines).lstrip("\n") + "\n"


def page(text: str) -> str:
    """The page with the table as it should be. Raises ValueError if the page has no place for it."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE} has no lines {BEGIN.strip()} and {END.strip()}")
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


def main(arguments: Sequence[str] = ()) -> int:
    """Exit status 0; with --check 1 if the page has drifted."""
    text = PAGE.read_text(encoding="utf-8")
    wanted = page(text)
    if text == wanted:
        return 0
    if "--check" in arguments:
        sys.stderr.write(f"{PAGE} has drifted; run: python -m ostiary_operator.conditions_reference\n")
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
