"""A recorded session as a readable transcript, on a rich console. What is a protocol's own stands beside this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from heapq import heappop, heappush
from typing import Final

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from ostiary_gateway.audit import transcript_kubernetes, transcript_other, transcript_postgres, transcript_ssh
from ostiary_gateway.audit.reader import Request, Session, SessionReader
from ostiary_gateway.audit.transcript_words import (
    Options,
    View,
    bytes_text,
    clock,
    duration,
    items,
    mapping,
    moment,
)
from ostiary_gateway.visible import visible

VIEWS: Final[Mapping[str, View]] = {
    "Kubernetes": transcript_kubernetes,
    "Postgres": transcript_postgres,
    "SSH": transcript_ssh,
}
"""By protocol. One that is not here shows what was asked as it is."""

MAX_HELD: Final = 10_000
"""Requests that are kept until one that began before them has ended."""

DECISION_STYLES = {"Allow": "bold green", "Deny": "bold red", "RequireApproval": "bold yellow"}
OUTCOME_STYLES = {"ok": "green", "error": "red", "denied": "red", "skipped": "yellow", "lost": "yellow"}


def render(reader: SessionReader, session: Session, console: Console, options: Options | None = None) -> None:
    """Print the whole session. A long one is printed as it is read."""
    options = options or Options()
    opened = next(reader.events(session), None)
    begins = opened is not None and opened.kind == "open"
    console.print(heading(session, mapping(opened.fields.get("detail")) if opened is not None and begins else {}))
    if opened is not None and opened.seq:
        console.print(Text(f"Its first {opened.seq} events are not here any more: the store has them.", "yellow"))
    for request in in_order(reader.requests(session)):
        console.print(request_view(reader, session, request, request.number, console.width, options))
    for line in closing(reader, session):
        console.print(line)


def in_order(requests: Iterable[Request]) -> Iterator[Request]:
    """As they began. The record gives them as they ended, and a session of files ends after what was done in it."""
    held: list[tuple[int, int, Request]] = []
    following = 1
    for place, request in enumerate(requests):
        heappush(held, (request.number, place, request))
        while held and (held[0][0] <= following or len(held) > MAX_HELD):
            number, _, first = heappop(held)
            following = max(following, number + 1)
            yield first
    while held:
        yield heappop(held)[2]


def heading(session: Session, detail: Mapping[str, object]) -> RenderableType:
    """Who, where, when and how it went. `detail` is that of the session's beginning."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("subject", Text(visible(session.username), style="bold"))
    grid.add_row("connection", Text(visible(f"{session.connection} ({session.protocol})")))
    for name, text in view_of(session).login(detail):
        grid.add_row(name, Text(visible(text)))
    when = moment(session.opened)
    if session.closed is not None:
        when += f" … {clock(session.closed)}  ({duration(session.closed - session.opened)})"
    grid.add_row("time", when)
    counts = Text(f"{session.requests:,}")
    for count, what, style in (
        (session.denied, "denied", "red"),
        (session.asked, "needed approval", "yellow"),
        (session.errors, "failed", "red"),
    ):
        if count:
            counts.append(f" · {count:,} {what}", style)
    grid.add_row("requests", counts)
    grid.add_row("recording", session.recording)
    state = {"open": Text("open", "cyan"), "closed": Text("closed")}.get(session.state)
    grid.add_row("state", state or Text("lost: the gateway stopped before the session did", "yellow"))
    return Panel(grid, title=Text(f"session {session.id}", "bold"), title_align="left", box=box.ROUNDED, expand=False)


def view_of(session: Session) -> View:
    """What its protocol shows."""
    return VIEWS.get(session.protocol, transcript_other)


def request_view(
    reader: SessionReader, session: Session, request: Request, number: int, width: int, options: Options
) -> RenderableType:
    """One request: what was asked, what was decided, what came back."""
    view = view_of(session)
    begun = request.begun.fields if request.begun else {}
    ended = request.ended.fields if request.ended else {}
    decision = mapping(begun.get("decision"))
    action = str(decision.get("action", ""))
    title = Text(f" {number} ", "bold")
    started = begun.get("at")
    if isinstance(started, float):
        title.append(f" {clock(started)} ", "dim")
    parts: list[RenderableType] = []
    if begun:
        parts += view.asked(str(begun.get("text", "")), mapping(begun.get("detail")), options)
        parts.append(_decision(decision, action, str(mapping(begun.get("detail")).get("refused", ""))))
        parts += _approval(mapping(mapping(begun.get("detail")).get("approval")))
    else:
        parts.append(Text("outside a request", "dim"))
    parts += view.answered(reader, request, width, options)
    if ended:
        parts.append(_outcome(view, ended, started))
    elif begun:
        parts.append(Text("… no end in the record: it runs, or the gateway stopped", "yellow"))
    return Group(Rule(title, align="left", style="dim"), *(Padding.indent(part, 2) for part in parts), Text())


def _decision(decision: Mapping[str, object], action: str, refused: str) -> RenderableType:
    """`refused`: the SQLSTATE of what was refused under any policy, or empty."""
    line = Text()
    line.append(
        {"Allow": "✓ ", "Deny": "✗ "}.get(action, "? ") + (action or "not known"), DECISION_STYLES.get(action, "")
    )
    rule, message = mapping(decision.get("rule")), str(decision.get("message", ""))
    if rule:
        name = f"{rule.get('namespace')}/{rule.get('policy')}#{rule.get('rule')}"
        line.append(visible(f"  {name}"), "cyan")
        # The rule's name stands there already.
        message = message.removesuffix(f" (rule {name})").removeprefix(f"Allowed by rule {name}.")
    elif refused:
        line.append(visible(f"  refused under any policy ({refused})"), "cyan")
    elif action == "Deny" and not decision.get("errors"):
        line.append("  no rule allows it", "cyan")
    if message:
        line.append(visible(f"  {message}"))
    if decision.get("hint"):
        line.append("\nhint: ", "dim")
        line.append(visible(str(decision["hint"])), "italic dim")
    for error in items(decision.get("errors")):
        fields = mapping(error)
        line.append("\n")
        line.append(visible(f"{fields.get('policy')}: {fields.get('field')}: {fields.get('message')}"), "red")
    masks = [mapping(mask) for mask in items(decision.get("masks"))]
    if masks and action == "Allow":
        names = (f"{m.get('column') or m.get('detector') or m.get('jsonPath')} ({m.get('strategy')})" for m in masks)
        line.append("\nmasks ", "dim")
        line.append(visible(", ".join(names)), "magenta")
    return line


def _approval(approval: Mapping[str, object]) -> list[RenderableType]:
    """What people said to it, and how long it was held for them."""
    if not approval:
        return []
    line = Text("approval ", "dim")
    line.append(visible(str(approval.get("name"))), "bold")
    waited = approval.get("waited")
    if isinstance(waited, (int, float)):
        line.append(f", waited {duration(waited)} for it", "dim")
    for answer in map(mapping, items(approval.get("answers"))):
        approve = answer.get("verdict") == "Approve"
        line.append(", approved by " if approve else ", denied by ", "green" if approve else "red")
        line.append(visible(str(answer.get("approver"))), "bold")
        if answer.get("reason"):
            line.append(visible(f" “{answer['reason']}”"), "italic dim")
    if approval.get("state") in ("Pending", "Expired"):
        line.append({"Pending": ", not decided", "Expired": ", expired"}[str(approval["state"])], "yellow")
    return [line]


def _outcome(view: View, ended: Mapping[str, object], started: object) -> RenderableType:
    outcome = str(ended.get("outcome", ""))
    line = Text()
    line.append(outcome, OUTCOME_STYLES.get(outcome, ""))
    detail = mapping(ended.get("detail"))
    if said := view.result(detail):
        line.append("  ").append_text(said)
    at = ended.get("at")
    if outcome != "denied" and isinstance(at, float) and isinstance(started, float):
        line.append(f"  {duration(at - started)}", "dim")
    response = mapping(ended.get("response"))
    size, recorded = response.get("size"), response.get("recorded")
    if isinstance(size, int) and isinstance(recorded, int):
        # The recording of a stream has more than its output: what was typed, and when.
        shown = [n for name in ("stdoutBytes", "stderrBytes") if isinstance(n := detail.get(name), int)]
        line.append(f"  {bytes_text(sum(shown) if shown else size)}", "dim")
        if response.get("truncated"):
            line.append(f"  recording cut at {bytes_text(recorded)} of {bytes_text(size)} (limit)", "bold yellow")
        elif response.get("missing"):
            line.append(f"  only {bytes_text(recorded)} recorded: the record could not be written", "bold yellow")
    elif failure := view.failure(detail):
        line.append("\n").append(visible(failure), "red")
    return line


def closing(reader: SessionReader, session: Session) -> Iterable[RenderableType]:
    """How the session ended, and what is missing in its record."""
    for event in reader.events(session, rare=True):
        if event.kind == "gap":
            yield Text(f"{event.fields['events']} events are missing here: they could not be written", "bold yellow")
        elif event.kind in ("close", "lost"):
            at = event.fields.get("at")
            when = clock(at) if isinstance(at, float) else ""
            yield Rule(Text(visible(f"{when}  {event.fields.get('reason')}"), "dim"), align="left", style="dim")
