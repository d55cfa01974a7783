"""`ostiary store key` and `ostiary store retention`: the key that signs a store, and what is past its time."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ostiary_api.units import format_age, parse_age
from ostiary_cli.errors import CommandError

if TYPE_CHECKING:
    from ostiary_store.model import Expiry


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--public", is_flag=True, help="Only print the public half of a key that is there.")
def key(file: Path, public: bool) -> None:
    """Make the key that signs a store, if there is none in FILE, and print its public half.

    Keep what it prints elsewhere: `ostiary verify --store URL --keys` takes a file of such lines.
    """
    from ostiary_store.signing import StoreKey

    try:
        found = StoreKey.load(file, create=not public)
    except (ValueError, OSError) as error:
        raise CommandError(f"The key cannot be used: {error}") from error
    click.echo(found.line)


def _age(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return parse_age(value)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


@click.command()
@click.option(
    "--store", "url", metavar="URL", envvar="OSTIARY_STORE", required=True, help="postgresql://… or sqlite:PATH."
)
@click.option("--record", callback=_age, metavar="AGE", help="How long the store keeps records by itself, like 90d.")
@click.option("--responses", callback=_age, metavar="AGE", help="The same of long responses.")
def retention(url: str, record: float | None, responses: float | None) -> None:
    """What has expired, by the signed statements, and what would go now. It removes nothing: the service does.

    --record and --responses: as in the service's settings; without them only what Connections say counts.
    """
    stated, due = asyncio.run(_retention(url, record, responses))
    for seal, expiry in stated:
        click.echo(f"seal {seal}: {_told(expiry)} (stated {_time(expiry.at)})")
    for expiry in due:
        click.echo(f"due now: {_told(expiry)}")
    if not stated and not due:
        click.echo("Nothing has expired, and nothing is due.")


async def _retention(
    url: str, record: float | None, responses: float | None
) -> tuple[list[tuple[int, Expiry]], list[Expiry]]:
    from ostiary_cli.stores import must_be_there
    from ostiary_store.model import StoreError
    from ostiary_store.opening import open_store
    from ostiary_store.retention import Janitor
    from ostiary_store.sealed import seal_of

    must_be_there(url)
    try:
        store = await open_store(url, make=False)
        try:
            stated = [(row.number, each) async for row in store.seals() for each in seal_of(row).expired]
            return stated, await Janitor(store, record=record, responses=responses).due()
        finally:
            await store.close()
    except ValueError as error:
        raise CommandError(f"A seal of the store cannot be read: {error}", "ostiary verify --store URL") from error
    except StoreError as error:
        raise CommandError(f"The store cannot be asked: {error}") from error


def _told(expiry: Expiry) -> str:
    what = "sessions" if expiry.kind == "record" else "sessions, their long responses only,"
    kept = expiry.record if expiry.kind == "record" else expiry.responses
    default = f"; kept {format_age(kept)} where their Connection does not say" if kept < 1e12 else ""
    day = time.strftime("%Y-%m-%d", time.gmtime(expiry.day))
    return f"{expiry.sessions} {what} of {day}{default}"


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(at))
