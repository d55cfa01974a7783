"""`ostiary gateway`: a gateway in a pod, whose Connections and policies the operator hands over through the API."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ostiary_cli.errors import CommandError
from ostiary_cli.options import drain_option, host_and_port, log_format_option, log_level_option
from ostiary_cli.shipping_options import handing_options
from ostiary_gateway.logging import configure, mark


def console_account(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """The user name of a ServiceAccount."""
    from ostiary_gateway.admin.console import account_of

    try:
        return account_of(value) if value else ""
    except ValueError as error:
        raise click.BadParameter(f"{error}.", context, parameter) from None


if TYPE_CHECKING:
    from ostiary_gateway.feed.handing import Handing


@click.command()
@click.option("--namespace", required=True, metavar="NAMESPACE", help="Namespace of the Connections.")
@click.option("--name", required=True, metavar="GATEWAY", help="Name of the gateway (spec.gateway.name).")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path("/var/lib/ostiary"),
    show_default=True,
    help="The record, and a copy of the bundle.",
)
@click.option("--listen", default="0.0.0.0", show_default=True, metavar="ADDRESS", help="Where agents connect.")  # noqa: S104
@click.option(
    "--admin",
    default="0.0.0.0:9911",
    show_default=True,
    metavar="HOST:PORT",
    callback=host_and_port,
    help="/livez, /readyz, /metrics and /state.",
)
@drain_option(60)
@handing_options("512Mi")
@click.option(
    "--grace",
    type=click.FloatRange(0, 600),
    default=3,
    show_default=True,
    metavar="SECONDS",
    help="When it stops: how long clients are still let in, until nobody is sent here any more.",
)
@click.option(
    "--peers",
    multiple=True,
    metavar="HOST",
    help="The other replicas, for cancel requests. Default: the addresses of the gateway's headless Service.",
)
@click.option(
    "--console-account",
    default="",
    metavar="NAMESPACE/NAME",
    envvar="OSTIARY_CONSOLE_ACCOUNT",
    callback=console_account,
    help="The console's ServiceAccount, which may list and end live sessions at --admin. Default: none may.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="PATH",
    help="The way to the API server, outside of a pod. Default: the pod's ServiceAccount.",
)
@log_level_option
@log_format_option
def command(
    namespace: str,
    name: str,
    data: Path,
    listen: str,
    admin: tuple[str, int] | None,
    drain: float,
    handing: Handing,
    grace: float,
    peers: tuple[str, ...],
    console_account: str,
    kubeconfig: Path | None,
    log_level: str,
    log_format: str,
) -> None:
    """Serve the Connections of NAMESPACE that belong to GATEWAY, as the operator hands them over.

    The bundle comes from ConfigMaps and is kept on disk; Secrets are fetched by name and kept in memory. While the API
    server is away, what was served goes on being served. SIGTERM: not ready any more, then no new clients, then
    sessions may finish what they do; a second one ends them. POD_NAME and POD_IP say which replica it is.
    """
    if admin is None:
        raise click.BadParameter("a pod needs it: the operator and the kubelet ask there.", param_hint="--admin")
    configure(log_level, json=None if log_format == "auto" else log_format == "json")
    from ostiary_gateway.audit.event import RecordError
    from ostiary_gateway.feed.pod import Setting, run
    from ostiary_gateway.feed.service import StartError
    from ostiary_gateway.kube.access import from_kubeconfig, in_cluster
    from ostiary_gateway.kube.errors import ConfigError
    from ostiary_gateway.loop import new_event_loop

    pod = os.environ.get("POD_NAME") or socket.gethostname()
    mark(pod=pod)
    try:
        access = from_kubeconfig(kubeconfig) if kubeconfig is not None else in_cluster()
        setting = Setting(
            namespace=namespace, gateway=name, name=pod, address=os.environ.get("POD_IP", ""), data=data, listen=listen,
            admin=admin, drain=drain, grace=grace, peers=peers, handing=handing, console=console_account,
        )  # fmt: skip
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run(access, setting))
    except ConfigError as error:
        raise CommandError(f"{error}.", "Run it in a pod, or give --kubeconfig PATH") from error
    except StartError as error:
        raise CommandError(str(error), error.next_step) from error
    except (RecordError, ValueError, OSError) as error:
        raise CommandError(
            f"The gateway cannot run: {error}", "See the log above; another directory: --data DIR"
        ) from error
