"""Sessions that are open, on a terminal: who, through which Connection, since when, and what runs."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ostiary_cli.admin_socket import AdminSocket
from ostiary_gateway.audit.transcript_words import duration, moment
from ostiary_gateway.visible import visible


def show_live(gateway: AdminSocket, connection: str | None, user: str | None, limit: int, *, as_json: bool) -> None:
    """Prints them, the newest first, as a table or as JSON lines."""
    found = [
        each
        for each in reversed(gateway.live())
        if connection in (None, each["connection"]) and user in (None, each["username"])
    ][:limit]
    if as_json:
        for each in found:
            click.echo(json.dumps(each, ensure_ascii=False))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    console.print(live_table(found, time.time()) if found else "No session is open.")


def live_table(found: list[dict[str, Any]], now: float) -> Table:
    """A line a session, and one for each further request that runs in it."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("Session", "Opened (UTC)", "User", "Connection"):
        table.add_column(column, no_wrap=True)
    table.add_column("For", justify="right", no_wrap=True)
    table.add_column("Runs now", overflow="ellipsis", no_wrap=True)
    for session in found:
        table.add_row(
            Text(session["session"], "bold"), moment(session["opened"]).removesuffix(" UTC").partition("-")[2],
            Text(visible(session["username"])), Text(session["connection"]), duration(now - session["opened"]),
            *_running(session["running"][:1], now),
        )  # fmt: skip
        for request in session["running"][1:]:
            table.add_row("", "", "", "", "", *_running([request], now))
    return table


def _running(requests: list[dict[str, Any]], now: float) -> list[Text]:
    if not requests:
        return [Text("nothing", "dim")]
    request = requests[0]
    number = request["request"].rpartition("-")[2]
    return [Text(f"-{number}, {duration(now - request['since'])}: {visible(request['text'])}")]
