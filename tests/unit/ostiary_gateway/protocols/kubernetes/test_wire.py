"""HTTP/1.1 as it is read and written: what any two readers agree on, and nothing else."""

from __future__ import annotations

import pytest

from ostiary_gateway.protocols.kubernetes.wire import (
    END,
    LAST_CHUNK,
    Request,
    RequestReader,
    ResponseHead,
    ResponseReader,
    Upgraded,
    WireError,
    chunk,
    encode_request,
    encode_response_head,
    end_to_end,
)

GET = b"GET /api HTTP/1.1\r\nHost: gateway\r\n"
POST = b"POST /api HTTP/1.1\r\nHost: gateway\r\n"
LIMIT = 1000


def reader() -> RequestReader:
    return RequestReader(max_body=LIMIT)


def read(data: bytes) -> list[Request]:
    """In one piece, and the same again byte by byte."""
    requests = reader().feed(data)
    slow, again = reader(), []
    for index in range(len(data)):
        again += slow.feed(data[index : index + 1])
    assert again == requests
    return requests


def refused(data: bytes) -> WireError:
    """The refusal, which is the same byte by byte; no request comes before it."""
    with pytest.raises(WireError) as whole:
        reader().feed(data)
    slow = reader()
    with pytest.raises(WireError) as pieces:
        for index in range(len(data)):
            assert slow.feed(data[index : index + 1]) == []
    assert str(pieces.value) == str(whole.value)
    assert pieces.value.status == whole.value.status
    return whole.value


def test_a_request_without_a_body() -> None:
    headers = b"Host: gateway:6443\r\nAccept:  application/json \t\r\nX:\r\n\r\n"
    (request,) = read(b"GET /api/v1/pods?limit=5 HTTP/1.1\r\n" + headers)
    assert (request.head.method, request.head.target, request.body) == ("GET", b"/api/v1/pods?limit=5", b"")
    assert list(request.head.headers) == [(b"host", b"gateway:6443"), (b"accept", b"application/json"), (b"x", b"")]
    assert request.head.get(b"accept") == b"application/json"
    assert request.head.get(b"authorization") is None
    assert request.head.keep_alive
    assert request.head.upgrade == b""


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"Transfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n03\r\nllo\r\n0\r\n\r\n",
        b'Transfer-Encoding: chunked\r\n\r\n5;name=value;other="x"\r\nhello\r\n0\r\nX-Checksum: 1\r\n\r\n',
    ],
)
def test_a_body_however_it_is_framed(body: bytes) -> None:
    (request,) = read(POST + body)
    assert request.body == b"hello"


def test_requests_behind_each_other() -> None:
    one = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    two = GET + b"\r\n"
    three = POST + b"Content-Length: 1\r\n\r\nb"
    requests = read(one + two + three + two)
    assert [(request.head.method, request.body) for request in requests] == [
        ("POST", b"a"), ("GET", b""), ("POST", b"b"), ("GET", b""),
    ]  # fmt: skip


def test_the_same_headers_again_are_the_same_object() -> None:
    incoming = reader()
    headers = b" HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer t\r\n\r\n"
    (one,) = incoming.feed(b"GET /api" + headers)
    (two,) = incoming.feed(b"DELETE /apis?x" + headers)
    assert (two.head.method, two.head.target) == ("DELETE", b"/apis?x")
    assert two.head.headers is one.head.headers
    (other,) = incoming.feed(b"GET /api" + headers.replace(b"Bearer t", b"Bearer u"))
    assert other.head.get(b"authorization") == b"Bearer u"
    assert incoming.feed(b"GET /api" + headers[:20]) == []
    (late,) = incoming.feed(headers[20:])
    assert late == one


@pytest.mark.parametrize(
    "line",
    [
        b"get /api", b"FOO /api", b"TRACE /api", b"CONNECT gateway:443", b"GET api", b"GET *", b"GET /a#b",
        b"GET http://other/", b"GET /\x01", b"GET /\xff", b"GET /a b", b"GET\t/api", b"PRI *",
    ],
)  # fmt: skip
def test_a_remembered_head_lets_no_other_request_line_through(line: bytes) -> None:
    incoming = reader()
    headers = b" HTTP/1.1\r\nHost: g\r\n\r\n"
    assert incoming.feed(b"GET /api" + headers)
    assert incoming.feed(b"GET /api" + headers)
    with pytest.raises(WireError):
        incoming.feed(line + headers)


@pytest.mark.parametrize(
    ("data", "status", "why"),
    [
        # Two readers could see two requests where we see one.
        (POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Content-Length"),
        (POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n", 400, "Content-Length"),
        (POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na", 400, "Duplicate Content-Length"),
        (POST + b"Content-Length: 1, 1\r\n\r\na", 400, "Content-Length"),
        (POST + b"Content-Length: +1\r\n\r\na", 400, "Content-Length"),
        (POST + b"Content-Length: 0x1\r\n\r\na", 400, "Content-Length"),
        (POST + b"Content-Length: -1\r\n\r\na", 400, "Content-Length"),
        (POST + b"Content-Length:\r\n\r\na", 400, "Content-Length"),
        (POST + b"Content-Length: 99999999999999999999\r\n\r\na", 400, "Content-Length overflow"),
        (POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"),
        (POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"),
        (POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"),
        (POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"),
        (POST + b"Transfer-Encoding: identity\r\n\r\n", 400, "Transfer-Encoding"),
        (POST + b"Transfer-Encoding:\r\n\r\n", 400, "Transfer-Encoding"),
        (POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Transfer-Encoding"),
        (GET + b"Content-Length: 1\r\n\r\na", 400, "no body"),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "no body"),
        # Lines that end in two ways, or belong to two headers.
        (GET + b"X: a\r\n b\r\n\r\n", 400, "whitespace"),
        (GET + b"X : a\r\n\r\n", 400, "token"),
        (GET + b" X: a\r\n\r\n", 400, "whitespace"),
        (GET + b": a\r\n\r\n", 400, "token"),
        (GET + b"X\r\n\r\n", 400, "HTTP"),
        (GET + b"X: a\0\r\n\r\n", 400, "value char"),
        (GET + b"X: a\x01\r\n\r\n", 400, "value char"),
        (GET + b"X: a\rb\r\n\r\n", 400, "LF"),
        (GET + b"X: a\nY: b\r\n\r\n", 400, "CR"),
        (GET + b"X\0: a\r\n\r\n", 400, "token"),
        (b"GET /api HTTP/1.1\nHost: gateway\n\n", 400, "CRLF"),
        (GET + b"\n", 400, "HTTP"),
        # Chunks.
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\na\r\n0\r\n\r\n", 400, "chunk"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\n0\r\n\r\n", 400, "chunk"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n", 400, "chunk"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1 \r\na\r\n0\r\n\r\n", 400, "chunk"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n", 400, "chunk"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\na\r\n0\r\n\r\n", 400, "chunk"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n\r\na\r\n0\r\n\r\n", 400, "chunk"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n10000000000000001\r\na\r\n0\r\n\r\n", 400, "overflow"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n1;a\nb\r\na\r\n0\r\n\r\n", 400, "chunk"),
        (POST + b'Transfer-Encoding: chunked\r\n\r\n1;a="\n"\r\na\r\n0\r\n\r\n', 400, "chunk"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r\n\r\n", 400, "Content-Length"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX : 1\r\n\r\n", 400, "token"),
        # Targets, methods and versions.
        (b"GET http://gateway/api HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, "origin form"),
        (b"OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, "origin form"),
        (b"GET api HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, "url"),
        (b"GET /a#b HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, "fragment"),
        (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, "url"),
        (b"GET /a\x7f HTTP/1.1\r\nHost: gateway\r\n\r\n", 400, "url"),
        (b"CONNECT gateway:443 HTTP/1.1\r\nHost: gateway\r\n\r\n", 405, "CONNECT"),
        (b"TRACE /api HTTP/1.1\r\nHost: gateway\r\n\r\n", 405, "TRACE"),
        (b"PROPFIND /api HTTP/1.1\r\nHost: gateway\r\n\r\n", 405, "PROPFIND"),
        (b"get /api HTTP/1.1\r\nHost: gateway\r\n\r\n", 405, "upper-case"),
        (b"BREW /api HTTP/1.1\r\nHost: gateway\r\n\r\n", 405, "method"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 405, "method"),
        (b"GET /api HTTP/1.0\r\nHost: gateway\r\n\r\n", 505, "HTTP/1.1"),
        (b"GET /api HTTP/1.0\r\nHost: gateway\r\nConnection: keep-alive\r\n\r\n", 505, "HTTP/1.1"),
        (b"GET /api HTTP/0.9\r\nHost: gateway\r\n\r\n", 505, "HTTP/1.1"),
        (b"GET /api\r\nHost: gateway\r\n\r\n", 505, "HTTP/1.1"),
        (b"GET /api HTTP/1.2\r\nHost: gateway\r\n\r\n", 400, "version"),
        (b"GET /api HTTP/2.0\r\nHost: gateway\r\n\r\n", 505, "HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "PRI"),
        # Headers of which one reader takes the first, another the last.
        (b"GET /api HTTP/1.1\r\n\r\n", 400, "one Host"),
        (b"GET /api HTTP/1.1\r\nHost:\r\n\r\n", 400, "one Host"),
        (b"GET /api HTTP/1.1\r\nHost: a/b\r\n\r\n", 400, "one Host"),
        (b"GET /api HTTP/1.1\r\nHost: user@a\r\n\r\n", 400, "one Host"),
        (GET + b"Host: gateway\r\n\r\n", 400, "host comes twice"),
        (GET + b"Authorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n", 400, "authorization comes twice"),
        (POST + b"Content-Type: a/b\r\nContent-Type: a/b\r\n\r\n", 400, "content-type comes twice"),
        (GET + b"Upgrade: websocket\r\nConnection: upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n", 400, "upgrade comes twice"),
        # What is dropped on the way, and what else the connection becomes.
        (GET + b"Connection: authorization\r\n\r\n", 400, "Connection header"),
        (GET + b"Connection: close, x-remote-user\r\n\r\n", 400, "Connection header"),
        (GET + b"Connection: upgrade\r\n\r\n", 400, "belong together"),
        (GET + b"Upgrade: websocket\r\n\r\n", 400, "belong together"),
        (GET + b"Connection: upgrade\r\nUpgrade:\r\n\r\n", 400, "belong together"),
        (GET + b"Connection: upgrade, close\r\nUpgrade: websocket\r\n\r\n", 400, "closed and upgraded"),
        (GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 400, "websocket or SPDY"),
        (GET + b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", 400, "websocket or SPDY"),
        (POST + b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 1\r\n\r\na", 400, "has no body"),
        (POST + b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "has no body"),
        (b"PUT" + POST[4:] + b"Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n", 400, "GET or a POST"),
        (POST + b"Expect: 200-ok\r\nContent-Length: 1\r\n\r\na", 417, "100-continue"),
        (POST + b"Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\na", 415, "compressed"),
        (POST + b"Content-Encoding: deflate\r\n\r\n", 415, "compressed"),
        # Too much.
        (POST + b"Content-Length: 1001\r\n\r\n" + b"a" * 1001, 413, "larger than 1000 bytes"),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"a" * 1001, 413, "larger than 1000 bytes"),
        (GET + b"X: a\r\n" * 128 + b"\r\n", 431, "128 headers"),
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(data: bytes, status: int, why: str) -> None:
    problem = refused(data)
    assert why.lower() in problem.message.lower()
    assert problem.status == status


def test_a_head_without_end_is_refused_before_it_is_kept() -> None:
    for part in (b"GET /" + b"a" * 70_000, GET + b"X: " + b"a" * 70_000, GET + b"X: a\r\n" * 20 + b"Y" * 70_000):
        for step in (1000, 60_000, 100_000):
            incoming = reader()
            with pytest.raises(WireError) as problem:
                for start in range(0, 4 * len(part), step):
                    incoming.feed(part[start : start + step] or b"a" * step)
            assert problem.value.status == 431


def test_chunk_extensions_and_trailers_have_an_end() -> None:
    head = POST + b"Transfer-Encoding: chunked\r\n\r\n"
    for more in (b"1;" + b"a" * 200_000, b"0\r\n" + b"X: a\r\n" * 30_000, b"0\r\nX: " + b"a" * 200_000):
        incoming = reader()
        incoming.feed(head)
        with pytest.raises(WireError, match="trailers") as problem:
            for start in range(0, len(more), 1000):
                incoming.feed(more[start : start + 1000])
        assert problem.value.status == 400
    many = b"".join(b"1\r\na\r\n" for _ in range(LIMIT)) + LAST_CHUNK
    (request,) = read(head + many)
    assert request.body == b"a" * LIMIT


def test_good_requests_before_a_bad_one_are_not_lost() -> None:
    incoming = reader()
    assert len(incoming.feed(GET + b"\r\n" + GET + b"\r\n" + b"BAD\r\n\r\n")) == 2
    assert incoming.problem is not None
    with pytest.raises(WireError):
        incoming.feed(b"")


def test_the_client_may_wait_before_it_sends_the_body() -> None:
    incoming = reader()
    assert incoming.feed(POST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n") == []
    assert incoming.wants_continue
    assert incoming.head is not None
    assert incoming.head.method == "POST"
    (request,) = incoming.feed(b"ok")
    assert not incoming.wants_continue
    assert incoming.head is None
    assert request.body == b"ok"
    (bodiless,) = incoming.feed(GET + b"Expect: 100-continue\r\n\r\n")
    assert not incoming.wants_continue
    assert bodiless.body == b""


def test_after_close_nothing_is_read() -> None:
    incoming = reader()
    (request,) = incoming.feed(GET + b"Connection: close\r\n\r\n" + GET + b"\r\n")
    assert not request.head.keep_alive
    assert incoming.feed(b"anything") == []
    assert incoming.idle


@pytest.mark.parametrize(
    ("headers", "protocol"),
    [
        (b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: v5.channel.k8s.io\r\n", b"websocket"),
        (b"Connection: keep-alive, Upgrade\r\nUpgrade: SPDY/3.1\r\nContent-Length: 0\r\n", b"spdy/3.1"),
    ],
)
def test_what_comes_behind_an_upgrade_is_kept(headers: bytes, protocol: bytes) -> None:
    incoming = reader()
    (request,) = incoming.feed(POST + headers + b"\r\n" + b"early ")
    assert request.head.upgrade == protocol
    assert incoming.feed(b"data") == []
    assert incoming.take_rest() == b"early data"
    assert incoming.take_rest() == b""


def test_impersonation_is_seen() -> None:
    (request,) = read(GET + b"IMPERSONATE-Extra-scopes: x\r\n\r\n")
    assert request.head.impersonates
    (other,) = read(GET + b"X-Impersonate-User: x\r\n\r\n")
    assert not other.head.impersonates


def responses(method: str, *pieces: bytes, upgrade: bool = False) -> list[object]:
    """Status, then body, then END or Upgraded."""
    incoming = ResponseReader(method, upgrade=upgrade)
    events = [event for piece in pieces for event in incoming.feed(piece)]
    return [event.status if isinstance(event, ResponseHead) else event for event in events]


def byte_by_byte(method: str, data: bytes) -> ResponseReader:
    incoming = ResponseReader(method)
    for index in range(len(data)):
        incoming.feed(data[index : index + 1])
    return incoming


@pytest.mark.parametrize(
    ("method", "data", "events", "reusable"),
    [
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", [200, b"ab", END], True),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", [200, END], True),
        ("GET", b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", [200, END], True),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n", [200, b"ab", END], True),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", [200, END], True),
        ("HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", [200, END], True),
        ("HEAD", b"HTTP/1.1 200 OK\r\n\r\n", [200, END], True),
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab", [200, END], False),
        ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", [204, END], True),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", [304, END], True),
        ("POST", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
         b"HTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\na", [201, b"a", END], True),
        ("GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\na", [200, b"a", END], False),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\n\r\n", [200, b"a", END], False),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nagarbage", [200, b"a", END], False),
    ],
)  # fmt: skip
def test_a_response(method: str, data: bytes, events: list[object], reusable: bool) -> None:
    assert responses(method, data) == events
    incoming = byte_by_byte(method, data)
    assert incoming.complete
    assert incoming.reusable is reusable


def test_a_response_says_how_long_it_is() -> None:
    def length(method: str, headers: bytes) -> int | None:
        head = ResponseReader(method).feed(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n")[0]
        assert isinstance(head, ResponseHead)
        return head.length

    assert length("GET", b"Content-Length: 70\r\n") == 70
    assert length("HEAD", b"Content-Length: 70\r\n") == 70
    assert length("GET", b"Transfer-Encoding: chunked\r\n") is None
    assert length("GET", b"") is None


def test_a_response_until_the_connection_closes() -> None:
    incoming = ResponseReader("GET")
    assert incoming.feed(b"HTTP/1.1 200 OK\r\n\r\nab")[1:] == [b"ab"]
    assert incoming.feed(b"cd") == [b"cd"]
    assert incoming.eof() == [END]
    assert not incoming.reusable
    assert incoming.eof() == []


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
    ],
)
def test_a_response_that_is_cut_short_is_none(data: bytes) -> None:
    incoming = ResponseReader("GET")
    incoming.feed(data)
    with pytest.raises(WireError, match="closed before its end"):
        incoming.eof()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nabc", "Transfer-Encoding"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n\r\n", "content-type comes twice"),
        (b"HTTP/1.1 200 OK\nContent-Length: 0\n\n", "CR"),
        (b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n", "whitespace"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "no HTTP/1.1"),
        (b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n", "no HTTP/1.1"),
        (b"HTTP/1.1 099 What\r\nContent-Length: 0\r\n\r\n", "no HTTP/1.1"),
        (b"HTTP/1.1 20 What\r\nContent-Length: 0\r\n\r\n", "status code"),
        (b"HTTP/1.1 204 No\r\nContent-Length: 1\r\n\r\na", "a body with status 204"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "nobody has asked"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 17, "interim"),
        (b"HTTP/1.1 100 Continue\r\nContent-Length: 3\r\n\r\n", "interim"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 129 + b"\r\n", "too long"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", "too long"),
    ],
)
def test_a_response_that_could_be_read_in_two_ways_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why) as whole:
        ResponseReader("GET").feed(data)
    assert whole.value.status == 502
    if len(data) < 10_000:
        with pytest.raises(WireError, match=why):
            byte_by_byte("GET", data)


def test_a_response_head_without_end_is_not_kept() -> None:
    incoming = ResponseReader("GET")
    with pytest.raises(WireError):
        for _ in range(1000):
            incoming.feed(b"HTTP/1.1 200 OK\r\nX: " if not incoming.complete else b"")
            incoming.feed(b"a" * 1000)


def test_switching_protocols() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
    assert responses("POST", head + b"frames", upgrade=True) == [101, Upgraded(b"frames")]
    assert responses("POST", b"HTTP/1.1 100 Continue\r\n\r\n" + head, upgrade=True) == [101, Upgraded(b"")]
    refusal = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    assert responses("POST", refusal, upgrade=True) == [403, b"no", END]
    with pytest.raises(WireError):
        responses("POST", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", upgrade=True)


def test_one_reader_takes_the_responses_of_a_connection() -> None:
    incoming = ResponseReader("HEAD")
    assert incoming.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")[1:] == [END]
    assert incoming.reusable
    incoming.begin("GET")
    assert incoming.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab")[1:] == [b"ab", END]
    assert incoming.reusable
    incoming.begin("GET")
    assert incoming.feed(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")[1:] == [END]
    assert incoming.feed(b"surplus") == []
    assert not incoming.reusable


def test_what_is_encoded_reads_the_same() -> None:
    for method, body in (("GET", b""), ("POST", b""), ("DELETE", b""), ("DELETE", b"x"), ("PATCH", b"y" * 10)):
        data = encode_request(method, b"/api/v1/pods?x=1", [(b"host", b"api"), (b"accept", b"*/*")], body)
        (request,) = read(data)
        assert (request.head.method, request.head.target, request.body) == (method, b"/api/v1/pods?x=1", body)
        assert end_to_end(request.head.headers) == [(b"host", b"api"), (b"accept", b"*/*")]


def test_a_response_is_encoded_with_a_length_or_in_chunks() -> None:
    assert encode_response_head(200, b"OK", [(b"content-type", b"text/plain")], length=2, close=False) == (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 2\r\n\r\n"
    )
    assert encode_response_head(200, b"OK", [], length=None, close=True) == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
    )
    unmodified = encode_response_head(304, b"Not Modified", [], length=None, close=False)
    assert unmodified == b"HTTP/1.1 304 Not Modified\r\n\r\n"
    assert b"".join(chunk(b"a" * 17)) == b"11\r\n" + b"a" * 17 + b"\r\n"
    assert chunk(b"") == []


@pytest.mark.parametrize("value", [b"a\r\nX: b", b"a\nX: b", b"a\rb", b"a\0b"])
def test_no_header_can_smuggle_another_one(value: bytes) -> None:
    with pytest.raises(ValueError):
        encode_request("GET", b"/", [(b"host", b"api"), (b"x", value)])
    with pytest.raises(ValueError):
        encode_response_head(200, b"OK", [(b"x", value)], length=0, close=False)
    with pytest.raises(ValueError):
        encode_request("GET", b"/" + value, [(b"host", b"api")])
