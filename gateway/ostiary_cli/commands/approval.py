"""`ostiary approval NAME`: everything that a person needs to decide."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from ostiary_cli.admin_socket import AdminSocket
from ostiary_cli.approval_view import whole
from ostiary_cli.options import data_option, socket_option


@click.command()
@click.argument("name")
@data_option
@socket_option
@click.option("--json", "json_", is_flag=True, help="The ApprovalRequest as JSON.")
def command(name: str, data: Path, socket: Path | None, json_: bool) -> None:
    """Show one approval: who asks for what, why, and what the target says it would do.

    The beginning of NAME is enough.
    """
    found = AdminSocket(data, socket).approval(name)
    if json_:
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(whole(found))
    if found["state"] == "Pending":
        full = found["approval"]["metadata"]["name"]
        yes, no = (f"ostiary approve {full}", "bold green"), (f"ostiary deny {full}", "bold red")
        console.print(Text.assemble("\n", yes, "   or   ", no))
