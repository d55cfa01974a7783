"""`ostiary approvals`: what waits for a person; with --all also what became of the rest."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
from rich.console import Console
from rich.live import Live

from ostiary_cli.admin_socket import AdminSocket
from ostiary_cli.approval_view import listing, order
from ostiary_cli.options import data_option, socket_option

WATCH = 1.0
"""Seconds between looks."""


@click.command()
@data_option
@socket_option
@click.option("--all", "all_", is_flag=True, help="Closed ones too.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="At most so many.")
@click.option("--watch", is_flag=True, help="Keep showing them, until Ctrl-C.")
@click.option("--json", "json_", is_flag=True, help="As JSON lines.")
def command(data: Path, socket: Path | None, all_: bool, limit: int, watch: bool, json_: bool) -> None:
    """List what waits for a person, those without an answer first.

    Works without a running gateway too: it then shows what its data directory has.
    """
    gateway = AdminSocket(data, socket)
    found = order(gateway.approvals(closed=all_, limit=limit))
    if json_:
        for each in found:
            click.echo(json.dumps(each, ensure_ascii=False))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    if not watch:
        console.print(listing(found, console.width))
        return
    with Live(listing(found, console.width), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(WATCH)
                found = order(gateway.approvals(closed=all_, limit=limit))
                live.update(listing(found, console.width), refresh=True)
        except KeyboardInterrupt:
            pass
