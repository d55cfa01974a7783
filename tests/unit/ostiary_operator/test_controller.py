"""What goes wrong with one key stops no other."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable
from typing import Any, cast

import pytest
from support import virtual_time
from support.resources import good

from ostiary_operator.applier import Applier
from ostiary_operator.controller import Controller
from ostiary_operator.events import EventPoster
from ostiary_operator.gateway_settings import GatewaySettings
from ostiary_operator.kube.client import ApiError, Client
from ostiary_operator.metrics import Metrics
from ostiary_operator.observed import Approvals
from ostiary_operator.observed import Settings as ObservedSettings
from ostiary_operator.reconcile.acceptance import Extensions
from ostiary_operator.settings import parse_settings
from ostiary_operator.world import World

Manifest = dict[str, Any]


class Nothing:
    """An API server in which there is nothing yet."""

    async def list(self, *_: object, **__: object) -> tuple[list[Manifest], str]:
        return [], "1"


class Checked:
    async def run(self) -> Approvals:
        return Approvals()


class Counting:
    """Work on ApprovalRequests that fails for some of them, each in its own way."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.tries: list[tuple[float, str]] = []

    async def __call__(self, manifest: Manifest) -> float | None:
        name = manifest["metadata"]["name"]
        self.tries.append((asyncio.get_running_loop().time(), name))
        match name:
            case "broken":
                raise ZeroDivisionError
            case "refused":
                raise ApiError(500, "InternalError", "etcd is away")
            case "again":
                self.done.append(name)
                return 5.0
        self.done.append(name)
        return None

    async def sweep(self, manifests: Iterable[Manifest]) -> int:
        return 0


def approval(name: str) -> Manifest:
    manifest = good()["apr-1"]
    manifest["metadata"] |= {"name": name, "namespace": "shop", "uid": name, "resourceVersion": "1"}
    return manifest


def test_what_goes_wrong_with_one_key_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        counting, metrics = Counting(), Metrics()
        world = World(ObservedSettings(GatewaySettings(image="gateway:1")), lambda *_: None)
        for name in ("a", "broken", "refused", "again", "z"):
            world.stores["ApprovalRequest"].put(approval(name))
        controller = Controller(
            cast(Client, Nothing()), world, cast(Applier, None), cast(EventPoster, None), metrics,
            parse_settings("gateway: {image: x}\nrates: {workers: 1}"), Extensions({}), counting, Checked(),
            lambda: None,
        )  # fmt: skip
        running = asyncio.create_task(controller.run())
        await asyncio.sleep(12.0)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        assert counting.done.count("a") == counting.done.count("z") == 1
        assert counting.done.count("again") == 3  # at 0, 5 and 10 seconds, as it wished
        broken = [at for at, name in counting.tries if name == "broken"]
        pauses = [later - earlier for earlier, later in itertools.pairwise(broken)]
        assert len(pauses) >= 3
        assert all(later > earlier for earlier, later in itertools.pairwise(pauses))
        body, _ = metrics.render("")
        assert b'ostiary_operator_reconcile_errors_total{kind="ApprovalRequest"}' in body

    with caplog.at_level(logging.CRITICAL):
        virtual_time.run(story())
