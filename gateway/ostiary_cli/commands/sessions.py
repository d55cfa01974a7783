"""`ostiary sessions`: which agents came, through which Connection, and how it went."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from click.core import ParameterSource
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ostiary_api.units import parse_duration
from ostiary_cli.admin_socket import AdminSocket
from ostiary_cli.live_view import show_live
from ostiary_cli.options import data_option, open_record, socket_option, store_option
from ostiary_gateway.audit.reader import Session
from ostiary_gateway.audit.transcript_words import bytes_text, duration, moment
from ostiary_gateway.visible import visible

WIDE = 120
"""Columns from which on the whole table fits."""

NARROW = len("01m82yg4ptqk7p6b06b6") + len("11-23 01:44:20") + len("Requests") + len("Denied") + 12
"""Columns that a narrow table needs besides users and Connections; 12 between them."""

MORE = len("2026-") + len("1,234,567") + len("999.9 MiB") + len("59 min 59 s") + 6
"""Columns that the whole table needs on top."""


def since_time(text: str) -> float:
    """Seconds since the epoch of a time (RFC 3339), or of a duration before now, like `2h` or `7d`."""
    days = text.removesuffix("d")
    try:
        if days != text and days.isascii() and days.isdecimal() and int(days) <= 36_500:
            return (datetime.now(UTC) - timedelta(days=int(days))).timestamp()
        return (datetime.now(UTC) - timedelta(seconds=parse_duration(text))).timestamp()
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is neither a time like 2027-01-31T12:00:00Z nor a duration like 2h or 7d.", param_hint="--since"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


@click.command()
@data_option
@store_option
@socket_option
@click.option("--live", is_flag=True, help="Only those open now, and what runs in them; asks the running gateway.")
@click.option("--connection", metavar="NAMESPACE/NAME", help="Only those through this Connection.")
@click.option("--user", help="Only those of this user.")
@click.option(
    "--since", type=since_time, metavar="TIME", help="Only those opened since: a time, or a duration like 2h."
)
@click.option(
    "--decision", type=click.Choice(["Allow", "Deny", "RequireApproval"]), help="Only those with one so decided."
)
@click.option("--state", type=click.Choice(["open", "closed", "lost"]), help="Only those in this state.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many, newest first.")
@click.option("--json", "json_", is_flag=True, help="As JSON lines.")
def command(
    data: Path,
    store: str | None,
    socket: Path | None,
    live: bool,
    connection: str | None,
    user: str | None,
    since: float | None,
    decision: str | None,
    state: str | None,
    limit: int,
    json_: bool,
) -> None:
    """List recorded sessions, the newest first; with --live those that are open, and what runs in them.

    `ostiary kill` ends one. In a cluster: kubectl exec into the gateway's pod, and --live there.
    """
    if connection is not None and "/" not in connection:
        connection = f"default/{connection}"
    if live:
        if click.get_current_context().get_parameter_source("store") is ParameterSource.COMMANDLINE:
            raise click.UsageError("--live asks the running gateway, not a store.")
        if since is not None or decision is not None or state is not None:
            raise click.UsageError("--since, --decision and --state are for recorded sessions, not for --live.")
        show_live(AdminSocket(data, socket), connection, user, limit, as_json=json_)
        return
    with open_record(data, store) as records:
        found = [
            session
            for _, session in records.sessions(
                connection=connection, username=user, since=since, decision=decision, state=state, limit=limit
            )
        ]
    if json_:
        for session in found:
            click.echo(json.dumps(_fields(session), ensure_ascii=False))
        return
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    if not found:
        console.print("No session fits.")
        return
    console.print(session_table(found, console.width))
    if len(found) == limit:
        console.print(Text(f"The newest {limit}; --limit shows more.", "dim"))


def _fields(session: Session) -> dict[str, object]:
    return {name: getattr(session, name) for name in Session.__slots__ if name != "sid"}


def session_table(found: list[Session], width: int) -> Table:
    """One line a session; what does not fit into the terminal is left out, not folded."""
    wide = width >= WIDE
    counts = ("Requests", "Denied", "Rows", "Bytes", "For") if wide else ("Requests", "Denied")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    for column in ("Session", "Opened (UTC)", "User", "Connection"):
        table.add_column(column, no_wrap=True)
    for column in counts:
        table.add_column(column, justify="right", no_wrap=True)
    users, connections = [visible(each.username) for each in found], [each.connection for each in found]
    user, connection = _shares(users, connections, width - NARROW - (MORE if wide else 0))
    for session in found:
        opened = moment(session.opened).removesuffix(" UTC")
        cells = [
            Text(session.id, "bold"),
            Text(opened if wide else opened.partition("-")[2]),
            _cut(visible(session.username), user),
            _cut(session.connection, connection),
            Text(f"{session.requests:,}"),
            Text(f"{session.denied:,}", "bold red" if session.denied else "dim"),
        ]
        if wide:
            lasted = duration(session.closed - session.opened) if session.closed is not None else session.state
            style = {"open": "green", "lost": "yellow"}.get(session.state, "")
            cells += [Text(f"{session.rows:,}"), Text(bytes_text(session.bytes)), Text(lasted, style)]
        table.add_row(*cells)
    return table


def _shares(users: list[str], connections: list[str], room: int) -> tuple[int, int]:
    """Columns for the users and for the Connections: each takes what it needs, the longer one gives way."""
    user = max([len("User"), *(cell_len(each) for each in users)])
    connection = max([len("Connection"), *(cell_len(each) for each in connections)])
    while user + connection > room and (user > len("User") or connection > len("Connection")):
        if user > connection or connection == len("Connection"):
            user -= 1
        else:
            connection -= 1
    return user, connection


def _cut(text: str, width: int) -> Text:
    cut = Text(text)
    cut.truncate(width, overflow="ellipsis")
    return cut
