"""Reads sections and events back from a block, as layout.py describes them. Pure; ValueError for what is damaged."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, cast
from zlib import crc32

import orjson

from ostiary_gateway.audit import layout
from ostiary_gateway.audit.event import request_id


class Section(NamedTuple):
    """What one session has in a block, and its counts behind it. `start` is where its events begin."""

    sid: int
    seq: int
    events: int
    size: int
    flags: int
    zero: int
    low: int
    high: int
    requests: int
    denied: int
    asked: int
    errors: int
    rows: int
    bytes: int
    start: int


class Found(NamedTuple):
    """One event in a block: its kind, where its fields are, and if they are what was written."""

    seq: int
    kind: int
    start: int
    stop: int
    good: bool


class Part(NamedTuple):
    """The head of a PART."""

    sid: int
    seq: int
    number: int
    offset: int


def table_size(raw: bytes) -> int:
    """Bytes before the first event."""
    if len(raw) < layout.COUNT.size:
        raise ValueError("a block has no table")
    (count,) = layout.COUNT.unpack_from(raw)
    return int(layout.COUNT.size + count * layout.SECTION.size)


def sections(raw: bytes) -> list[Section]:
    """The table of a block."""
    start = table_size(raw)
    if start > len(raw):
        raise ValueError("a block ends in its table")
    found = []
    for fields in layout.SECTION.iter_unpack(memoryview(raw)[layout.COUNT.size : start]):
        section = Section._make((*fields, start))
        start += section.size
        found.append(section)
    if start > len(raw):
        raise ValueError("a block ends inside a section")
    return found


def events(raw: bytes, section: Section) -> Iterator[Found]:
    """The events of a section in order."""
    position, end = section.start, section.start + section.size
    for seq in range(section.seq, section.seq + section.events):
        if position + 9 > end:
            raise ValueError("a section ends inside an event")
        size, crc = layout.EVENT.unpack_from(raw, position)
        start = position + 8
        position = start + size
        if position > end or not size:
            raise ValueError("a section ends inside an event")
        yield Found(seq, raw[start], start, position, crc32(memoryview(raw)[start:position]) == crc)


def part(body: bytes) -> Part:
    try:
        return Part(*layout.PART_HEAD.unpack_from(body))
    except struct.error as error:
        raise ValueError(f"a part has no head: {error}") from error


Fields = dict[str, object]


class Read(NamedTuple):
    """An event's number (0: of no request), its fields, and where the piece of a response in it is."""

    number: int
    fields: Fields
    start: int = 0
    size: int = 0


def read(raw: bytes, found: Found, session: str) -> tuple[Read, ...]:
    """One event; two if it holds a request from begin to end. A decision stands by its id, in hex."""
    try:
        reader = _READERS.get(found.kind)
        if reader is not None:
            return reader(raw, found, session)
        start = found.start + 1
        if found.kind == layout.DECISION:
            fields: Fields = {"kind": "decision", "id": raw[start : start + 16].hex()}
            fields["decision"] = orjson.loads(raw[start + 16 : found.stop])
            return (Read(0, fields),)
        return (Read(0, cast("Fields", orjson.loads(raw[start : found.stop]))),)
    except (struct.error, UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise ValueError(f"an event cannot be read: {error}") from error


def _begin(raw: bytes, found: Found, session: str) -> tuple[Read, ...]:
    _, number, at, decision, length = layout.BEGUN.unpack_from(raw, found.start)
    start = found.start + layout.BEGUN.size
    text, detail = raw[start : start + length], raw[start + length : found.stop]
    return (Read(number, _begun(session, number, at, text, detail, decision)),)


def _begun(session: str, number: int, at: float, text: bytes, detail: bytes, decision: bytes) -> Fields:
    return {
        "kind": "begin", "at": at, "request": request_id(session, number), "text": text.decode(),
        "detail": orjson.loads(detail), "decision": decision.hex(),
    }  # fmt: skip


def _end(raw: bytes, found: Found, session: str) -> tuple[Read, ...]:
    _, number, at, told, rows, size, whole, kept, flags, length = layout.ENDED.unpack_from(raw, found.start)
    start = found.start + layout.ENDED.size
    outcome, start = raw[start : start + told], start + told
    detail, start = raw[start : start + length], start + length
    fields = _ended(session, number, at, outcome, rows, size, detail, whole, kept, flags)
    return (Read(number, fields, start, found.stop - start),)


def _ended(
    session: str, number: int, at: float, outcome: bytes, rows: int, size: int, detail: bytes, whole: int, kept: int,
    flags: int,
) -> Fields:  # fmt: skip
    fields: Fields = {
        "kind": "end", "at": at, "request": request_id(session, number), "outcome": outcome.decode(), "rows": rows,
        "bytes": size, "detail": orjson.loads(detail),
    }  # fmt: skip
    if whole:
        fields["response"] = response = {"size": whole, "recorded": kept}
        if flags & layout.TRUNCATED:
            response["truncated"] = True
        if flags & layout.MISSING:
            response["missing"] = True
    return fields


def _whole(raw: bytes, found: Found, session: str) -> tuple[Read, ...]:
    _, number, begun, ended, decision, told, rows, size, whole, kept, flags, text_size, detail_size, end_size = (
        layout.WHOLE.unpack_from(raw, found.start)
    )
    start = found.start + layout.WHOLE.size
    outcome, start = raw[start : start + told], start + told
    text, start = raw[start : start + text_size], start + text_size
    detail, start = raw[start : start + detail_size], start + detail_size
    tail, start = raw[start : start + end_size], start + end_size
    return (
        Read(number, _begun(session, number, begun, text, detail, decision)),
        Read(
            number,
            _ended(session, number, ended, outcome, rows, size, tail, whole, kept, flags),
            start,
            found.stop - start,
        ),
    )


def _piece(raw: bytes, found: Found, session: str) -> tuple[Read, ...]:
    _, number, offset = layout.PIECE_HEAD.unpack_from(raw, found.start)
    start = found.start + layout.PIECE_HEAD.size
    return (Read(number, frame(session, number, offset, found.stop - start), start, found.stop - start),)


def frame(session: str, number: int, offset: int, size: int) -> Fields:
    """A piece of a response: `size` bytes of it from `offset`."""
    name = request_id(session, number) if number else ""
    return {"kind": "frame", "request": name, "offset": offset, "size": size}


_READERS = {layout.BEGIN: _begin, layout.END: _end, layout.REQUEST: _whole, layout.PIECE: _piece}
