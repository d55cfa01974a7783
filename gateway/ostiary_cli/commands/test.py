"""`ostiary test`: the tests that policies carry, run on them alone, as the gateway does before it accepts them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ostiary_cli.errors import FOUND
from ostiary_cli.options import paths_argument
from ostiary_cli.problems import print_problems
from ostiary_gateway.feed.fact_sources import fact_sources
from ostiary_gateway.feed.loading import Rejected, load
from ostiary_policy.bundle import SYSTEM_NAMESPACE
from ostiary_policy.testing import TestResult, run_tests

Results = Mapping[str, Sequence[TestResult]]
"""By policy, `namespace/name`."""


@click.command()
@paths_argument
@click.option("--json", "json_", is_flag=True, help="As JSON.")
def command(paths: tuple[Path, ...], json_: bool) -> None:
    """Run the embedded tests of all policies in PATH….

    Exits 1 if a test fails or cannot be run, or if the manifests have other problems.
    """
    # Without fact sources nothing is tested while loading: a failing test is this command's result, not a problem.
    outcome = load(paths, complete=False)
    console = Console(highlight=False)
    if isinstance(outcome, Rejected) or outcome.problems:
        print_problems(Console(stderr=True, highlight=False), outcome.problems)
        raise SystemExit(FOUND)
    sources = fact_sources()
    connections = [bound.connection for bound in outcome.bundle.connections.values()]
    namespaces = {c.metadata.namespace for c in connections} | {n for n, _ in outcome.bundle.policies}
    results: Results = {
        policy.name: run_tests(
            policy,
            connections=connections,
            namespaces={name: outcome.manifests.namespace_labels(name) for name in namespaces},
            system_namespace=SYSTEM_NAMESPACE,
            fact_sources=sources,
        )
        for policy in outcome.bundle.policies.values()
    }
    if json_:
        click.echo(json.dumps(_json(results), ensure_ascii=False, indent=2))
    else:
        _print(console, results)
    if any(not result.passed for found in results.values() for result in found):
        raise SystemExit(FOUND)


def _print(console: Console, results: Results) -> None:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in ("", "Policy", "Test", "Decision", "Decided by"):
        table.add_column(column, overflow="fold", no_wrap=column not in ("Policy", "Test"))
    counts = {True: 0, False: 0, None: 0}
    failures: list[tuple[str, TestResult]] = []
    for policy, found in results.items():
        for result in found:
            counts[result.passed] += 1
            mark = {True: Text("✓", "green"), False: Text("✗", "bold red"), None: Text("?", "bold yellow")}
            decision = result.decision
            rule = (decision.rule.rule if decision.rule else "no rule") if decision else ""
            action = str(decision.action) if decision else ""
            table.add_row(mark[result.passed], Text(policy), Text(result.test), Text(action), Text(rule))
            if not result.passed:
                failures.append((policy, result))
    untested = [policy for policy, found in results.items() if not found]
    if len(untested) < len(results):
        console.print(table)
    for policy, result in failures:
        console.print(Text.assemble((f"{policy}: {result.test}: ", "bold"), result.reason))
    if untested:
        console.print(Text(f"Without tests: {', '.join(untested)}", "yellow"))
    summary = f"{counts[True]} passed, {counts[False]} failed"
    console.print(Text(summary + (f", {counts[None]} not run" if counts[None] else ""), "bold"))


def _json(results: Results) -> list[dict[str, object]]:
    return [
        {
            "policy": policy,
            "test": result.test,
            "passed": result.passed,
            "reason": result.reason,
            "decision": str(result.decision.action) if result.decision else None,
            "rule": result.decision.rule.rule if result.decision and result.decision.rule else None,
        }
        for policy, found in results.items()
        for result in found
    ]
