"""What an approval looks like on a terminal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ostiary_cli.admin_socket import Item
from ostiary_gateway.audit.transcript_words import duration, moment
from ostiary_gateway.visible import visible

STYLES: Final = {
    "Pending": "bold yellow", "Approved": "bold green", "Denied": "bold red", "Expired": "dim", "Consumed": "green",
}  # fmt: skip
MEANING: Final = {
    "Pending": "waits for an answer",
    "Approved": "approved, and not used yet: sent again, it runs once",
    "Denied": "denied",
    "Expired": "expired",
    "Consumed": "approved, and let through",
}
_ORDER: Final = tuple(STYLES)
_DIFF_STYLES: Final = {"+": "green", "-": "red", "@": "dim", "…": "yellow"}


def order(found: list[Item]) -> list[Item]:
    """Those that wait for an answer first; among them the oldest, else the newest first."""

    def key(each: Item) -> tuple[int, float]:
        asked = _seconds(each["approval"]["metadata"].get("creationTimestamp"))
        return (0, asked) if each["state"] == "Pending" else (1, -asked)

    return sorted(found, key=key)


def listing(found: list[Item], width: int, *, namespaces: bool = False) -> RenderableType:
    """A line for each."""
    if not found:
        return Text("Nothing waits for approval.", "dim")
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0), expand=True)
    if namespaces:
        table.add_column("Namespace", no_wrap=True)
    table.add_column("Approval", no_wrap=True)
    table.add_column("State", no_wrap=True)
    table.add_column("Asked", no_wrap=True, justify="right")
    table.add_column("Open for", no_wrap=True, justify="right")
    table.add_column("Who", no_wrap=True, max_width=max(12, width // 7))
    table.add_column("Needs", no_wrap=True, max_width=max(10, width // 7))
    table.add_column("What", no_wrap=True, ratio=1, overflow="ellipsis")
    for each in found:
        spec, metadata = each["approval"]["spec"], each["approval"]["metadata"]
        answers = each["approval"].get("status", {}).get("approvals", [])
        terms = spec["approval"]
        given = sum(answer["verdict"] == "Approve" for answer in answers)
        needed = terms.get("minApprovals", 1)
        count = f" {given}/{needed}" if needed > 1 else ""
        table.add_row(
            *([Text(metadata.get("namespace", ""))] if namespaces else []),
            Text(metadata["name"], "bold"),
            Text(each["state"], STYLES[each["state"]]),
            Text(ago(metadata.get("creationTimestamp")), "dim"),
            Text(until(each), "yellow" if each["state"] == "Pending" else "dim"),
            Text(visible(spec["requester"]["username"])),
            Text(visible(" or ".join(terms["groups"])) + count),
            Text(what(spec["request"])),
        )
    return table


def whole(each: Item) -> RenderableType:
    """Everything that a person needs to decide."""
    approval = each["approval"]
    spec, metadata, status = approval["spec"], approval["metadata"], approval.get("status", {})
    request = spec["request"]
    parts: list[RenderableType] = [_head(each, spec, metadata)]
    parts.append(Text("What it would run", "bold"))
    parts.append(Padding(_request(request), (0, 0, 0, 2)))
    parameters = request.get("facts", {}).get("sql", {}).get("params")
    if isinstance(parameters, list) and parameters:
        line = Text()
        for number, value in enumerate(parameters, 1):
            line.append(f"  ${number} = ", "dim")
            line.append("NULL" if value is None else visible(str(value)), "dim" if value is None else "")
        parts.append(line)
    if request.get("truncated"):
        parts.append(Text("⚠ Too long to be shown whole: you do not see all that would run.", "bold red"))
    if request.get("redacted"):
        parts.append(Text("  Secrets in it are not shown.", "yellow"))
    parts.append(Text())
    parts += _facts(request.get("facts", {}).get("sql", {}))
    if (evidence := request.get("evidence")) is not None:
        parts += _evidence(evidence)
    parts += _answers(each, status)
    return Group(*parts)


def _head(each: Item, spec: dict[str, Any], metadata: dict[str, Any]) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    state = each["state"]
    standing = Text(state, STYLES[state]).append(f"  {MEANING[state]}", "dim")
    if state in ("Pending", "Approved"):
        standing.append(f"; {until(each)} left", "yellow")
    grid.add_row("state", standing)
    requester, terms = spec["requester"], spec["approval"]
    who = Text(visible(requester["username"]), "bold")
    if requester.get("onBehalfOf"):
        who.append(visible(f"  on behalf of {requester['onBehalfOf']}"))
    if requester.get("groups"):
        who.append(visible(f"  ({', '.join(requester['groups'])})"), "dim")
    grid.add_row("asked by", who)
    grid.add_row("through", visible(f"{metadata.get('namespace', 'default')}/{spec['connectionRef']['name']}"))
    created = metadata.get("creationTimestamp")
    grid.add_row("asked", f"{moment(_seconds(created))}, {ago(created)} ago")
    if requester.get("session"):
        grid.add_row("session", visible(requester["session"]))
    rules = (f"{rule['namespace']}/{rule['name']}#{rule['rule']}" for rule in spec["policies"])
    grid.add_row("because of", Text(visible(", ".join(rules)), "cyan"))
    count = terms.get("minApprovals", 1)
    people = "one person" if count == 1 else f"{count} different people"
    grid.add_row("needs", visible(f"{people} of {' or '.join(terms['groups'])}"))
    return Panel(grid, title=Text(metadata["name"], "bold"), title_align="left", box=box.ROUNDED, expand=False)


def _request(request: dict[str, Any]) -> Text:
    summary = visible(request["summary"], lines=True)
    if _is_sql(request):
        text = Syntax("", "postgresql", theme="ansi_dark", background_color="default", word_wrap=True).highlight(
            summary
        )
    else:
        first, _, rest = summary.partition("\n")
        text = Text.assemble((first, "bold yellow"), (f"\n{rest}", "dim"))
    text.rstrip()
    return text


def _evidence(evidence: dict[str, Any]) -> list[RenderableType]:
    shown = visible(evidence["text"], lines=True)
    if evidence["type"] == "Explain":
        return [
            Text("\nWhat PostgreSQL says it would do (EXPLAIN; nothing was run)", "bold"),
            Padding(Text(shown, "cyan"), (0, 0, 0, 2)),
        ]
    if evidence["type"] == "Command":
        title = "\nWhat it is, read from what was sent (nothing was run)"
        return [Text(title, "bold"), Padding(Text(shown), (0, 0, 0, 2))]
    text = Text()
    for line in shown.splitlines(keepends=True):
        text.append(line, _DIFF_STYLES.get(line[:1], ""))
    text.rstrip()
    title = "\nWhat the API server says it would change (a dry run; nothing was done)"
    return [Text(title, "bold"), Padding(text, (0, 0, 0, 2))]


def _facts(facts: dict[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if isinstance(rows := facts.get("estimatedRows"), int):
        parts.append(Text.assemble("  about ", (f"{rows:,}", "bold yellow"), " rows, as the planner sees it"))
    for statement in facts.get("statements", []):
        line = Text("  ")
        line.append(visible(" ".join(filter(None, (statement.get("verb"), statement.get("kind")))) or "?"), "bold")
        relations = [
            f"{each.get('access', '')} {'.'.join(filter(None, (each.get('schema'), each.get('name'))))}"
            for each in statement.get("relations", [])
        ]
        if relations:
            line.append(visible("  " + ", ".join(relations)))
        if statement.get("opaque"):
            line.append(visible(f"  what it does cannot be known: {statement.get('opaqueReason')}"), "red")
        parts.append(line)
    return parts


def _answers(each: Item, status: dict[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    answers = status.get("approvals", [])
    if answers:
        parts.append(Text("\nAnswers", "bold"))
    for answer in answers:
        approve = answer["verdict"] == "Approve"
        line = Text("  ✓ " if approve else "  ✗ ", "green" if approve else "red")
        line.append(visible(answer["approver"]), "bold")
        if acting := each.get("acting", {}).get(answer["approver"]):
            line.append(visible(f" as {acting}"), "dim")
        line.append(f"  {moment(_seconds(answer['at']))}", "dim")
        if answer.get("reason"):
            line.append(visible(f"  “{answer['reason']}”"), "italic")
        parts.append(line)
    return parts


def what(request: dict[str, Any]) -> str:
    """A request in one line."""
    summary: str = request["summary"]
    if _is_sql(request):
        return one_line(summary)
    return one_line(summary.partition("\n")[0])


def _is_sql(request: dict[str, Any]) -> bool:
    return "sql" in request.get("facts", {}) or (request.get("evidence") or {}).get("type") == "Explain"


def one_line(text: str) -> str:
    return " ".join(visible(text, lines=True).split())


def until(each: Item) -> str:
    """How long it is open."""
    status = each["approval"].get("status", {})
    if each["state"] not in ("Pending", "Approved"):
        return ""
    at = status.get("grantExpiresAt") or status.get("expiresAt")
    return _about(max(0.0, _seconds(at) - datetime.now(UTC).timestamp())) if at else ""


def ago(at: str | None) -> str:
    return _about(max(0.0, datetime.now(UTC).timestamp() - _seconds(at)))


def _about(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else duration(seconds)


def _seconds(at: str | None) -> float:
    return datetime.fromisoformat(at).timestamp() if at else 0.0
