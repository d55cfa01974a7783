"""One line of an export, before it has a form. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ostiary_store.model import SessionRow


@dataclass(frozen=True, slots=True)
class Item:
    """One line. `fields` are those of `ostiary export` (docs/audit.md)."""

    kind: str
    """session, open, close, lost, gap, refused, approval, request or response."""
    session: SessionRow
    fields: Mapping[str, object]
    at: float
    """When it happened."""
    id: str
    """The same each time it is sent."""
