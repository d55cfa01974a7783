"""What `ostiary explain` prints: the facts, how they were decided on, the masks, what would be allowed instead."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import click
from rich.console import Console
from rich.text import Text
from rich.tree import Tree

from ostiary_gateway.visible import visible
from ostiary_policy.answer import Answer, Change
from ostiary_policy.explain import Explanation
from ostiary_policy.facts import KubernetesFacts, SqlFacts, SshFacts
from ostiary_policy.masking import MaskPlan

ACCESS = {"read": "relations read", "write": "relations written", "define": "relations defined"}


_OF_SSH = (
    "user", "name", "value", "path", "realPath", "target", "realTarget", "size", "opaqueReason",
)  # fmt: skip


def print_sql(console: Console, facts: SqlFacts) -> None:
    """The facts of statements."""
    tree = Tree(Text("facts", "bold"), guide_style="dim")
    for number, statement in enumerate(facts["statements"], 1):
        what = f"{statement['verb'] or 'unparsable'} {statement['kind']}".strip()
        branch = tree.add(Text.assemble((f"statement {number}: ", "dim"), (what, "bold cyan")))
        _print_facts(branch, _short(statement))
    console.print(tree)


def print_kubernetes(console: Console, facts: KubernetesFacts) -> None:
    """The facts of an API request."""
    tree = Tree(Text("facts", "bold"), guide_style="dim")
    what = "/".join(filter(None, (facts["resource"], facts["name"], facts["subresource"]))) or facts["path"]
    branch = tree.add(Text.assemble(("request: ", "dim"), (f"{facts['verb']} {what}", "bold cyan")))
    found: dict[str, str] = {}
    if facts["rbacVerb"] != facts["verb"]:
        found["rbacVerb"] = facts["rbacVerb"]
    for name in ("group", "version", "namespace", "path", "labelSelector", "fieldSelector"):
        found[name] = str(facts[name])
    for name in ("dryRun", "discovery", "readOnly"):
        found[name] = "yes" if facts[name] else ""  # type: ignore[literal-required]
    run = facts["exec"]
    if run["command"] or run["container"] or run["stdin"] or run["tty"]:
        found["exec"] = json.dumps(run, ensure_ascii=False)
    for name in ("object", "oldObject"):
        if facts.get(name):
            found[name] = _object(facts[name])  # type: ignore[literal-required]
    if facts.get("affected", 0) > 1:
        found["affected"] = str(facts["affected"])
    _print_facts(branch, {name: value for name, value in found.items() if value})
    console.print(tree)


def print_ssh(console: Console, facts: SshFacts) -> None:
    """The facts of a request over SSH."""
    tree = Tree(Text("facts", "bold"), guide_style="dim")
    what = " ".join(filter(None, (facts["kind"], facts["operation"], facts["direction"], facts["command"])))
    branch = tree.add(Text.assemble(("request: ", "dim"), (visible(what), "bold cyan")))
    found = {name: str(facts.get(name) or "") for name in _OF_SSH}
    if facts["env"]:
        found["env"] = json.dumps(facts["env"], ensure_ascii=False)
    if any(facts["destination"].values()):
        found["destination"] = json.dumps(facts["destination"], ensure_ascii=False)
    for name in ("pty", "readOnly", "opaque"):
        found[name] = "yes" if facts[name] else ""
    _print_facts(branch, {name: value for name, value in found.items() if value})
    for command in facts["commands"]:
        run = branch.add(Text.assemble(("runs: ", "dim"), (visible(command["program"] or "?"), "bold")))
        _print_facts(run, _short({name: value for name, value in command.items() if name != "program"}))
    console.print(tree)


def print_decision(console: Console, explanation: Explanation, problems: Iterable[str]) -> None:
    """How it was decided, the masks, and what is wrong with the manifests."""
    console.print()
    click.echo(explanation.render(colour=console.color_system is not None))
    masks = list(masks_of(explanation.decision.masks))
    if masks and explanation.decision.action == "Allow":
        console.print()
        tree = Tree(Text("masks", "bold"), guide_style="dim")
        for mask in masks:
            tree.add(Text(mask, "magenta"))
        console.print(tree)
    for problem in problems:
        console.print(Text(f"problem: {problem}", "red"))


def print_allowed(console: Console, reply: Answer) -> None:
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


def masks_of(plan: MaskPlan) -> Iterable[str]:
    """The masks of a plan, one line each."""
    for column in plan.columns:
        yield f"column {column.schema}.{column.table}.{column.column}: {column.strategy.type}"
    for path in plan.json_paths:
        yield f"path {path.path}: {path.strategy.type}"
    for detector in plan.detectors:
        yield f"detector {detector.detector}: {detector.strategy.type}"


def _print_facts(branch: Tree, facts: Mapping[str, str]) -> None:
    for name, value in facts.items():
        branch.add(Text.assemble((f"{name}: ", "dim"), visible(value)))


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


def _object(value: object) -> str:
    """`Deployment shop/web`; what is inside is shown where a rule reads it."""
    if not isinstance(value, Mapping):
        return ""
    metadata = value.get("metadata")
    inside = metadata if isinstance(metadata, Mapping) else {}
    name = "/".join(str(inside[key]) for key in ("namespace", "name") if key in inside)
    return f"{value.get('kind', 'object')} {name}".strip()
