"""Recorded streams on a page: what a command wrote, or what its terminal showed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from ostiary_console.shown.bounds import Bounds
from ostiary_console.shown.protocol import Answer
from ostiary_console.views import AnyBlock, Remark, Stream, Terminal
from ostiary_gateway.audit.asciinema import COLUMNS, ROWS
from ostiary_gateway.audit.stream_recording import Broken, Kind, Recording
from ostiary_gateway.audit.transcript_streams import MAX_OUTPUT, plain

_STREAMS: Final = {Kind.STDIN: "stdin", Kind.STDOUT: "stdout", Kind.STDERR: "stderr"}


def streams(recording: Recording, answer: Answer, bounds: Bounds) -> Iterator[AnyBlock]:
    """At a terminal what it showed, to be played; else each stream, in the order in which they wrote."""
    parts: list[tuple[Kind, bytearray]] = []
    notes: list[str] = []
    left, dropped = MAX_OUTPUT, 0
    size = (0, 0)
    for chunk in recording.chunks():
        if isinstance(chunk, Broken):
            continue  # that it was cut, and where, stands with the outcome
        if chunk.kind is Kind.NOTE:
            notes.append(chunk.data.decode("utf-8", "replace").strip())
        if chunk.kind is Kind.RESIZE and not all(size):
            size = chunk.size
        if chunk.kind not in _STREAMS or (recording.tty and chunk.kind is Kind.STDIN):
            continue  # a terminal shows what is typed by itself
        dropped += max(0, len(chunk.data) - left)
        kept = chunk.data[:left]
        left -= len(kept)
        if parts and parts[-1][0] is chunk.kind:
            parts[-1][1].extend(kept)
        elif kept:
            parts.append((chunk.kind, bytearray(kept)))
    if recording.tty:
        if answer.cast_href:
            columns, rows = size if all(size) else (COLUMNS, ROWS)
            yield Terminal(answer.cast_href, min(columns, 400), min(rows, 200), tty=True)
        text, hidden = bounds.cut(plain(b"".join(bytes(data) for _, data in parts)))
        yield Stream("terminal", text, cut=bool(hidden or dropped))
    else:
        for number, (kind, data) in enumerate(parts, 1):
            text, hidden = bounds.cut(plain(bytes(data)))
            yield Stream(_STREAMS[kind], text, cut=bool(hidden or (dropped and number == len(parts))))
    for note in notes:
        yield Remark(note, bad=True)
