"""`ostiary lint`: everything that is wrong with manifests, at file, line and column."""

from __future__ import annotations

import json
from pathlib import Path

import click
from rich.console import Console

from ostiary_cli.errors import FOUND
from ostiary_cli.options import paths_argument
from ostiary_cli.problems import as_json, print_problems
from ostiary_gateway.feed.fact_sources import fact_sources
from ostiary_gateway.feed.loading import Loaded, load


@click.command()
@paths_argument
@click.option("--json", "json_", is_flag=True, help="As JSON, for editors and CI.")
@click.option("--strict", is_flag=True, help="Exit 1 on notices too.")
@click.option("--cluster", is_flag=True, help="For a cluster: ServiceAccounts log in, each gateway has its ports.")
def command(paths: tuple[Path, ...], json_: bool, strict: bool, cluster: bool) -> None:
    """Check manifests: fields, CEL expressions, references, ports, embedded tests.

    Exits 1 if there are problems. Nothing is contacted, so it is safe anywhere.
    """
    outcome = load(paths, complete=False, fact_sources=fact_sources(), in_cluster=cluster)
    notices = outcome.notices if isinstance(outcome, Loaded) else ()
    bad = bool(outcome.problems) or (strict and bool(notices))
    if json_:
        found = as_json(outcome.problems, "error") + as_json(notices, "notice")
        click.echo(json.dumps({"ok": not bad, "problems": found}, ensure_ascii=False, indent=2))
    else:
        console = Console(highlight=False)
        print_problems(console, outcome.problems, notices)
        if isinstance(outcome, Loaded) and not outcome.problems:
            bundle = outcome.bundle
            connections, policies = len(bundle.connections), len(bundle.policies)
            console.print(f"[green]✓[/] {_count(connections, 'Connection')}, {_count(policies, 'policy')}: all is well")
        else:
            console.print(f"[red]✗[/] {_count(len(outcome.problems), 'problem')}")
    if bad:
        raise SystemExit(FOUND)


def _count(number: int, word: str) -> str:
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{number} {word if number == 1 else plural}"
