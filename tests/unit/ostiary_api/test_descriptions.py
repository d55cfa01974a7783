"""`kubectl explain` has something to say about every field, and what it says helps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from ostiary_api.schema import KINDS, structural_schema

Schema = dict[str, Any]
FEWEST_WORDS = 4


def fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema]]:
    """Every field that `kubectl explain PATH` can be asked about, list items and maps passed through as it does."""
    inner = schema.get("items") or schema.get("additionalProperties")
    if isinstance(inner, dict):
        yield from fields(inner, path)
    for name, item in schema.get("properties", {}).items():
        yield f"{path}.{name}", item
        yield from fields(item, f"{path}.{name}")


def explained() -> list[tuple[str, str]]:
    found = []
    for kind in KINDS:
        schema = structural_schema(kind)
        found.append((kind.__name__, schema.get("description", "")))
        for path, item in fields(schema, kind.__name__):
            # The API server writes that of metadata itself.
            if path != f"{kind.__name__}.metadata":
                found.append((path, item.get("description", "")))
    return found


def test_the_walk_comes_everywhere() -> None:
    paths = [path for path, _ in explained()]
    assert len(paths) == len(set(paths)) > 250
    for path in (
        "Connection.spec.upstream.tls.caRef.key",
        "Connection.status.conditions.lastTransitionTime",
        "GatewayPolicy.spec.rules.masking.strategy.keyRef.name",
        "ApprovalRequest.spec.decisions.approver",
    ):
        assert path in paths


@pytest.mark.parametrize(("path", "text"), explained(), ids=[path for path, _ in explained()])
def test_every_field_is_described(path: str, text: str) -> None:
    words = re.findall(r"[\w/.:-]+", text)
    assert len(words) >= FEWEST_WORDS, f"{path}: {text!r} says nothing that the name does not say"
    assert text[0].isupper(), f"{path}: {text!r} is no sentence"
    assert text.endswith("."), f"{path}: {text!r} has no end"
    assert not re.search(r"TODO|TBD|FIXME|\s\s|\n", text), f"{path}: {text!r}"
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", path.rpartition(".")[2]).lower()
    assert text.lower().rstrip(".").removeprefix("the ") != name
