"""A real API server keeps the newest seals of a store in a ConfigMap, by server-side apply."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.cluster import Cluster

from ostiary_gateway.kube.access import from_kubeconfig
from ostiary_gateway.kube.client import KubeClient
from ostiary_store.anchored import Anchored
from ostiary_store.anchors import ConfigMapAnchor, read

pytestmark = pytest.mark.cluster


def seal(number: int) -> Anchored:
    return Anchored(number, f"{number:064x}", float(number), "95fa42b410837e4e", "ab" * 64)


async def test_the_last_seals_are_kept_and_read_back(cluster: Cluster) -> None:
    where = f"configmap:{cluster.namespace}/anchors"
    async with KubeClient(from_kubeconfig(Path(cluster.environment["KUBECONFIG"]))) as client:

        async def same() -> KubeClient:
            return client

        anchor = ConfigMapAnchor(client, cluster.namespace, "anchors", kept=3)
        for number in (1, 2):
            await anchor.note(seal(number))
        assert [each.number for each in await read(where, same)] == [1, 2]
        # Another replica, or the same one after a restart, goes on from what is there.
        another = ConfigMapAnchor(client, cluster.namespace, "anchors", kept=3)
        for number in (3, 4):
            await another.note(seal(number))
        found = await read(where, same)
        assert [each.number for each in found] == [2, 3, 4]
        assert found[-1].hash == seal(4).hash
    newest = json.loads(cluster.get("configmap", "anchors")["data"]["newest"])
    assert newest["seal"] == 4
