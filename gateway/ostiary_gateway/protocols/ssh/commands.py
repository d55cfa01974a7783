"""The facts of a command line: which programs it runs, with what, and whether its text tells.

A strict reader (`command_reader`) finds the commands, tree-sitter's grammar of Bash gives a second opinion where the
text is more than plain words, and `command_sight` looks through the programs that run others.
"""

from __future__ import annotations

import re
from functools import lru_cache

from .command_model import CommandFacts, CommandLine
from .command_sight import Sight, Surroundings

__all__ = ["LONGEST", "CommandFacts", "CommandLine", "command_facts"]

LONGEST = 32 * 1024
"""Characters of a line that are looked at; a longer one is opaque."""
_REMEMBERED = 2048
_UNUSUAL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180e\u2000-\u200f\u2028-\u202f"
    "\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\uffff\ud800-\udfff\ue000-\uf8ff]"
)
"""Control characters, blanks that are no blanks of the shell, marks that nobody sees, halves of characters."""


def command_facts(line: str) -> CommandLine:
    """What the target's shell will run for this line. Never raises; what cannot be read is opaque."""
    if len(line) <= _REMEMBERED:
        return _remembered(line)
    if len(line) > LONGEST:
        return CommandLine((), True, "longer than what is looked at")
    return _facts(line)


def _facts(line: str) -> CommandLine:
    if not line.isascii() or not line.isprintable():
        found = _UNUSUAL.search(line)
        if found is not None:
            return CommandLine((), True, f"the character U+{ord(found.group()):04X}, which shells may read differently")
    sight = Sight()
    sight.text(line, 0, Surroundings())
    reason = sight.book.reason
    return CommandLine(tuple(sight.out), bool(reason), reason)


_remembered = lru_cache(maxsize=1024)(_facts)
