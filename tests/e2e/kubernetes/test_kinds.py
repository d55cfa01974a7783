"""The kinds that tests and explanations know are those that an API server serves."""

from __future__ import annotations

import json

import pytest
from support.api_gateway import Plane

from ostiary_gateway.protocols.kubernetes.kinds import KINDS, of_name, plural

pytestmark = pytest.mark.cluster

ELSEWHERE = {"metrics.k8s.io"}
"""Groups that are not the API server's own."""


@pytest.fixture(scope="module")
def served(plane: Plane) -> dict[tuple[str, str, str], dict[str, object]]:
    """Group, version and resource → what discovery says of it; each group in the version that is preferred."""
    groups = json.loads(plane.cluster.ok("get", "--raw", "/apis"))["groups"]
    paths = {"": "/api/v1"} | {each["name"]: f"/apis/{each['preferredVersion']['groupVersion']}" for each in groups}
    found: dict[tuple[str, str, str], dict[str, object]] = {}
    for group, path in paths.items():
        for each in json.loads(plane.cluster.ok("get", "--raw", path))["resources"]:
            if "/" not in each["name"]:
                found[group, path.rpartition("/")[2], each["name"]] = each
    return found


def test_what_is_known_is_served(served: dict[tuple[str, str, str], dict[str, object]]) -> None:
    for kind in KINDS:
        if kind.group in ELSEWHERE:
            continue
        told = served[kind.group, kind.version, kind.resource]
        assert (told["kind"], told["namespaced"]) == (kind.kind, kind.namespaced), kind
        assert set(kind.short) <= {*map(str, told.get("shortNames", []) or [])}, kind  # type: ignore[call-overload]


def test_what_is_served_is_known(served: dict[tuple[str, str, str], dict[str, object]]) -> None:
    known = {(kind.group, kind.version, kind.resource) for kind in KINDS}
    ours = {key for key in served if key[0] == "" or "." not in key[0] or key[0].endswith(".k8s.io")}
    assert ours - known == set()


def test_the_rule_for_plurals_holds_for_nearly_all(served: dict[tuple[str, str, str], dict[str, object]]) -> None:
    wrong = {name for (_, _, name), told in served.items() if plural(str(told["kind"])) != name}
    assert wrong <= {"endpoints"}


def test_names_of_the_command_line_lead_to_their_kinds() -> None:
    assert {name: of_name(name).resource for name in ("po", "Deployment", "hpa", "svc", "CRDs", "ev")} == {  # type: ignore[union-attr]
        "po": "pods",
        "Deployment": "deployments",
        "hpa": "horizontalpodautoscalers",
        "svc": "services",
        "CRDs": "customresourcedefinitions",
        "ev": "events",
    }
    assert of_name("gizmo") is None
