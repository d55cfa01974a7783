"""Watches through a gateway: bookmarks, many of them, and one that does not read."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from support.api_gateway import ApiGateway, Plane
from support.kubectl_objects import config_map
from support.waiting import until

pytestmark = pytest.mark.cluster

WATCHERS = 50
LARGE = 60
"""Objects of 300 kB that a watcher does not read."""


@contextmanager
def watching(gateway: ApiGateway, namespace: str, **options: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Its events, as they come."""
    query = "&".join(f"{name}={value}" for name, value in {"watch": "true", **options}.items())
    context = ssl.create_default_context(cafile=str(gateway.ca))
    connection = http.client.HTTPSConnection(gateway.host, gateway.port, context=context, timeout=60)
    connection.request(
        "GET",
        f"/api/v1/namespaces/{namespace}/configmaps?{query}",
        headers={"Authorization": f"Bearer {gateway.password}"},
    )
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    try:
        yield (json.loads(line) for line in answer)
    finally:
        connection.close()


def version(gateway: ApiGateway, namespace: str) -> str:
    return str(gateway.get("configmaps", namespace=namespace)["metadata"]["resourceVersion"])


def test_the_end_of_what_there_was_is_a_bookmark(gateway: ApiGateway, namespace: str) -> None:
    gateway.ok("create", "-f", "-", manifest=config_map("one"), namespace=namespace)
    options = {
        "allowWatchBookmarks": "true", "sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan",
        "resourceVersion": "",
    }  # fmt: skip
    with watching(gateway, namespace, **options) as events:
        seen = []
        for event in events:
            seen.append(event["type"])
            if event["type"] == "BOOKMARK":
                assert event["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
                break
    assert "ADDED" in seen


def test_each_of_many_watchers_sees_each_event_in_order(gateway: ApiGateway, namespace: str) -> None:
    since = version(gateway, namespace)
    with ExitStack() as stack:
        watchers = [stack.enter_context(watching(gateway, namespace, resourceVersion=since)) for _ in range(WATCHERS)]
        gateway.ok("create", "-f", "-", manifest=config_map("watched"), namespace=namespace)
        gateway.ok("label", "configmap", "watched", "a=b", namespace=namespace)
        gateway.ok("delete", "configmap", "watched", namespace=namespace)
        for events in watchers:
            ours = (event for event in events if event["object"]["metadata"]["name"] == "watched")
            assert [next(ours)["type"] for _ in range(3)] == ["ADDED", "MODIFIED", "DELETED"]


def test_a_watcher_that_does_not_read_slows_nobody_and_costs_no_memory(
    gateway: ApiGateway, plane: Plane, namespace: str
) -> None:
    since = version(gateway, namespace)
    directly = replace(plane.cluster, namespace=namespace)
    names = [f"large-{number}" for number in range(LARGE)]
    with watching(gateway, namespace, resourceVersion=since) as slow:
        with watching(gateway, namespace, resourceVersion=since) as quick:
            before = gateway.resident()
            for name in names:
                directly.ok("create", "-f", "-", manifest=config_map(name, data="x" * 300_000))
                while next(quick)["object"]["metadata"]["name"] != name:
                    pass
        # 18 MB wait for the slow one: in sockets and at the API server, not here.
        until(lambda: gateway.resident() - before < 12_000_000, "the gateway holds no more than it may")
        seen = []
        for event in slow:  # which the API server may have given up by now, as it does directly
            seen.append(event["object"]["metadata"]["name"])
            if seen[-1] == names[-1]:
                break
    seen = [name for name in seen if name.startswith("large-")]
    assert seen
    assert seen == names[: len(seen)], "whole events, in their order"
