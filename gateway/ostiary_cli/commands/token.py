"""`ostiary token`: makes a token for an agent, shown once, and tells what a gateway would make of a token or JWT."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import yaml

from ostiary_api.authentication import is_reserved
from ostiary_api.manifests import parse
from ostiary_api.secret import TOKEN_TYPE
from ostiary_api.units import format_timestamp
from ostiary_cli import agent_token
from ostiary_cli.errors import FOUND, CommandError
from ostiary_cli.options import paths_argument


@click.group()
def command() -> None:
    """Make tokens for agents, and look at what they prove.

    A gateway knows a token by its hash only. The agent sends the token, or a JWT, as its password.
    """


@command.command()
@click.argument("user")
@click.option("--groups", default="", help="Groups of the agent, separated by commas.")
@click.option("--namespace", "-n", default="default", show_default=True, help="Namespace of the Connections it opens.")
@click.option("--name", default="", help="Name of the Secret. Default: token-USER.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the Secret here, not to stdout.")
def create(user: str, groups: str, namespace: str, name: str, out: Path | None) -> None:
    """Make a token for USER.

    Without --out the Secret goes to standard output and the token to standard error; with --out the Secret goes
    to that file and the token alone to standard output. The token is shown once and nobody can get it back: make a
    new one instead, and remove the old Secret to revoke the old token.
    """
    if any(map(is_reserved, (user, *_split(groups)))):
        raise CommandError(
            "Names that begin with system: or spiffe: are not for tokens: a gateway refuses them.",
            "Choose another user and other groups.",
        )
    token = agent_token.generate()
    text = manifest(token, user, groups, namespace, name or _secret_name(user))
    problems = parse(text).problems
    if problems:
        raise CommandError(f"This makes no valid Secret: {problems[0].message}", "Choose another user or name.")
    if out is not None:
        _write_new(out, text)
        click.echo(f"The Secret is in {out}: serve it with the Connections of namespace {namespace}.", err=True)
        click.echo(f"The token of {user}, shown only now:", err=True)
        click.echo(token)
        return
    click.echo(text, nl=False)
    click.echo(f"The token of {user}, shown only now: {click.style(token, bold=True)}", err=True)


@command.command()
@paths_argument
@click.option("--connection", required=True, metavar="[NAMESPACE/]NAME", help="At which Connection.")
@click.option("--json", "json_", is_flag=True, help="The subject as JSON.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="As a gateway in this cluster: its API server reviews ServiceAccount tokens.",
)
def inspect(paths: tuple[Path, ...], connection: str, json_: bool, kubeconfig: Path | None) -> None:
    """Say who a token or JWT stands for, or why it is refused.

    It is read from standard input, never from the command line, and checked as the gateway that serves PATH… would: an
    issuer whose keys are not in a Secret is asked for them, and with --kubeconfig the API server for ServiceAccounts
    (who asks must be allowed to create tokenreviews). Client certificates are not looked at. Exits 1 if it is refused.
    """
    from rich.console import Console

    from ostiary_cli.commands.explain import find_connection
    from ostiary_cli.problems import print_problems
    from ostiary_gateway.feed.loading import Loaded, load, tuple_key
    from ostiary_gateway.identity.authenticators import AuthenticationError
    from ostiary_gateway.identity.inspection import inspect_secret
    from ostiary_gateway.identity.proof import LoginRefused
    from ostiary_gateway.kube.access import from_kubeconfig
    from ostiary_gateway.kube.errors import ConfigError
    from ostiary_gateway.logging import configure

    configure("error")
    outcome = load(paths, complete=False, in_cluster=kubeconfig is not None)
    if not isinstance(outcome, Loaded):
        print_problems(Console(stderr=True, highlight=False), outcome.problems)
        raise SystemExit(FOUND)
    bound = find_connection(outcome.bundle, connection)
    secrets = {tuple_key(key): secret for key, secret in outcome.manifests.secrets.items()}
    try:
        access = from_kubeconfig(kubeconfig) if kubeconfig is not None else None
        identity = asyncio.run(inspect_secret(bound.connection, secrets, sys.stdin.read().strip(), access))
    except ConfigError as error:
        raise CommandError(f"{error}.", "Give another kubeconfig.") from None
    except AuthenticationError as error:
        raise CommandError(f"{bound.connection.key}: {error}.", "Give its manifest, too.") from None
    except LoginRefused as refused:
        click.echo(f"{click.style('refused', fg='red', bold=True)}  {refused.message}", err=json_)
        click.echo(f"expected {refused.hint}", err=json_)
        click.echo(f"recorded {refused.reason}", err=json_)
        raise SystemExit(FOUND) from None
    if json_:
        click.echo(json.dumps(identity.subject, ensure_ascii=False))
        return
    click.echo(f"{click.style('accepted', fg='green', bold=True)} by {identity.method}")
    for name, value in identity.subject.items():
        if value:
            click.echo(f"  {name:<11}{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}")
    if identity.expires is not None:
        click.echo(f"  {'until':<11}{format_timestamp(datetime.fromtimestamp(identity.expires, UTC))}")


def manifest(token: str, user: str, groups: str, namespace: str, name: str) -> str:
    """The Secret for a token, as YAML. Holds the hash, not the token."""
    data = {"username": user, "groups": ",".join(_split(groups)), "sha256": agent_token.digest(token)}
    if not data["groups"]:
        del data["groups"]
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": TOKEN_TYPE,
        "metadata": {"name": name, "namespace": namespace},
        "stringData": data,
    }
    return yaml.safe_dump(secret, sort_keys=False, allow_unicode=True)


def _split(groups: str) -> list[str]:
    return [group.strip() for group in groups.split(",") if group.strip()]


def _secret_name(user: str) -> str:
    plain = re.sub(r"[^a-z0-9.-]+", "-", user.lower()).strip("-.")
    return f"token-{plain}"[:253].rstrip("-.") if plain else "token"


def _write_new(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise CommandError(f"{path} exists already.", "Choose another --out, or remove the file first.") from None
    except OSError as error:
        raise CommandError(f"Cannot write {path}: {error.strerror}.", "Choose another --out.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
