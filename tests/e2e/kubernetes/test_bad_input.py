"""Bad input: a Status that says why, others unharmed, and at the API server only what was decided and recorded."""

from __future__ import annotations

import gzip
import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from support.api_gateway import ApiGateway, Plane, policy, prepare, rule
from support.gateway import TOKEN
from support.overheard import Heard, Overheard, overheard
from support.raw_requests import LAST, POD, REFUSED, SAME, get, post

pytestmark = pytest.mark.cluster

LIMIT = 100_000


@pytest.fixture(scope="module")
def wiretap(plane: Plane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Overheard]:
    with overheard(plane, tmp_path_factory.mktemp("overheard")) as listening:
        yield listening


@pytest.fixture(scope="module")
def gateway(wiretap: Overheard) -> Iterator[ApiGateway]:
    """Everything is allowed but to delete; so what is refused is refused for what it is."""
    made = prepare(
        wiretap.plane,
        policy("all", rule("everything", "k8s.verb != 'delete'"), rule("none", "k8s.verb == 'delete'", "Deny")),
        limits={"maxRequestBytes": LIMIT},
        recording="Full",
    )
    made.start()
    yield made
    made.destroy()


class Client:
    """One connection of an agent that says what it likes."""

    def __init__(self, gateway: ApiGateway, *, token: str = TOKEN) -> None:
        context = ssl.create_default_context(cafile=str(gateway.ca))
        context.set_alpn_protocols(["http/1.1"])
        plain = socket.create_connection((gateway.host, gateway.port), timeout=60)
        self.connection = context.wrap_socket(plain, server_hostname=gateway.host)
        self.headers = f"Host: {gateway.host}\r\nAuthorization: Bearer {token}\r\n".encode()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def says(self, raw: bytes) -> None:
        """With the headers in the place of `@`."""
        with suppress(ConnectionError, ssl.SSLError):
            self.connection.sendall(raw.replace(b"@", self.headers))

    def hears(self, count: int | None = None) -> list[tuple[int, Any]]:
        """Status and body of so many responses, or of all until the gateway closes the connection."""
        heard = b""
        while count is None or len(list(answers(heard))) < count:
            try:
                data = self.connection.recv(65536)
            except (ConnectionError, ssl.SSLEOFError):
                break
            if not data:
                break
            heard += data
        return list(answers(heard))

    def says_last(self, raw: bytes) -> list[tuple[int, Any]]:
        """And a good request behind it, which closes the connection."""
        last = f"GET {LAST} HTTP/1.1\r\nConnection: close\r\n@\r\n".encode()
        self.says(raw + last)
        return self.hears()


def answers(heard: bytes) -> Iterator[tuple[int, Any]]:
    """What is whole of it. A body is decoded if it is JSON."""
    while b"\r\n\r\n" in heard:
        head, _, rest = heard.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if b"\r\ntransfer-encoding: chunked" in head.lower():
            if b"\r\n0\r\n\r\n" not in rest:
                return
            chunks, _, heard = rest.partition(b"\r\n0\r\n\r\n")
            body = re.sub(rb"(?:\A|\r\n)[0-9a-f]+\r\n", b"", chunks)
        else:
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            body, heard = rest[:size], rest[size:]
        if status != 100:
            yield status, json.loads(body) if body[:1] == b"{" else body


def said(gateway: ApiGateway, raw: bytes) -> tuple[int, Any]:
    """What the gateway says to it, before it closes the connection."""
    with Client(gateway) as client:
        client.says(raw)
        ((status, answer),) = client.hears()
        return status, answer


def unharmed(gateway: ApiGateway) -> None:
    with Client(gateway) as client:
        client.says(get("/version"))
        ((status, answer),) = client.hears(1)
        assert status == 200
        assert answer["gitVersion"]


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: raw[:70].decode().replace("\r\n", "|"))
def test_what_two_could_understand_differently_goes_nowhere(
    gateway: ApiGateway, wiretap: Overheard, raw: bytes
) -> None:
    before = wiretap.requests()

    with Client(gateway) as client:
        (status, answer), *more = client.says_last(raw)

    assert 400 <= status <= 505
    assert (answer["kind"], answer["status"], answer["code"]) == ("Status", "Failure", status)
    assert len(answer["message"]) > 10
    assert answer["reason"]
    # Behind a message that cannot be told from the next nothing is read; behind a path that is refused the next one is.
    came = [str(request) for request in wiretap.requests()[len(before) :] if request.target != "/version"]
    assert came == ([f"GET {LAST}"] if more else [])
    unharmed(gateway)


def test_what_is_understood_alike_reaches_the_api_server_as_it_was_decided(
    gateway: ApiGateway, wiretap: Overheard
) -> None:
    before = len(wiretap.requests())
    sent: list[str] = []
    for raw in SAME:
        if b"watch" in raw:
            continue  # goes on until somebody ends it
        with Client(gateway) as client:
            client.says_last(raw)
        sent += re.findall(r"^([A-Z]+ /[^ ]*) HTTP/1.1", raw.decode(), re.MULTILINE)

    came = [request for request in wiretap.requests()[before:] if request.target not in (LAST, "/version")]
    denied = [line for line in sent if line.startswith(f"DELETE {POD}")]
    assert sorted(map(str, came)) == sorted(line for line in sent if line not in denied)
    assert denied
    recorded = {event["text"] for event in gateway.records() if event["type"] == "request"}
    assert {str(request) for request in came} <= recorded
    for request in came:
        only_the_gateways(request)


def only_the_gateways(request: Heard) -> None:
    """Nothing of the client's that says who asks, or how the connection is to be handled."""
    assert len(request.values("host")) == len(request.values("authorization")) == 1
    assert TOKEN not in str(request.headers)
    names = {name.lower() for name, _ in request.headers}
    assert not names & {"connection", "transfer-encoding", "te", "trailer", "expect", "upgrade", "accept-encoding"}
    assert not [name for name in names if name.startswith(("impersonate-", "x-remote-", "x-forwarded-"))]


@pytest.mark.parametrize(
    "header",
    ["Impersonate-User: system:admin", "impersonate-group: system:masters", "IMPERSONATE-UID: 1",
     "Impersonate-Extra-scopes: x"],
)  # fmt: skip
def test_nobody_impersonates(gateway: ApiGateway, wiretap: Overheard, header: str) -> None:
    before = len(wiretap.requests())

    with Client(gateway) as client:
        client.says(get("/api/v1/secrets").replace(b"@", b"@" + header.encode() + b"\r\n"))
        ((status, answer),) = client.hears(1)

    assert status == 403
    assert "Impersonation headers are not taken from agents" in answer["message"]
    assert len(wiretap.requests()) == before


def test_headers_that_say_who_asks_are_left_out(gateway: ApiGateway, wiretap: Overheard) -> None:
    before = len(wiretap.requests())
    claims = b"X-Remote-User: admin\r\nX-Remote-Group: system:masters\r\nX-Forwarded-For: 1.2.3.4\r\nCookie: a=b\r\n"

    with Client(gateway) as client:
        client.says(get("/nothing/of/mine").replace(b"@", b"@" + claims))
        ((status, _),) = client.hears(1)

    assert status == 404
    (came,) = wiretap.requests()[before:]
    only_the_gateways(came)
    assert not came.values("cookie")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", gzip.compress(b"{}" + b" " * 50_000_000, 9)),
        ("Content-Type: application/json\r\nContent-Encoding: deflate\r\n", b"x"),
        ("Content-Type: application/cbor\r\n", b"\xd9\xd9\xf7\xa0"),
        ("Content-Type: application/json; charset=utf-16\r\n", "{}".encode("utf-16")),
    ],
    ids=["gzip bomb", "deflate", "cbor", "utf-16"],
)
def test_bodies_that_are_not_plain_are_refused(
    gateway: ApiGateway, wiretap: Overheard, headers: str, body: bytes
) -> None:
    before = len(wiretap.requests())

    with Client(gateway) as client:
        client.says(post(f"{headers}Content-Length: {len(body)}\r\n") + body)
        ((status, answer), *_) = client.hears(1)

    assert (status, answer["reason"]) == (415, "UnsupportedMediaType")
    assert len(wiretap.requests()) == before
    unharmed(gateway)


@pytest.mark.parametrize(
    "more",
    [
        post(f"Content-Length: {LIMIT + 1}\r\n"),
        post(f"Content-Length: {LIMIT + 1}\r\nExpect: 100-continue\r\n"),
        post("Transfer-Encoding: chunked\r\n", f"{LIMIT + 1:x}\r\n") + b"a" * (LIMIT + 1),
        post("Content-Length: 999999999999\r\n"),
    ],
)
def test_a_body_over_the_limit_is_refused_before_it_is_kept(
    gateway: ApiGateway, wiretap: Overheard, more: bytes
) -> None:
    before = len(wiretap.requests())

    status, answer = said(gateway, more)

    assert (status, answer["reason"]) == (413, "RequestEntityTooLarge")
    assert f"larger than {LIMIT} bytes" in answer["message"]
    assert len(wiretap.requests()) == before


def test_who_sends_too_much_gets_to_read_why(gateway: ApiGateway, plane: Plane) -> None:
    """Even while it is still sending: a connection that is reset would take the words with it."""
    much = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "much"}, "data": {"a": "b" * 900_000}}

    refused = gateway.kubectl("create", "-f", "-", manifest=much)

    assert f"larger than {LIMIT} bytes (spec.limits.maxRequestBytes" in refused.stderr


@pytest.mark.parametrize("token", ["", "of-nobody"])
def test_a_body_of_somebody_unknown_is_not_waited_for(gateway: ApiGateway, token: str) -> None:
    with Client(gateway) as client:
        client.headers = f"Host: gateway\r\nAuthorization: Bearer {token}\r\n".encode()
        client.says(post(f"Content-Length: {LIMIT}\r\nExpect: 100-continue\r\n", "{"))
        ((status, answer),) = client.hears()

    assert (status, answer["reason"]) == (401, "Unauthorized")


def test_a_head_that_does_not_end_is_refused(gateway: ApiGateway) -> None:
    status, answer = said(gateway, b"GET /api HTTP/1.1\r\n@X: " + b"a" * 300_000)

    assert status == 431
    assert "longer than 65536 bytes" in answer["message"]
    unharmed(gateway)


def test_a_client_that_goes_in_the_middle_leaves_nothing(gateway: ApiGateway, wiretap: Overheard) -> None:
    before = len(wiretap.requests())
    whole = post("Content-Length: 50\r\nContent-Type: application/json\r\n", "{" + " " * 48 + "}")

    for length in range(1, len(whole), 17):
        with Client(gateway) as client:
            client.says(whole.replace(b"@", client.headers)[:length])

    unharmed(gateway)
    assert [str(request) for request in wiretap.requests()[before:]] == ["GET /version"]


def test_other_protocols_are_no_requests(gateway: ApiGateway) -> None:
    for raw in (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",
        b"\r\nQUIT\r\n",
    ):
        status, answer = said(gateway, raw)
        assert (status, answer["kind"]) == (answer["code"], "Status")
    unharmed(gateway)


def test_plain_text_to_the_tls_port_harms_nobody(gateway: ApiGateway) -> None:
    with socket.create_connection((gateway.host, gateway.port), timeout=60) as plain:
        plain.sendall(b"GET /api HTTP/1.1\r\nHost: gateway\r\n\r\n")
        with suppress(ConnectionError):
            while plain.recv(4096):
                pass
    unharmed(gateway)


def test_a_thousand_half_open_connections_keep_nobody_out(gateway: ApiGateway) -> None:
    with ExitStack() as opened:
        for number in range(1000):
            connection = opened.enter_context(socket.create_connection((gateway.host, gateway.port), timeout=60))
            if number % 2:
                connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        unharmed(gateway)
    unharmed(gateway)


def test_a_token_counts_for_its_own_request_only(gateway: ApiGateway, wiretap: Overheard) -> None:
    """Nothing of one request is left for the next, be it on the same connection and from the same bytes."""
    before = len(wiretap.requests())
    anonymous = b"GET /api/v1/secrets HTTP/1.1\r\nHost: gateway\r\n\r\n"
    forged = b"GET /api/v1/secrets HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer forged\r\n\r\n"

    for other in (anonymous, forged):
        with Client(gateway) as client:
            client.says(get("/version") + other + get("/version"))
            statuses = [status for status, _ in client.hears(3)]
        assert statuses == [200, 401, 200]

    assert {request.target for request in wiretap.requests()[before:]} == {"/version"}
