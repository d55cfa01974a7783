"""`ostiary verify`: whether the record is as it was written."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import click
from click.core import ParameterSource
from rich.console import Console
from rich.text import Text

from ostiary_cli.commands.sessions import since_time
from ostiary_cli.errors import CommandError
from ostiary_cli.options import data_option
from ostiary_gateway.audit.records import records
from ostiary_gateway.audit.verify import Report, findings, verify


@click.command()
@data_option
@click.option(
    "--store", metavar="URL", envvar="OSTIARY_STORE", help="Check a store instead: postgresql://… or sqlite:PATH."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Of a store: the settings of its service, which name the database and the bucket of long responses.",
)
@click.option(
    "--keys", type=click.Path(path_type=Path), help="Public keys, kept elsewhere. Default: beside the record."
)
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    metavar="NUMBER:HASH",
    help="A last seal, noted before: shows a cut-off end. Of a store also a file, a URL, or configmap:NAMESPACE/NAME.",
)
@click.option("--quick", is_flag=True, help="Of a store: links and seals only, not what they are links of.")
@click.option("--since", type=since_time, metavar="TIME", help="Of a store: only sessions of that day and later.")
@click.option("--session", default="", metavar="ID", help="Of a store: only this session.")
@click.option("--json", "json_", is_flag=True, help="As JSON.")
def command(
    data: Path,
    store: str | None,
    config: Path | None,
    keys: Path | None,
    anchors: tuple[str, ...],
    quick: bool,
    since: float | None,
    session: str,
    json_: bool,
) -> None:
    """Check every link, response and signature of the record. Exits 1 if anything was changed or removed."""
    context = click.get_current_context()
    if (store or config) and context.get_parameter_source("data") is not ParameterSource.COMMANDLINE:
        from ostiary_cli import store_verify
        from ostiary_store.verify import Wanted

        raise SystemExit(store_verify.run(store, config, keys, anchors, Wanted(quick, since, session), as_json=json_))
    if quick or since is not None or session:
        raise click.UsageError("--quick, --since and --session are for a store: give --store URL or --config FILE.")
    if len(anchors) > 1:
        raise click.UsageError("A gateway's own record takes one --anchor.")
    anchor = anchors[0] if anchors else ""
    paths = records(data)
    if anchor and len(paths) > 1:
        names = ", ".join(path.name for path in paths)
        raise CommandError(
            f"There are {len(paths)} records in {data} ({names}), and an anchor is of one.", "Name it: --data FILE"
        )
    reports = [(path, _verified(path, keys, anchor)) for path in paths]
    if json_:
        found = [_fields(report) for _, report in reports]
        if len(found) > 1:
            named = [{"record": path.name, **fields} for (path, _), fields in zip(reports, found, strict=True)]
            click.echo(json.dumps({"ok": all(each.ok for _, each in reports), "records": named}, indent=2))
        else:
            click.echo(json.dumps(found[0], ensure_ascii=False, indent=2))
    else:
        console = Console(highlight=False)
        for path, report in reports:
            if len(reports) > 1:
                console.print(Text(path.name, "bold"))
            *lines, verdict = findings(report)
            for line in lines:
                console.print(Text(line), soft_wrap=True)
            style = "bold green" if report.ok else "bold red"
            console.print(Text(f"{'✓' if report.ok else '✗'} {verdict}", style), soft_wrap=True)
    raise SystemExit(max(report.exit_status for _, report in reports))


def _verified(path: Path, keys: Path | None, anchor: str) -> Report:
    try:
        return verify(path, keys=keys, anchor=anchor)
    except (FileNotFoundError, ValueError, PermissionError, sqlite3.Error) as error:
        raise CommandError(
            f"The record in {path} cannot be checked: {error}", "Give its directory: --data DIR"
        ) from error


def _fields(report: Report) -> dict[str, object]:
    return {
        "ok": report.ok,
        "sessions": report.sessions,
        "events": report.events,
        "seals": report.seals,
        "unsealed": report.unsealed,
        "responseBytes": report.response_bytes,
        "lastSeal": report.last_seal,
        "found": report.found,
        "findings": [str(finding) for finding in report.findings],
    }
