"""One control plane for the whole folder, and gateways in front of it."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from support import api_gateway
from support import cluster as clusters
from support.api_gateway import ApiGateway, Plane
from support.gateway import Manifest

StartApiGateway = Callable[..., ApiGateway]
"""What the fixture `start` gives: policies …, settings of the Connection."""


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """The API server, with a namespace of this run only."""
    try:
        with clusters.cluster(tmp_path_factory.mktemp("plane")) as found:
            namespace = f"api-{uuid.uuid4().hex[:8]}"
            found.ok("create", "namespace", namespace)
            yield replace(api_gateway.plane(found), cluster=replace(found, namespace=namespace))
            found.ok("delete", "namespace", namespace, "--wait=false")
    except clusters.Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def start(plane: Plane) -> Iterator[StartApiGateway]:
    """`start(policies…, settings of the Connection…)`: a running gateway; with no policy everything is allowed."""
    started: list[ApiGateway] = []

    def begin(*policies: Manifest, **spec: object) -> ApiGateway:
        made = api_gateway.prepare(plane, *policies, **spec)
        started.append(made)
        made.start()
        return made

    yield begin
    failures: list[AssertionError] = []
    for each in started:
        try:
            each.destroy()
        except AssertionError as failure:
            failures.append(failure)
    assert not failures


@pytest.fixture(scope="module")
def gateway(start: StartApiGateway) -> ApiGateway:
    """A gateway that allows everything."""
    return start()


@pytest.fixture
def namespace(plane: Plane) -> Iterator[str]:
    """A namespace of one test."""
    name = f"ns-{uuid.uuid4().hex[:8]}"
    plane.cluster.ok("create", "namespace", name)
    yield name
    plane.cluster.ok("delete", "namespace", name, "--wait=false")
