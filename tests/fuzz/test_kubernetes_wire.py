"""Whatever a client or an API server sends, in whatever pieces: one reading of it or one refusal.

And what goes out is, to another and simple-minded reader, one message: the one that was read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from support.fuzzing import Target

from ostiary_gateway.protocols.kubernetes.wire import (
    HOP_BY_HOP,
    METHODS,
    End,
    Request,
    RequestReader,
    ResponseHead,
    ResponseReader,
    Upgraded,
    WireError,
    encode_request,
    end_to_end,
)

LIMIT = 64
"""maxRequestBytes here: small, so that inputs go over it."""

Requests = tuple[list[Request], str, bytes]
"""The requests, why it ended, and what came behind an upgrade."""


def pieces(data: bytes, cuts: list[int]) -> Iterator[bytes]:
    position = turn = 0
    while position < len(data):
        step = cuts[turn % len(cuts)]
        turn += 1
        yield data[position : position + step]
        position += step


def requests(data: bytes, cuts: list[int], reader: RequestReader | None = None) -> Requests:
    reader = reader or RequestReader(max_body=LIMIT)
    found: list[Request] = []
    why = ""
    try:
        for piece in pieces(data, cuts):
            found += reader.feed(piece)
        reader.feed(b"")
    except WireError as problem:
        why = f"{problem.status} {problem.reason} {problem.message}"
    return found, why, reader.take_rest()


def forwarded(request: Request) -> None:
    """To a reader that knows no more than lines and one length, it is this request, and nothing is left over."""
    head = request.head
    data = encode_request(head.method, head.target, [(b"host", b"api"), *end_to_end(head.headers)], request.body)
    top, _, body = data.partition(b"\r\n\r\n")
    first, *lines = top.split(b"\r\n")
    assert first.split(b" ") == [head.method.encode(), head.target, b"HTTP/1.1"]
    assert head.method in METHODS
    headers = [line.split(b": ", 1) for line in lines]
    assert all(re.fullmatch(rb"[!#$%&'*+.^_`|~0-9a-z-]+", name) for name, _ in headers)
    lengths = [int(value) for name, value in headers if name == b"content-length"]
    assert (lengths or [0]) == [len(body)]
    assert body == request.body
    assert len(body) <= LIMIT
    assert not {name for name, _ in headers} & (HOP_BY_HOP - {b"content-length"})
    assert b"\n" not in top.replace(b"\r\n", b"")
    assert b"\r" not in top.replace(b"\r\n", b"")


def run_requests(data: bytes) -> Requests | None:
    """The first byte tells how the rest is cut."""
    if not data:
        return None
    sent = data[1:]
    whole = requests(sent, [len(data)])
    assert requests(sent, [1]) == whole
    assert requests(sent, [data[0] % 7 + 2, data[0] // 7 + 1]) == whole
    reader = RequestReader(max_body=LIMIT)
    found, why, rest = requests(sent, [len(data)], reader)
    if found and not why and not rest and reader.idle and found[-1].head.keep_alive and not found[-1].head.upgrade:
        # The same again, with what the reader remembers.
        assert requests(sent, [len(data)], reader) == whole
        assert requests(sent, [1], reader) == whole
    for request in whole[0]:
        forwarded(request)
    assert re.fullmatch(r"|(400|405|413|415|417|431|505) [A-Z][A-Za-z]+ .{10,}", whole[1], re.DOTALL)
    return whole


Response = tuple[ResponseHead | None, bytes, str, bool]
"""Head, body, how it ended, and whether the connection may be used again."""


def response(method: str, data: bytes, cuts: list[int]) -> Response:
    reader = ResponseReader(method, upgrade=method == "POST")
    head: ResponseHead | None = None
    body, ended = b"", ""
    try:
        for piece in pieces(data, cuts):
            for event in reader.feed(piece):
                match event:
                    case ResponseHead():
                        assert head is None
                        head = event
                    case bytes():
                        assert head is not None
                        assert event
                        assert not ended
                        body += event
                    case End():
                        assert not ended
                        ended = "end"
                    case Upgraded(rest):
                        assert head is not None
                        assert head.status == 101
                        ended = f"upgraded {rest!r}" if len(cuts) == 1 and cuts[0] >= len(data) else "upgraded"
                        return head, body, ended.split(" ")[0], reader.reusable
        if not ended:
            ended = "closed" if reader.eof() else "none"
    except WireError as problem:
        return None, b"", f"{problem.status} {problem.message}", False
    assert head is not None
    assert head.length in (None, len(body)) or method == "HEAD" or head.status in (204, 304)
    assert not reader.reusable or ended == "end"
    return head, body, ended, reader.reusable


def run_responses(data: bytes) -> Response | None:
    """The first byte tells the method and how the rest is cut."""
    if not data:
        return None
    method = ("GET", "HEAD", "POST", "DELETE")[data[0] % 4]
    sent = data[1:]
    whole = response(method, sent, [len(data)])
    for cuts in ([1], [data[0] % 7 + 2, data[0] // 7 + 1]):
        again = response(method, sent, cuts)
        assert again[:3] == whole[:3]
        # An empty line behind a response is harmless, and seen only if it comes for itself.
        assert whole[3] or not again[3]
    return whole


REQUESTS = Target("kubernetes_requests", run_requests)
RESPONSES = Target("kubernetes_responses", run_responses)


def test_the_corpus_of_requests_and_its_mutations() -> None:
    REQUESTS.replay(3000)


def test_the_corpus_of_responses_and_its_mutations() -> None:
    RESPONSES.replay(3000)
