"""Events of Kubernetes (events.k8s.io/v1) on the resources: told once, when a condition's status changes."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import Final

import aiohttp

from ostiary_api.units import format_timestamp
from ostiary_operator.kube.client import ApiError, Client
from ostiary_operator.kube.kinds import EVENT, Manifest
from ostiary_operator.logging import get_logger
from ostiary_operator.metrics import Metrics
from ostiary_operator.status import Transition

log = get_logger(__name__)

_CONTROLLER: Final = "ostiary.dev/operator"
_MAX_NOTE: Final = 1024
"""Bytes of a note that the API takes."""
_MAX_WAITING: Final = 1000


class EventPoster:
    """Posts events in the background. They are for people: what cannot be posted is logged and dropped."""

    def __init__(self, client: Client, metrics: Metrics, *, instance: str) -> None:
        self._client = client
        self._metrics = metrics
        self._instance = instance[:128]
        self._waiting: asyncio.Queue[Manifest] = asyncio.Queue(_MAX_WAITING)

    def tell(self, regarding: Manifest, transition: Transition) -> None:
        """A condition of an object has another status now."""
        self._metrics.events.labels(transition.type).inc()
        try:
            self._waiting.put_nowait(event(regarding, transition, self._instance, datetime.now(UTC)))
        except asyncio.QueueFull:
            log.warning("an event is dropped: too many wait", type=transition.type, reason=transition.reason)

    async def run(self) -> None:
        """Post what was told, until cancelled."""
        while True:
            manifest = await self._waiting.get()
            try:
                await self._client.request("POST", EVENT.path(manifest["metadata"]["namespace"]), body=manifest)
            except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
                log.info("an event could not be posted", reason=str(error) or type(error).__name__)


def event(regarding: Manifest, transition: Transition, instance: str, at: datetime) -> Manifest:
    """The Event that tells a transition."""
    metadata = regarding["metadata"]
    note = transition.message or f"{transition.type} is {transition.after}."
    # What is well and was never else needs no attention; what became False does.
    bad = transition.after == "False"
    time = format_timestamp(at.replace(microsecond=0)).removesuffix("Z") + f".{at.microsecond:06d}Z"
    return {
        "apiVersion": EVENT.api_version,
        "kind": EVENT.kind,
        "metadata": {"name": f"{metadata['name'][:200]}.{uuid.uuid4().hex[:16]}", "namespace": metadata["namespace"]},
        "eventTime": time,
        "reportingController": _CONTROLLER,
        "reportingInstance": instance,
        "action": transition.type,
        "reason": (transition.reason or transition.type)[:128],
        "regarding": {
            "apiVersion": regarding["apiVersion"], "kind": regarding["kind"], "namespace": metadata["namespace"],
            "name": metadata["name"], "uid": metadata.get("uid", ""),
            "resourceVersion": metadata.get("resourceVersion"),
        },
        "note": _cut(f"{transition.type} is {transition.after}: {note}" if transition.after else note),
        "type": "Warning" if bad else "Normal",
    }  # fmt: skip


def _cut(text: str) -> str:
    data = text.encode()
    return text if len(data) <= _MAX_NOTE else data[: _MAX_NOTE - 3].decode("utf-8", "ignore") + "…"
