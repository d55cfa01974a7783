"""`ostiary serve`: a gateway from manifests in files, until SIGTERM or Ctrl-C; SIGHUP loads them again."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ostiary_cli.console_child import console_beside
from ostiary_cli.errors import FOUND, CommandError
from ostiary_cli.options import (
    data_option,
    drain_option,
    host_and_port,
    log_format_option,
    log_level_option,
    paths_argument,
)
from ostiary_cli.shipping_options import handing_options
from ostiary_gateway.feed.second_process import SecondProcess
from ostiary_gateway.logging import configure, mark

if TYPE_CHECKING:
    from ostiary_gateway.feed.handing import Handing
    from ostiary_notify.settings import Notifications

DEFAULT_ADMIN = "127.0.0.1:9911"


def number_of_workers(context: click.Context, parameter: click.Parameter, value: str) -> int:
    """`auto` is a worker for each processor."""
    from ostiary_gateway.workers.place import MAX_WORKERS

    if value == "auto":
        from ostiary_gateway.workers.run import processors

        return min(processors(), MAX_WORKERS)
    if not value.isascii() or not value.isdecimal() or not 1 <= int(value) <= MAX_WORKERS:
        raise click.BadParameter(f"{value!r} is no number from 1 to {MAX_WORKERS}, and not auto.", context, parameter)
    return int(value)


@click.command()
@paths_argument
@data_option
@click.option("--listen", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where agents connect.")
@click.option(
    "--admin",
    default=DEFAULT_ADMIN,
    show_default=True,
    metavar="HOST:PORT",
    callback=host_and_port,
    help="Metrics and health; off: none.",
)
@click.option(
    "--approvers",
    multiple=True,
    metavar="GROUP=USER,…",
    help="Who may approve for a group: users, or %name for groups, of this machine. Default: who runs it, and root.",
)
@click.option(
    "--admin-socket", type=click.Path(path_type=Path), metavar="PATH", help="Where approvers come. Default: in --data."
)
@click.option(
    "--notifications",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Who is told of approvals (docs/notifications.md).",
)
@click.option(
    "--workers",
    default="1",
    show_default=True,
    metavar="N|auto",
    envvar="OSTIARY_WORKERS",
    show_envvar=True,
    callback=number_of_workers,
    help="Processes that share the ports; auto: one for each processor.",
)
@click.option(
    "--console",
    default="off",
    show_default=True,
    metavar="HOST:PORT",
    callback=host_and_port,
    help="Serve the web console there too (see ostiary console); a link to sign in is printed.",
)
@drain_option(10)
@handing_options("all")
@click.option("--worker", type=int, default=0, hidden=True, help="This process is that worker.")
@log_level_option
@log_format_option
def command(
    paths: tuple[Path, ...],
    data: Path,
    listen: str,
    admin: tuple[str, int] | None,
    approvers: tuple[str, ...],
    admin_socket: Path | None,
    notifications: Path | None,
    workers: int,
    console: tuple[str, int] | None,
    drain: float,
    handing: Handing,
    worker: int,
    log_level: str,
    log_format: str,
) -> None:
    """Serve the Connections in PATH…, under the policies in them.

    Files are watched. A change is served at once, by sessions that are open too. What is wrong with a change is logged,
    and the last good one stays in force. SIGHUP loads at once; SIGTERM and Ctrl-C let sessions finish what they do, and
    end them when they come again.
    """
    from ostiary_gateway.approvals.people import Approvers, ApproversError, parse_approvers

    try:
        people = Approvers(parse_approvers(approvers))
    except ApproversError as error:
        raise click.BadParameter(f"{error}.", param_hint="--approvers") from None
    if console is not None and handing.keep is not None:
        raise click.UsageError("--keep-local frees what the console of this machine reads: leave one of both out.")
    told = _read_notifications(notifications)
    configure(log_level, json=None if log_format == "auto" else log_format == "json")
    if workers > 1 and not worker:
        with console_beside(console, data, admin_socket):
            _supervise(workers, data, admin, drain + (handing.grace if handing.to is not None else 0.0))
        return
    second = SecondProcess()
    second.start()  # it gets ready while this process loads what it needs itself
    from ostiary_gateway.audit.event import RecordError
    from ostiary_gateway.feed.service import ManifestsRefused, StartError, run
    from ostiary_gateway.loop import new_event_loop
    from ostiary_gateway.workers.place import ALONE, Place

    place = ALONE
    if worker:
        place, admin = Place(worker, data, workers), None
        mark(worker=worker)
    try:
        with (
            console_beside(None if worker else console, data, admin_socket),
            asyncio.Runner(loop_factory=new_event_loop) as runner,
        ):
            serving = run(
                paths, data=data, listen=listen, admin=admin, second=second, approvers=people,
                admin_socket=admin_socket, place=place, drain=drain, notifications=told, handing=handing,
            )  # fmt: skip
            runner.run(serving)
    except ManifestsRefused as refused:
        from rich.console import Console

        from ostiary_cli.problems import print_problems

        print_problems(Console(stderr=True, highlight=False), refused.problems)
        click.echo("Nothing is served. Next: mend the manifests, and check them with ostiary lint.", err=True)
        raise SystemExit(FOUND) from None
    except StartError as error:
        raise CommandError(str(error), error.next_step) from error
    except (RecordError, ValueError, OSError) as error:
        raise CommandError(
            f"The gateway cannot run: {error}", "See the log above; another directory: --data DIR"
        ) from error
    finally:
        second.stop()


def _read_notifications(path: Path | None) -> Notifications | None:
    if path is None:
        return None
    from ostiary_notify.settings import NotificationSettingsError, read_notifications

    try:
        return read_notifications(path)
    except NotificationSettingsError as error:
        next_step = "Mend the file: docs/notifications.md"
        raise CommandError(f"Nobody can be told of approvals: {error}", next_step) from None


def _supervise(workers: int, data: Path, admin: tuple[str, int] | None, drain: float) -> None:
    """Runs the workers: this same command line in processes of their own, each told which it is."""
    from ostiary_gateway.admin.server import AdminError
    from ostiary_gateway.workers.run import run
    from ostiary_gateway.workers.supervisor import WorkerFailed

    def command_line(number: int) -> list[str]:
        mine = ["--workers", str(workers), "--worker", str(number)]
        return [sys.executable, "-P", "-m", "ostiary_cli", *sys.argv[1:], *mine]

    try:
        asyncio.run(run(command_line, workers, data=data, admin=admin, drain=drain))
    except WorkerFailed as failed:
        raise SystemExit(failed.code) from None
    except AdminError as error:
        message, _, next_step = str(error).partition(" Next: ")
        raise CommandError(message, next_step) from error
    except OSError as error:
        raise CommandError(f"The gateway cannot run: {error}", "Choose another directory: --data DIR") from error
