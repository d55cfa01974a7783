"""What the API server's own reader makes of YAML (tests/vectors/yaml), and what ours accepts of it: the same values."""

from __future__ import annotations

import json
from pathlib import Path

from ostiary_gateway.protocols.kubernetes.bodies import APPLY_PATCH, parse_yaml, write_body
from ostiary_gateway.protocols.kubernetes.messages import WireError

VECTORS = Path(__file__).parents[4] / "vectors" / "yaml" / "vectors.jsonl"
REFUSED = object()


def vectors() -> list[tuple[str, object]]:
    """Documents, each with its value or REFUSED."""
    lines = [json.loads(line) for line in VECTORS.read_text("utf-8").split("\n") if line]
    return [(line["yaml"], line.get("json", REFUSED)) for line in lines]


def ours(text: str) -> object:
    try:
        return parse_yaml(text.encode())
    except WireError:
        return REFUSED


def same(one: object, other: object) -> bool:
    """Whole numbers may have a point or none: to the API server it is the same number."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) is isinstance(other, bool) and one == other


def test_what_we_accept_has_the_value_that_the_api_server_reads() -> None:
    accepted = [(text, value) for text, value in vectors() if ours(text) is not REFUSED]

    assert [(text, value, ours(text)) for text, value in accepted if not same(ours(text), value)] == []
    assert len(accepted) > 300


def test_what_is_forwarded_is_read_by_the_api_server_as_the_same_value() -> None:
    forwarded = [(text, value) for text, value in vectors() if text.startswith("{")]

    for text, value in forwarded:
        assert same(ours(text), value), text
        assert write_body(ours(text), APPLY_PATCH).decode() == text
    assert len(forwarded) > 10


def test_ordinary_manifests_are_accepted() -> None:
    for scalar in ("v1", "100m", "1Gi", "nginx:1.25", "10.0.0.1", "1.2.3", "42", "true", "~", "plain words", "'no'",
                   "--flag=x", "8080", "0.5", "[a, b]", "{a: b}", '"1"', "-1", ""):  # fmt: skip
        assert ours(f"a: {scalar}") is not REFUSED, scalar
