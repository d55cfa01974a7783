"""What Kubernetes' own code makes of requests (tests/vectors/requestinfo), and what ours makes of them: the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from ostiary_gateway.protocols.kubernetes.request_info import request_info
from ostiary_gateway.protocols.kubernetes.wire import RequestReader, WireError

VECTORS = Path(__file__).parents[4] / "vectors" / "requestinfo" / "vectors.jsonl"


@dataclass(frozen=True, slots=True)
class Vector:
    """`plain`: nothing in the target can be read in two ways. Without it, or with an error, it has to be refused."""

    method: str
    target: str
    plain: bool
    error: str = ""
    badLabels: bool = False
    path: str = ""
    isResource: bool = False
    verb: str = ""
    info: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)
    selectors: list[str] = field(default_factory=list)
    query: dict[str, list[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


def vectors() -> list[Vector]:
    return [Vector(**json.loads(line)) for line in VECTORS.read_text("utf-8").splitlines()]


def odd_watch(vector: Vector) -> bool:
    """By its path it is a watch, though it is no GET: what it would do is not what it is called."""
    return vector.verb == "watch" and vector.method not in ("GET", "HEAD")


def refusal(vector: Vector) -> str:
    """Of the wire or of request_info, as a request takes its way."""
    try:
        head = f"{vector.method} {vector.target} HTTP/1.1\r\nHost: gateway\r\n\r\n"
        (request,) = RequestReader(max_body=0).feed(head.encode())
        assert request.head.target.decode() == vector.target
        request_info(request.head.method, request.head.target)
    except WireError as problem:
        return f"{problem.status} {problem.message}"
    return ""


def test_what_can_be_read_in_two_ways_is_refused_and_nothing_else() -> None:
    wrong = [
        f"{vector}: {refusal(vector) or 'not refused'}"
        for vector in vectors()
        if bool(refusal(vector)) is (vector.plain and not vector.error and not odd_watch(vector))
    ]
    assert not wrong


def test_all_else_is_what_the_api_server_computes() -> None:
    compared = 0
    for vector in vectors():
        if not vector.plain or vector.error or odd_watch(vector):
            continue
        info = request_info(vector.method, vector.target.encode())
        assert (info.path, info.is_resource, info.verb) == (vector.path, vector.isResource, vector.verb), vector
        ours = [info.api_prefix, info.group, info.version, info.namespace, info.resource, info.subresource, info.name]
        if vector.badLabels and vector.verb in ("list", "watch"):
            # Without a name to the authorizer; but then no selector parses, and the API server refuses the request.
            ours[-1] = vector.info[-1]
        assert ours == vector.info, vector
        assert list(info.parts) == vector.parts, vector
        assert [info.label_selector, info.field_selector] == vector.selectors, vector
        assert {name: info.values(name) for name, _ in info.query} == vector.query, vector
        assert info.watch is (vector.verb == "watch"), vector
        compared += 1
    assert compared > 1000
