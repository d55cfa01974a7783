"""`ostiary explain`: what would become of a request, and why. No target is asked."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click
from rich.console import Console

from ostiary_api.cases import TestSubject
from ostiary_api.units import format_timestamp
from ostiary_cli.errors import FOUND, CommandError
from ostiary_cli.explain_view import (
    masks_of,
    print_allowed,
    print_decision,
    print_kubernetes,
    print_sql,
    print_ssh,
)
from ostiary_cli.options import paths_argument
from ostiary_cli.problems import print_problems
from ostiary_gateway.feed.fact_sources import DATABASE, USER
from ostiary_gateway.feed.loading import Loaded, load
from ostiary_policy.answer import Approval
from ostiary_policy.answering import Told, answer
from ostiary_policy.bundle import BoundConnection, Bundle
from ostiary_policy.explain import Explanation, explain
from ostiary_policy.facts import (
    PROTOCOL_VARIABLE,
    ClientFacts,
    KubernetesFacts,
    RequestFacts,
    SqlFacts,
    SshFacts,
    SubjectFacts,
)
from ostiary_policy.testing import subject_facts

STDIN = "-"


@click.command()
@paths_argument
@click.option(
    "--as",
    "subject",
    required=True,
    metavar="USER[,GROUP…]",
    help="Who asks, and the groups of that user; or a subject as JSON, with claims, as policy tests have it.",
)
@click.option("--connection", required=True, metavar="[NAMESPACE/]NAME", help="Through which Connection.")
@click.option("--sql", metavar="TEXT", help="Postgres: the statements; - reads them from standard input.")
@click.option("--database", help="Postgres: the database. Default: the Connection's.")
@click.option("--param", "params", multiple=True, metavar="TEXT", help="Postgres: a bound parameter; may be repeated.")
@click.option("--estimated-rows", type=click.IntRange(0), help="Postgres: the planner's estimate, if a rule reads it.")
@click.option(
    "--k8s",
    metavar="REQUEST",
    help="Kubernetes: 'VERB RESOURCE[/NAME[/SUBRESOURCE]] [-n NAMESPACE] [-l SELECTOR] [-- COMMAND]', 'METHOD /PATH', "
    "or the k8s of a policy test as YAML; - reads it from standard input.",
)
@click.option(
    "-f",
    "--filename",
    "manifest",
    metavar="FILE",
    help="Kubernetes: the object as it would be; for what is deleted, evicted or run in, as it is.",
)
@click.option("--old", metavar="FILE", help="Kubernetes: the object as it is now.")
@click.option("--dry-run", is_flag=True, help="Kubernetes: the request is a dry run.")
@click.option(
    "--ssh",
    metavar="COMMAND",
    help="SSH: the command line, or the ssh of a policy test as YAML; - reads it from standard input.",
)
@click.option(
    "--sftp",
    metavar="OPERATION:PATH",
    help="SSH: an operation on a file, for example read:/etc/hosts, or rename:/srv/a:/srv/b.",
)
@click.option("--login", help="SSH: the login at the target.")
@click.option("--json", "json_", is_flag=True, help="As JSON, for programs: the answer an agent gets.")
def command(
    paths: tuple[Path, ...],
    subject: str,
    connection: str,
    sql: str | None,
    database: str | None,
    params: tuple[str, ...],
    estimated_rows: int | None,
    k8s: str | None,
    manifest: str | None,
    old: str | None,
    dry_run: bool,
    ssh: str | None,
    sftp: str | None,
    login: str | None,
    json_: bool,
) -> None:
    """Say what the policies in PATH… make of a statement, an API request or a command: its facts, every rule with its
    values, the decision.

    Exits 0 whatever the decision is. Nothing is contacted: every table that is named is taken to be there, functions
    that are not PostgreSQL's own are unknown, an object is what -f and --old say that it is, and no path leads
    elsewhere.
    """
    given_as = (("Postgres", sql), ("Kubernetes", k8s), ("SSH", ssh), ("SSH", sftp))
    asked = [name for name, value in given_as if value is not None]
    if len(asked) != 1:
        raise click.UsageError("Say what is asked for with one of --sql, --k8s, --ssh and --sftp.")
    outcome = load(paths, complete=False)
    if not isinstance(outcome, Loaded):
        print_problems(Console(stderr=True, highlight=False), outcome.problems)
        raise SystemExit(FOUND)
    bound = find_connection(outcome.bundle, connection)
    protocol = asked[0]
    if bound.connection.spec.protocol != protocol:
        raise CommandError(f"{bound.connection.key} is no {protocol} Connection.", "Choose one with --connection.")
    facts: SqlFacts | KubernetesFacts | SshFacts
    if sql is not None:
        database = database or bound.connection.spec.upstream.database or DATABASE
        facts = statements = _sql(sql, database, params, estimated_rows)
        unknown = next((s["opaqueReason"] for s in statements["statements"] if s["opaque"]), "")
        show: Callable[[Console], None] = partial(print_sql, facts=statements)
    elif k8s is not None:
        facts = request = _kubernetes(k8s, manifest, old, dry_run=dry_run)
        unknown = ""
        show = partial(print_kubernetes, facts=request)
    else:
        facts = over_ssh = _ssh(ssh, sftp, login or "")
        unknown = over_ssh["opaqueReason"]
        show = partial(print_ssh, facts=over_ssh)
    who, client = _subject(subject), ClientFacts(address="127.0.0.1", application="ostiary explain")
    policies = bound.for_subject(who, client)
    given: Mapping[str, object] = {"request": _request(bound, who, client), PROTOCOL_VARIABLE[protocol]: dict(facts)}
    now = time.time()
    explanation = explain(policies, given, now)
    reply = answer(explanation.decision, policies, given, now, _told(explanation, unknown))
    if json_:
        masks = list(masks_of(explanation.decision.masks))
        values = {**reply.values(), "explanation": {"facts": facts, "masks": masks, **explanation.to_json()}}
        click.echo(json.dumps(values, ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False)
    show(console)
    print_decision(console, explanation, [problem.message for problem in outcome.problems])
    print_allowed(console, reply)


def _sql(sql: str, database: str, params: tuple[str, ...], estimated_rows: int | None) -> SqlFacts:
    from ostiary_gateway.protocols.postgres.offline import sql_facts

    text = sys.stdin.read() if sql == STDIN else sql
    try:
        facts = sql_facts(text, database=database, user=USER, params=params)
    except ValueError as error:
        raise CommandError(f"The statement cannot be judged: {error}.", "Give it as text: --sql TEXT") from error
    if estimated_rows is not None:
        facts["estimatedRows"] = estimated_rows
    return facts


def _kubernetes(text: str, manifest: str | None, old: str | None, *, dry_run: bool) -> KubernetesFacts:
    from ostiary_cli.api_requests import EXAMPLE, read_request
    from ostiary_gateway.protocols.kubernetes.offline import offline_facts

    if [text, manifest, old].count(STDIN) > 1:
        raise click.UsageError("Only one of --k8s, -f and --old can be read from standard input.")
    try:
        case = read_request(_read(text) if text == STDIN else text, _text(manifest), _text(old), dry_run=dry_run)
        return offline_facts(case)
    except ValueError as error:
        example = f"For example: --k8s '{EXAMPLE}' -f web.yaml"
        raise CommandError(f"The request cannot be judged: {error}.", example) from error


def _ssh(command_line: str | None, operation: str | None, login: str) -> SshFacts:
    from ostiary_cli.ssh_requests import EXAMPLE, EXAMPLE_FILE, read_command, read_operation
    from ostiary_gateway.protocols.ssh.offline import offline_facts

    try:
        if command_line is not None:
            text = sys.stdin.read() if command_line == STDIN else command_line
            return offline_facts(read_command(text, user=login))
        return offline_facts(read_operation(operation or "", user=login))
    except ValueError as error:
        example = f"For example: --ssh '{EXAMPLE}', or --sftp {EXAMPLE_FILE}"
        raise CommandError(f"The request cannot be judged: {error}.", example) from error


def _text(file: str | None) -> str | None:
    return None if file is None else _read(file)


def _read(file: str) -> str:
    if file == STDIN:
        return sys.stdin.read()
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{file} cannot be read: {error}.", "Give the file of one manifest.") from error


def _told(explanation: Explanation, unknown: str) -> Told:
    wanted = explanation.decision.approval
    if wanted is None:
        return Told(opaque=unknown)
    return Told(
        opaque=unknown, approval=Approval(state="NotAsked", groups=wanted.groups, min_approvals=wanted.min_approvals)
    )


def find_connection(bundle: Bundle, name: str) -> BoundConnection:
    """The Connection `namespace/name`, or the only one of that name."""
    found = [bound for (space, own), bound in bundle.connections.items() if name in (own, f"{space}/{own}")]
    if len(found) == 1:
        return found[0]
    there = ", ".join(f"{space}/{own}" for space, own in bundle.connections) or "none"
    what = "is no Connection here" if not found else "is the name of several Connections"
    raise CommandError(f"{name} {what}.", f"Choose one of: {there}")


def _subject(text: str) -> SubjectFacts:
    if text.lstrip().startswith("{"):
        try:
            return subject_facts(TestSubject.model_validate_json(text))
        except ValueError as error:
            raise click.BadParameter(f"is no subject: {error}", param_hint="--as") from None
    username, *groups = [part.strip() for part in text.split(",")]
    if not username:
        raise click.BadParameter("begins with the user: USER[,GROUP…]", param_hint="--as")
    return SubjectFacts(
        username=username,
        uid="",
        groups=[group for group in groups if group],
        kind="User",
        namespace="",
        name=username,
        claims={},
        onBehalfOf="",
    )


def _request(bound: BoundConnection, subject: SubjectFacts, client: ClientFacts) -> RequestFacts:
    now = format_timestamp(datetime.now(UTC))
    return {
        "time": now,
        "connection": bound.facts,
        "subject": subject,
        "client": client,
        "session": {
            "id": "explain",
            "startedAt": now,
            "requests": 0,
            "rowsRead": 0,
            "bytesRead": 0,
            "rowsWritten": 0,
        },
    }
