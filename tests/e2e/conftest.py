"""A Kubernetes API server with the CRDs of this repository."""

from __future__ import annotations

import os
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from support import cluster as clusters
from support.cluster import Cluster
from support.operator import Release, install


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster, with the CRDs, in a namespace of this run only."""
    try:
        with clusters.cluster(tmp_path_factory.mktemp("cluster")) as found:
            crds = clusters.ROOT / "crds"
            applied = found.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(crds))
            assert applied.returncode == 0, applied.stderr
            assert applied.stderr == "", "the API server warns of the CRDs"
            found.ok("wait", "--for=condition=Established", "--timeout=60s", "-f", str(crds))
            namespace = f"ostiary-{uuid.uuid4().hex[:8]}"
            found.ok("create", "namespace", namespace)
            yield replace(found, namespace=namespace)
            found.ok("delete", "namespace", namespace, "--wait=false")
    except clusters.Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def release(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Release]:
    """The chart's objects but its admission policies, in a system namespace of a module's tests."""
    system = f"ostiary-{uuid.uuid4().hex[:6]}"
    there = install(cluster, system, tmp_path_factory.mktemp("operator"))
    yield there
    for kind in ("clusterrolebinding", "clusterrole"):
        names = [each for each in cluster.ok("get", kind, "-o", "name").split() if system in each]
        if names:
            cluster.ok("delete", *names)
    cluster.ok("delete", "namespace", system, "--wait=false")


@pytest.fixture
def shop(cluster: Cluster) -> Iterator[Cluster]:
    """A namespace of one test."""
    name = f"shop-{uuid.uuid4().hex[:6]}"
    cluster.ok("create", "namespace", name)
    yield replace(cluster, namespace=name)
    cluster.ok("delete", "namespace", name, "--wait=false")
