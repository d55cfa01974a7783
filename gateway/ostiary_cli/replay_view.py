"""What `ostiary replay` shows: what opens first, then what closes, then what cannot be told."""

from __future__ import annotations

from collections import Counter

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ostiary_gateway.audit.transcript_words import moment
from ostiary_gateway.visible import visible
from ostiary_store.replay.report import Change, Group, Report, Verdict

STYLES = {"Allow": "bold green", "Deny": "bold red", "RequireApproval": "bold yellow"}
NAMES = 3
"""Users and Connections that are named of a group."""
LINE = 160
"""Characters of an example."""


def print_report(console: Console, report: Report, examples: int = 2) -> None:
    """The whole report."""
    console.print(_summary(report))
    for change, group in report.by_size():
        console.print(Rule(style="dim"))
        console.print(_change(change, group))
        _details(console, group, examples, told=change.after.action != "Allow")
    if report.undecided:
        console.print(Rule("cannot be told from the record", style="yellow"))
        for why, group in sorted(report.undecided.items(), key=lambda pair: -pair[1].requests):
            console.print(Text(f"{group.requests:,}  ", "bold yellow").append(visible(why), "default"))
            _details(console, group, min(examples, 1), told=False)
    if report.would or report.would_then:
        console.print(Rule("rules in enforcement Audit", style="cyan"))
        console.print(_audited(report))


def _summary(report: Report) -> Panel:
    text = Text()
    text.append(f"{report.requests:,}", "bold").append(f" recorded request{_s(report.requests)} of ")
    text.append(f"{report.sessions:,}", "bold").append(f" session{_s(report.sessions)}")
    if report.requests:
        text.append(f", {moment(report.since)} to {moment(report.until)}", "dim")
    text.append("\n")
    if report.changes:
        opened = sum(group.requests for change, group in report.changed.items() if _opens(change))
        text.append(f"{report.changes:,} would be decided otherwise", "bold red")
        text.append(f", {opened:,} of them let through that were not\n" if opened else "\n")
    elif report.requests:
        text.append("✓ no verdict changes\n", "bold green")
    for count, what in (
        (report.same, "stay as they are"),
        (sum(group.requests for group in report.undecided.values()), "cannot be told from the record"),
        (report.outside, "the gateway refuses by itself, under any policy"),
        (report.drifted, "are decided otherwise by --base than was recorded: something has changed since"),
    ):
        if count:
            text.append(f"{count:,} {what}\n", "dim")
    for name, count in sorted(report.elsewhere.items()):
        text.append(f"{count:,} came through {visible(name)}, of which there is no manifest\n", "yellow")
    if not report.complete:
        text.append("not all requests were looked at: the limit was reached\n", "yellow")
    text.rstrip()
    return Panel(text, title="replay", title_align="left", box=box.ROUNDED, border_style="dim")


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _opens(change: Change) -> bool:
    return change.after.action == "Allow" and change.before.action != "Allow"


def _change(change: Change, group: Group) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", min_width=7)
    table.add_column()
    table.add_row(Text(f"{group.requests:,}", "bold"), _line(change.before).append("  →  ").append(_line(change.after)))
    return table


def _line(verdict: Verdict) -> Text:
    line = Text(verdict.action, STYLES.get(verdict.action, "bold"))
    line.append(f" {visible(verdict.rule)}" if verdict.rule else " by no rule", "default" if verdict.rule else "dim")
    if verdict.masks:
        line.append(f"  masks {visible(', '.join(verdict.masks[:NAMES]))}", "magenta")
        if len(verdict.masks) > NAMES:
            line.append(f" and {len(verdict.masks) - NAMES} more", "magenta")
    return line


def _details(console: Console, group: Group, examples: int, *, told: bool) -> None:
    who = Text(f"{_names(group.usernames)}  at {_names(group.connections)}", "dim")
    console.print(Padding(who, (0, 0, 0, 9)))
    if group.assumed:
        names = ", ".join(sorted(group.assumed))
        text = f"a policy reads {names}, which the record does not have whole: look at these yourself"
        console.print(Padding(Text(visible(text), "yellow"), (0, 0, 0, 9)))
    for example in group.examples[:examples]:
        line = Text(f"{example.request}  ", "cyan")
        line.append(visible(" ".join(example.text.split()))[:LINE])
        console.print(Padding(line, (0, 0, 0, 9)), overflow="ellipsis", no_wrap=True)
        if told and example.message:
            console.print(Padding(Text(visible(example.message)[:LINE], "dim italic"), (0, 0, 0, 11)))


def _names(counter: Counter[str]) -> str:
    named = ", ".join(f"{visible(name)} ({count:,})" for name, count in counter.most_common(NAMES))
    return named + (f" and {len(counter) - NAMES} more" if len(counter) > NAMES else "")


def _audited(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in ("Rule", "Would"):
        table.add_column(column)
    for column in ("Recorded", "With these policies"):
        table.add_column(column, justify="right")
    for (rule, action), group in report.audited():
        then = report.would_then.get((rule, action), 0)
        table.add_row(visible(rule), Text(action, STYLES.get(action, "")), f"{then:,}", f"{group.requests:,}")
    return table
