"""Problems in manifests, printed for people (grouped by file), or as JSON for editors and CI."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.text import Text

from ostiary_api.problems import Location, Problem


def print_problems(console: Console, problems: Sequence[Problem], notices: Sequence[Problem] = ()) -> None:
    """One block a problem: where, which object and field, what is wrong."""
    for problem in problems:
        console.print(_block(problem, "error", "bold red"), soft_wrap=True)
    for notice in notices:
        console.print(_block(notice, "notice", "bold yellow"), soft_wrap=True)


def as_json(problems: Iterable[Problem], severity: str) -> list[dict[str, object]]:
    """Plain values: file, line and column (from 1; 0 if not known), object, field, message."""
    return [
        {
            "severity": severity,
            "file": problem.location.file,
            "line": problem.location.line,
            "column": problem.location.column,
            "kind": problem.kind,
            "namespace": problem.namespace,
            "name": problem.name,
            "field": problem.field,
            "message": problem.message,
        }
        for problem in problems
    ]


def place(location: Location) -> str:
    """`file:line:column`, as compilers write it and editors understand it."""
    return ":".join([location.file, *(str(number) for number in (location.line, location.column) if number)])


def _block(problem: Problem, severity: str, style: str) -> Text:
    text = Text()
    text.append(place(problem.location), "bold")
    text.append(f": {severity}: ", style)
    text.append(problem.message)
    named = "/".join(part for part in (problem.namespace, problem.name) if part)
    what = " ".join(part for part in (problem.kind, named, problem.field) if part)
    if what:
        text.append(f"\n    {what}", "dim")
    return text
