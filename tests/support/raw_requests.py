"""Requests as no client library sends them: those that everybody understands alike, and those to be refused.

`@` stands for the headers that each needs: Host and Authorization.
"""

from __future__ import annotations

LAST = "/the/last/one"
"""A path of nothing, for the request that shows where the one before it ended."""
POD = "/api/v1/namespaces/default/pods/web"


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
