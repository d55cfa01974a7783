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
