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
from support.raw_requests import LAST, REFUSED, SAME, get

from ostiary_gateway.protocols.kubernetes.request_info import RequestInfo, request_info
from ostiary_gateway.protocols.kubernetes.wire import RequestReader, WireError

pytestmark = pytest.mark.cluster


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
