"""`ostiary demo`: a shop behind a gateway, an agent that tries things, and then you."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from ostiary_cli.errors import FOUND, CommandError

if TYPE_CHECKING:
    from ostiary_cli.demo.stage import Stage


@click.command()
@click.option("--once", is_flag=True, help="Play, then exit: 0 if everything went as it should.")
@click.option(
    "--client", type=click.Choice(["psql", "asyncpg"]), help="The agent's client. Default: psql if there is one."
)
def command(once: bool, client: str | None) -> None:
    """Play an agent that looks, works and misbehaves, in front of an embedded PostgreSQL.

    Needs nothing but ostiary[demo]; psql is used if there is one. Everything is in a temporary directory, on free
    ports of 127.0.0.1, and goes when you press Ctrl-C.
    """
    from ostiary_cli.embedded_postgres import EmbeddedPostgresError
    from ostiary_gateway.feed.service import ManifestsRefused, StartError
    from ostiary_gateway.logging import configure
    from ostiary_gateway.loop import new_event_loop

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    with tempfile.TemporaryDirectory(prefix="ostiary-demo-") as name:
        directory = Path(name)
        with (directory / "gateway.log").open("w", encoding="utf-8") as log:
            configure("info", json=True, stream=log)
            try:
                with asyncio.Runner(loop_factory=new_event_loop) as runner:
                    ok = runner.run(_demo(console, directory, once, client))
            except EmbeddedPostgresError as error:
                message, _, hint = str(error).partition(" Next: ")
                raise CommandError(message, hint) from error
            except StartError as error:
                raise CommandError(str(error), error.next_step) from error
            except ManifestsRefused as error:
                raise CommandError(
                    f"The demo's manifests are wrong: {error.problems[0]}", "Please report it."
                ) from error
    if not ok:
        raise SystemExit(FOUND)


async def _demo(console: Console, directory: Path, once: bool, wanted: str | None) -> bool:
    from ostiary_cli.demo.clients import choose
    from ostiary_cli.demo.scenes import SCENES
    from ostiary_cli.demo.show import Show
    from ostiary_cli.demo.stage import staged

    show = Show(console)
    show.title()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    playing: asyncio.Task[None] | None = None

    def interrupt() -> None:
        stop.set()
        if playing is not None:
            playing.cancel()

    async with staged(directory, choose(wanted), show) as stage:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, interrupt)
        # A terminal that is closed ends it too, unless nohup was asked to keep it.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, interrupt)
        stage.answers = once
        playing = asyncio.create_task(stage.play())
        try:
            await playing
        except asyncio.CancelledError:
            return False
        # The two ways in, the approval and the record are scenes too.
        show.ending(stage.wrong, len(SCENES) + 3)
        if not once:
            show.commands(_commands(stage))
            await stop.wait()
    return not stage.wrong


def _commands(stage: Stage) -> list[tuple[str, list[str]]]:
    agent, data = stage.agent, shlex.quote(str(stage.data))
    manifests = shlex.quote(str(stage.directory / "manifests"))
    host, port = stage.admin
    program = stage.program
    tls = f"sslmode=verify-full sslrootcert={agent.ca}"
    psql = f'psql "host={agent.host} port={agent.port} user={agent.user} dbname={agent.database} {tls}"'
    return [
        (
            "Be the agent, with psql or any driver; its token is all it has:",
            [f"export PGPASSWORD={agent.password}", psql],
        ),
        ("Decide when your agent asks for more than a thousand rows:", [stage.called("approvals --watch")]),
        ("Read the record:", [f"{program} sessions --data {data}", f"{program} verify --data {data}"]),
        (
            "Ask why:",
            [f'{program} explain --as {agent.user},agents --connection shop --sql "delete from orders" {manifests}'],
        ),
        ("Metrics and health:", [f"curl http://{host}:{port}/metrics"]),
        (
            "Change the policies; they are in force a second after you save:",
            [f"{stage.directory}/manifests/policies.yaml"],
        ),
    ]
