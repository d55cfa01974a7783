"""Recorded streams in a transcript: what a command wrote, or what its terminal showed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from rich.console import RenderableType
from rich.text import Text

from ostiary_gateway.audit.stream_recording import Broken, Kind, Recording
from ostiary_gateway.audit.transcript_words import Options, bytes_text, more
from ostiary_gateway.visible import visible

MAX_OUTPUT: Final = 256 * 1024
"""Bytes of a command's output that are kept to be shown."""
LINES: Final = 3
"""Lines of a body for each row that the options let through."""

_SEQUENCE: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[ -/]*[0-~])")
"""What steers a terminal: CSI, OSC and the shorter ones (ECMA-48)."""
_STREAMS: Final = {Kind.STDIN: ("stdin", "cyan"), Kind.STDOUT: ("stdout", ""), Kind.STDERR: ("stderr", "red")}


def streams_view(recording: Recording, options: Options) -> list[RenderableType]:
    """At a terminal what it showed; else each stream under its name, in the order in which they wrote."""
    parts: list[tuple[Kind, bytearray]] = []
    notes: list[RenderableType] = []
    left, dropped = MAX_OUTPUT, 0
    for chunk in recording.chunks():
        if isinstance(chunk, Broken):
            continue  # that it was cut, and where, stands with the outcome
        if chunk.kind is Kind.NOTE:
            notes.append(Text(visible(chunk.data.decode("utf-8", "replace").rstrip("\r\n")), "yellow"))
        if chunk.kind not in _STREAMS or (recording.tty and chunk.kind is Kind.STDIN):
            continue  # a terminal shows what is typed by itself
        dropped += max(0, len(chunk.data) - left)
        kept = chunk.data[:left]
        left -= len(kept)
        if parts and parts[-1][0] is chunk.kind:
            parts[-1][1].extend(kept)
        elif kept:
            parts.append((chunk.kind, bytearray(kept)))
    views: list[RenderableType] = []
    for kind, data in parts:
        name, style = _STREAMS[kind]
        text = plain(bytes(data))
        if not recording.tty:
            views.append(Text(name, "dim"))
        views += bounded(Text(visible(text, lines=True), style), options)
    if dropped:
        views.append(Text(f"… {bytes_text(dropped)} more", "dim italic"))
    return views + notes


def plain(data: bytes) -> str:
    """What a terminal showed, without what steers it."""
    text = data.decode("utf-8", "backslashreplace")
    if "\0" in text:
        return f"binary, {bytes_text(len(data))}"
    return _SEQUENCE.sub("", text).replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")


def bounded(text: Text, options: Options) -> list[RenderableType]:
    """The first lines."""
    if options.rows is None:
        return [text]
    lines = text.split("\n")
    kept = max(options.rows, 1) * LINES
    if len(lines) <= kept:
        return [text]
    return [Text("\n").join(lines[:kept]), *hidden(len(lines) - kept, "line")]


def hidden(count: int, what: str) -> list[RenderableType]:
    """That so many are not shown; nothing if all are."""
    return [more(count, what)] if count > 0 else []


def again(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    """What was looked at, and the rest."""
    yield first
    yield from rest
