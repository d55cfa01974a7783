"""The `ostiary` command. Each command is a module of its own, imported when it is called."""

from __future__ import annotations

import importlib
from typing import Any

import click

COMMANDS = {
    "serve": ("ostiary_cli.commands.serve", "Run a gateway from manifests, reloading them on change."),
    "gateway": ("ostiary_cli.commands.gateway", "Run the gateway of a pod, fed by the operator."),
    "console": ("ostiary_cli.commands.console", "Serve the web console."),
    "demo": ("ostiary_cli.commands.demo", "A small shop behind Ostiary, and an agent that misbehaves."),
    "lint": ("ostiary_cli.commands.lint", "Check manifests: fields, expressions, references."),
    "test": ("ostiary_cli.commands.test", "Run the tests that policies carry."),
    "explain": ("ostiary_cli.commands.explain", "Say what would happen to a statement, and why."),
    "sessions": ("ostiary_cli.commands.sessions", "List sessions: recorded ones, and those open now."),
    "session": ("ostiary_cli.commands.session", "Print the transcript of a session."),
    "search": ("ostiary_cli.commands.search", "Find requests by what they say, and by what was decided."),
    "kill": ("ostiary_cli.commands.kill", "End a live session, or a request that runs."),
    "approvals": ("ostiary_cli.commands.approvals", "List what waits for a person's approval."),
    "approval": ("ostiary_cli.commands.approval", "Show one approval: all that one needs to decide."),
    "approve": ("ostiary_cli.commands.approve", "Let a request run, once."),
    "deny": ("ostiary_cli.commands.deny", "Refuse a statement."),
    "replay": ("ostiary_cli.commands.replay", "Decide recorded requests with other policies."),
    "export": ("ostiary_cli.commands.export", "Write the record as JSON lines."),
    "verify": ("ostiary_cli.commands.verify", "Check that nobody changed the record."),
    "store": ("ostiary_cli.commands.store", "The records of all gateways in one place."),
    "token": ("ostiary_cli.commands.token", "Make tokens for agents."),
    "kubeconfig": ("ostiary_cli.commands.kubeconfig", "Write a kubeconfig for a Kubernetes Connection."),
    "ssh": ("ostiary_cli.commands.ssh", "Keys and certificates for SSH Connections."),
    "version": ("ostiary_cli.commands.version", "Print versions."),
}
"""Command → its module (which has it as `command`), and one line of help."""


class LazyGroup(click.Group):
    """Lists its commands without importing them: `ostiary --help` must not load a database driver."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands, in the order in which one needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command's module."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands in --help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a misspelt command gets a suggestion."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            ctx.fail(f"There is no command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Ostiary is a doorkeeper between AI agents and what they act on.

    Every request is decided by policies before it runs, every response is masked, and both are recorded.
    """


def main(arguments: list[str] | None = None, **extra: Any) -> None:
    """Entry point of the console script."""
    cli.main(args=arguments, prog_name="ostiary", **extra)


if __name__ == "__main__":
    main()
