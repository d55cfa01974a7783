"""Raw bytes, straight to the API server and to our reader: what we accept, it understands in the same way.

The API server says what it understood: an account without rights is told the verb, the resource, the namespace and the
path that it may not have. A last request on the same connection shows where the one before it ended.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
from collections.abc import Iterator

import pytest
from support.api_gateway import Plane

from ostiary_gateway.protocols.kubernetes.request_info import RequestInfo, request_info
from ostiary_gateway.protocols.kubernetes.wire import RequestReader, WireError

pytestmark = pytest.mark.cluster

LAST = "/the/last/one"
POD = "/api/v1/namespaces/default/pods/web"


class Account:
    """Somebody who is known and may do nothing, on raw connections."""

    def __init__(self, plane: Plane, token: str) -> None:
        self.plane = plane
        self.headers = f"Host: {plane.host}\r\nAuthorization: Bearer {token}\r\n".encode()
        self.tls = ssl.create_default_context(cadata=plane.authorities)
        self.tls.set_alpn_protocols(["http/1.1"])

    def completed(self, raw: bytes) -> bytes:
        """With the headers in the place of `@`, and the last request behind it."""
        last = f"GET {LAST} HTTP/1.1\r\nConnection: close\r\n".encode() + self.headers + b"\r\n"
        return raw.replace(b"@", self.headers) + last

    def understood_there(self, raw: bytes) -> list[str]:
        """What the API server says of each request, until it closes the connection."""
        with (
            socket.create_connection((self.plane.host, self.plane.port), timeout=60) as plain,
            self.tls.wrap_socket(plain, server_hostname=self.plane.host) as connection,
        ):
            connection.sendall(self.completed(raw))
            answer = b""
            try:
                while f'path \\"{LAST}\\"'.encode() not in answer and (data := connection.recv(65536)):
                    answer += data
            except (ConnectionResetError, ssl.SSLEOFError):
                pass
        return [echoed(status, body) for status, body in responses(answer)]

    def understood_here(self, raw: bytes) -> list[str]:
        """What our reader understands. Raises WireError."""
        reader = RequestReader(max_body=1 << 20)
        requests = reader.feed(self.completed(raw))
        reader.feed(b"")
        return [words(request_info(each.head.method, each.head.target)) for each in requests]


def responses(answer: bytes) -> Iterator[tuple[int, bytes]]:
    """Status and body of each response; those of the API server that are refusals have a length."""
    while answer:
        head, _, answer = answer.partition(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        if status == 100:
            continue
        length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
        size = int(length[1]) if length else len(answer)
        yield status, answer[:size]
        answer = answer[size:]


def echoed(status: int, body: bytes) -> str:
    """The verb and what it is about, of the message of a 403; otherwise the status."""
    if status != 403:
        return str(status)
    message = json.loads(body)["message"]
    path = re.search(r'cannot (\S*) path "(.*)"$', message, re.DOTALL)
    if path:
        return f"{path[1]} {path[2]}"
    found = re.search(
        r'^\S+?(?: "(?P<name>.*)")? is forbidden: .* cannot (?P<verb>\S*) resource "(?P<resource>.*?)" '
        r'in API group "(?P<group>.*?)" (?:in the namespace "(?P<namespace>.*?)"|at the cluster scope)$',
        message,
        re.DOTALL,
    )
    assert found, message
    parts = found.groupdict(default="-")
    return " ".join(parts[name] for name in ("verb", "group", "resource", "namespace", "name"))


def words(info: RequestInfo) -> str:
    if not info.is_resource:
        return f"{info.verb} {info.path}"
    resource = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    return f"{info.verb} {info.group} {resource} {info.namespace or '-'} {info.name or '-'}"


@pytest.fixture(scope="module")
def account(plane: Plane) -> Account:
    plane.cluster.ok("create", "serviceaccount", "nobody")
    return Account(plane, plane.cluster.ok("create", "token", "nobody").strip())


def get(target: str) -> bytes:
    return f"GET {target} HTTP/1.1\r\n@\r\n".encode()


def post(more: str, body: str = "") -> bytes:
    """To a path that answers whoever asks with a refusal."""
    return f"POST /api/v1/namespaces/default/pods HTTP/1.1\r\n@{more}\r\n{body}".encode()


SAME = [
    get(POD),
    get(f"{POD}/"),
    get("/api/v1/pods"),
    get("/api/v1/pods?watch=true"),
    get("/api/v1/pods?watch="),
    get("/api/v1/pods?watch=0&watch=1"),
    get("/api/v1/pods?fieldSelector=metadata.name%3Dweb"),
    get("/api/v1/pods?fieldSelector=metadata.name%3Dweb&limit=x"),
    get("/api/v1/watch/namespaces/default/pods/web"),
    get(f"{POD}/status"),
    get(f"{POD}/log?follow=true"),
    get(f"{POD}/proxy/a/b"),
    get(f"{POD}/exec?command=a&command=b"),
    get("/api/v1/namespaces/default"),
    get("/api/v1/namespaces/default/status"),
    get("/api/v1/namespaces/default/status/more"),
    get("/api/v1/nodes/n/proxy/logs/secret"),
    get("/apis/apps/v1/namespaces/default/deployments/web/scale"),
    get("/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode"),
    get("/apis/rbac.authorization.k8s.io/v1/clusterroles/a%20b"),
    get("/apis/none.example.com/v1/namespaces/default/things/x/y/z"),
    get("/api/v9/namespaces/default/pods"),
    get("/api/v1/proxy/namespaces/default/pods/web/x"),
    get("/nothing/here"),
    get("/nothing/"),
    get("/metrics/"),
    get("/logs/kube-apiserver.log"),
    b"DELETE /api/v1/namespaces/default/pods HTTP/1.1\r\n@\r\n",
    f"DELETE {POD} HTTP/1.1\r\n@Content-Length: 2\r\n\r\n{{}}".encode(),
    f"PUT {POD} HTTP/1.1\r\n@Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n".encode(),
    f"PATCH {POD}/scale HTTP/1.1\r\n@Content-Length: 0\r\n\r\n".encode(),
    f"OPTIONS {POD} HTTP/1.1\r\n@\r\n".encode(),
    post("Content-Length: 2\r\n", "{}"),
    post("Transfer-Encoding: chunked\r\n", "2\r\n{}\r\n0\r\n\r\n"),
    post("Transfer-Encoding: Chunked\r\n", "00002;x=y\r\n{}\r\n0\r\nTrailer: x\r\n\r\n"),
    post("X-Empty:\r\nX-Tab:\ta\tb\t\r\nContent-Length: 0\r\n"),
    b"POST /nothing HTTP/1.1\r\n@Connection: TE, keep-alive\r\nContent-Length: 1\r\n\r\nx",
    get(POD) + get("/api/v1/secrets") + get(f"{POD}?a=b"),
    post("Content-Length: 0\r\n") + get(POD),
]

REFUSED = [
    # Paths that are cleaned, redirected or cut on the way.
    get("//api/v1/secrets"),
    get("/api//v1/secrets"),
    get("/api/v1/secrets//"),
    get("/healthz/../api/v1/secrets"),
    get("/api/v1/namespaces/default/../kube-system/secrets"),
    get("/api/v1/./secrets"),
    get("/api/v1/%2e%2e/secrets"),
    get("/api/v1/namespaces%2fkube-system%2fsecrets"),
    get("/api/v1/namespaces/default%2F..%2Fkube-system/secrets"),
    get("/api/v1/secrets%00"),
    get("/api/v1/secrets%0d%0aX"),
    get("/api/v1/secrets%5c.."),
    get("/api/v1/secrets%zz"),
    get("/api/v1/secrets%ff"),
    get("/api/v1/secrets%252e"),
    get("/api/v1/secrets#x"),
    get("/api/v1/pods?a;watch=1"),
    get("/api/v1/pods?a=%zz&watch=1"),
    get("http://elsewhere/api/v1/secrets"),
    get("*"),
    get("api/v1/secrets"),
    get("/api/v1/watch"),
    b"DELETE /api/v1/watch/namespaces/default/pods HTTP/1.1\r\n@\r\n",
    # Messages of which two readers see different ones.
    post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n"),
    post("Content-Length: 0\r\nContent-Length: 5\r\n"),
    post("Content-Length: 2\r\nContent-Length: 2\r\n", "{}"),
    post("Content-Length: 2, 2\r\n", "{}"),
    post("Content-Length: +2\r\n", "{}"),
    post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
    post("Transfer-Encoding: identity\r\n"),
    post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"),
    post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"),
    post("Transfer-Encoding : chunked\r\n", "0\r\n\r\n"),
    post("Transfer-Encoding: chunked\r\n", "2\n{}\n0\n\n"),
    post("Transfer-Encoding: chunked\r\n", "2\r\n{}x\r\n0\r\n\r\n"),
    post("Transfer-Encoding: chunked\r\n", "0x2\r\n{}\r\n0\r\n\r\n"),
    post("Transfer-Encoding: chunked\r\n", "2 \r\n{}\r\n0\r\n\r\n"),
    post("X: a\r\n Content-Length: 2\r\n", "{}"),
    post("X: a\rContent-Length: 2\r\n", "{}"),
    post("X: a\nContent-Length: 2\r\n", "{}"),
    post("X\x00: a\r\n"),
    post(": a\r\n"),
    post("Content-Length: 2\r\nContent-Encoding: gzip\r\n", "{}"),
    get(POD).replace(b"\r\n", b"\n"),
    get(POD).replace(b"HTTP/1.1", b"HTTP/1.0"),
    get(POD).replace(b"HTTP/1.1", b"HTTP/1.2"),
    get(POD).replace(b" HTTP/1.1", b""),
    get(POD).replace(b"GET", b"get"),
    get(POD).replace(b"GET", b"FETCH"),
    get(POD).replace(b"@", b"@Content-Length: 2\r\n") + b"{}",
    get(POD).replace(b"@", b"@Host: elsewhere\r\n"),
    get(POD).replace(b"@", b"@Authorization: Bearer other\r\n"),
    get(POD).replace(b"@", b"@Connection: authorization\r\n"),
    get(POD).replace(b"@", b"@Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    get(POD).replace(b"@", b"@Upgrade: websocket\r\n"),
]


@pytest.mark.parametrize("raw", SAME, ids=lambda raw: raw[:70].decode().replace("\r\n", "|"))
def test_what_is_accepted_is_what_the_api_server_understands(account: Account, raw: bytes) -> None:
    here = account.understood_here(raw)
    assert here[-1] == f"get {LAST}"
    assert account.understood_there(raw) == here


@pytest.mark.parametrize("raw", REFUSED, ids=lambda raw: raw[:70].decode().replace("\r\n", "|"))
def test_what_two_could_understand_differently_is_refused(account: Account, raw: bytes) -> None:
    with pytest.raises(WireError):
        account.understood_here(raw)


def test_the_api_server_does_understand_some_of_it(account: Account) -> None:
    """That is why it matters: it takes more than we do, and not always for what it looks like."""
    taken = {
        "//api/v1/secrets": "list  secrets - -",
        "/api/v1/namespaces%2fkube-system%2fsecrets": "list  secrets kube-system -",
        "/api/v1/namespaces/default/../kube-system/secrets": "get  ../secrets default kube-system",
        "/api/v1/pods?a;watch=1": "list  pods - -",
        "http://elsewhere/api/v1/secrets": "list  secrets - -",
        "/api/v1/secrets#x": "list  secrets#x - -",
    }
    for target, understood in taken.items():
        assert get(target) in REFUSED
        assert account.understood_there(get(target)) == [understood, f"get {LAST}"]
    watched = b"DELETE /api/v1/watch/namespaces/default/pods HTTP/1.1\r\n@\r\n"
    assert account.understood_there(watched)[0] == "watch  pods default -"
