"""The facts of a command line: what each of its commands is, and whether its text tells everything."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommandFacts:
    """One simple command, wherever in the line it stands.

    `argv[0]` is the program as written, which `path` repeats; `program` is its base name. `exact`: argv is what the
    program gets, to the letter; otherwise an expansion, a pattern or input of `xargs` stands in it as written.
    `via`: the wrappers that run it, outermost first. `as_user`: the user that they change to, empty if none.
    `redirects` are files written, `inputs` files read.
    """

    program: str
    path: str
    argv: tuple[str, ...]
    flags: tuple[str, ...] = ()
    redirects: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ()
    substitutions: tuple[str, ...] = ()
    assignments: tuple[str, ...] = ()
    via: tuple[str, ...] = ()
    as_user: str = ""
    exact: bool = True

    def facts(self) -> dict[str, object]:
        """As policies see it."""
        return {
            "program": self.program,
            "path": self.path,
            "argv": list(self.argv),
            "flags": list(self.flags),
            "redirects": list(self.redirects),
            "inputs": list(self.inputs),
            "substitutions": list(self.substitutions),
            "assignments": list(self.assignments),
            "via": list(self.via),
            "runAs": self.as_user,
            "exact": self.exact,
        }


@dataclass(frozen=True, slots=True)
class CommandLine:
    """All commands of a line, in order. `opaque`: the text does not tell what runs, and `reason` says why."""

    commands: tuple[CommandFacts, ...]
    opaque: bool = False
    reason: str = ""

    def facts(self) -> list[dict[str, object]]:
        """The commands as policies see them: plain values, new ones for each caller."""
        return [command.facts() for command in self.commands]
