"""Facts of a command line as a transcript: the line behind `$`, then each command with what is known of it."""

from __future__ import annotations

import json
import shlex

from ostiary_gateway.protocols.ssh.commands import CommandFacts, command_facts


def prompted(line: str) -> str:
    """The line as it is typed; what cannot be printed, escaped."""
    if line.isprintable() or (line.replace("\n", "").isprintable() and not line.endswith("\n")):
        return "$ " + line.replace("\n", "\n> ")
    return "% " + json.dumps(line)


def command(facts: CommandFacts) -> str:
    parts = [" ".join(shlex.quote(word) for word in facts.argv) or "(none)"]
    if facts.argv and facts.program != facts.argv[0]:
        parts.append(f"program {facts.program}")
    if facts.flags:
        parts.append("flags " + " ".join(facts.flags))
    for name, values in (
        ("writes", facts.redirects),
        ("reads", facts.inputs),
        ("substitutes", facts.substitutions),
        ("sets", facts.assignments),
        ("via", facts.via),
    ):
        if values:
            parts.append(f"{name} " + " ".join(shlex.quote(value) for value in values))
    if facts.as_user:
        parts.append(f"as {facts.as_user}")
    if not facts.exact:
        parts.append("inexact")
    return " · ".join(parts)


def transcript(line: str) -> str:
    found = command_facts(line)
    lines = [prompted(line), *(f"  {command(each)}".replace("\n", "\\n") for each in found.commands)]
    if found.opaque:
        lines.append(f"  opaque: {found.reason}")
    return "\n".join(lines)
