"""`ostiary store`: the store of a team: takes in the records of gateways, and looks after them."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import click

from ostiary_cli.errors import FOUND, CommandError
from ostiary_cli.options import log_format_option, log_level_option
from ostiary_cli.store_upkeep import key, retention
from ostiary_gateway.logging import configure


@click.group()
def command() -> None:
    """The records of all gateways in one place, to search, review, verify, export and keep."""


command.add_command(key)
command.add_command(retention)


@command.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="The settings, in YAML.",
)
@log_level_option
@log_format_option
def serve(config: Path, log_level: str, log_format: str) -> None:
    """Take in what gateways hand over, and do the upkeep of the store, until SIGTERM or Ctrl-C.

    docs/store.md describes the settings. Gateways are started with --ship-to URL.
    """
    from ostiary_store.settings import SettingsError, load

    configure(log_level, json=None if log_format == "auto" else log_format == "json")
    try:
        settings = load(config)
    except SettingsError as error:
        from rich.console import Console

        from ostiary_cli.problems import print_problems

        print_problems(Console(stderr=True, highlight=False), error.problems)
        click.echo("Nothing is served. Next: mend the settings; docs/store.md describes them.", err=True)
        raise SystemExit(FOUND) from None
    from ostiary_gateway.loop import new_event_loop
    from ostiary_store.service import run

    async def until_told() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        await run.serve(settings, stopping)

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(until_told())
    except run.CannotServe as error:
        raise CommandError(f"The store cannot be served: {error}.", f"Mend it in {config}") from error
    except OSError as error:
        raise CommandError(f"The store cannot be served: {error}", f"Choose another address in {config}") from error
