"""PostgreSQL on a page: statements with their parameters, results as grids, COPY data, errors."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from ostiary_console.shown.bounds import Bounds
from ostiary_console.shown.protocol import Answer, Asked
from ostiary_console.views import AnyBlock, Column, Copied, Grid, Remark, Report
from ostiary_gateway.audit import postgres_recording as recording
from ostiary_gateway.audit.transcript_postgres import NUMBERS, TAGS
from ostiary_gateway.audit.transcript_words import items, mapping

COPY_KEPT: Final = 64 * 1024
MAX_COLUMNS: Final = 200
MAX_BLOCKS: Final = 60
"""Results and reports of one request that are shown."""
MAX_PARAMETERS: Final = 100
_MORE: Final = (("D", "Detail"), ("H", "Hint"), ("W", "Context"))


def login(detail: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """As what the database knows the session."""
    if detail.get("database"):
        yield "Database", str(detail["database"])
    if detail.get("upstreamRole"):
        yield "Role", f"{detail.get('upstreamUser')} as {detail['upstreamRole']}"
    elif detail.get("upstreamUser"):
        yield "Role", str(detail["upstreamUser"])
    if detail.get("application"):
        yield "Application", str(detail["application"])


def asked(text: str, detail: Mapping[str, object], bounds: Bounds) -> Asked:
    """The statement and its parameters."""
    values = items(detail.get("parameters"))
    shown = tuple(bounds.value(None if value is None else str(value)) for value in values[:MAX_PARAMETERS])
    more = (f"and {len(values) - MAX_PARAMETERS:,} more parameters",) if len(values) > MAX_PARAMETERS else ()
    return Asked("statement", text.strip(), "sql", parameters=shown, notes=more)


def result(detail: Mapping[str, object]) -> tuple[str, bool]:
    """The command tags."""
    tags = items(detail.get("tags"))
    text = ", ".join(str(tag) for tag in tags[:TAGS])
    return text + (f" and {len(tags) - TAGS:,} more" if len(tags) > TAGS else ""), not detail.get("sqlstate")


def failure(detail: Mapping[str, object]) -> str:
    """SQLSTATE and message."""
    return f"ERROR {detail['sqlstate']}: {detail.get('message', '')}" if detail.get("sqlstate") else ""


@dataclass(slots=True)
class _Result:
    """One result set. `count` rows came, those between the bounds are in `rows`."""

    columns: Sequence[recording.Column] = ()
    rows: list[tuple[str | None, ...]] = field(default_factory=list)
    count: int = 0


def answered(answer: Answer, bounds: Bounds) -> Iterator[AnyBlock]:
    """The recorded response."""
    for made, block in enumerate(_blocks(answer, bounds), 1):
        if made > MAX_BLOCKS:
            yield Remark("There is more in this response: download it, or read the export.")
            return
        yield block


def _blocks(answer: Answer, bounds: Bounds) -> Iterator[AnyBlock]:
    current = _Result(recording.described(answer.detail))
    copied, copied_bytes, copy_binary = bytearray(), 0, False
    first = answer.first_row
    for item in recording.decode(answer.pieces, current.columns, rows=first + bounds.rows):
        match item:
            case recording.Columns(columns):
                current = _Result(columns)
            case recording.Row(values):
                current.count += 1
                if first < current.count <= first + bounds.rows:
                    current.rows.append(values)
            case recording.Complete():
                yield from _grid(current, bounds)
                current = _Result(current.columns if not current.count else ())
            case recording.Report(error, fields):
                yield from _grid(current, bounds)
                current = _Result()
                yield _report(error, fields)
            case recording.CopyStarted(_, binary):
                copy_binary = binary
            case recording.CopyChunk(data):
                copied_bytes += len(data)
                copied += data[: max(0, COPY_KEPT - len(copied))]
            case recording.Notification(channel, payload):
                yield Remark(f"Notification on {channel}: {payload}")
            case recording.Broken(what):
                if not answer.truncated:
                    yield Remark(what, bad=True)
    if current.count:
        yield from _grid(current, bounds)
    if copied_bytes:
        yield _copied(bytes(copied), copied_bytes, copy_binary, bounds)


def _grid(result: _Result, bounds: Bounds) -> Iterator[Grid]:
    if not result.columns and not result.count:
        return
    widest = max(chain((len(row) for row in result.rows), (len(result.columns),)))
    columns = [Column(c.name or f"column {n}", c.oid in NUMBERS) for n, c in enumerate(result.columns, 1)]
    columns += [Column(f"column {n}") for n in range(len(columns) + 1, widest + 1)]
    rows = tuple(tuple(bounds.value(value) for value in row[:MAX_COLUMNS]) for row in result.rows)
    yield Grid(tuple(columns[:MAX_COLUMNS]), rows, result.count)


def _report(error: bool, fields: Mapping[str, str]) -> Report:
    more = tuple((name, fields[key]) for key, name in _MORE if fields.get(key))
    severity = fields.get("S", "ERROR" if error else "NOTICE")
    return Report(error, severity, fields.get("C", ""), fields.get("M", ""), more)


def _copied(data: bytes, size: int, binary: bool, bounds: Bounds) -> Copied:
    if binary or b"\0" in data:
        return Copied(size, binary=True)
    text, hidden = bounds.cut(data.decode("utf-8", "backslashreplace"))
    return Copied(size, binary=False, text=text, cut=bool(hidden) or size > len(data))


def facts_of(sql: Mapping[str, object]) -> Iterable[str]:
    """What the gateway read in a statement, for whoever decides."""
    for statement in map(mapping, items(sql.get("statements"))):
        line = " ".join(str(part) for part in (statement.get("verb"), statement.get("kind")) if part) or "?"
        relations = [
            f"{each.get('access', '')} {'.'.join(str(p) for p in (each.get('schema'), each.get('name')) if p)}".strip()
            for each in map(mapping, items(statement.get("relations")))
        ]
        if relations:
            line += f": {', '.join(relations)}"
        if statement.get("opaque"):
            line += f" — what it does cannot be known: {statement.get('opaqueReason')}"
        yield line
