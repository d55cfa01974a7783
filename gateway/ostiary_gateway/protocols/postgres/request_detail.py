# cython: annotation_typing=False
"""What the record keeps of a request beside its text and its outcome."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Final

from . import params, wire
from .questions import Ask, Stage

NONE: Final = b"{}"
MAX_PLAIN: Final = 4096
"""Bytes of a parameter that is looked at character by character."""
_RUN = Stage.RUN


def encoded(ask: Ask, full: bool) -> Mapping[str, object] | bytes:
    """`of_request` for a request that is to run: as JSON, if that is plain."""
    statement, portal = ask.statement, ask.portal
    if statement is None:
        return NONE
    plain = None if portal is None else _plain(statement.name, portal.bind if full else b"")
    return of_request(ask, full) if plain is None else plain


def of_request(ask: Ask, full: bool) -> Mapping[str, object]:
    """The name of a prepared statement, and with `full` the parameters that were bound."""
    statement, portal = ask.statement, ask.portal
    detail: dict[str, object] = {}
    if ask.stage is not _RUN:
        detail["stage"] = ask.stage.value
    if statement is not None:
        if statement.name:
            detail["statement"] = statement.name.decode(errors="replace")
        if full and portal is not None and portal.bind:
            bind = wire.parse_bind(portal.bind)
            if bind.values:
                detail["parameters"] = params.for_record(bind, statement.parameter_types)
    return detail


def _plain(name: bytes, bind: bytes) -> bytes | None:
    """The same as JSON, where that is plain: short parameters in text format, without a character to be escaped."""
    if name and not _unescaped(name, 0, len(name)):
        return None
    head = b'{"statement":"' + name + b'"' if name else b"{"
    size = len(bind)
    if not size:
        return head + b"}"
    p = bind
    at = 0
    for _ in range(2):  # the names of portal and statement
        while at < size and p[at] != 0:
            at += 1
        at += 1
    if at + 2 > size:
        return None
    formats = (p[at] << 8) | p[at + 1]
    at += 2
    if formats * 2 + 2 > size - at:
        return None
    for _ in range(formats):
        if p[at] != 0 or p[at + 1] != 0:
            return None
        at += 2
    count = (p[at] << 8) | p[at + 1]
    at += 2
    pieces = [head]
    if count:
        pieces.append(b',"parameters":[' if name else b'"parameters":[')
    for index in range(count):
        if at + 4 > size:
            return None
        length = p[at]
        length = (length << 8) | p[at + 1]
        length = (length << 8) | p[at + 2]
        length = (length << 8) | p[at + 3]
        at += 4
        if index:
            pieces.append(b",")
        if length == 0xFFFFFFFF:
            pieces.append(b"null")
            continue
        if length > MAX_PLAIN or length > size - at or not _unescaped(bind, at, at + length):
            return None
        pieces.append(b'"')
        pieces.append(p[at : at + length])
        pieces.append(b'"')
        at += length
    if at + 2 > size or ((p[at] << 8) | p[at + 1]) * 2 != size - at - 2:
        return None
    pieces.append(b"]}" if count else b"}")
    return b"".join(pieces)


def _unescaped(data: bytes, start: int, stop: int) -> bool:
    """True if JSON has it as it is: printable ASCII without quotes and backslashes."""
    p = data
    for index in range(start, stop):
        if p[index] < 32 or p[index] > 126 or p[index] == 34 or p[index] == 92:
            return False
    return True


def of_end(tags: list[str] | None, error: tuple[str, str] | None) -> Mapping[str, object] | bytes:
    """Command tags; SQLSTATE and message of an error."""
    if error is None and tags is not None and len(tags) == 1:
        return _one_tag(tags[0])
    detail: dict[str, object] = {}
    if tags:
        detail["tags"] = tags[:100]
    if error is not None:
        detail["sqlstate"], detail["message"] = error
    return detail


@functools.lru_cache(1024)
def _one_tag(tag: str) -> bytes:
    return json.dumps({"tags": [tag]}, ensure_ascii=False).encode()
