"""Options and arguments that several commands share, and where a gateway keeps its data."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from click.core import ParameterSource

from ostiary_cli.errors import CommandError
from ostiary_gateway.logging import LEVELS

if TYPE_CHECKING:
    from ostiary_gateway.audit.records import Recorded


Command = TypeVar("Command", bound=Callable[..., object])


def default_data() -> Path:
    """`$XDG_STATE_HOME/ostiary`, or `~/.local/state/ostiary`."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The specification has relative paths ignored.
    base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
    return base / "ostiary"


paths_argument = click.argument(
    "paths", nargs=-1, required=True, metavar="PATH…", type=click.Path(path_type=Path, exists=False)
)
"""Manifest files and directories. What is not there is reported like any other problem."""

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=default_data,
    show_default="~/.local/state/ostiary",
    help="The gateway's data directory.",
)

store_option = click.option(
    "--store",
    metavar="URL",
    envvar="OSTIARY_STORE",
    show_envvar=True,
    help="Ask a store, not a data directory: postgresql://… or sqlite:PATH.",
)

socket_option = click.option(
    "--socket", type=click.Path(path_type=Path), metavar="PATH", help="The gateway's admin socket. Default: in --data."
)


log_level_option = click.option(
    "--log-level",
    type=click.Choice(LEVELS),
    default="info",
    show_default=True,
    envvar="OSTIARY_LOG_LEVEL",
    show_envvar=True,
    help="What is logged.",
)

log_format_option = click.option(
    "--log-format",
    type=click.Choice(["auto", "json", "text"]),
    default="auto",
    help="auto: text on a terminal, else JSON.",
)


def host_and_port(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int] | None:
    """`HOST:PORT` or `[IPv6]:PORT`; `off` is None."""
    if value == "off":
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        text = f"{value!r} is no HOST:PORT, like {parameter.default}, and not off."
        raise click.BadParameter(text, context, parameter)
    return host.removeprefix("[").removesuffix("]"), int(port)


def drain_option(default: int) -> Callable[[Command], Command]:
    """How long sessions get when the gateway stops."""
    return click.option(
        "--drain",
        type=click.FloatRange(0, 86_400),
        default=default,
        show_default=True,
        metavar="SECONDS",
        envvar="OSTIARY_DRAIN",
        show_envvar=True,
        help="When it stops: what a transaction or a running statement gets to finish.",
    )


@contextmanager
def open_record(data: Path, store: str | None = None) -> Iterator[Recorded]:
    """The record for reading, that of all workers, or a store; its errors as those of a command."""
    if store and not data_is_given():
        from ostiary_cli.stores import open_stored

        with open_stored(store) as stored:
            yield stored
        return
    from ostiary_gateway.audit.records import Records

    try:
        with Records.open(data) as records:
            yield records
    except FileNotFoundError:
        raise CommandError(
            f"There is no record in {data}.", "Give the directory that the gateway was started with: --data DIR"
        ) from None
    except (ValueError, PermissionError) as error:
        raise CommandError(str(error), "Give another directory: --data DIR") from error
    except sqlite3.Error as error:
        raise CommandError(f"The record in {data} cannot be read: {error}.", "See: ostiary verify") from error


def data_is_given() -> bool:
    """Whether --data stands on the command line: then it goes before a store that the environment names."""
    context = click.get_current_context()
    given = context.get_parameter_source
    return given("data") is ParameterSource.COMMANDLINE and given("store") is not ParameterSource.COMMANDLINE
