"""`ostiary replay`: which recorded requests other policies would decide otherwise."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from ostiary_cli.commands.sessions import since_time
from ostiary_cli.errors import FOUND, CommandError
from ostiary_cli.options import data_option, open_record, store_option
from ostiary_cli.problems import print_problems
from ostiary_cli.replay_view import print_report
from ostiary_gateway.audit.reader import Session, SessionReader
from ostiary_gateway.audit.records import Recorded
from ostiary_gateway.feed.loading import Loaded, load
from ostiary_policy.bundle import Bundle

Tick = Callable[[int], None]

CHANGED = 1
"""With --exit-code: verdicts change, or cannot be told."""


@click.command()
@click.argument("session_ids", nargs=-1, metavar="[SESSION…]")
@data_option
@store_option
@click.option(
    "--policy", "candidates", multiple=True, required=True, type=click.Path(path_type=Path), metavar="PATH",
    help="The policies to try: files or directories, with the Connections unless --base has them.",
)  # fmt: skip
@click.option(
    "--base", "bases", multiple=True, type=click.Path(path_type=Path), metavar="PATH",
    help="What is in force now: the change is told from what it decides, not from what was recorded.",
)  # fmt: skip
@click.option(
    "--since", type=since_time, metavar="TIME", help="Only requests since: a time, or a duration like 7d. Default: all."
)
@click.option("--connection", metavar="NAMESPACE/NAME", help="Only those through this Connection.")
@click.option("--user", help="Only those of this user.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="At most so many requests, of the newest sessions.")
@click.option("--examples", type=click.IntRange(0, 5), default=2, show_default=True, help="Shown of each change.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if verdicts change, or cannot be told from the record.")
@click.option("--json", "json_", is_flag=True, help="As JSON, for programs.")
def command(
    session_ids: tuple[str, ...],
    data: Path,
    store: str | None,
    candidates: tuple[Path, ...],
    bases: tuple[Path, ...],
    since: float | None,
    connection: str | None,
    user: str | None,
    limit: int | None,
    examples: int,
    exit_code: bool,
    json_: bool,
) -> None:
    """Decide recorded requests with other policies, and list every verdict that changes, by the rules that decide.

    Nothing is contacted and nothing runs. What only a target knew then is not in the record: a request whose verdict
    needs it is listed as one that cannot be told, never guessed. Tables are taken to be there as named.
    """
    from ostiary_store.replay.judging import Replay
    from ostiary_store.replay.recorded import requests

    candidate, base = _bundles(candidates, bases)
    if connection is not None and "/" not in connection:
        connection = f"default/{connection}"
    replay = Replay(candidate, base)
    with open_record(data, store) as records, _progress(json_=json_) as tick:
        for reader, session in _sessions(records, session_ids, connection, user):
            if session.closed is not None and since is not None and session.closed < since:
                continue
            for recorded in requests(reader, [session], since=since or 0.0):
                if limit is not None and replay.report.requests >= limit:
                    replay.report.complete = False
                    break
                replay.add(recorded)
                if not replay.report.requests % 500:
                    tick(replay.report.requests)
    report = replay.report
    if json_:
        click.echo(json.dumps(report.to_json(), ensure_ascii=False, indent=2))
    else:
        print_report(Console(highlight=False, width=None if sys.stdout.isatty() else 120), report, examples)
    if exit_code and (report.changes or report.undecided or report.elsewhere):
        raise SystemExit(CHANGED)


def _bundles(candidates: tuple[Path, ...], bases: tuple[Path, ...]) -> tuple[Bundle, Bundle | None]:
    """The candidate, and what is in force if that is told. What Connections the first lacks, the second has."""
    base = _loaded(bases) if bases else None
    found = _loaded(candidates, beside=bases)
    if not found.connections:
        raise CommandError(
            "There is no Connection in what --policy names.",
            "Give the manifests that have the Connections too: --base PATH, or one more --policy PATH",
        )
    return found, base


def _loaded(paths: tuple[Path, ...], beside: tuple[Path, ...] = ()) -> Bundle:
    from ostiary_store.replay.candidate import read_candidate

    outcome = read_candidate(paths, beside) if beside else load(paths, complete=False)
    problems = outcome.problems
    if not isinstance(outcome, Loaded):
        print_problems(Console(stderr=True, highlight=False), problems)
        raise SystemExit(FOUND)
    if problems:
        # A policy that does not compile denies all that it matches: that would be what the replay tells.
        print_problems(Console(stderr=True, highlight=False), problems)
        raise SystemExit(FOUND)
    return outcome.bundle


def _sessions(
    records: Recorded, session_ids: tuple[str, ...], connection: str | None, user: str | None
) -> Iterator[tuple[SessionReader, Session]]:
    if not session_ids:
        yield from records.sessions(connection=connection, username=user)
        return
    for session_id in session_ids:
        try:
            yield records.session(session_id)
        except LookupError as error:
            raise CommandError(str(error.args[0]), "List them: ostiary sessions") from None


@contextmanager
def _progress(*, json_: bool) -> Iterator[Tick]:
    console = Console(stderr=True, highlight=False)
    if json_ or not console.is_terminal:
        yield lambda done: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("deciding recorded requests …")
        yield lambda done: progress.update(task, description=f"{done:,} recorded requests decided")
