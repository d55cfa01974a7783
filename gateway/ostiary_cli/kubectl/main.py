"""The command `kubectl ostiary`, and what it prints."""

from __future__ import annotations

import functools
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from rich.console import Console
from rich.live import Live
from rich.text import Text

from ostiary_cli.admin_socket import Item
from ostiary_cli.approval_view import listing, order, whole
from ostiary_cli.deciding import report
from ostiary_cli.errors import CommandError
from ostiary_cli.kubectl.cluster import Target, why_not

COUNTED: Final = 10.0
"""Seconds in which the operator is given time to count an answer."""
LOOK: Final = 0.3
WATCH: Final = 2.0

Command = TypeVar("Command", bound=Callable[..., Any])
_PASSED: Final = ("context", "kubeconfig", "cluster", "user", "as", "as_group", "request_timeout")


def _reaching(command: Command) -> Command:
    """The options of kubectl that say where to go, before or after the command's name; gives `target`."""

    @functools.wraps(command)
    def with_target(*arguments: Any, **options: Any) -> Any:
        context = click.get_current_context()
        above: Target = context.obj if isinstance(context.obj, Target) else Target()
        namespace, everywhere = options.pop("namespace"), options.pop("everywhere")
        more: list[str] = []
        for name in _PASSED:
            given = options.pop(f"{name}_")
            for value in given if isinstance(given, tuple) else (given,) if given else ():
                more += [f"--{name.replace('_', '-')}", value]
        target = Target(namespace or above.namespace, everywhere or above.everywhere, (*above.more, *more))
        return command(*arguments, target=target, **options)

    decorated: Any = with_target
    for option in reversed(
        (
            click.option("-n", "--namespace", default="", metavar="NAME", help="Its namespace."),
            click.option("-A", "--all-namespaces", "everywhere", is_flag=True, help="Look in all namespaces."),
            click.option("--context", "context_", default="", metavar="NAME", help="Context of the kubeconfig."),
            click.option("--kubeconfig", "kubeconfig_", default="", metavar="FILE", help="Another kubeconfig."),
            click.option("--cluster", "cluster_", default="", hidden=True),
            click.option("--user", "user_", default="", hidden=True),
            click.option("--as", "as_", default="", metavar="USER", help="As another user, where you may."),
            click.option("--as-group", "as_group_", multiple=True, metavar="GROUP", help="As a member of a group."),
            click.option("--request-timeout", "request_timeout_", default="", hidden=True),
        )
    ):
        decorated = option(decorated)
    made: Command = decorated
    return made


@click.group(name="kubectl ostiary", context_settings={"help_option_names": ["-h", "--help"]})
@click.pass_context
@_reaching
def main(context: click.Context, target: Target) -> None:
    """Approvals in a cluster: what waits for a person, all that one needs to decide, the answer.

    Everything is done by kubectl, as the user of your kubeconfig. Who may answer what, the API server decides.
    """
    context.obj = target


@main.command("list")
@_reaching
@click.option("--all", "all_", is_flag=True, help="Closed ones too.")
@click.option("--watch", "-w", is_flag=True, help="Keep showing them, until Ctrl-C.")
@click.option("--json", "json_", is_flag=True, help="As JSON lines.")
def list_(target: Target, all_: bool, watch: bool, json_: bool) -> None:
    """List what waits for a person, those without an answer first."""

    def look() -> list[Item]:
        return order([each for each in target.listed() if all_ or each["state"] in ("Pending", "Approved")])

    if json_:
        for each in look():
            click.echo(json.dumps(each, ensure_ascii=False))
        return
    console = _console()
    if not watch:
        console.print(listing(look(), console.width, namespaces=target.everywhere))
        return
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(listing(look(), console.width, namespaces=target.everywhere), refresh=True)
                time.sleep(WATCH)
        except KeyboardInterrupt:
            pass


@main.command()
@click.argument("name")
@_reaching
@click.option("--json", "json_", is_flag=True, help="The ApprovalRequest as JSON.")
def show(target: Target, name: str, json_: bool) -> None:
    """Show one: who asks for what, why, what it would do, and whether you may answer.

    The beginning of NAME is enough.
    """
    found = target.one(name)
    if json_:
        click.echo(json.dumps(found["approval"], ensure_ascii=False, indent=2))
        return
    console = _console()
    console.print(whole(found))
    metadata, spec = found["approval"]["metadata"], found["approval"]["spec"]
    if found["state"] != "Pending":
        return
    me = target.me()
    may = target.may_approve(metadata["namespace"], spec["connectionRef"]["name"])
    if reason := why_not(found, me, may):
        console.print(Text.assemble("\nYou are ", (me.username, "bold"), f", and cannot answer: {reason}."))
        return
    full = f"{metadata['name']} -n {metadata['namespace']}"
    yes, no = (f"kubectl ostiary approve {full}", "bold green"), (f"kubectl ostiary deny {full}", "bold red")
    console.print(Text.assemble("\nYou are ", (me.username, "bold"), ", and may answer:\n", yes, "   or   ", no))


@main.command()
@click.argument("name")
@click.option("--reason", default="", help="Why; it is kept.")
@_reaching
def approve(target: Target, name: str, reason: str) -> None:
    """Let it run, once. Look at it first: kubectl ostiary show NAME.

    The beginning of NAME is enough.
    """
    _answer(target, name, "Approve", reason)


@main.command()
@click.argument("name")
@click.option("--reason", default="", help="Why; it is kept, and told to who asked.")
@_reaching
def deny(target: Target, name: str, reason: str) -> None:
    """Refuse it. One person is enough, whoever has approved it before."""
    _answer(target, name, "Deny", reason)


def _answer(target: Target, name: str, verdict: str, reason: str) -> None:
    if len(reason) > 1024:
        raise CommandError(f"The reason has {len(reason):,} characters; 1,024 are kept.", "Say it shorter.")
    found = target.one(name)
    me = target.me()
    target.answer(found["approval"], me.username, verdict, reason)
    metadata = found["approval"]["metadata"]
    there = Target(metadata["namespace"], False, target.more)
    deadline = time.monotonic() + COUNTED
    while True:
        now = there.one(metadata["name"])
        counted = now["approval"].get("status", {}).get("approvals", [])
        if now["state"] != "Pending" or any(each["approver"] == me.username for each in counted):
            report(now, verdict)
            return
        if time.monotonic() >= deadline:
            raise CommandError(
                f"Your answer is in {metadata['name']}, and the operator has not counted it yet.",
                f"It counts as soon as the operator runs: kubectl ostiary show {metadata['name']}",
            )
        time.sleep(LOOK)


def _console() -> Console:
    return Console(highlight=False, width=None if sys.stdout.isatty() else 140)


def run() -> None:
    """Entry point of the console script `kubectl-ostiary`."""
    main(prog_name="kubectl ostiary")
