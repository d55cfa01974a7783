# cython: annotation_typing=False
"""HTTP/1.1 as it comes in, read strictly: requests of clients, responses of the API server; not what they mean.

llhttp reads (its lenient switches stay off). What it lets through although two readers could understand it differently
is refused here or in messages.py; the tests name each case.
"""

from __future__ import annotations

import re
from typing import Final

from httptools import (
    HttpParserCallbackError,
    HttpParserError,
    HttpParserInvalidMethodError,
    HttpParserUpgrade,
    HttpRequestParser,
    HttpResponseParser,
)

from ostiary_gateway.protocols.kubernetes.messages import (
    CONTINUE,
    END,
    HOP_BY_HOP,
    LAST_CHUNK,
    METHODS,
    End,
    Handling,
    Headers,
    Request,
    RequestHead,
    ResponseHead,
    Upgraded,
    WireError,
    bad_request,
    bad_response,
    chunk,
    connection_options,
    encode_request,
    encode_response_head,
    end_to_end,
    framing,
    handling,
    not_allowed,
    single_headers,
)

__all__ = [
    "CONTINUE", "END", "HOP_BY_HOP", "LAST_CHUNK", "METHODS", "End", "Headers", "Request", "RequestHead",
    "RequestReader", "ResponseEvent", "ResponseHead", "ResponseReader", "Upgraded", "WireError", "chunk",
    "encode_request", "encode_response_head", "end_to_end",
]  # fmt: skip

MAX_HEAD: Final = 65536
"""Bytes of a request line and its headers together."""
MAX_HEADERS: Final = 128
MAX_EXCESS: Final = 16384
"""Bytes of a chunked body that are neither data nor size lines: extensions and trailers, which are dropped."""
CHUNK_FRAME: Final = 24
"""Bytes that one chunk's framing may have; what goes beyond counts as excess."""
MAX_INTERIM: Final = 16
"""Interim responses (1xx) before a final one."""

_REQUEST_LINE: Final = re.compile(rb"([A-Z]{3,7}) (/[\x21\x22\x24-\x7e]*+) HTTP/1\.1\r\n")
_TARGET: Final = re.compile(rb"/[\x21\x22\x24-\x7e]*+")


class RequestReader:
    """Takes what a client sends and gives complete requests.

    Clients repeat their headers: the last block of a request without a body is remembered, and the same bytes again
    are not parsed again.
    """

    __slots__ = (
        "_chunks", "_close", "_count", "_decoded", "_error", "_fed", "_fresh", "_handling", "_head_size", "_headers",
        "_in_body", "_in_message", "_known", "_known_bytes", "_max_body", "_max_head", "_parser", "_pieces", "_ready",
        "_rest", "_target", "wants_continue",
    )  # fmt: skip

    def __init__(self, *, max_head: int = MAX_HEAD, max_body: int) -> None:
        self._max_head = max_head
        self._max_body = max_body
        self._parser: HttpRequestParser | None = None
        self._ready: list[Request] = []
        self._error: WireError | None = None
        self._rest: bytearray | None = None
        self._known_bytes = b""
        self._known: Handling | None = None
        self._close = False
        self._in_message = self._in_body = self._fresh = False
        self._forget()
        self.wants_continue = False
        """The client waits for `100 Continue` before it sends the body. Whoever has answered it sets this to False."""

    @property
    def idle(self) -> bool:
        """Nothing of a request has come that is not yet returned."""
        return not self._in_message

    @property
    def problem(self) -> WireError | None:
        """What will be raised by the next `feed`: it came behind requests that were good."""
        return self._error

    @property
    def head(self) -> RequestHead | None:
        """That of the request whose body is still to come, if there is one."""
        block, parser = self._handling, self._parser
        if block is None or parser is None or not self._in_body:
            return None
        return _head(parser.get_method().decode(), self._target, block)

    def feed(self, data: bytes) -> list[Request]:
        """Requests that are complete with this. Raises WireError; never in place of requests before the bad one.

        After `Connection: close` the rest is dropped, after an upgrade it is kept for `take_rest`.
        """
        if self._error is not None:
            raise self._error
        if self._rest is not None:
            self._rest += data
            return []
        if self._close:
            return []
        if not self._in_message and (request := self._repeated(data)) is not None:
            return [request]
        return self._parse(data)

    @property
    def surplus(self) -> int:
        """Bytes that wait for `take_rest`."""
        return len(self._rest) if self._rest is not None else 0

    def take_rest(self) -> bytes:
        """What came behind a request for an upgrade: it belongs to the other protocol."""
        if self._rest is None:
            return b""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    def _repeated(self, data: bytes) -> Request | None:
        """One whole request without a body whose headers are, byte for byte, those of the one before."""
        if self._known is None or not data.endswith(self._known_bytes):
            return None
        line = _REQUEST_LINE.match(data)
        if line is None or len(data) - line.end() != len(self._known_bytes) or len(data) > self._max_head:
            return None
        method = line[1].decode()
        if method not in METHODS:
            return None
        known = self._known
        return Request(RequestHead(method, line[2], known.headers, True, b"", known.impersonates))

    def _parse(self, data: bytes) -> list[Request]:
        if self._parser is None:
            self._parser = HttpRequestParser(self)
        was_idle, self._fresh = not self._in_message, False
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._rest = bytearray(data[upgrade.args[0] :])
        except HttpParserCallbackError as failure:
            # Anything else is a fault of ours, and no client's.
            if not isinstance(failure.__context__, WireError):
                raise
        except HttpParserInvalidMethodError:
            self._error = not_allowed("this one (methods are upper-case)")
        except HttpParserError as problem:
            if not self._close:
                self._error = bad_request(f"not HTTP/1.1: {problem}")
        if self._error is None and self._in_message:
            self._check_size(len(data))
        ready, self._ready = self._ready, []
        if self._error is not None:
            self._parser = None
            if not ready:
                raise self._error
        elif was_idle and len(ready) == 1 and not self._in_message:
            self._remember(data, ready[0])
        return ready

    def _remember(self, data: bytes, request: Request) -> None:
        block = self._handling
        if block is None or block.has_body or not block.keep_alive or block.upgrade or block.expects:
            return
        line = _REQUEST_LINE.match(data)
        if line is not None and data.find(b"\r\n\r\n") == len(data) - 4:
            self._known, self._known_bytes = block, data[line.end() :]

    def _check_size(self, fed: int) -> None:
        """Of a request that is not complete: how much of it has come since the read in which it began."""
        if not self._fresh:
            self._fed += fed
        if not self._in_body:
            if self._fed > self._max_head:
                self._error = self._too_long()
        elif self._fed - self._decoded - CHUNK_FRAME * self._chunks > MAX_EXCESS + self._max_head:
            self._error = bad_request("the body has too many chunk extensions or trailers")

    def _too_long(self) -> WireError:
        return WireError(431, "BadRequest", f"the head of the request is longer than {self._max_head} bytes")

    def _forget(self) -> None:
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = self._fed = self._decoded = self._chunks = self._count = 0
        self._pieces: list[bytes] = []
        self._handling: Handling | None = None

    # What llhttp calls. An exception here ends its parsing; `_error` says what it was.

    def on_message_begin(self) -> None:
        self._forget()
        self._in_message = self._fresh = True
        self._in_body = False

    def on_url(self, piece: bytes) -> None:
        self._target += piece
        if len(self._target) > self._max_head:
            self._fail(self._too_long())

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_size += len(name) + len(value) + 4
        self._count += 1
        if self._in_body:
            # A trailer: dropped, but not without limit.
            if self._head_size > self._max_head + MAX_EXCESS or self._count > 2 * MAX_HEADERS:
                self._fail(bad_request("the body has too many trailers"))
            return
        if self._head_size + len(self._target) > self._max_head:
            self._fail(self._too_long())
        if self._count > MAX_HEADERS:
            self._fail(WireError(431, "BadRequest", f"there are more than {MAX_HEADERS} headers"))
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        method = parser.get_method().decode()
        if parser.get_http_version() != "1.1":
            self._fail(WireError(505, "BadRequest", "only HTTP/1.1 is spoken here"))
        if method not in METHODS:
            self._fail(not_allowed(method))
        if _TARGET.fullmatch(self._target) is None:
            self._fail(bad_request("the request's target must be a path (origin form), without a fragment"))
        try:
            block = handling(method, self._headers)
        except WireError as problem:
            self._fail(problem)
        if block.length > self._max_body:
            self._fail(self._too_large())
        self._handling = block
        self._in_body = True
        self._fed = 0
        self.wants_continue = block.expects and block.has_body

    def on_body(self, piece: bytes) -> None:
        self.wants_continue = False
        self._decoded += len(piece)
        if self._decoded > self._max_body:
            self._fail(self._too_large())
        self._pieces.append(piece)

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_message_complete(self) -> None:
        block, parser = self._handling, self._parser
        assert block is not None
        assert parser is not None
        self.wants_continue = False
        self._in_message = self._in_body = False
        head = _head(parser.get_method().decode(), self._target, block)
        pieces = self._pieces
        self._pieces = []
        self._ready.append(Request(head, pieces[0] if len(pieces) == 1 else b"".join(pieces)))
        if not block.keep_alive:
            self._close = True

    def _too_large(self) -> WireError:
        return WireError(
            413, "RequestEntityTooLarge",
            f"the body is larger than {self._max_body} bytes (spec.limits.maxRequestBytes of the Connection)",
        )  # fmt: skip

    def _fail(self, problem: WireError) -> None:
        self._error = problem
        raise problem


def _head(method: str, target: bytes, block: Handling) -> RequestHead:
    return RequestHead(method, target, block.headers, block.keep_alive, block.upgrade, block.impersonates)


ResponseEvent = ResponseHead | bytes | End | Upgraded


class ResponseReader:
    """Takes what the API server answers to one request after the other. Interim responses (100, 103) are dropped."""

    __slots__ = (
        "_chunks", "_complete", "_decoded", "_error", "_events", "_fed", "_final", "_head_size", "_headers", "_interim",
        "_method", "_parser", "_reason", "_switching", "_until_close", "_upgrade", "reusable",
    )  # fmt: skip

    def __init__(self, method: str, *, upgrade: bool = False) -> None:
        self._parser: HttpResponseParser | None = None
        self.reusable = False
        """The response is complete, and the connection can take another request: nothing surplus came."""
        self.begin(method, upgrade=upgrade)

    def begin(self, method: str, *, upgrade: bool = False) -> None:
        """Makes ready for the response to another request, of this method; one for an upgrade may be answered 101."""
        if self._parser is None or not self.reusable:
            self._parser = HttpResponseParser(self)
        self._method = method
        self._upgrade = upgrade
        self._events: list[ResponseEvent] = []
        self._error: WireError | None = None
        self._interim = self._fed = self._decoded = self._chunks = self._head_size = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._reason = b""
        self._final = self._complete = self._switching = self._until_close = False
        self.reusable = False

    @property
    def complete(self) -> bool:
        return self._complete

    def feed(self, data: bytes) -> list[ResponseEvent]:
        """Head, then decoded pieces of the body, then END; or head, then Upgraded. Raises WireError (502)."""
        if self._error is not None:
            raise self._error
        if self._complete:
            self.reusable &= not data
            return []
        parser = self._parser
        assert parser is not None
        try:
            parser.feed_data(data)
        except HttpParserUpgrade as upgrade:
            self._complete, self.reusable = True, False
            self._events.append(Upgraded(data[upgrade.args[0] :]))
        except HttpParserCallbackError as failure:
            if not isinstance(failure.__context__, WireError):
                raise
        except HttpParserError as problem:
            if not self._complete:
                self._error = bad_response(str(problem))
            self.reusable = False
        if not self._complete and self._error is None:
            self._check_size(len(data))
        if self._error is not None:
            self._events.clear()
            raise self._error
        events, self._events = self._events, []
        return events

    def eof(self) -> list[ResponseEvent]:
        """The server has closed the connection: END if that is how the body ends. Raises WireError if it was cut."""
        self.reusable = False
        if self._error is not None:
            raise self._error
        if self._complete:
            return []
        if not self._until_close:
            raise bad_response("the connection closed before its end")
        self._complete = True
        return [END]

    def _check_size(self, fed: int) -> None:
        self._fed += fed
        excess = self._fed - self._decoded - CHUNK_FRAME * self._chunks
        if excess > MAX_HEAD + MAX_EXCESS:
            self._error = bad_response("more head, chunk extensions or trailers than anybody needs")

    def on_message_begin(self) -> None:
        self._headers = []
        self._reason = b""
        self._head_size = 0
        if self._complete:
            self.reusable = False
            raise bad_response("more than one response")

    def on_status(self, piece: bytes) -> None:
        self._reason += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._final:
            return
        self._head_size += len(name) + len(value) + 4
        if self._head_size > MAX_HEAD or len(self._headers) >= MAX_HEADERS:
            self._fail("its head is too long")
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        if self._complete:
            return
        status = parser.get_status_code()
        if parser.get_http_version() != "1.1" or not 100 <= status <= 599:
            self._fail("it is no HTTP/1.1")
        try:
            singles = single_headers(self._headers)
            length, chunked = framing(singles)
        except ValueError as name:
            self._fail(f"the header {name} comes twice")
        except WireError as problem:
            self._fail(problem.message)
        if status < 200 and status != 101:
            self._interim += 1
            if self._interim > MAX_INTERIM or chunked or length:
                self._fail("interim responses that are too many, or have a body")
            return
        if status == 101 and not self._upgrade:
            self._fail("it changes the protocol, and nobody has asked for it")
        self._final, self._switching = True, status == 101
        bodiless = self._method == "HEAD" or status in (101, 204, 304)
        if status in (101, 204) and (chunked or length):
            self._fail(f"a body with status {status}")
        known = bodiless or b"content-length" in singles
        self._until_close = not known and not chunked
        self._events.append(ResponseHead(status, self._reason, self._headers, length if known else None))
        options = connection_options(self._headers)
        self.reusable = b"close" not in options and not self._until_close
        if self._method == "HEAD" and status != 101:
            # llhttp does not know the method, and would wait for the body that the headers tell of.
            self._parser = None
            self._finish()

    def on_body(self, piece: bytes) -> None:
        if self._complete:
            self.reusable = False
            return
        self._decoded += len(piece)
        self._events.append(piece)

    def on_chunk_header(self) -> None:
        self._chunks += 1

    def on_message_complete(self) -> None:
        if self._final and not self._complete and not self._switching:
            self._finish()

    def _finish(self) -> None:
        self._complete = True
        self._events.append(END)

    def _fail(self, problem: str) -> None:
        self._error = bad_response(problem)
        self.reusable = False
        raise self._error
