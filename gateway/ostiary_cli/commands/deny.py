"""`ostiary deny NAME`: a person's no, at the admin socket of a running gateway."""

from __future__ import annotations

from pathlib import Path

import click

from ostiary_cli.deciding import decide
from ostiary_cli.options import data_option, socket_option


@click.command()
@click.argument("name")
@click.option("--reason", default="", help="Why; it is kept, and told to who asked if you deny.")
@data_option
@socket_option
def command(name: str, reason: str, data: Path, socket: Path | None) -> None:
    """Deny a request. One person is enough, whoever has approved it before.

    You are the user of this machine that runs this command. The beginning of NAME is enough.
    """
    decide(name, "Deny", reason, data, socket)
