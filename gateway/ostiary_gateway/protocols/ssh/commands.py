"""The facts of a command line: which programs it runs, with what, and whether its text tells."""

from __future__ import annotations

from .command_model import CommandFacts, CommandLine

__all__ = ["CommandFacts", "CommandLine", "command_facts"]


def command_facts(line: str) -> CommandLine:
    """What the target's shell will run for this line. Never raises; what cannot be read is opaque."""
    return CommandLine((), opaque=bool(line), reason="command lines are not read yet")
