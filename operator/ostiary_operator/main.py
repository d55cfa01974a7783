"""The `ostiary-operator` command."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import click

from ostiary_operator.logging import configure, get_logger
from ostiary_operator.settings import SettingsError, read_pod, read_settings

log = get_logger(__name__)

DEFAULT_ADMIN = "0.0.0.0:8080"


def host_and_port(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, int] | None:
    """`HOST:PORT` or `[IPv6]:PORT`; `off` is None."""
    if value == "off":
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is no HOST:PORT, like {DEFAULT_ADMIN}, and not off.", context, parameter)
    return host.removeprefix("[").removesuffix("]"), int(port)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Ostiary's operator: makes gateways of Connections and policies, and writes what became of them into status."""


@cli.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    envvar="OSTIARY_OPERATOR_CONFIG",
    show_envvar=True,
    metavar="FILE",
    help="Settings (YAML); the chart writes them.",
)
@click.option(
    "--gateway-image",
    default="",
    envvar="OSTIARY_GATEWAY_IMAGE",
    show_envvar=True,
    metavar="IMAGE",
    help="Image of gateways, if the settings name none.",
)
@click.option(
    "--admin",
    default=DEFAULT_ADMIN,
    show_default=True,
    metavar="HOST:PORT",
    callback=host_and_port,
    help="Health and metrics; off: none.",
)
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Default: the pod's ServiceAccount; outside of a pod KUBECONFIG or ~/.kube/config.",
)
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Overrides the settings.")
@click.option("--log-format", type=click.Choice(["auto", "json", "text"]), help="Overrides the settings.")
def run(
    config: Path | None,
    gateway_image: str,
    admin: tuple[str, int] | None,
    kubeconfig: Path | None,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Run one replica until SIGTERM or Ctrl-C.

    POD_NAME and POD_NAMESPACE say who it is: the holder of the Lease, and the system namespace.
    """
    try:
        settings = read_settings(config, gateway_image)
        pod = read_pod(os.environ, socket.gethostname(), os.getpid())
    except SettingsError as error:
        click.echo(f"{error}\nNothing is run. Next: mend the settings.", err=True)
        raise SystemExit(2) from None
    form = log_format or settings.log.format
    configure(log_level or settings.log.level, json=None if form == "auto" else form == "json")
    from ostiary_operator.admin import AdminError
    from ostiary_operator.extensions import ExtensionError
    from ostiary_operator.kube.client import NoCluster
    from ostiary_operator.run import run as run_operator

    try:
        asyncio.run(run_operator(settings, pod, admin=admin, kubeconfig=kubeconfig))
    except (AdminError, ExtensionError, NoCluster) as error:
        click.echo(str(error), err=True)
        raise SystemExit(1) from None


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Check a file of settings; says what is wrong, with line and field."""
    try:
        read_settings(file)
    except SettingsError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from None
    click.echo(f"{file} is fine.")


def main(arguments: list[str] | None = None, **extra: Any) -> None:
    """Entry point of the console script."""
    cli.main(args=arguments, prog_name="ostiary-operator", **extra)
