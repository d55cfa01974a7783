"""The release in a cluster with nodes: whether it is there, and whether all that it changes has come to rest."""

from __future__ import annotations

import json

from support.full_cluster import SYSTEM, FullCluster
from support.shop import Shop, until

PATIENCE = 240.0
"""Seconds: pods are replaced one by one, and each takes its time to begin and to end."""


def installed(cluster: FullCluster) -> bool:
    """Whether the release is there and complete."""
    done = cluster.helm("status", "ostiary", "-o", "json")
    return done.returncode == 0 and json.loads(done.stdout)["info"]["status"] == "deployed"


def settled(release: FullCluster, shop: Shop) -> None:
    """Until operators and gateways are those that the release's values ask for, and nobody is on the way in or out.

    helm waits for the operator's new pods only: the one that leads may still be an old one, and what a new one makes
    of the values reaches the gateways after that.
    """
    system = release.within(SYSTEM)
    system.ok("rollout", "status", "deployment/ostiary-operator", f"--timeout={PATIENCE:.0f}s")
    until(lambda: _looked(system), "the operator has looked at every gateway", PATIENCE)
    shop.cluster.ok("rollout", "status", "deployment/ostiary-shop", f"--timeout={PATIENCE:.0f}s")
    until(shop.at_rest, "the gateway's pods are all new, and ready", PATIENCE)


def _looked(system: FullCluster) -> bool:
    """Whether an operator that stays leads, and has written what every gateway should be."""
    leader = system.get("lease", "ostiary-operator")["spec"].get("holderIdentity", "")
    listed = system.get("pods", "-l", "app.kubernetes.io/name=ostiary-operator")["items"]
    pods = {each["metadata"]["name"]: each["metadata"] for each in listed}
    if leader not in pods or any("deletionTimestamp" in each for each in pods.values()):
        return False
    metrics = system.kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{leader}:8080/proxy/metrics")
    looked = [line for line in metrics.stdout.splitlines() if line.startswith(_LOOKED)]
    return bool(looked) and float(looked[0].rpartition(" ")[2]) >= 1 and _quiet(metrics.stdout)


_LOOKED = 'ostiary_operator_reconcile_seconds_count{kind="Gateway"}'


def _quiet(metrics: str) -> bool:
    """Whether nothing is being written just now."""
    active = [line for line in metrics.splitlines() if line.startswith("ostiary_operator_queue_active ")]
    return active == ["ostiary_operator_queue_active 0.0"]
