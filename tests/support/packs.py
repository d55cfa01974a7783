"""The policy packs of examples/packs, as manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import yaml

PACKS = Path(__file__).parents[2] / "examples" / "packs"
NAMES = (
    "approve-large-writes",
    "block-server-side-access",
    "no-destructive-ddl",
    "pci-masking",
    "pii-masking",
    "read-only-agents",
)
ALLOWING = ("approve-large-writes", "read-only-agents")
"""The packs that allow something; the others only forbid or mask."""


def pack(name: str) -> dict[str, Any]:
    """The policy of a pack."""
    return cast("dict[str, Any]", yaml.safe_load((PACKS / name / "policy.yaml").read_text()))


def labels(*names: str) -> dict[str, str]:
    """Labels of a Connection on which these packs are in force."""
    return {f"packs.ostiary.dev/{name}": "enabled" for name in names}


def lets_through(name: str) -> list[str]:
    """Statements that a pack has nothing against."""
    path = PACKS / name / "lets-through.sql"
    lines = path.read_text().splitlines() if path.exists() else []
    return [line for line in lines if line and not line.startswith("--")]
