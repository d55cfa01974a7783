"""Recorded terminals as files that asciinema plays."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click

from ostiary_cli.errors import CommandError
from ostiary_gateway.audit.asciinema import cast_of
from ostiary_gateway.audit.records import Recorded


def write_cast(records: Recorded, name: str, target: Path, *, input: bool) -> None:
    """The one command or shell that `name`, the id of a session or of a request, leads to; `-` is stdout.

    CommandError if there is none, or there are several.
    """
    found = dict(_casts(records, name, input=input))
    if not found:
        raise CommandError(
            f"No command or shell of {name} is recorded with what it wrote.",
            "Only Connections with spec.recording: Full keep that. `ostiary session` shows what there is.",
        )
    if len(found) > 1:
        raise CommandError(f"Session {name} has {len(found)} recorded streams.", f"Name one: {', '.join(found)}")
    [(request, lines)] = found.items()
    try:
        if str(target) == "-":
            for line in lines:
                sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()
            return
        with target.open("wb") as file:
            file.writelines(lines)
    except (LookupError, ValueError) as error:
        raise CommandError(f"The record of {request} is damaged: {error}.", "`ostiary verify` says more.") from error
    except OSError as error:
        raise CommandError(f"Cannot write {target}: {error.strerror}.", "Choose another --cast.") from error
    click.echo(f"Wrote {request} to {target}. Play it: asciinema play {target}")


def _casts(records: Recorded, name: str, *, input: bool) -> Iterator[tuple[str, Iterator[bytes]]]:
    with suppress(LookupError):
        reader, session, request = records.request(name)
        if (lines := cast_of(reader, session, request, input=input)) is not None:
            yield request.id, lines
        return
    try:
        reader, session = records.session(name)
    except LookupError as error:
        raise CommandError(str(error.args[0]), "List them: ostiary sessions") from None
    for request in reader.requests(session):
        if (lines := cast_of(reader, session, request, input=input)) is not None:
            yield request.id, lines
