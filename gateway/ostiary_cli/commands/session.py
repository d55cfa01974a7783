"""`ostiary session ID`: the transcript of a session, as the agent saw it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import click
from rich.console import Console

from ostiary_cli.casting import write_cast
from ostiary_cli.errors import CommandError
from ostiary_cli.options import data_option, open_record, store_option
from ostiary_gateway.audit.transcript import render, request_view
from ostiary_gateway.audit.transcript_words import CELL, Options


@click.command()
@click.argument("session_id", metavar="ID")
@data_option
@store_option
@click.option("--rows", type=click.IntRange(0), default=10, show_default=True, help="Rows of each result; 0: all.")
@click.option("--full", is_flag=True, help="All rows, and values of any length.")
@click.option("--no-pager", is_flag=True, help="Never through a pager.")
@click.option(
    "--cast", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True), metavar="FILE",
    help="Write a command or shell of it as an asciicast (asciinema, version 2) instead; - is stdout.",
)  # fmt: skip
@click.option("--no-input", is_flag=True, help="With --cast: leave out what was typed.")
def command(
    session_id: str, data: Path, store: str | None, rows: int, full: bool, no_pager: bool, cast: Path | None,
    no_input: bool,
) -> None:  # fmt: skip
    """Print the transcript of session ID (or of the one session whose id begins so), or of one request by its id."""
    options = Options(rows=None if full or rows == 0 else rows, cell=None if full else CELL)
    console = Console(highlight=False)
    with open_record(data, store) as records:
        if cast is not None:
            write_cast(records, session_id, cast, input=not no_input)
            return
        try:
            reader, session = records.session(session_id)
        except LookupError as error:
            with suppress(LookupError):
                reader, session, request = records.request(session_id)
                console.print(request_view(reader, session, request, request.number, console.width, options))
                return
            raise CommandError(str(error.args[0]), "List them: ostiary sessions") from None
        if console.is_terminal and not no_pager:
            # Without this, less shows colours as control characters, and clears short transcripts away.
            os.environ.setdefault("LESS", "FRX")
            with console.pager(styles=True):
                render(reader, session, console, options)
        else:
            render(reader, session, console, options)
