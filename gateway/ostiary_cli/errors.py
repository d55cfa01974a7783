"""How commands fail: what is wrong, what to do next, and the exit code. docs/cli.md lists the codes."""

from __future__ import annotations

from typing import IO, Any

import click

FOUND = 1
"""The command ran and found something wrong: a problem in a manifest, a failing test, a broken chain."""

USAGE = 2
"""The command line itself is wrong (click's own code)."""

UNABLE = 3
"""The command could not do its work: a file, an address or a program is missing."""


class CommandError(click.ClickException):
    """`message` says what is wrong, `next_step` what to do. Ends the program with UNABLE."""

    exit_code = UNABLE

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.next_step = next_step

    def show(self, file: IO[Any] | None = None) -> None:
        """Print it to standard error."""
        click.echo(f"{click.style('Error:', fg='red', bold=True)} {self.message}", file=file, err=file is None)
        if self.next_step:
            click.echo(f"{click.style('Next:', bold=True)} {self.next_step}", file=file, err=file is None)
