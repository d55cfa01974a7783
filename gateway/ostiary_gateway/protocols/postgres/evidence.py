"""What a grant of a statement is for. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from . import wire
from .facts import Analysis, Parsed, Scope
from .state import Portal

_SPACE: Final = " \t\r\n\f\v"
"""What PostgreSQL takes for space: nothing else does not count, U+00A0 is a letter of a name."""


@dataclass(frozen=True, slots=True)
class Named:
    """What the names in a statement stand for that were given by statements before: EXECUTE, FETCH."""

    kind: str
    name: str
    parsed: Parsed | None


def normal_form(
    text: str, database: str, scope: Scope, role: str, session: str, settings: str, analysis: Analysis,
    named: Iterable[Named],
) -> dict[str, object]:  # fmt: skip
    """What a grant is for, besides parameters: the text, and what its names mean in this session.

    Space around the text and semicolons at its end count for nothing; everything else does. `role` stands for the
    one in `scope`, which may be a session's own. `session` counts where names may mean what only that session knows: a
    temporary table may stand before the one that was looked at. `settings`: a sum of what may have changed them.
    """
    unsure = scope.has_temp or scope.rebound or scope.uncommitted_ddl
    return {
        "session": session if unsure else "",
        "text": text.lstrip(_SPACE).rstrip("; " + _SPACE),
        "database": database,
        "role": role,
        "settings": settings,
        "searchPath": [role if schema == scope.role else schema for schema in scope.search_path],
        "names": [
            {
                "relations": sorted([r["schema"], r["name"], r["access"]] for r in each.facts["relations"]),
                "functions": sorted(each.facts["functions"]),
                "definitions": sorted(each.effects.definitions),
            }
            for each in analysis.statements
        ],
        "before": [[each.kind, each.name, None if each.parsed is None else each.parsed.text] for each in named],
    }


def parameters_of(portal: Portal | None) -> list[object]:
    """The bound parameters, byte for byte, with the types and formats that the client gave: what the server gets."""
    if portal is None or not portal.bind:
        return []
    bind = wire.parse_bind(portal.bind)
    types = portal.statement.declared_types
    found: list[object] = []
    for index, value in enumerate(bind.values):
        formats = bind.formats
        code = formats[0] if len(formats) == 1 else formats[index] if index < len(formats) else 0
        declared = types[index] if index < len(types) else 0
        found.append([declared, code, None if value is None else value.hex()])
    return found
