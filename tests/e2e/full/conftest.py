"""A cluster with nodes, and the release in it that the tests share."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import api_gateway
from support import full_cluster as clusters
from support.api_gateway import ApiGateway
from support.cluster import Unavailable
from support.full_cluster import SYSTEM, FullCluster
from support.kubectl_pairs import Kubectl, both
from support.shop import NAMESPACE, Shop

EXAMPLE = "tests/e2e/full/example"
CRDS = ["connections.ostiary.dev", "gatewaypolicies.ostiary.dev", "approvalrequests.ostiary.dev"]


@pytest.fixture(scope="session")
def full_cluster() -> Iterator[FullCluster]:
    """The cluster, with the images in it, and nothing of Ostiary installed.

    E2E_KEEP=1 takes what is installed already, and leaves it: for who works on these tests.
    """
    try:
        with clusters.full_cluster() as found:
            if not os.environ.get("E2E_KEEP") and found.kubectl("get", "crd", *CRDS).returncode == 0:
                raise Unavailable("Ostiary is installed in this cluster already; the tests need one without it")
            found.make_images()
            yield found
    except Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture(scope="session")
def release(full_cluster: FullCluster) -> Iterator[FullCluster]:
    """The chart installed, by the step that `make kind` has as well; taken away again with everything it made."""
    full_cluster.step("install")
    yield full_cluster.within(SYSTEM)
    if not os.environ.get("E2E_KEEP"):
        full_cluster.step("remove", EXAMPLE=EXAMPLE)


@pytest.fixture(scope="session")
def shop(release: FullCluster) -> Shop:
    """The example, with its agent at work."""
    release.step("example", EXAMPLE=EXAMPLE)
    found = Shop(release)
    found.cluster.ok("rollout", "status", "deployment/planner", "deployment/database", "--timeout=240s")
    return found


@pytest.fixture(scope="session")
def gateway(full_cluster: FullCluster) -> Iterator[ApiGateway]:
    """A gateway that allows everything, before the cluster's API server."""
    made = api_gateway.prepare(api_gateway.plane(full_cluster))
    try:
        made.start()
        yield made
    finally:
        made.destroy()


@pytest.fixture
def sides(gateway: ApiGateway, tmp_path: Path) -> Iterator[tuple[Kubectl, Kubectl]]:
    """Directly, and through the gateway."""
    with both(gateway, tmp_path) as found:
        yield found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[None]:
    """What a failed test leaves behind is shown: logs and events say more than the assertion."""
    report = yield
    if report.failed and (found := item.funcargs.get("release")) is not None:  # type: ignore[attr-defined]
        report.sections.append(("cluster", _look(found)))
    return report


def _look(found: FullCluster) -> str:
    texts = []
    for command in (
        ["get", "gwconn,gwpol,apr,pods", "-A", "-o", "wide"],
        ["get", "events", "-A", "--sort-by=.lastTimestamp"],
        ["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/name=ostiary-operator", "--tail=60", "--prefix"],
        ["logs", "-n", NAMESPACE, "-l", "app.kubernetes.io/name=ostiary-gateway", "--tail=60", "--prefix"],
    ):
        try:
            done = found.kubectl(*command)
        except subprocess.TimeoutExpired:
            continue
        texts.append(f"$ kubectl {' '.join(command)}\n{done.stdout[-6000:]}{done.stderr[-2000:]}")
    return "\n".join(texts)
