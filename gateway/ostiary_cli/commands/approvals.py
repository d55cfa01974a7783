"""`ostiary approvals`: what waits for a person; with --all also what became of the rest."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import click
from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ostiary_cli.admin_socket import AdminSocket, Item
from ostiary_cli.approval_view import STYLES, ago, one_line, order, until
from ostiary_cli.options import data_option, socket_option
from ostiary_gateway.audit.transcript import visible

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
        console.print(_view(found, console.width))
        return
    with Live(_view(found, console.width), console=console, auto_refresh=False) as live:
        try:
            while True:
                time.sleep(WATCH)
                found = order(gateway.approvals(closed=all_, limit=limit))
                live.update(_view(found, console.width), refresh=True)
        except KeyboardInterrupt:
            pass


def _view(found: list[Item], width: int) -> RenderableType:
    if not found:
        return Text("Nothing waits for approval.", "dim")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    table.add_column("Approval", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("Asked", no_wrap=True, justify="right")
    table.add_column("Open for", no_wrap=True, justify="right")
    table.add_column("Who", no_wrap=True, max_width=max(12, width // 7))
    table.add_column("Needs", no_wrap=True, max_width=max(10, width // 7))
    table.add_column("What", no_wrap=True, ratio=1, overflow="ellipsis")
    for each in found:
        spec, metadata = each["approval"]["spec"], each["approval"]["metadata"]
        answers = each["approval"].get("status", {}).get("approvals", [])
        terms = spec["approval"]
        given = sum(answer["verdict"] == "Approve" for answer in answers)
        needed = terms.get("minApprovals", 1)
        count = f" {given}/{needed}" if needed > 1 else ""
        table.add_row(
            Text(metadata["name"], "bold"),
            Text(each["state"], STYLES[each["state"]]),
            Text(ago(metadata.get("creationTimestamp")), "dim"),
            Text(until(each), "yellow" if each["state"] == "Pending" else "dim"),
            Text(visible(spec["requester"]["username"])),
            Text(visible(" or ".join(terms["groups"])) + count),
            Text(one_line(spec["request"]["summary"])),
        )
    return table
