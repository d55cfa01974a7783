"""`ostiary token create`: a token for an agent, printed once, and the Secret that knows its hash."""

from __future__ import annotations

import os
import re
from pathlib import Path

import click
import yaml

from ostiary_api.manifests import parse
from ostiary_api.secret import TOKEN_TYPE
from ostiary_cli import agent_token
from ostiary_cli.errors import CommandError


@click.group()
def command() -> None:
    """Make tokens for agents.

    A gateway knows a token by its hash only. The agent sends the token as its password.
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
