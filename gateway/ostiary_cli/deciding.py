"""What `ostiary approve` and `ostiary deny` do and say."""

from __future__ import annotations

import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

from ostiary_cli.admin_socket import AdminSocket, Item
from ostiary_cli.approval_view import one_line, until, what


def decide(name: str, verdict: str, reason: str, data: Path, socket: Path | None) -> None:
    """Sends the answer, and says what became of it. Raises CommandError."""
    report(AdminSocket(data, socket).decide(name, verdict, reason), verdict)


def report(found: Item, verdict: str) -> None:
    """Says what became of the question by this answer."""
    approval, state = found["approval"], found["state"]
    full, spec = approval["metadata"]["name"], approval["spec"]
    given = sum(each["verdict"] == "Approve" for each in approval.get("status", {}).get("approvals", []))
    needed = spec["approval"].get("minApprovals", 1)
    line = Text()
    if verdict == "Deny":
        line.append("✗ denied  ", "bold red")
    elif state == "Pending":
        line.append(f"✓ your approval counts: {given} of {needed}  ", "bold yellow")
    else:
        line.append("✓ approved  ", "bold green")
    line.append(full, "bold").append(f"  {what(spec['request'])}"[:200], "dim")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(line)
    who = one_line(spec["requester"]["username"])
    if state == "Approved":
        console.print(Text(f"  {who} may run it once, in the next {until(found)}.", "dim"))
    elif state == "Consumed":
        console.print(Text(f"  {who} was waiting for it: it was let through.", "dim"))
    elif state == "Pending":
        groups = " or ".join(spec["approval"]["groups"])
        console.print(Text(f"  {needed - given} more of {groups} must approve.", "dim"))
