"""Operators that begin, end, are killed and stopped; and an API server that does the same."""

from __future__ import annotations

import os
import signal
import uuid
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.api_server import ApiServer, api_server
from support.cluster import Cluster
from support.operator import Release, eventually, install, operator
from support.operator_objects import EXPECTED, accepted, connection, create, names, policy, secret

pytestmark = pytest.mark.cluster


def test_looking_at_everything_again_writes_nothing(release: Release, shop: Cluster) -> None:
    create(shop, secret(), policy(), *(connection(f"app-{number}") for number in range(3)))
    with operator(release, "resyncing", release.settings(resyncPeriod="2s")) as found:
        eventually(lambda: all(accepted(shop, f"app-{number}") for number in range(3)), why=found.tail)

        def looked() -> float:
            return found.metric("ostiary_operator_reconcile_seconds_count", kind="Gateway")

        settled, seen = -1.0, looked()

        def quiet() -> bool:
            """Nothing was written since all gateways were looked at twice: what is told now and then was told."""
            nonlocal settled, seen
            if found.writes != settled:
                settled, seen = found.writes, looked()
            return looked() >= seen + 6

        eventually(quiet, why=found.tail)
        writes, seen = found.writes, looked()
        eventually(lambda: looked() >= seen + 12, why=found.tail)
        assert found.writes == writes, found.tail()
    # And a replica that begins anew finds everything as it should be.
    with operator(release, "begun-anew") as found:
        eventually(lambda: found.leads and found.metric("ostiary_operator_applies_total", result="unchanged") > 20)
        eventually(lambda: found.metric("ostiary_operator_queue_depth") == 0, why=found.tail)
        assert found.writes == 0.0, found.tail()


def test_the_other_replica_takes_over_when_the_leader_is_killed(release: Release, shop: Cluster) -> None:
    with ExitStack() as stack:
        two = [stack.enter_context(operator(release, f"replica-{number}")) for number in range(2)]
        eventually(lambda: sum(each.leads for each in two) == 1 and all(each.ready for each in two))
        leader, follower = sorted(two, key=lambda each: not each.leads)
        create(shop, secret(), connection("first"))
        eventually(lambda: accepted(shop, "first"), why=leader.tail)
        assert follower.writes == 0.0
        leader.kill(signal.SIGKILL)
        create(shop, connection("second"))
        eventually(lambda: accepted(shop, "second"), why=follower.tail)
        assert follower.leads


def test_a_leader_that_ends_in_order_gives_the_lead_away_at_once(release: Release, shop: Cluster) -> None:
    lease = "-n", release.system, "lease", f"{release.system}-operator"
    with operator(release, "ending") as found:
        eventually(lambda: found.leads, why=found.tail)
        found.kill(signal.SIGTERM)
        assert found.process.returncode == 0, found.tail()
    assert shop.get(*lease)["spec"].get("holderIdentity", "") == ""


def test_a_leader_that_was_stopped_for_a_while_does_not_lead_any_more(release: Release) -> None:
    with operator(release, "stopped") as first, operator(release, "next") as second:
        eventually(lambda: first.leads or second.leads)
        leader, other = (first, second) if first.leads else (second, first)
        os.kill(leader.process.pid, signal.SIGSTOP)
        try:
            eventually(lambda: other.leads, why=other.tail)
        finally:
            os.kill(leader.process.pid, signal.SIGCONT)
        eventually(lambda: leader.get("/metrics")[0] == 200 and not leader.leads, why=leader.tail)
        eventually(lambda: leader.ready, why=leader.tail)
        assert other.leads


def test_only_some_namespaces_are_looked_at_if_so_wished(cluster: Cluster, shop: Cluster, tmp_path: Path) -> None:
    system = f"ostiary-{uuid.uuid4().hex[:6]}"
    there = install(cluster, system, tmp_path, f"watchNamespaces={{{shop.namespace}}}")
    other = replace(cluster, namespace=f"other-{uuid.uuid4().hex[:6]}")
    cluster.ok("create", "namespace", other.namespace)
    try:
        with operator(there, "some") as found:
            eventually(lambda: found.ready and found.leads, why=found.tail)
            for where in (other, shop):
                create(where, secret(), connection(), policy())
            eventually(lambda: accepted(shop), why=found.tail)
            eventually(lambda: names(shop) >= EXPECTED, why=found.tail)
            assert not names(other)
            assert "Forbidden" not in found.log.read_text()
    finally:
        cluster.ok("delete", "namespace", system, other.namespace, "--wait=false")
        for kind in ("clusterrolebinding", "clusterrole"):
            left = [each for each in cluster.ok("get", kind, "-o", "name").split() if system in each]
            cluster.ok("delete", *left)


@pytest.fixture
def own_server(cluster: Cluster) -> ApiServer:
    """The API server's process, where it is one of this machine, brought up for these tests."""
    found = api_server(cluster)
    if found is None:
        pytest.skip("the API server of KUBECONFIG is not ours to kill")
    return found


def test_rights_that_are_taken_away_and_given_back(
    release: Release, shop: Cluster, own_server: ApiServer
) -> None:
    binding = f"{release.system}-operator"
    kept = shop.get("clusterrolebinding", binding)
    # A watch that is not given up for being silent first: kopf must come to its own end.
    patient = {"inactivityTimeout": "40s", "staleAfter": "8s"}
    with operator(release, "deprived", release.settings(watch=patient)) as found:
        create(shop, secret(), connection("before"))
        eventually(lambda: accepted(shop, "before"), why=found.tail)
        shop.ok("delete", "clusterrolebinding", binding)
        try:
            # Established watches go on; new ones are refused.
            own_server.restart()
            eventually(lambda: found.get("/readyz")[0] == 503, why=found.tail)
            eventually(lambda: "kopf is begun anew" in found.log.read_text(), why=found.tail)
            eventually(lambda: "403 Forbidden" in found.get("/readyz")[1], why=found.tail)
        finally:
            for field in ("resourceVersion", "uid", "creationTimestamp", "managedFields"):
                kept["metadata"].pop(field, None)
            shop.ok("create", "-f", "-", manifest=kept)
        create(shop, connection("after"))
        eventually(lambda: accepted(shop, "after"), why=found.tail)


def test_an_api_server_that_is_killed_and_comes_back(
    release: Release, shop: Cluster, own_server: ApiServer
) -> None:
    with operator(release, "outlives") as found:
        create(shop, secret(), connection("before"), connection("leaves"))
        eventually(lambda: accepted(shop, "before") and accepted(shop, "leaves"), why=found.tail)
        own_server.restart()
        shop.ok("delete", "connection", "leaves")
        shop.ok("delete", "service", "ostiary-before")
        create(shop, connection("after"))
        eventually(lambda: accepted(shop, "after"), why=found.tail)
        eventually(lambda: "service/ostiary-before" in names(shop), why=found.tail)
        eventually(lambda: not any("leaves" in each for each in names(shop)), why=found.tail)
        eventually(lambda: found.ready and found.leads, why=found.tail)
        assert found.process.poll() is None


def test_an_api_server_that_goes_silent(release: Release, shop: Cluster, own_server: ApiServer) -> None:
    with operator(release, "patient") as found:
        create(shop, secret(), connection("before"))
        eventually(lambda: accepted(shop, "before") and found.ready, why=found.tail)
        with own_server.silent():
            eventually(lambda: "not heard of" in found.get("/readyz")[1], why=found.tail)
            assert found.get("/readyz")[0] == 503
            # It cannot renew its Lease: for all it knows another replica leads now.
            eventually(lambda: not found.leads, why=found.tail)
            assert found.get("/livez")[0] == 200
        eventually(lambda: found.ready, why=found.tail)
        create(shop, connection("after"))
        eventually(lambda: accepted(shop, "after"), why=found.tail)
