"""The reference page of the facts, written from their declarations: `python -m ostiary_policy.facts_reference`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from ostiary_policy.schema import FACTS, PROTOCOL_OF, Fact

_HEAD = """\
<!-- Written by `python -m ostiary_policy.facts_reference` from gateway/ostiary_policy/facts.py. Do not edit. -->

# Facts

Facts are what a gateway knows of a request: the variables that the CEL expressions of a
[policy](policies.md) read. `request` is there for every request; beside it stands the variable of the protocol.
An expression that reads a variable of another protocol errs, and an error denies: say `match.protocols`.

Types are those of CEL. A name that begins with a capital is an object, described in its own section.

- **costly**: working it out asks the target (EXPLAIN, a dry run, where a path leads). It is worked out only when a rule
  needs it, and denies if it cannot be had. Put what is cheap before it: `variables.writes && sql.estimatedRows > 1000`.
- **may be absent**: ask with `has()` first, or let the error deny.
- **varies** is for those who care about speed: a decision is made once and kept for a session as long as
  nothing that the policies read can differ. `text` changes with the literals of a statement, `request` with every
  request.
"""


def reference() -> str:
    """The page, Markdown."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    yield _HEAD
    for name, fact in FACTS.items():
        protocol = PROTOCOL_OF.get(name)
        yield f"## `{name}`"
        yield ""
        yield f"{_summary(fact)}" + (f" For {protocol}." if protocol else " For every protocol.")
        yield ""
        yield from _table(fact)
        for below in _objects(fact):
            yield f"### {below.type_name}: `{below.path}`"
            yield ""
            yield _summary(below)
            yield ""
            yield from _table(below)


def _summary(fact: Fact) -> str:
    text = " ".join(fact.summary.split())
    return text.removeprefix(f"`{fact.path}`: ")[:1].upper() + text.removeprefix(f"`{fact.path}`: ")[1:]


def _objects(fact: Fact) -> Iterator[Fact]:
    for below in fact.fields.values():
        if below.shape == "object":
            yield below
            yield from _objects(below)


def _table(fact: Fact) -> Iterator[str]:
    yield "| fact | type | |"
    yield "| --- | --- | --- |"
    for below in fact.fields.values():
        notes = [note for note, holds in (("costly", below.doc.costly), ("may be absent", below.optional)) if holds]
        if below.doc.varies is not None:
            notes.append(f"varies: {below.doc.varies}")
        text = " ".join(below.doc.text.split()).replace("|", "\\|")
        suffix = f" *({', '.join(notes)})*" if notes else ""
        yield f"| `{below.path}` | {below.cel} | {text}{suffix} |"
    yield ""


def main(arguments: list[str] | None = None) -> int:
    """Write the page, or with --check say whether it is as it would be written."""
    parser = argparse.ArgumentParser(prog="python -m ostiary_policy.facts_reference", description=__doc__)
    parser.add_argument("path", nargs="?", type=Path, default=Path("docs/facts.md"))
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the page has drifted")
    options = parser.parse_args(arguments)
    page = reference()
    if options.check:
        if options.path.is_file() and options.path.read_text(encoding="utf-8") == page:
            return 0
        sys.stderr.write(f"{options.path} is not what facts.py says; run: python -m ostiary_policy.facts_reference\n")
        return 1
    options.path.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
