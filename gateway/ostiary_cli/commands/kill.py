"""`ostiary kill SESSION`: ends a live session, or one request of it, at the admin socket of a running gateway."""

from __future__ import annotations

from pathlib import Path

import click

from ostiary_cli.admin_socket import AdminSocket
from ostiary_cli.options import data_option, socket_option


@click.command()
@click.argument("target", metavar="SESSION[-REQUEST]")
@click.option("--reason", default="", help="Why; it is told to the agent, and kept in the record.")
@data_option
@socket_option
def command(target: str, reason: str, data: Path, socket: Path | None) -> None:
    """End a live session, or one request that runs in it (`ostiary sessions --live` shows them).

    The beginning of the session's id is enough. Over SSH and for streams of the Kubernetes API a request ends alone; a
    statement of PostgreSQL is cancelled, and ends with its session. The agent is told who has ended it and why, and may
    connect again: to keep it out, revoke its token or change the policy.
    """
    ended = AdminSocket(data, socket).end(target, reason)
    click.echo(f"Ended {ended}.")
