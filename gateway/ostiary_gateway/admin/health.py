"""Readiness: a list of checks, and how it is told to a probe."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so before clients are sent here. `message` says what is wrong and what to do."""

    name: str
    ok: bool
    message: str = ""


def report(checks: Iterable[Check]) -> tuple[bool, str]:
    """Whether all is well, and a line for each check: `[+] bundle` or `[-] record: disk full`."""
    found = list(checks)
    ok = all(check.ok for check in found)
    lines = [
        f"[{'+' if check.ok else '-'}] {check.name}{f': {check.message}' * bool(check.message)}" for check in found
    ]
    return ok, "\n".join([*lines, "ready" if ok else "not ready"]) + "\n"
