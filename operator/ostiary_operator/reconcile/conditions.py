"""Conditions: their time moves only when their status does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ostiary_api.units import format_timestamp
from ostiary_operator.observed import Manifest

Status = Literal["True", "False", "Unknown"]

MAX_MESSAGE = 2048
"""Characters of a message. The schema allows more; nobody reads more."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition without its time."""

    type: str
    status: Status
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Written:
    """The whole status as it should be stored. `recheck_at`: when it changes by itself."""

    status: Manifest
    recheck_at: datetime | None = None


def conditions(stored: Mapping[str, Any], found: Sequence[Finding], generation: int, now: datetime) -> list[Manifest]:
    """The findings as conditions. `stored` is the status that is there."""
    known = stored.get("conditions")
    before = {item.get("type"): item for item in known if isinstance(item, dict)} if isinstance(known, list) else {}
    made: list[Manifest] = []
    for finding in found:
        old = before.get(finding.type, {})
        moved = old.get("status") != finding.status or not old.get("lastTransitionTime")
        made.append(
            {
                "type": finding.type,
                "status": finding.status,
                "reason": finding.reason,
                "message": shorten(finding.message),
                "observedGeneration": generation,
                "lastTransitionTime": format_timestamp(now.replace(microsecond=0))
                if moved
                else old["lastTransitionTime"],
            }
        )
    return made


def shorten(text: str, limit: int = MAX_MESSAGE) -> str:
    """The text on one line, cut where it is too long. What policies and pods say ends up in people's terminals."""
    text = "".join(character if character.isprintable() else " " for character in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def sentence(text: str) -> str:
    """The text with an end."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def listed(names: Sequence[str], most: int = 3) -> str:
    """`a, b and c`; `a, b, c and 4 more`."""
    if len(names) > most + 1:
        return f"{', '.join(names[:most])} and {len(names) - most} more"
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else "".join(names)
