"""The Kubernetes API in a transcript: requests with their bodies, responses in short, commands with what they wrote."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import orjson
from rich import box
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from ostiary_gateway.audit import stream_recording as streams
from ostiary_gateway.audit.reader import Request, SessionReader
from ostiary_gateway.audit.stream_recording import Recording
from ostiary_gateway.audit.transcript_streams import LINES, again, bounded, hidden, streams_view
from ostiary_gateway.audit.transcript_words import (
    Options,
    bytes_text,
    cell,
    highlighted,
    items,
    mapping,
    pieces,
)
from ostiary_gateway.visible import visible

MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of a response that are read to be shown."""
MAX_COLUMNS: Final = 6

_PROTOBUF: Final = b"k8s\0"
_EVENTS: Final = {"ADDED": "green", "MODIFIED": "yellow", "DELETED": "red", "ERROR": "red"}


def login(detail: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    """Whom the API server took the agent for."""
    if detail.get("upstreamUser"):
        yield "login", str(detail["upstreamUser"])


def asked(text: str, detail: Mapping[str, object], options: Options) -> list[RenderableType]:
    """Method and path, the command of an exec, and the body."""
    method, _, target = text.partition(" ")
    line = Text(visible(method), "bold")
    line.append(visible(f" {target}"))
    views: list[RenderableType] = [line]
    if isinstance(command := mapping(detail.get("exec")).get("command"), list) and command:
        views.append(Text(visible(f"$ {' '.join(str(part) for part in command)}"), "bold cyan"))
    if detail.get("dryRun"):
        views.append(Text("dry run", "dim"))
    if isinstance(diff := detail.get("diff"), str) and diff:
        views += bounded(highlighted(diff, "diff", options), options)
    elif isinstance(body := detail.get("body"), str):
        views += bounded(highlighted(body, "yaml", options), options)
    elif body is not None:
        views += _json(body, options)
    elif isinstance(size := detail.get("bodyBytes"), int) and size:
        kind = str(detail.get("contentType") or "unknown type")
        views.append(Text(visible(f"a body of {bytes_text(size)}, {kind}"), "dim"))
    return views


def result(detail: Mapping[str, object]) -> Text:
    """The status; of a command its exit code, of a port-forward its connections."""
    line = Text()
    if isinstance(code := detail.get("exitCode"), int):
        line.append(f"exit {code}", "bold" if code == 0 else "bold red")
    elif isinstance(detail.get("connections"), int):
        count, sent, got = (detail.get(name) for name in ("connections", "toUpstreamBytes", "toClientBytes"))
        line.append(f"{count} connection{'' if count == 1 else 's'}", "bold")
        if isinstance(sent, int) and isinstance(got, int):
            line.append(f"  {bytes_text(sent)} sent, {bytes_text(got)} received", "dim")
    elif isinstance(status := detail.get("status"), int):
        line.append(str(status), "bold" if status < 400 else "bold red")
        if detail.get("reason"):
            line.append(visible(f" {detail['reason']}"), "bold red")
    if detail.get("transport"):
        line.append(visible(f"  {detail['transport']} {detail.get('protocol') or ''}".rstrip()), "dim")
    return line


def failure(detail: Mapping[str, object]) -> str:
    """The message of an error."""
    return str(detail.get("message") or "")


def answered(reader: SessionReader, request: Request, width: int, options: Options) -> list[RenderableType]:
    """The response in short, or what the command wrote."""
    views: list[RenderableType] = []
    detail = mapping(request.ended.fields.get("detail")) if request.ended else {}
    views += _forwarded(detail)
    found = pieces(reader, request, views)
    first = next(found, b"")
    if not first:
        return views
    if streams.is_recording(first[:8]):
        views += streams_view(Recording(again(first, found)), options)
        if said := failure(detail):
            views.append(Text(visible(said), "red"))
        return views
    data = bytearray(first)
    for piece in found:
        if len(data) >= MAX_BODY:
            break
        data += piece
    return views + _body(bytes(data[:MAX_BODY]), options)


def _forwarded(detail: Mapping[str, object]) -> list[RenderableType]:
    views: list[RenderableType] = []
    for connection in map(mapping, items(detail.get("forwarded"))[:10]):
        sent, got = connection.get("toUpstream"), connection.get("toClient")
        if isinstance(sent, int) and isinstance(got, int):
            line = f"port {connection.get('port')}: {bytes_text(sent)} sent, {bytes_text(got)} received"
            views.append(Text(visible(line), "dim"))
    views += [Text(visible(str(error)), "red") for error in items(detail.get("errors"))[:10]]
    return views


# Bodies


def _body(data: bytes, options: Options) -> list[RenderableType]:
    if data.startswith(_PROTOBUF):
        return [Text(f"protobuf, {bytes_text(len(data))}", "dim")]
    if data[:1] in b"{[":
        try:
            return _document(orjson.loads(data), options)
        except orjson.JSONDecodeError:
            pass
        if (events := watch_events(data)) is not None:
            return _watched(events, options)
    text = data.decode("utf-8", "backslashreplace")
    if "\0" in text:
        return [Text(f"binary, {bytes_text(len(data))}", "dim")]
    return bounded(Text(visible(text.rstrip("\n"), lines=True)), options)


def _document(found: object, options: Options) -> list[RenderableType]:
    fields = mapping(found)
    kind = str(fields.get("kind") or "")
    if "object" in fields and "type" in fields and not kind:
        return _watched([fields], options)
    if kind == "Table":
        return _table(fields, options)
    if kind == "Status":
        return _status(fields)
    if isinstance(fields.get("items"), list) and kind.endswith("List"):
        return _list(kind, items(fields["items"]), options)
    return _json(found, options)


def _status(fields: Mapping[str, object]) -> list[RenderableType]:
    good = fields.get("status") == "Success"
    line = Text(visible(f"{fields.get('status') or 'Status'} {fields.get('reason') or ''}".rstrip()))
    line.stylize("bold green" if good else "bold red")
    if fields.get("message"):
        line.append(visible(f"  {fields['message']}"), "" if good else "red")
    return [line]


def _list(kind: str, found: Sequence[object], options: Options) -> list[RenderableType]:
    line = Text(visible(kind), "bold")
    line.append(f", {len(found):,} item{'' if len(found) == 1 else 's'}", "dim")
    names = [_named(mapping(each)) for each in found[: _count(options, len(found))]]
    rows = [[namespace, name] if any(each[0] for each in names) else [name] for namespace, name in names]
    if not rows:
        return [line]
    headings = ["namespace", "name"] if len(rows[0]) == 2 else ["name"]
    return [line, _grid(headings, rows, options), *hidden(len(found) - len(rows), "item")]


def _table(fields: Mapping[str, object], options: Options) -> list[RenderableType]:
    """A server-side table, meta/v1."""
    columns = [mapping(each) for each in items(fields.get("columnDefinitions"))]
    shown = [index for index, column in enumerate(columns) if not column.get("priority")][:MAX_COLUMNS]
    found = [items(mapping(row).get("cells")) for row in items(fields.get("rows"))]
    if not shown or not found:
        return [Text("(no rows)", "dim italic")]
    rows = [
        ["" if index >= len(cells) or cells[index] is None else str(cells[index]) for index in shown]
        for cells in found[: _count(options, len(found))]
    ]
    headings = [str(columns[index].get("name") or "") for index in shown]
    return [_grid(headings, rows, options), *hidden(len(found) - len(rows), "row")]


def watch_events(data: bytes) -> list[Mapping[str, object]] | None:
    """The events of a watch, one JSON document a line; the last may be cut. None if it is none."""
    events: list[Mapping[str, object]] = []
    lines = data.split(b"\n")
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            event = mapping(orjson.loads(line))
        except orjson.JSONDecodeError:
            if number == len(lines) - 1 and events:
                break
            return None
        if "type" not in event or "object" not in event:
            return None
        events.append(event)
    return events


def _watched(events: Sequence[Mapping[str, object]], options: Options) -> list[RenderableType]:
    views: list[RenderableType] = []
    shown = events[: _count(options, len(events))]
    for event in shown:
        kind, found = str(event.get("type")), mapping(event.get("object"))
        namespace, name = _named(found)
        line = Text(visible(f"{kind:<9}"), _EVENTS.get(kind, "dim"))
        line.append(visible(f" {found.get('kind') or ''} {f'{namespace}/' if namespace else ''}{name}".rstrip()))
        if found.get("kind") == "Status":
            line.append(visible(f" {found.get('message') or ''}"), "red")
        views.append(line)
    return views + hidden(len(events) - len(shown), "event")


def _named(found: Mapping[str, object]) -> tuple[str, str]:
    if found.get("kind") == "Table":
        rows = items(found.get("rows"))
        found = mapping(mapping(rows[0]).get("object")) if rows else {}
    metadata = mapping(found.get("metadata"))
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _json(value: object, options: Options) -> list[RenderableType]:
    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    lines = text.split("\n")
    kept = len(lines) if options.rows is None else min(len(lines), max(options.rows, 1) * LINES)
    if options.cell is not None:
        width = options.cell * 3
        lines = [line if len(line) <= width else f"{line[:width]}…" for line in lines[:kept]]
    shown = highlighted("\n".join(lines[:kept]), "json", options)
    return [shown, *hidden(text.count("\n") + 1 - kept, "line")]


def _grid(headings: Sequence[str], rows: Sequence[Sequence[str]], options: Options) -> RenderableType:
    table = Table(box=box.ROUNDED, border_style="dim", header_style="bold", pad_edge=True)
    for heading in headings:
        table.add_column(Text(visible(heading)), overflow="fold")
    for row in rows:
        table.add_row(*(cell(value, options) for value in row))
    return table


def _count(options: Options, size: int) -> int:
    return size if options.rows is None else min(options.rows, size)
