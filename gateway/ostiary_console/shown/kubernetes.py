"""The Kubernetes API on a page: requests with the change they make, responses in short, what commands wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import orjson

from ostiary_console.shown.bounds import Bounds
from ostiary_console.shown.protocol import Answer, Asked
from ostiary_console.shown.streams import streams
from ostiary_console.shown.words import bytes_text
from ostiary_console.views import AnyBlock, Column, Diff, DiffLine, Grid, Remark, Verdict, Watched, WatchEvent
from ostiary_gateway.audit import stream_recording
from ostiary_gateway.audit.stream_recording import Recording
from ostiary_gateway.audit.transcript_kubernetes import MAX_BODY, watch_events
from ostiary_gateway.audit.transcript_streams import again
from ostiary_gateway.audit.transcript_words import items, mapping

MAX_COLUMNS: Final = 12
_PROTOBUF: Final = b"k8s\0"


def login(detail: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Whom the API server took the agent for."""
    if detail.get("upstreamUser"):
        yield "Acts as", str(detail["upstreamUser"])


def asked(text: str, detail: Mapping[str, object], bounds: Bounds) -> Asked:
    """Method and path, the command of an exec, and the body or the change that it makes."""
    blocks: list[AnyBlock] = []
    notes: list[str] = []
    command = mapping(detail.get("exec")).get("command")
    if isinstance(command, list) and command:
        blocks.append(bounds.document(" ".join(str(part) for part in command), "bash", "Command"))
    if detail.get("dryRun"):
        notes.append("A dry run: the API server changes nothing.")
    if isinstance(change := detail.get("diff"), str) and change:
        blocks.append(diff(change, bounds))
    elif isinstance(body := detail.get("body"), str):
        blocks.append(bounds.document(body, "yaml", "Body"))
    elif body is not None:
        blocks.append(bounds.document(_pretty(body), "json", "Body"))
    elif isinstance(size := detail.get("bodyBytes"), int) and size:
        notes.append(f"A body of {bytes_text(size)}, {detail.get('contentType') or 'of unknown type'}")
    return Asked("command" if command else "call", text, notes=tuple(notes), blocks=tuple(blocks))


def diff(text: str, bounds: Bounds) -> Diff:
    """Of a unified diff, as text."""
    lines = text.rstrip("\n").split("\n")
    made = tuple(DiffLine(line[:1] if line[:1] in "+-@" else "", line) for line in lines[: bounds.lines])
    return Diff(made, max(0, len(lines) - bounds.lines))


def result(detail: Mapping[str, object]) -> tuple[str, bool]:
    """The status; of a command its exit code, of a port-forward its connections."""
    if isinstance(code := detail.get("exitCode"), int):
        return f"exit {code}", code == 0
    if isinstance(count := detail.get("connections"), int):
        return f"{count} connection{'' if count == 1 else 's'}", True
    if isinstance(status := detail.get("status"), int):
        return f"{status} {detail.get('reason') or ''}".rstrip(), status < 400
    return "", True


def failure(detail: Mapping[str, object]) -> str:
    """The message of an error."""
    return str(detail.get("message") or "")


def answered(answer: Answer, bounds: Bounds) -> Iterator[AnyBlock]:
    """The response in short, or what the command wrote."""
    yield from _forwarded(answer.detail)
    rest = iter(answer.pieces)
    first = next(rest, b"")
    if not first:
        return
    if stream_recording.is_recording(first[:8]):
        yield from streams(Recording(again(first, rest)), answer, bounds)
        if said := failure(answer.detail):
            yield Remark(said, bad=True)
        return
    data = bytearray(first)
    for piece in rest:
        if len(data) >= MAX_BODY:
            break
        data += piece
    yield from _body(bytes(data[:MAX_BODY]), answer.first_row, bounds)


def _forwarded(detail: Mapping[str, object]) -> Iterator[Remark]:
    for connection in map(mapping, items(detail.get("forwarded"))[:10]):
        sent, got = connection.get("toUpstream"), connection.get("toClient")
        if isinstance(sent, int) and isinstance(got, int):
            yield Remark(f"Port {connection.get('port')}: {bytes_text(sent)} sent, {bytes_text(got)} received")
    for error in items(detail.get("errors"))[:10]:
        yield Remark(str(error), bad=True)


def _body(data: bytes, first: int, bounds: Bounds) -> Iterator[AnyBlock]:
    if data.startswith(_PROTOBUF):
        yield Remark(f"Protobuf, {bytes_text(len(data))}")
        return
    if data[:1] in b"{[":
        try:
            found = orjson.loads(data)
        except orjson.JSONDecodeError:
            if (events := watch_events(data)) is not None:
                yield _watched(events, bounds)
                return
        else:
            yield _document(found, first, bounds)
            return
    text = data.decode("utf-8", "backslashreplace")
    yield Remark(f"Binary, {bytes_text(len(data))}") if "\0" in text else bounds.plain(text)


def _document(found: object, first: int, bounds: Bounds) -> AnyBlock:
    fields = mapping(found)
    kind = str(fields.get("kind") or "")
    if "object" in fields and "type" in fields and not kind:
        return _watched([fields], bounds)
    if kind == "Table":
        return _table(fields, first, bounds)
    if kind == "Status":
        good = fields.get("status") == "Success"
        reason = f"{fields.get('status') or 'Status'} {fields.get('reason') or ''}".rstrip()
        return Verdict(good, reason, str(fields.get("message") or ""))
    if isinstance(fields.get("items"), list) and kind.endswith("List"):
        return _list(kind, items(fields["items"]), first, bounds)
    return bounds.document(_pretty(found), "json", kind)


def _list(kind: str, found: Sequence[object], first: int, bounds: Bounds) -> Grid:
    names = [_named(mapping(each)) for each in found[first : first + bounds.rows]]
    spaces = any(namespace for namespace, _ in names)
    rows = tuple((namespace, name) if spaces else (name,) for namespace, name in names)
    columns = (Column("namespace"), Column("name")) if spaces else (Column("name"),)
    return Grid(columns, rows, len(found), kind)


def _table(fields: Mapping[str, object], first: int, bounds: Bounds) -> Grid:
    """A server-side table, meta/v1."""
    definitions = [mapping(each) for each in items(fields.get("columnDefinitions"))]
    shown = [index for index, column in enumerate(definitions) if not column.get("priority")][:MAX_COLUMNS]
    found = [items(mapping(row).get("cells")) for row in items(fields.get("rows"))]
    rows = tuple(
        tuple(bounds.value("" if i >= len(cells) or cells[i] is None else str(cells[i])) for i in shown)
        for cells in found[first : first + bounds.rows]
    )
    heads = [definitions[index] for index in shown]
    columns = tuple(Column(str(head.get("name") or ""), head.get("type") == "integer") for head in heads)
    return Grid(columns, rows, len(found))


def _watched(events: Sequence[Mapping[str, object]], bounds: Bounds) -> Watched:
    shown: list[WatchEvent] = []
    for event in events[: bounds.rows * 4]:
        found = mapping(event.get("object"))
        namespace, name = _named(found)
        what = f"{found.get('kind') or ''} {f'{namespace}/' if namespace else ''}{name}".strip()
        said = str(found.get("message") or "") if found.get("kind") == "Status" else ""
        shown.append(WatchEvent(str(event.get("type")), what, said))
    return Watched(tuple(shown), len(events) - len(shown))


def _named(found: Mapping[str, object]) -> tuple[str, str]:
    if found.get("kind") == "Table":
        rows = items(found.get("rows"))
        found = mapping(mapping(rows[0]).get("object")) if rows else {}
    metadata = mapping(found.get("metadata"))
    return str(metadata.get("namespace") or ""), str(metadata.get("name") or "")


def _pretty(value: object) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
