"""`ostiary console`: the web console, for the gateway of this machine, or from a settings file for a cluster."""

from __future__ import annotations

import asyncio
import http.client
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from ostiary_cli.errors import FOUND, CommandError
from ostiary_cli.options import (
    data_option,
    host_and_port,
    log_format_option,
    log_level_option,
    socket_option,
)
from ostiary_gateway.logging import configure

DEFAULT_LISTEN = "127.0.0.1:9912"
SECONDS = 10.0


@click.command()
@data_option
@socket_option
@click.option(
    "--listen",
    default=DEFAULT_LISTEN,
    show_default=True,
    metavar="HOST:PORT",
    callback=host_and_port,
    help="Where browsers come. Off loopback it needs a certificate.",
)
@click.option("--url", default="", metavar="URL", help="What people type, where that is not --listen.")
@click.option("--tls-cert", type=click.Path(path_type=Path, dir_okay=False), metavar="PATH", help="Certificate, PEM.")
@click.option("--tls-key", type=click.Path(path_type=Path, dir_okay=False), metavar="PATH", help="Its key, PEM.")
@click.option(
    "--store",
    default="",
    metavar="URL",
    envvar="OSTIARY_STORE",
    show_envvar=True,
    help="Another store than the data directory's own: postgresql://…, or sqlite:PATH.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Settings for a cluster, with OIDC; then no other option counts.",
)
@click.option("--open", "open_", is_flag=True, help="Open the browser with a link to sign in with.")
@click.option("--with-parent", is_flag=True, hidden=True, help="End when standard input does.")
@click.option("--link", is_flag=True, help="Print another link for the console that runs already.")
@log_level_option
@log_format_option
def command(
    data: Path,
    socket: Path | None,
    listen: tuple[str, int] | None,
    url: str,
    tls_cert: Path | None,
    tls_key: Path | None,
    store: str,
    config: Path | None,
    open_: bool,
    with_parent: bool,
    link: bool,
    log_level: str,
    log_format: str,
) -> None:
    """Serve the console: sessions, live ones, approvals, policies, Connections, replay.

    Without --config it is for the gateway whose data directory is --data, and for who runs it: a link that is good once
    is printed, and whoever opens it is signed in as that user. With --config people sign in with tokens of a cluster or
    at an OIDC issuer, and see and do what their own rights there allow.
    """
    if link:
        click.echo(_another_link(data))
        return
    configure(log_level, json=None if log_format == "auto" else log_format == "json")
    if config is not None:
        _run(_of_cluster(config), with_parent=with_parent)
        return
    if listen is None:
        raise click.BadParameter("a console must listen somewhere.", param_hint="--listen")
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key go together.")
    from ostiary_console.run import Local, serve_local

    def told(href: str) -> None:
        click.echo(f"Sign in once, within five minutes: {href}")
        if open_:
            import webbrowser

            webbrowser.open(href)

    if not store and not with_parent and not data.is_dir():
        raise CommandError(f"There is no record in {data}.", "Name a gateway's directory, or a store: --data, --store")
    tls = (tls_cert, tls_key) if tls_cert is not None and tls_key is not None else None
    setting = Local(data, listen, store, socket, tls, url.rstrip("/"))
    _run(lambda stopping: serve_local(setting, stopping, told), with_parent=with_parent)


def _of_cluster(config: Path) -> Callable[[asyncio.Event], Awaitable[None]]:
    from rich.console import Console

    from ostiary_cli.problems import print_problems
    from ostiary_console.run import serve
    from ostiary_console.settings import load
    from ostiary_store.settings import SettingsError

    try:
        settings = load(config)
    except SettingsError as error:
        print_problems(Console(stderr=True, highlight=False), error.problems)
        raise SystemExit(FOUND) from None
    return lambda stopping: serve(settings, stopping)


def _run(serving: Callable[[asyncio.Event], Awaitable[None]], *, with_parent: bool = False) -> None:
    from ostiary_console.serving import CannotServe
    from ostiary_gateway.loop import new_event_loop
    from ostiary_store.model import StoreError

    async def main() -> None:
        stopping = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        if with_parent:

            def read() -> None:
                if not os.read(sys.stdin.fileno(), 4096):
                    stopping.set()

            loop.add_reader(sys.stdin.fileno(), read)
        await serving(stopping)

    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(main())
    except CannotServe as error:
        raise CommandError(f"The console cannot run: {error}.", "Mend what is named here, then start again.") from error
    except StoreError as error:
        raise CommandError(f"The store cannot be used: {error}", "Name another one: --store URL") from error
    except OSError as error:
        raise CommandError(
            f"The console cannot run: {error.strerror or error}.", "Choose another address: --listen HOST:PORT"
        ) from error


def _another_link(data: Path) -> str:
    """Asked of the console that runs on this data directory."""
    from ostiary_console.run import SOCKET
    from ostiary_gateway.admin.http import short_path

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(SECONDS)
            with short_path(data / SOCKET) as path:
                self.sock.connect(path)

    connection = Connection("localhost", timeout=SECONDS)
    try:
        connection.request("POST", "/link")
        answer = connection.getresponse()
        text = answer.read(4096).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        raise CommandError(
            f"No console listens at {data / SOCKET}.", "Start one: ostiary console; or name its directory: --data DIR"
        ) from None
    finally:
        connection.close()
    if answer.status != 200:
        raise CommandError("The console gave no link.", "See its log.")
    return text
