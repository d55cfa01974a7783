"""What a person sees of a statement that needs approval, and what a grant of it is for. No I/O.

Shown is what the agent wrote, for a grant is for exactly that; but not passwords, and not what a detector of the
policies in force finds (cards, emails): the approver may be somebody who must not see those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ostiary_gateway.masking.detectors import Detectors
from ostiary_policy.masking import MaskPlan

from . import wire
from .facts import Analysis, Parsed, Scope
from .state import Portal

HIDDEN: Final = "[redacted]"
_LITERAL: Final = r"(?:(?:[eE]|[uU]&|[bBxXnN])?'(?:[^'\\]|''|\\.)*'|\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)"
_GAP: Final = r"(?:\s|/\*.*?\*/|--[^\n]*\n)*"
_SECRET: Final = re.compile(
    rf"(\b(?:password|passwd|passphrase|secret|api_?key|access_?key|token|connection)\w*\"?"
    rf"(?:\)?::\w+)?{_GAP}(?:=>|:=|=|\bis\b)?{_GAP}){_LITERAL}",
    re.IGNORECASE | re.DOTALL,
)
"""A word that names a secret, and the literal behind it: PASSWORD '…', password = '…', CONNECTION '…password=…'."""


class Veil:
    """Hides secrets in texts; `touched` tells whether there was any."""

    def __init__(self, plan: MaskPlan) -> None:
        self._detectors = Detectors(plan.detectors)
        self.touched = False

    def text(self, text: str) -> str:
        """The text as a person may see it."""
        shown = _SECRET.sub(rf"\g<1>'{HIDDEN}'", text)
        if self._detectors:
            masked = self._detectors.mask(shown.encode("utf-8", "replace"))
            shown = HIDDEN if masked is None else masked.decode("utf-8", "replace")
        self.touched = self.touched or shown != text
        return shown

    def everything(self, value: object) -> object:
        """The same for all strings in a JSON value."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.everything(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.everything(item) for item in value]
        return value


@dataclass(frozen=True, slots=True)
class Named:
    """What the names in a statement stand for that were given by statements before: EXECUTE, FETCH."""

    kind: str
    name: str
    parsed: Parsed | None


def normal_form(
    text: str, database: str, scope: Scope, role: str, session: str, analysis: Analysis, named: Iterable[Named]
) -> dict[str, object]:
    """What a grant is for, besides parameters: the text, and what its names mean in this session.

    Space around the text and semicolons at its end count for nothing; everything else does. `role` stands for the
    one in `scope`, which may be a session's own. `session` counts where names may mean what only that session knows: a
    temporary table may stand before the one that was looked at.
    """
    unsure = scope.has_temp or scope.rebound or scope.uncommitted_ddl
    return {
        "session": session if unsure else "",
        "text": text.strip().rstrip("; \t\r\n\f\v"),
        "database": database,
        "role": role,
        "searchPath": [role if schema == scope.role else schema for schema in scope.search_path],
        "names": [
            {
                "relations": sorted([r["schema"], r["name"], r["access"]] for r in each.facts["relations"]),
                "functions": sorted(each.facts["functions"]),
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
