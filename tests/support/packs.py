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
KUBERNETES = (
    "kubernetes-mask-secrets",
    "kubernetes-namespaces",
    "kubernetes-no-exec",
    "kubernetes-no-privileged-pods",
    "kubernetes-no-secrets",
    "kubernetes-read-only",
    "kubernetes-scale-approval",
)
"""The packs for the Kubernetes API; those above are for PostgreSQL."""
SSH = (
    "ssh-allow-listed-programs",
    "ssh-approve-restarts",
    "ssh-masked-output",
    "ssh-no-destructive-commands",
    "ssh-no-shell",
    "ssh-read-only-sftp",
)
ALLOWING = (
    "approve-large-writes",
    "kubernetes-read-only",
    "read-only-agents",
    "ssh-allow-listed-programs",
    "ssh-read-only-sftp",
)
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


def lets_requests_through(name: str) -> list[dict[str, Any]]:
    """Requests that a pack has nothing against, as `k8s` or `ssh` of a policy test."""
    lines = (PACKS / name / "lets-through.txt").read_text().splitlines()
    return [yaml.safe_load(line) for line in lines if line and not line.startswith("#")]
