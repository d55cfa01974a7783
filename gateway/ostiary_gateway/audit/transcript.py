"""A recorded PostgreSQL session as a readable transcript, on a rich console."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import chain

from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from ostiary_gateway.audit import postgres_recording as recording
from ostiary_gateway.audit.reader import Reader, Request, Session
from ostiary_gateway.visible import visible

DECISION_STYLES = {"Allow": "bold green", "Deny": "bold red", "RequireApproval": "bold yellow"}
OUTCOME_STYLES = {"ok": "green", "error": "red", "denied": "red", "skipped": "yellow", "lost": "yellow"}
NUMBERS = frozenset({20, 21, 23, 26, 700, 701, 790, 1700})
"""OIDs of the types that stand to the right."""

CELL = 60
"""Characters of a value that a table shows."""

TAGS = 8
"""Command tags of one request that are shown."""

COPY_LINES = 64 * 1024
"""Bytes of COPY data that are kept to be shown."""


@dataclass(frozen=True, slots=True)
class Options:
    """rows: of each result; None shows all. cell: characters of each value; None shows all."""

    rows: int | None = 10
    cell: int | None = CELL
    theme: str = "ansi_dark"


def render(reader: Reader, session: Session, console: Console, options: Options | None = None) -> None:
    """Print the whole session. A long one is printed as it is read."""
    options = options or Options()
    opened = next(reader.events(session), None)
    console.print(heading(session, _mapping(opened.fields.get("detail")) if opened is not None else {}))
    for number, request in enumerate(reader.requests(session), 1):
        console.print(request_view(reader, request, number, console.width, options))
    for line in closing(reader, session):
        console.print(line)


def heading(session: Session, detail: Mapping[str, object]) -> RenderableType:
    """Who, where, when and how it went. `detail` is that of the session's beginning."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column()
    grid.add_row("subject", Text(visible(session.username), style="bold"))
    grid.add_row("connection", Text(visible(f"{session.connection} ({session.protocol})")))
    if detail.get("upstreamRole"):
        grid.add_row("login", Text(visible(f"{detail.get('upstreamUser')} as {detail['upstreamRole']}")))
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


def request_view(reader: Reader, request: Request, number: int, width: int, options: Options) -> RenderableType:
    """One request: what was asked, what was decided, what came back."""
    begun = request.begun.fields if request.begun else {}
    ended = request.ended.fields if request.ended else {}
    decision = _mapping(begun.get("decision"))
    action = str(decision.get("action", ""))
    title = Text(f" {number} ", "bold")
    started = begun.get("at")
    if isinstance(started, float):
        title.append(f" {clock(started)} ", "dim")
    parts: list[RenderableType] = []
    if begun:
        sql = visible(str(begun.get("text", "")), lines=True).strip()
        highlighted = Syntax("", "postgresql", theme=options.theme, background_color="default").highlight(sql)
        highlighted.rstrip()
        parts.append(highlighted)
        parts += _parameters(_mapping(begun.get("detail")), options)
        parts.append(_decision(decision, action, str(_mapping(begun.get("detail")).get("refused", ""))))
        parts += _approval(_mapping(_mapping(begun.get("detail")).get("approval")))
    else:
        parts.append(Text("outside a request", "dim"))
    parts += response_view(reader, request, width, options)
    if ended:
        parts.append(_outcome(ended, started))
    elif begun:
        parts.append(Text("… no end in the record: it runs, or the gateway stopped", "yellow"))
    return Group(Rule(title, align="left", style="dim"), *(Padding.indent(part, 2) for part in parts), Text())


def _parameters(detail: Mapping[str, object], options: Options) -> list[RenderableType]:
    values = detail.get("parameters")
    if not isinstance(values, list) or not values:
        return []
    line = Text()
    for index, value in enumerate(values, 1):
        line.append(f"${index}", "dim")
        line.append(" = ", "dim")
        line.append_text(_cell(None if value is None else str(value), options))
        line.append("  ")
    line.rstrip()
    return [line]


def _decision(decision: Mapping[str, object], action: str, refused: str) -> RenderableType:
    """`refused`: the SQLSTATE of what was refused under any policy, or empty."""
    line = Text()
    line.append(
        {"Allow": "✓ ", "Deny": "✗ "}.get(action, "? ") + (action or "not known"), DECISION_STYLES.get(action, "")
    )
    rule, message = _mapping(decision.get("rule")), str(decision.get("message", ""))
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
    for error in _list(decision.get("errors")):
        fields = _mapping(error)
        line.append("\n")
        line.append(visible(f"{fields.get('policy')}: {fields.get('field')}: {fields.get('message')}"), "red")
    masks = [_mapping(mask) for mask in _list(decision.get("masks"))]
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
    for answer in map(_mapping, _list(approval.get("answers"))):
        approve = answer.get("verdict") == "Approve"
        line.append(", approved by " if approve else ", denied by ", "green" if approve else "red")
        line.append(visible(str(answer.get("approver"))), "bold")
        if answer.get("reason"):
            line.append(visible(f" “{answer['reason']}”"), "italic dim")
    if approval.get("state") in ("Pending", "Expired"):
        line.append({"Pending": ", not decided", "Expired": ", expired"}[str(approval["state"])], "yellow")
    return [line]


def _outcome(ended: Mapping[str, object], started: object) -> RenderableType:
    outcome = str(ended.get("outcome", ""))
    line = Text()
    line.append(outcome, OUTCOME_STYLES.get(outcome, ""))
    detail = _mapping(ended.get("detail"))
    tags = _list(detail.get("tags"))
    if tags:
        line.append(visible("  " + ", ".join(str(tag) for tag in tags[:TAGS])), "bold")
        if len(tags) > TAGS:
            line.append(f" … {len(tags) - TAGS:,} more", "dim")
    at = ended.get("at")
    if outcome != "denied" and isinstance(at, float) and isinstance(started, float):
        line.append(f"  {duration(at - started)}", "dim")
    response = _mapping(ended.get("response"))
    size, recorded = response.get("size"), response.get("recorded")
    if isinstance(size, int) and isinstance(recorded, int):
        line.append(f"  {bytes_text(size)}", "dim")
        if response.get("truncated"):
            line.append(f"  recording cut at {bytes_text(recorded)} of {bytes_text(size)} (limit)", "bold yellow")
        elif response.get("missing"):
            line.append(f"  only {bytes_text(recorded)} recorded: the record could not be written", "bold yellow")
    elif detail.get("sqlstate"):
        line.append("\n")
        line.append(visible(f"ERROR {detail['sqlstate']}  {detail.get('message', '')}"), "red")
    return line


def closing(reader: Reader, session: Session) -> Iterable[RenderableType]:
    """How the session ended, and what is missing in its record."""
    for event in reader.events(session, rare=True):
        if event.kind == "gap":
            yield Text(f"{event.fields['events']} events are missing here: they could not be written", "bold yellow")
        elif event.kind in ("close", "lost"):
            at = event.fields.get("at")
            when = clock(at) if isinstance(at, float) else ""
            yield Rule(Text(visible(f"{when}  {event.fields.get('reason')}"), "dim"), align="left", style="dim")


# Responses


@dataclass(slots=True)
class _Result:
    """One result set on its way to a table. `count` rows came, the first of them are in `rows`."""

    columns: Sequence[recording.Column] = ()
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    count: int = 0


def response_view(reader: Reader, request: Request, width: int, options: Options) -> list[RenderableType]:
    """The recorded response: tables, COPY data, errors, notices."""
    views: list[RenderableType] = []
    detail = _mapping(request.ended.fields.get("detail")) if request.ended else {}
    result = _Result(recording.described(detail))
    copied, copied_bytes = bytearray(), 0
    copy_binary = False
    for item in recording.decode(_pieces(reader, request, views), result.columns, rows=options.rows):
        match item:
            case recording.Columns(columns):
                result = _Result(columns)
            case recording.Row(values):
                result.count += 1
                if options.rows is None or len(result.rows) < options.rows:
                    result.rows.append(values)
            case recording.Complete():
                views += _table(result, width, options)
                result = _Result(result.columns if not result.count else ())
            case recording.Report(error, fields):
                views += _table(result, width, options)
                result = _Result()
                views.append(_report(error, fields))
            case recording.CopyStarted(_, binary):
                copy_binary = binary
            case recording.CopyChunk(data):
                copied_bytes += len(data)
                copied += data[: max(0, COPY_LINES - len(copied))]
            case recording.Notification(channel, payload):
                views.append(Text(visible(f"notification on {channel}: {payload}"), "cyan"))
            case recording.Broken(what):
                response = _mapping(request.ended.fields.get("response")) if request.ended else {}
                if not response.get("truncated"):
                    views.append(Text(what, "yellow"))
    if result.count:
        views += _table(result, width, options)
    if copied_bytes:
        views.append(_copied(bytes(copied), copied_bytes, copy_binary, options))
    return views


def _pieces(reader: Reader, request: Request, views: list[RenderableType]) -> Iterable[bytes]:
    try:
        yield from reader.response(request)
    except (LookupError, ValueError) as error:
        views.append(Text(f"the recorded response is damaged: {error}. `ostiary verify` says more.", "bold red"))


def _table(result: _Result, width: int, options: Options) -> list[RenderableType]:
    if not result.columns and not result.count:
        return []
    names = [visible(column.name) for column in result.columns]
    widest = max(chain((len(row) for row in result.rows), (len(names),)))
    names += [f"column {index}" for index in range(len(names) + 1, widest + 1)]
    cells = [[_cell(value, options) for value in row] for row in result.rows]
    sizes = [
        max([len(name), *(row[index].cell_len for row in cells if index < len(row))])
        for index, name in enumerate(names)
    ]
    if sum(sizes) + 3 * len(sizes) + 4 > width:
        view = _records(names, cells)
    else:
        view = _grid(names, cells, result.columns)
    views: list[RenderableType] = [view]
    hidden = result.count - len(result.rows)
    if hidden:
        views.append(Text(f"… {hidden:,} more row{'s' if hidden > 1 else ''}", "dim italic"))
    elif not result.count:
        views.append(Text("(no rows)", "dim italic"))
    return views


def _grid(names: list[str], cells: list[list[Text]], columns: Sequence[recording.Column]) -> RenderableType:
    table = Table(box=box.ROUNDED, border_style="dim", header_style="bold", pad_edge=True)
    for index, name in enumerate(names):
        number = index < len(columns) and columns[index].oid in NUMBERS
        table.add_column(Text(name), justify="right" if number else "left", overflow="fold")
    for row in cells:
        table.add_row(*row)
    return table


def _records(names: list[str], cells: list[list[Text]]) -> RenderableType:
    """One line a value, like psql's expanded display: the table would be wider than the terminal."""
    table = Table.grid(padding=(0, 1))
    table.add_column(style="bold", no_wrap=True, max_width=40)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for number, row in enumerate(cells, 1):
        table.add_row(Text(f"─[ {number} ]─", "dim"), "", "")
        for name, value in zip(names, row, strict=False):
            table.add_row(Text(name), "│", value)
    return table


def _cell(value: str | None, options: Options) -> Text:
    if value is None:
        return Text("NULL", "dim italic")
    if options.cell is not None and len(value) > options.cell:
        return Text(visible(value[: options.cell])).append("…", "dim")
    return Text(visible(value))


def _report(error: bool, fields: Mapping[str, str]) -> RenderableType:
    style = "red" if error else "yellow"
    line = Text()
    line.append(
        visible(f"{fields.get('S', 'ERROR' if error else 'NOTICE')} {fields.get('C', '')}".rstrip()), f"bold {style}"
    )
    line.append(visible(f"  {fields.get('M', '')}"), style)
    for key, name in (("D", "DETAIL"), ("H", "HINT"), ("W", "CONTEXT")):
        if fields.get(key):
            line.append(f"\n  {name}  ", "dim")
            line.append(visible(fields[key]))
    return line


def _copied(data: bytes, size: int, binary: bool, options: Options) -> RenderableType:
    text = Text(f"COPY, {bytes_text(size)}{' of binary data' if binary else ''}", "dim")
    if binary:
        return text
    lines = data.decode("utf-8", "backslashreplace").split("\n")
    shown = lines if options.rows is None else lines[: options.rows]
    for line in shown:
        if line:
            text.append("\n  ")
            text.append_text(_cell(line.expandtabs(), Options(cell=None if options.cell is None else options.cell * 2)))
    if len(lines) > len(shown) or size > len(data):
        text.append("\n  … more", "dim italic")
    return text


# Words and numbers


def moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]


def duration(seconds: float) -> str:
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def bytes_text(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            return f"{size} B" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{size} B"


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
