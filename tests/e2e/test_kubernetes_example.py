"""examples/kubernetes before a real API server: taken as they are, with strict fields and no warning."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.cluster import Cluster
from support.waiting import until

pytestmark = pytest.mark.cluster

SHOP = Path(__file__).parents[2] / "examples" / "kubernetes" / "shop"


@pytest.fixture(scope="module")
def demo(cluster: Cluster) -> Iterator[Cluster]:
    """The example's namespace and its roles; taken away again if it was not there."""
    new = cluster.kubectl("get", "namespace", "demo").returncode != 0
    for file in ("0-namespace.yaml", "5-approvers.yaml"):
        cluster.ok("apply", "-f", str(SHOP / file), "--namespace=demo")
    yield replace(cluster, namespace="demo")
    if new:
        cluster.ok("delete", "namespace", "demo", "--wait=false")


def test_the_api_server_takes_every_manifest_without_a_warning(demo: Cluster) -> None:
    done = demo.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", str(SHOP))
    assert (done.returncode, done.stderr) == (0, "")
    assert "connection.ostiary.dev/shop created (server dry run)" in done.stdout


def test_only_the_named_group_may_approve_and_only_on_that_connection(demo: Cluster) -> None:
    def may(verb: str, what: str, *who: str) -> bool:
        return demo.kubectl("auth", "can-i", verb, what, *who).stdout.strip() == "yes"

    dba = ("--as=dana", "--as-group=dba")
    until(lambda: may("approve", "connections.ostiary.dev/shop", *dba), "the API server has seen the roles")
    assert may("patch", "approvalrequests.ostiary.dev", *dba)
    assert not may("approve", "connections.ostiary.dev/other", *dba)
    assert not may("approve", "connections.ostiary.dev/shop", "--as=dana")
    assert not may("serve", "connections.ostiary.dev/shop", *dba)
    assert not may("get", "secrets", *dba)
