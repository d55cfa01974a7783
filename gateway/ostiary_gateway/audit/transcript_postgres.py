"""PostgreSQL in a transcript: statements with their parameters, results as tables, COPY data, errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ostiary_gateway.audit import postgres_recording as recording
from ostiary_gateway.audit.reader import Request, SessionReader
from ostiary_gateway.audit.transcript_words import (
    Options,
    bytes_text,
    cell,
    highlighted,
    items,
    mapping,
    more,
    pieces,
)
from ostiary_gateway.visible import visible

NUMBERS = frozenset({20, 21, 23, 26, 700, 701, 790, 1700})
"""OIDs of the types that stand to the right."""

TAGS = 8
"""Command tags of one request that are shown."""

COPY_LINES = 64 * 1024
"""Bytes of COPY data that are kept to be shown."""


def login(detail: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    """The session's own role."""
    if detail.get("upstreamRole"):
        yield "login", f"{detail.get('upstreamUser')} as {detail['upstreamRole']}"


def asked(text: str, detail: Mapping[str, object], options: Options) -> list[RenderableType]:
    """The statement and its parameters."""
    return [highlighted(text, "postgresql", options), *_parameters(detail, options)]


def result(detail: Mapping[str, object]) -> Text:
    """The command tags."""
    tags = items(detail.get("tags"))
    line = Text(visible(", ".join(str(tag) for tag in tags[:TAGS])), "bold")
    if len(tags) > TAGS:
        line.append(f" … {len(tags) - TAGS:,} more", "dim")
    return line


def failure(detail: Mapping[str, object]) -> str:
    """SQLSTATE and message."""
    return f"ERROR {detail['sqlstate']}  {detail.get('message', '')}" if detail.get("sqlstate") else ""


def _parameters(detail: Mapping[str, object], options: Options) -> list[RenderableType]:
    values = detail.get("parameters")
    if not isinstance(values, list) or not values:
        return []
    line = Text()
    for index, value in enumerate(values, 1):
        line.append(f"${index}", "dim")
        line.append(" = ", "dim")
        line.append_text(cell(None if value is None else str(value), options))
        line.append("  ")
    line.rstrip()
    return [line]


@dataclass(slots=True)
class _Result:
    """One result set on its way to a table. `count` rows came, the first of them are in `rows`."""

    columns: Sequence[recording.Column] = ()
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    count: int = 0


def answered(reader: SessionReader, request: Request, width: int, options: Options) -> list[RenderableType]:
    """The recorded response: tables, COPY data, errors, notices."""
    views: list[RenderableType] = []
    detail = mapping(request.ended.fields.get("detail")) if request.ended else {}
    result = _Result(recording.described(detail))
    copied, copied_bytes = bytearray(), 0
    copy_binary = False
    for item in recording.decode(pieces(reader, request, views), result.columns, rows=options.rows):
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
                response = mapping(request.ended.fields.get("response")) if request.ended else {}
                if not response.get("truncated"):
                    views.append(Text(what, "yellow"))
    if result.count:
        views += _table(result, width, options)
    if copied_bytes:
        views.append(_copied(bytes(copied), copied_bytes, copy_binary, options))
    return views


def _table(result: _Result, width: int, options: Options) -> list[RenderableType]:
    if not result.columns and not result.count:
        return []
    names = [visible(column.name) for column in result.columns]
    widest = max(chain((len(row) for row in result.rows), (len(names),)))
    names += [f"column {index}" for index in range(len(names) + 1, widest + 1)]
    cells = [[cell(value, options) for value in row] for row in result.rows]
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
        views.append(more(hidden, "row"))
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
            text.append_text(cell(line.expandtabs(), Options(cell=None if options.cell is None else options.cell * 2)))
    if len(lines) > len(shown) or size > len(data):
        text.append("\n  … more", "dim italic")
    return text
