# cython: annotation_typing=False
"""What the record keeps of a request beside its text and its outcome. No I/O."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

import orjson

from .request_info import RequestInfo
from .wire import Request

MAX_BODY: Final = 65_536
"""Bytes of a request's body that are kept."""
MAX_TEXT: Final = 8192
"""Characters of method and target."""
_NAMED: Final = ("group", "version", "namespace", "resource", "subresource", "name")


def text_of(request: Request) -> str:
    """One line for people: method and target as they came."""
    text = f"{request.head.method} {request.head.target.decode('ascii', 'replace')}"
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 1]}…"


def of_request(request: Request, info: RequestInfo, verb: str) -> dict[str, object]:
    """Verb, resource, and what the client says of itself and of its body; not the body."""
    head = request.head
    detail: dict[str, object] = {"verb": verb}
    for name in _NAMED:
        if value := getattr(info, name):
            detail[name] = value
    if agent := head.get(b"user-agent"):
        detail["userAgent"] = agent[:256].decode("latin-1")
    if request.body:
        detail["bodyBytes"] = len(request.body)
        detail["contentType"] = (head.get(b"content-type") or b"")[:128].decode("latin-1")
    return detail


def body_of(body: bytes) -> object:
    """A body for the record: as JSON if it is that, as text if that can be read; None if neither, or too long."""
    if not body or len(body) > MAX_BODY:
        return None
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        pass
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def encoded(detail: Mapping[str, object]) -> bytes:
    """As JSON."""
    return orjson.dumps(detail)


def of_end(status: int, reason: str = "", message: str = "") -> bytes:
    """The response's status; reason and message of an error."""
    if not reason and not message:
        return _of_status(status)
    return orjson.dumps({"status": status, "reason": reason, "message": message[:2048]})


@functools.lru_cache(1024)
def _of_status(status: int) -> bytes:
    return b'{"status":%d}' % status
