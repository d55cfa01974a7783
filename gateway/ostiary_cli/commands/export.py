"""`ostiary export`: the record as JSON lines, for other tools."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

import click

from ostiary_cli.commands.sessions import since_time
from ostiary_cli.errors import CommandError
from ostiary_cli.options import data_option, open_record, store_option
from ostiary_gateway.audit.export import export


@click.command()
@data_option
@store_option
@click.option("--session", "session_ids", multiple=True, metavar="ID", help="Only these sessions; may be repeated.")
@click.option("--connection", metavar="NAMESPACE/NAME", help="Only those through this Connection.")
@click.option("--user", help="Only those of this user.")
@click.option(
    "--since", type=since_time, metavar="TIME", help="Only sessions opened since: a time, or a duration like 2h."
)
@click.option(
    "--responses",
    type=click.Choice(["decoded", "base64", "none"]),
    default="decoded",
    show_default=True,
    help="Responses as rows, as recorded bytes, or not at all.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write here instead of to stdout.")
def command(
    data: Path,
    store: str | None,
    session_ids: tuple[str, ...],
    connection: str | None,
    user: str | None,
    since: float | None,
    responses: str,
    out: Path | None,
) -> None:
    """Write the record as JSON lines, the oldest session first. docs/audit.md describes the fields."""
    with open_record(data, store) as records, ExitStack() as stack:
        try:
            chosen = [records.session(session) for session in session_ids] or records.sessions(
                connection=connection, username=user, since=since, gateway=True, newest_first=False
            )
        except LookupError as error:
            raise CommandError(str(error.args[0]), "List them: ostiary sessions") from None
        target: BinaryIO = sys.stdout.buffer
        if out is not None:
            try:
                target = stack.enter_context(out.open("wb"))
            except OSError as error:
                raise CommandError(f"Cannot write {out}: {error.strerror}.", "Choose another --out.") from error
        for reader, session in chosen:
            for line in export(reader, [session], responses=responses):
                target.write(line)
        target.flush()
