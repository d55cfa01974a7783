"""What a method and a target say, case by case. The answers of the API server's own code are in the vectors."""

from __future__ import annotations

import pytest

from ostiary_gateway.protocols.kubernetes.request_info import RequestInfo, request_info
from ostiary_gateway.protocols.kubernetes.wire import WireError


def seen(method: str, target: str) -> str:
    """verb group/version namespace resource/subresource name, as far as there are."""
    info = request_info(method, target.encode())
    if not info.is_resource:
        return f"{info.verb} {info.path}"
    kind = info.resource + (f"/{info.subresource}" if info.subresource else "")
    return " ".join(
        (info.verb, f"{info.group}/{info.version}", info.namespace or "-", kind, info.name or "-"),
    )


@pytest.mark.parametrize(
    ("request_line", "what"),
    [
        ("GET /api/v1/namespaces/prod/pods/web", "get /v1 prod pods web"),
        ("HEAD /api/v1/namespaces/prod/pods/web", "get /v1 prod pods web"),
        ("GET /api/v1/pods", "list /v1 - pods -"),
        ("GET /api/v1/pods/", "list /v1 - pods -"),
        ("GET /api/v1/pods?watch=true", "watch /v1 - pods -"),
        ("GET /api/v1/pods?watch=", "watch /v1 - pods -"),
        ("GET /api/v1/pods?watch=0", "list /v1 - pods -"),
        ("GET /api/v1/pods?watch=FALSE", "list /v1 - pods -"),
        ("GET /api/v1/pods?watch=false&watch=true", "list /v1 - pods -"),
        ("GET /api/v1/watch/pods", "watch /v1 - pods -"),
        ("GET /api/v1/watch/namespaces/prod/pods/web", "watch /v1 prod pods web"),
        ("GET /api/v1/proxy/namespaces/prod/pods/web/a/b", "proxy /v1 prod pods web"),
        ("POST /apis/apps/v1/namespaces/prod/deployments", "create apps/v1 prod deployments -"),
        ("PATCH /apis/apps/v1/namespaces/prod/deployments/web/scale", "patch apps/v1 prod deployments/scale web"),
        ("DELETE /apis/apps/v1/namespaces/prod/deployments", "deletecollection apps/v1 prod deployments -"),
        ("OPTIONS /apis/apps/v1/namespaces/prod/deployments", " apps/v1 prod deployments -"),
        ("GET /api/v1/namespaces", "list /v1 - namespaces -"),
        ("GET /api/v1/namespaces/prod", "get /v1 prod namespaces prod"),
        ("PUT /api/v1/namespaces/prod/finalize", "update /v1 prod namespaces/finalize prod"),
        ("PUT /api/v1/namespaces/prod/status", "update /v1 prod namespaces/status prod"),
        ("GET /api/v1/namespaces/prod/status/a", "get /v1 prod namespaces/status prod"),
        ("GET /api/v1/namespaces/prod/pods/web/proxy/a/b", "get /v1 prod pods/proxy web"),
        ("GET /api/v1/pods?fieldSelector=metadata.name%3Dweb", "list /v1 - pods web"),
        ("GET /api/v1/pods?watch=1&fieldSelector=metadata.name==web,spec.nodeName!=x", "watch /v1 - pods web"),
        ("GET /api/v1/pods?fieldSelector=metadata.name!=web", "list /v1 - pods -"),
        ("GET /api/v1/pods?fieldSelector=metadata.name=a%5C,b", "list /v1 - pods a,b"),
        ("GET /api/v1/pods?fieldSelector=metadata.name=z,metadata.name=a", "list /v1 - pods a"),
        ("GET /api/v1/pods?fieldSelector=metadata.name=web&limit=many", "list /v1 - pods -"),
        ("GET /api/v1/pods?fieldSelector=metadata.name=a/b", "list /v1 - pods -"),
        ("DELETE /api/v1/pods?fieldSelector=metadata.name=web", "deletecollection /v1 - pods -"),
        ("GET /apis/a.io/v1/clusterroles/system%3Anode", "get a.io/v1 - clusterroles system:node"),
        ("GET /", "get /"),
        ("GET /healthz", "get /healthz"),
        ("GET /api", "get /api"),
        ("GET /api/v1", "get /api/v1"),
        ("GET /apis/apps/v1", "get /apis/apps/v1"),
        ("POST /apis/apps/v1", "post /apis/apps/v1"),
        ("GET /openapi/v3/apis/apps/v1?hash=1", "get /openapi/v3/apis/apps/v1"),
    ],
)  # fmt: skip
def test_it_is_what_the_api_server_computes(request_line: str, what: str) -> None:
    assert seen(*request_line.split(" ")) == what


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("//api/v1/pods", "empty segment"),
        ("/api//v1/pods", "empty segment"),
        ("/api/v1/pods//", "empty segment"),
        ("/healthz/../api/v1/secrets", "segment . or .."),
        ("/api/v1/./pods", "segment . or .."),
        ("/api/v1/pods/..", "segment . or .."),
        ("/api/v1/%2e%2e/pods", "segment . or .."),
        ("/api/v1/.%2E/pods", "segment . or .."),
        ("/api/v1/namespaces%2fprod/pods", "encoded slash"),
        ("/api/v1/namespaces%2Fprod/pods", "encoded slash"),
        ("/api/v1/pods/a%5cb", "backslash"),
        ("/api/v1/pods/a\\b", "percent-encoded"),
        ("/api/v1/pods/a%252fb", "percent sign"),
        ("/api/v1/pods/a%00", "NUL"),
        ("/api/v1/pods/a%0a", "control characters"),
        ("/api/v1/pods/%ff", "not UTF-8"),
        ("/api/v1/pods/%c0%af", "not UTF-8"),
        ("/api/v1/pods/%zz", "two hexadecimal digits"),
        ("/api/v1/pods/%2", "two hexadecimal digits"),
        ("/api/v1/pods/{name}", "percent-encoded"),
        ("/api/v1/pods/a#b", "percent-encoded"),
        ("api/v1/pods", "begin with a slash"),
        ("*", "begin with a slash"),
        ("http://other/api/v1/pods", "begin with a slash"),
        ("/api/v1/watch", "names no resource"),
        ("/apis/apps/v1/proxy", "names no resource"),
        ("/api/v1/pods?a=\xe4", "percent-encoded"),
        ("/api/v1/pods?a#b", "percent-encoded"),
        ("/api/v1/pods?a=%zz", "two hexadecimal digits"),
        ("/api/v1/pods?watch=1;limit=2", "semicolon"),
        ("/api/v1/pods?a=%ff", "not UTF-8"),
        ("/api/v1/pods?a=%00", "NUL"),
        ("/api/v1/pods?" + "a&" * 1000, "more than 1000"),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused(target: str, why: str) -> None:
    with pytest.raises(WireError, match=why) as refused:
        request_info("GET", target.encode())
    assert (refused.value.status, refused.value.reason) == (400, "BadRequest")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_watch_in_the_path_is_a_get(method: str) -> None:
    with pytest.raises(WireError) as refused:
        request_info(method, b"/api/v1/watch/pods")
    assert (refused.value.status, refused.value.reason) == (405, "MethodNotAllowed")


def test_the_query_is_there_decoded_and_in_order() -> None:
    info = request_info("POST", b"/api/v1/namespaces/n/pods/p/exec?command=ls&command=-l+%22a%20b%22&stdin=true&&x")
    assert info.query == (("command", "ls"), ("command", '-l "a b"'), ("stdin", "true"), ("x", ""))
    assert info.values("command") == ["ls", '-l "a b"']
    assert (info.value("stdin"), info.value("none")) == ("true", "")
    assert info.parts == ("pods", "p", "exec")


def test_selectors_are_those_that_the_verb_honours() -> None:
    def selectors(method: str, target: bytes) -> tuple[str, str]:
        info = request_info(method, target)
        return info.label_selector, info.field_selector

    query = b"?labelSelector=app%3Dweb&fieldSelector=spec.nodeName%3Dn"
    assert selectors("GET", b"/api/v1/pods" + query) == ("app=web", "spec.nodeName=n")
    assert selectors("DELETE", b"/api/v1/namespaces/n/pods" + query) == ("app=web", "spec.nodeName=n")
    assert selectors("GET", b"/api/v1/namespaces/n/pods/p" + query) == ("", "")
    assert selectors("GET", b"/api/v1/watch/pods" + query) == ("", "")


@pytest.mark.parametrize(
    ("query", "dry"),
    [("", False), ("dryRun=All", True), ("dryRun=All&dryRun=All", True), ("dryRun=all", False), ("dryRun=", False),
     ("dryRun=All&dryRun=None", False)],
)  # fmt: skip
def test_only_what_the_api_server_takes_for_a_dry_run_is_one(query: str, dry: bool) -> None:
    assert request_info("POST", f"/api/v1/namespaces/n/pods?{query}".encode()).dry_run is dry


def test_it_can_be_a_key() -> None:
    assert {request_info("GET", b"/api"), request_info("GET", b"/api")} == {RequestInfo(False, "/api", "get")}


@pytest.mark.parametrize(
    ("target", "streams"),
    [
        ("/api/v1/pods?watch=1", True),
        ("/api/v1/watch/pods", True),
        ("/api/v1/namespaces/n/pods/p/log?follow=true", True),
        ("/api/v1/namespaces/n/pods/p/log?follow=yes", True),
        ("/api/v1/namespaces/n/pods/p/log?follow=", True),
        ("/api/v1/namespaces/n/pods/p/log?follow=False", False),
        ("/api/v1/namespaces/n/pods/p/log?follow=0&follow=1", False),
        ("/api/v1/namespaces/n/pods/p/log", False),
        ("/api/v1/namespaces/n/pods/p?watch=1", False),
        ("/api/v1/pods?follow=1", False),
    ],
)
def test_what_goes_on_until_somebody_ends_it_is_known(target: str, streams: bool) -> None:
    assert request_info("GET", target.encode()).streams is streams
