# cython: annotation_typing=False
"""HTTP/1.1 messages: what they are made of, what their headers may say together, and how they are written.

Source: RFC 9110, RFC 9112. What goes out is encoded anew and never copied, so that spellings of a peer end here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

Headers = Sequence[tuple[bytes, bytes]]
"""Names lower-case, values without white space around them, in the order in which they came."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
UPGRADES: Final = frozenset({b"websocket", b"spdy/3.1"})
SINGLE: Final = frozenset({
    b"authorization", b"content-encoding", b"content-length", b"content-type", b"expect", b"host", b"location",
    b"sec-websocket-key", b"sec-websocket-version", b"transfer-encoding", b"upgrade", b"user-agent",
})  # fmt: skip
"""Headers that may come once: of two, one reader takes the first and another the last."""
HOP_BY_HOP: Final = frozenset({
    b"connection", b"content-length", b"expect", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
    b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
})  # fmt: skip
"""Headers that concern one connection only. They are never forwarded; the encoders write what is needed anew."""

LAST_CHUNK: Final = b"0\r\n\r\n"
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_CONNECTION_OPTIONS: Final = frozenset({b"keep-alive", b"close", b"upgrade", b"te", b""})
_HOST: Final = re.compile(rb"(?:[0-9A-Za-z._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_BODILESS: Final = frozenset({"GET", "HEAD"})
_BODIED: Final = frozenset({"POST", "PUT", "PATCH"})


class WireError(Exception):
    """What came is no HTTP/1.1, or can be understood in two ways. To be answered, and then the connection closes.

    `status` is that of the answer, `reason` that of the Kubernetes Status, and the message is for people.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message


def bad_request(message: str) -> WireError:
    return WireError(400, "BadRequest", message)


def bad_response(message: str) -> WireError:
    return WireError(502, "InternalError", f"the API server's response cannot be used: {message}")


@dataclass(slots=True)
class RequestHead:
    """The request line and the headers, which are checked for what any HTTP server has to check."""

    method: str
    target: bytes
    """Origin form: a path and perhaps a query, ASCII, not decoded."""
    headers: Headers
    """The very same object as in the connection's previous request, if nothing in it is different."""
    keep_alive: bool = True
    upgrade: bytes = b""
    """Lower-case: `websocket` or `spdy/3.1`."""
    impersonates: bool = False
    """There is an Impersonate header."""

    def get(self, name: bytes) -> bytes | None:
        """The first header of this (lower-case) name."""
        for header, value in self.headers:
            if header == name:
                return value
        return None


@dataclass(slots=True)
class Request:
    head: RequestHead
    body: bytes = b""


@dataclass(slots=True)
class ResponseHead:
    status: int
    reason: bytes
    headers: Headers
    length: int | None
    """Bytes of the body. None: it is chunked, or goes on until the connection closes."""

    def get(self, name: bytes) -> bytes | None:
        """The first header of this (lower-case) name."""
        for header, value in self.headers:
            if header == name:
                return value
        return None


@dataclass(frozen=True, slots=True)
class End:
    """The response is complete."""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """From here on it is no HTTP. `rest` came with the head."""

    rest: bytes


END: Final = End()


@dataclass(frozen=True, slots=True)
class Handling:
    """What the headers of a request say of its connection and body."""

    headers: Headers
    keep_alive: bool
    upgrade: bytes
    impersonates: bool
    expects: bool
    has_body: bool
    length: int


def not_allowed(method: str) -> WireError:
    return WireError(405, "MethodNotAllowed", f"the method must be one of {', '.join(sorted(METHODS))}, not {method}")


def single_headers(headers: Headers) -> dict[bytes, bytes]:
    """The headers that may come once, by name. Raises ValueError naming one that came twice."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in SINGLE:
            if name in found:
                raise ValueError(name.decode())
            found[name] = value
    return found


def connection_options(headers: Headers) -> set[bytes]:
    """What the Connection headers list, lower-case."""
    lists = [value for name, value in headers if name == b"connection"]
    return {option.strip(b" \t").lower() for option in b",".join(lists).split(b",")}


def handling(method: str, headers: Headers) -> Handling:
    """What the headers mean for the connection. Raises WireError."""
    try:
        singles = single_headers(headers)
    except ValueError as name:
        raise bad_request(f"the header {name} comes twice") from None
    host = singles.get(b"host")
    if host is None or _HOST.fullmatch(host) is None:
        raise bad_request("there must be one Host header, with a name or an address")
    options = connection_options(headers)
    if not options <= _CONNECTION_OPTIONS:
        # Each names a header to be dropped on the way: whoever obeys would see another request than whoever does not.
        raise bad_request("the Connection header may list keep-alive, close, te and upgrade only")
    length, chunked = framing(singles)
    has_body = chunked or length > 0
    if has_body and method in _BODILESS:
        raise bad_request(f"a {method} request has no body")
    coding = singles.get(b"content-encoding", b"identity")
    if coding.lower() != b"identity":
        raise WireError(415, "UnsupportedMediaType", "bodies must not be compressed: leave Content-Encoding out")
    expects = singles.get(b"expect", b"").lower()
    if expects not in (b"", b"100-continue"):
        raise WireError(417, "BadRequest", "the only expectation that is met is 100-continue")
    upgrade = _upgrade(singles, options)
    if upgrade and (has_body or expects):
        raise bad_request("a request for an upgrade has no body")
    if upgrade and method not in ("GET", "POST"):
        raise bad_request("a request for an upgrade is a GET or a POST")
    impersonates = any(name.startswith(b"impersonate-") for name, _ in headers)
    keep_alive = b"close" not in options
    return Handling(headers, keep_alive, upgrade, impersonates, bool(expects), has_body, length)


def framing(singles: dict[bytes, bytes]) -> tuple[int, bool]:
    """Content-Length (0 without one), and whether the body is chunked. llhttp has refused what is no number."""
    coding = singles.get(b"transfer-encoding")
    length = singles.get(b"content-length")
    if coding is not None and (length is not None or coding.lower() != b"chunked"):
        raise bad_request("Transfer-Encoding may be nothing but chunked, and not beside a Content-Length")
    return (int(length) if length is not None else 0), coding is not None


def _upgrade(singles: dict[bytes, bytes], options: set[bytes]) -> bytes:
    wanted = singles.get(b"upgrade", b"").lower()
    if bool(wanted) != (b"upgrade" in options) or (b"upgrade" in singles and not wanted):
        raise bad_request("Upgrade and Connection: upgrade belong together")
    if wanted and wanted not in UPGRADES:
        raise bad_request("a connection can be upgraded to websocket or SPDY/3.1 only")
    if wanted and b"close" in options:
        raise bad_request("a connection cannot be closed and upgraded")
    return wanted


def end_to_end(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers that may be forwarded as far as HTTP is concerned."""
    return [header for header in headers if header[0] not in HOP_BY_HOP]


def encode_request(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes = b"") -> bytes:
    """A whole request. The headers must have a Host and nothing of HOP_BY_HOP, except for an upgrade its own two.

    Raises ValueError if a name or a value would make it another request.
    """
    lines = [method.encode() + b" " + target + b" HTTP/1.1", *[name + b": " + value for name, value in headers]]
    if body or method in _BODIED:
        lines.append(b"content-length: %d" % len(body))
    return _joined(lines) + body


def encode_response_head(
    status: int, reason: bytes, headers: Iterable[tuple[bytes, bytes]], *, length: int | None, close: bool
) -> bytes:
    """The head of a response; with no `length` the body follows in chunks. 1xx, 204 and 304 say nothing of a body.

    Raises ValueError if a name or a value would make it another response.
    """
    lines = [b"HTTP/1.1 %d " % status + reason, *[name + b": " + value for name, value in headers]]
    if status >= 200 and status not in (204, 304):
        lines.append(b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length)
    if close:
        lines.append(b"connection: close")
    return _joined(lines)


def _joined(lines: list[bytes]) -> bytes:
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise ValueError("a header with a line break or a NUL in it")
    return head + b"\r\n\r\n"


def chunk(data: bytes) -> list[bytes]:
    """One piece of a chunked body, framed; nothing for no data, which would end the body."""
    return [b"%x\r\n" % len(data), data, b"\r\n"] if data else []
