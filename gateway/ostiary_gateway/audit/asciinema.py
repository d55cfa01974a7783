"""A recorded stream as an asciicast, version 2. Pure.

Source: the asciicast v2 format description: a header as a JSON object, then one line `[time, code, data]` an event,
with the codes o (output), i (input), m (marker) and r (resize).
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Final

import orjson

from ostiary_gateway.audit.reader import Request, Session, SessionReader
from ostiary_gateway.audit.stream_recording import Chunk, Kind, Recording

COLUMNS: Final = 80
ROWS: Final = 24
"""The size of a terminal that never told its own."""

_FILES: Final = frozenset(("sftp", "scp"))
"""Kinds of requests over SSH whose recording is what a file holds."""
_CODES: Final = {Kind.STDIN: "i", Kind.STDOUT: "o", Kind.STDERR: "o"}


def cast_of(reader: SessionReader, session: Session, request: Request, *, input: bool = True) -> Iterator[bytes] | None:
    """The cast of one recorded request; None if it is no command and no shell, or nothing of it was kept."""
    begun = request.begun.fields if request.begun is not None else {}
    detail = begun.get("detail")
    if isinstance(detail, dict) and detail.get("kind") in _FILES:
        return None
    recording = Recording(reader.response(request))
    if not recording.known:
        return None
    started = begun.get("at")
    found = (chunk for chunk in recording.chunks() if isinstance(chunk, Chunk))
    title = f"{begun.get('text', request.id)} ({session.username}, {request.id})"
    at = started if isinstance(started, float) else session.opened
    return cast(found, started=at, title=title, tty=recording.tty, input=input)


def cast(chunks: Iterable[Chunk], *, started: float, title: str, tty: bool, input: bool = True) -> Iterator[bytes]:
    """The lines of the cast, each with its newline.

    started: seconds since the epoch. tty: without one, line feeds have no carriage return, and get one here.
    input: whether what was typed is told too.
    """
    waiting: list[Chunk] = []
    stream = iter(chunks)
    size = (0, 0)
    # A terminal tells its size at once, though a little output may have come before.
    for chunk in stream:
        if chunk.kind is Kind.RESIZE:
            size = chunk.size
            break
        waiting.append(chunk)
        if len(waiting) >= 16 or not tty:
            break
    columns, rows = size if all(size) else (COLUMNS, ROWS)
    header = {
        "version": 2, "width": columns, "height": rows, "timestamp": int(started), "title": title,
        "env": {"TERM": "xterm-256color"},
    }  # fmt: skip
    yield orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE)
    decoders = {kind: codecs.getincrementaldecoder("utf-8")("replace") for kind in _CODES}
    last = 0.0
    for chunk in _again(waiting, stream):
        last = chunk.at
        code = _CODES.get(chunk.kind)
        if code == "i" and not input:
            continue
        if code is not None:
            text = decoders[chunk.kind].decode(chunk.data)
            if text and not tty and code == "o":
                text = text.replace("\n", "\r\n")
            if text:
                yield _event(chunk.at, code, text)
        elif chunk.kind is Kind.RESIZE:
            if all(chunk.size):
                yield _event(chunk.at, "r", "{}x{}".format(*chunk.size))
        elif chunk.kind in (Kind.ERROR, Kind.NOTE):
            yield _event(chunk.at, "m", chunk.data.decode("utf-8", "replace"))
    for kind, decoder in decoders.items():
        if rest := decoder.decode(b"", final=True):
            yield _event(last, _CODES[kind], rest)


def _again(waiting: list[Chunk], rest: Iterator[Chunk]) -> Iterator[Chunk]:
    yield from waiting
    yield from rest


def _event(at: float, code: str, data: str) -> bytes:
    return orjson.dumps([round(at, 6), code, data], option=orjson.OPT_APPEND_NEWLINE)
