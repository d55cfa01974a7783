"""`ostiary version`: what runs here, for a bug report."""

from __future__ import annotations

import importlib.metadata
import json
import platform

import click

from ostiary_gateway import _pure

PARTS = ("cel-expr-python", "cel-python", "postgast", "uvloop", "cryptography", "pydantic")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def command(as_json: bool) -> None:
    """Print the versions of Ostiary, of Python and of what decides."""
    found = {"ostiary": installed("ostiary"), "python": platform.python_version(), "platform": platform.platform()}
    found |= {"compiled": _pure.how()} | {part: installed(part) for part in PARTS}
    if as_json:
        click.echo(json.dumps(found))
        return
    width = max(map(len, found))
    for name, value in found.items():
        click.echo(f"{name:<{width}}  {value}")


def installed(distribution: str) -> str:
    """The version of a distribution, `unknown` where its metadata is missing (run from a source tree)."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
