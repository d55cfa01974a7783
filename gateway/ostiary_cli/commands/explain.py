"""`ostiary explain`: what would become of a statement, and why. No target is asked."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ostiary_api.cases import TestSubject
from ostiary_api.units import format_timestamp
from ostiary_cli.errors import FOUND, CommandError
from ostiary_cli.options import paths_argument
from ostiary_cli.problems import print_problems
from ostiary_gateway.feed.fact_sources import DATABASE, USER
from ostiary_gateway.feed.loading import Loaded, load
from ostiary_gateway.visible import visible
from ostiary_policy.answer import Answer, Approval, Change
from ostiary_policy.answering import Told, answer
from ostiary_policy.bundle import BoundConnection, Bundle
from ostiary_policy.explain import Explanation, explain
from ostiary_policy.facts import ClientFacts, RequestFacts, SqlFacts, SubjectFacts
from ostiary_policy.masking import MaskPlan
from ostiary_policy.testing import subject_facts

ACCESS = {"read": "relations read", "write": "relations written", "define": "relations defined"}


@click.command()
@paths_argument
@click.option(
    "--as", "subject", required=True, metavar="USER[,GROUP…]",
    help="Who asks, and the groups of that user; or a subject as JSON, with claims, as policy tests have it.",
)
@click.option("--connection", required=True, metavar="[NAMESPACE/]NAME", help="Through which Connection.")
@click.option("--sql", required=True, metavar="TEXT", help="The statements; - reads them from standard input.")
@click.option("--database", help="The database. Default: the Connection's.")
@click.option("--param", "params", multiple=True, metavar="TEXT", help="A bound parameter; may be repeated, in order.")
@click.option("--estimated-rows", type=click.IntRange(0), help="The planner's estimate, where a rule reads it.")
@click.option("--json", "json_", is_flag=True, help="As JSON, for programs: the answer an agent gets.")
def command(
    paths: tuple[Path, ...],
    subject: str,
    connection: str,
    sql: str,
    database: str | None,
    params: tuple[str, ...],
    estimated_rows: int | None,
    json_: bool,
) -> None:
    """Say what the policies in PATH… make of a statement: its facts, every rule with its values, the decision.

    Exits 0 whatever the decision is. Nothing is contacted: every table that is named is taken to be there, and
    functions that are not PostgreSQL's own are unknown.
    """
    from ostiary_gateway.protocols.postgres.offline import sql_facts

    outcome = load(paths, complete=False)
    if not isinstance(outcome, Loaded):
        print_problems(Console(stderr=True, highlight=False), outcome.problems)
        raise SystemExit(FOUND)
    bound = find_connection(outcome.bundle, connection)
    if bound.connection.spec.protocol != "Postgres":
        raise CommandError(f"{bound.connection.key} is no Postgres Connection.", "Choose one with --connection.")
    text = sys.stdin.read() if sql == "-" else sql
    try:
        facts = sql_facts(
            text, database=database or bound.connection.spec.upstream.database or DATABASE, user=USER, params=params
        )
    except ValueError as error:
        raise CommandError(f"The statement cannot be judged: {error}.", "Give it as text: --sql TEXT") from error
    if estimated_rows is not None:
        facts["estimatedRows"] = estimated_rows
    who, client = _subject(subject), ClientFacts(address="127.0.0.1", application="ostiary explain")
    policies = bound.for_subject(who, client)
    given, now = {"request": _request(bound, who, client), "sql": dict(facts)}, time.time()
    explanation = explain(policies, given, now)
    reply = answer(explanation.decision, policies, given, now, _told(explanation, facts))
    if json_:
        masks = list(_masks(explanation.decision.masks))
        values = {**reply.values(), "explanation": {"facts": facts, "masks": masks, **explanation.to_json()}}
        click.echo(json.dumps(values, ensure_ascii=False, indent=2))
        return
    console = Console(highlight=False)
    _print(console, facts, explanation, [problem.message for problem in outcome.problems])
    _print_allowed(console, reply)


def _told(explanation: Explanation, facts: SqlFacts) -> Told:
    unknown = next((s["opaqueReason"] for s in facts["statements"] if s["opaque"]), "")
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


def _print(console: Console, facts: SqlFacts, explanation: Explanation, problems: Iterable[str]) -> None:
    tree = Tree(Text("facts", "bold"), guide_style="dim")
    for number, statement in enumerate(facts["statements"], 1):
        what = f"{statement['verb'] or 'unparsable'} {statement['kind']}".strip()
        branch = tree.add(Text.assemble((f"statement {number}: ", "dim"), (what, "bold cyan")))
        for name, value in _short(statement).items():
            branch.add(Text.assemble((f"{name}: ", "dim"), visible(value)))
    console.print(tree)
    console.print()
    click.echo(explanation.render(colour=console.color_system is not None))
    masks = list(_masks(explanation.decision.masks))
    if masks and explanation.decision.action == "Allow":
        console.print()
        tree = Tree(Text("masks", "bold"), guide_style="dim")
        for mask in masks:
            tree.add(Text(mask, "magenta"))
        console.print(tree)
    for problem in problems:
        console.print(Text(f"problem: {problem}", "red"))


def _print_allowed(console: Console, reply: Answer) -> None:
    """What the agent could do instead."""
    allowed = reply.allowed
    tree = Tree(Text("what would be allowed", "bold"), guide_style="dim")
    if allowed.statements:
        tree.add(Text(f"by themselves: statement {', '.join(map(str, allowed.statements))}", "green"))
    for change in allowed.changes:
        tree.add(Text.assemble((_change(change), "green"), (f" → {change.then}", "dim")))
    for rule in allowed.rules:
        name = Text.assemble((f"{rule.action} ", "dim"), f"{rule.policy}#{rule.rule}")
        branch = tree.add(name if rule.unmet else Text.assemble(name, (": holds; a stricter rule decides", "dim")))
        for unmet in rule.unmet:
            is_ = ", ".join(f"{path} is {json.dumps(value)}" for path, value in unmet.facts.items())
            branch.add(Text.assemble(("not met: ", "red"), visible(unmet.expression), (f"  {visible(is_)}", "dim")))
    if tree.children:
        console.print()
        console.print(tree)


def _change(change: Change) -> str:
    if change.without is not None:
        return visible(f"{change.fact} without {change.without}")
    if change.at_most is not None:
        return f"{change.fact} ≤ {change.at_most}"
    return f"{change.fact} = {json.dumps(change.equals)}"


def _short(statement: Mapping[str, object]) -> dict[str, str]:
    """The facts that say something; flags that are false and lists that are empty do not."""
    found: dict[str, str] = {}
    for name, value in statement.items():
        if name == "relations" and isinstance(value, list):
            for relation in value:
                key = ACCESS[relation["access"]]
                found[key] = ", ".join(filter(None, [found.get(key), _relation(relation)]))
        elif isinstance(value, list):
            if value:
                found[name] = ", ".join(map(str, value))
        elif isinstance(value, bool):
            found[name] = "yes" if value else "no"
        elif value and name not in ("verb", "kind", "text", "fingerprint"):
            found[name] = str(value)
    return found


def _relation(relation: Mapping[str, object]) -> str:
    columns = relation["columns"]
    listed = ", ".join(map(str, columns)) if isinstance(columns, list) else ""
    return f"{relation['schema']}.{relation['name']}" + (f" ({listed})" if listed else "")


def _masks(plan: MaskPlan) -> Iterable[str]:
    for column in plan.columns:
        yield f"column {column.schema}.{column.table}.{column.column}: {column.strategy.type}"
    for detector in plan.detectors:
        yield f"detector {detector.detector}: {detector.strategy.type}"
