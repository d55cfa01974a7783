"""`python charts/values_reference.py [--check]`: writes the table of values in docs/install.md, from values.yaml.

Run from the repository's root. With --check it writes nothing, and exits with 1 if the table has drifted.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
VALUES = ROOT / "charts" / "ostiary" / "values.yaml"
PAGE = ROOT / "docs" / "install.md"
BEGIN, END = "<!-- values: from charts/ostiary/values.yaml -->\n", "<!-- end of values -->\n"
_LINE = re.compile(r"(?P<indent> *)(?P<key>[A-Za-z][A-Za-z0-9]*):(?P<value>.*)")


def documented(text: str) -> Iterator[tuple[str, str]]:
    """Path and comment of each value; a key with a comment above it is one, and what is below it belongs to it."""
    above: list[tuple[int, str]] = []
    comment: list[str] = []
    inside: int | None = None
    for line in text.splitlines():
        stripped = line.strip()
        indent = len(line) - len(line.lstrip())
        if not stripped:
            comment = []
            continue
        if stripped.startswith("#"):
            comment.append(stripped.lstrip("# "))
            inside = None if inside is not None and indent <= inside else inside
            continue
        if inside is not None and indent > inside:
            continue
        inside = None
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"values.yaml: not understood: {line}")
        above = [(depth, key) for depth, key in above if depth < indent]
        path = ".".join([*(key for _, key in above), match["key"]])
        if comment and (match["value"].strip() or not _has_comments(text, line)):
            yield path, " ".join(comment)
            inside = indent
        elif match["value"].strip():
            raise ValueError(f"values.yaml: {path} has no comment")
        else:
            above.append((indent, match["key"]))
        comment = []


def _has_comments(text: str, line: str) -> bool:
    """Whether there are comments on what is below a key."""
    lines = text.splitlines()
    start = lines.index(line) + 1
    indent = len(line) - len(line.lstrip())
    for below in lines[start:]:
        if below.strip() and len(below) - len(below.lstrip()) <= indent:
            return False
        if below.strip().startswith("#"):
            return True
    return False


def table() -> str:
    """The table, as Markdown."""
    text = VALUES.read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    lines = ["| value | default | |", "| --- | --- | --- |"]
    for path, comment in documented(text):
        default = values
        for key in path.split("."):
            default = default[key]
        shown = json.dumps(default, ensure_ascii=False)
        lines.append(f"| `{path}` | `{shown}` | {comment.replace('|', '&#124;')} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> int:
    """Exit status."""
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    wanted = f"{before}{BEGIN}{table()}{END}{after}"
    if wanted == page:
        return 0
    if "--check" in arguments:
        sys.stderr.write("docs/install.md: the table of values has drifted; run: python charts/values_reference.py\n")
        return 1
    PAGE.write_text(wanted, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
