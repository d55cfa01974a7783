"""The options that say where a gateway's record goes, and how much of it stays with the gateway."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ostiary_api.units import parse_quantity

if TYPE_CHECKING:
    from ostiary_gateway.feed.handing import Handing

Function = Callable[..., Any]


class Size(click.ParamType[int | str]):
    """Bytes: 512Mi, 2Gi; `all` is None where everything is meant."""

    name = "size"

    def __init__(self, *, everything: bool = False) -> None:
        self._everything = everything

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Of text."""
        if isinstance(value, int):
            return value
        if self._everything and value == "all":
            return "all"
        try:
            return parse_quantity(str(value))
        except ValueError as problem:
            self.fail(f"{value!r}: {problem}" + (", or all." if self._everything else "."), param, ctx)


def handing_options(keep: str) -> Callable[[Function], Function]:
    """The options; the command gets a `handing`. `keep`: how much stays unless told otherwise."""
    options = (
        click.option(
            "--ship-to", metavar="URL", envvar="OSTIARY_SHIP_TO", show_envvar=True,
            help="The store that takes the record over, as it grows.",
        ),
        click.option(
            "--ship-ca", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", envvar="OSTIARY_SHIP_CA",
            show_envvar=True, help="The CA of its certificate. Default: the system's.",
        ),
        click.option(
            "--ship-token", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
            envvar="OSTIARY_SHIP_TOKEN", show_envvar=True, help="The token that it knows this gateway by.",
        ),
        click.option(
            "--ship-grace", type=click.FloatRange(0, 600), default=10, show_default=True, metavar="SECONDS",
            envvar="OSTIARY_SHIP_GRACE", show_envvar=True,
            help="When it stops: what the rest of the record gets to reach the store.",
        ),
        click.option(
            "--keep-local", type=Size(everything=True), default=keep, show_default=True, metavar="SIZE|all",
            envvar="OSTIARY_KEEP_LOCAL", show_envvar=True,
            help="How much of the record stays here when the store has it.",
        ),
        click.option(
            "--spool-limit", type=Size(), default="0", metavar="SIZE", envvar="OSTIARY_SPOOL_LIMIT", show_envvar=True,
            help="How much of the disk the record may take up; then requests are refused. Default: all there is.",
        ),
    )  # fmt: skip

    def decorate(function: Function) -> Function:
        @wraps(function)
        def with_handing(
            *args: Any, ship_to: str | None, ship_ca: Path | None, ship_token: Path | None, ship_grace: float,
            keep_local: int | str, spool_limit: int, **more: Any,
        ) -> Any:  # fmt: skip
            kept = None if isinstance(keep_local, str) else keep_local
            handing = _handing(ship_to, ship_ca, ship_token, ship_grace, kept, spool_limit)
            return function(*args, handing=handing, **more)

        made: Function = with_handing
        for option in reversed(options):
            made = option(made)
        return made

    return decorate


def _handing(
    url: str | None, ca: Path | None, token: Path | None, grace: float, keep: int | None, limit: int
) -> Handing:
    from ostiary_gateway.feed.handing import Handing

    if limit and keep is not None and keep >= limit:
        raise click.BadParameter(
            "must be less than --spool-limit, or nothing is ever freed.", param_hint="--keep-local"
        )
    if url is None:
        if ca is not None or token is not None:
            raise click.UsageError("--ship-ca and --ship-token go with --ship-to URL.")
        return Handing(limit=limit)
    from ostiary_gateway.audit.store_client import ShipTo

    try:
        return Handing(ShipTo(url, ca, token), grace, keep, limit)
    except ValueError as problem:
        raise click.BadParameter(f"{problem}.", param_hint="--ship-to") from None
