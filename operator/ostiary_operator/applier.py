"""Writes children and statuses: only what differs, only what is ours, only while this replica leads, few at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ostiary_operator.apply import Verdict, Written, decide, digest_of, is_ours, stamp
from ostiary_operator.inventory import Store, is_older, uid_of, version_of
from ostiary_operator.kube.client import ApiError, Client
from ostiary_operator.kube.kinds import CLUSTER_ROLE_BINDING, Kind, Manifest, key_of, kind_of
from ostiary_operator.leader import Leader
from ostiary_operator.logging import get_logger
from ostiary_operator.metrics import Metrics
from ostiary_operator.status import Transition, merge_patch, settle, transitions

log = get_logger(__name__)

_PATIENCE: Final = 10.0
"""Seconds for what we wrote to come back through the watch; then the cache is believed again."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A child that could not be written. `foreign`: an object of its name is there that is not ours."""

    kind: str
    key: str
    foreign: bool
    message: str


class Applier:
    """All writes of the operator go through here."""

    def __init__(
        self, client: Client, leader: Leader, children: Mapping[str, Store], metrics: Metrics, *,
        at_once: int, clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._client = client
        self._leader = leader
        self._children = children
        """Kind → the store of our children of it."""
        self._metrics = metrics
        self._slots = asyncio.Semaphore(at_once)
        self._clock = clock
        self._written: dict[tuple[str, str], Written] = {}
        self._stamps: dict[tuple[str, str], tuple[Manifest, str]] = {}
        """Child → the manifest of last time, and its digest: most children are what they were."""
        self._statuses: dict[tuple[str, str], Manifest] = {}
        """The object as it was after our last write of its status, until the watch has caught up."""

    def gone(self, kind: str, key: str) -> None:
        """An object was deleted: what was written of it counts no more."""
        self._written.pop((kind, key), None)
        self._stamps.pop((kind, key), None)
        self._statuses.pop((kind, key), None)

    # Children

    async def apply(self, manifest: Manifest) -> Refused | None:
        """Make it so. Returns why it may not be; raises ApiError or a network error for what may work later."""
        kind, key = kind_of(manifest), key_of(manifest)
        desired = self._stamp(kind, key, manifest)
        live = self._children[kind.kind].get(key)
        verdict = self._decide(kind, key, desired, live)
        if verdict == "create":
            # What is not ours is not in the store.
            live = await self._get(kind, manifest)
            if live is not None:
                verdict = self._decide(kind, key, desired, live)
                if is_ours(live):
                    self._children[kind.kind].put(live)
        self._count(kind, verdict if verdict in ("unchanged", "refuse") else "")
        if verdict == "unchanged":
            return None
        if verdict == "refuse":
            text = f"{kind.kind} {key} is there already and was not made for this gateway"
            return Refused(kind.kind, key, True, text)
        return await self._write(kind, key, desired, live)

    def _stamp(self, kind: Kind, key: str, manifest: Manifest) -> Manifest:
        known = self._stamps.get((kind.kind, key))
        stamped = stamp(manifest, known[1] if known is not None and known[0] == manifest else "")
        # The manifest itself, which the plan keeps: an equal one of before would take its memory once more.
        self._stamps[kind.kind, key] = manifest, digest_of(stamped)
        return stamped

    def _decide(self, kind: Kind, key: str, desired: Manifest, live: Manifest | None) -> Verdict:
        return decide(desired, live, self._written.get((kind.kind, key)), self._clock(), _PATIENCE)

    async def _get(self, kind: Kind, manifest: Manifest) -> Manifest | None:
        metadata = manifest["metadata"]
        async with self._slots:
            return await self._client.get(kind, metadata.get("namespace", ""), metadata["name"])

    async def _write(self, kind: Kind, key: str, desired: Manifest, live: Manifest | None) -> Refused | None:
        body = desired
        if live is not None:
            # If it was replaced meanwhile, by somebody else's of the same name, the API server refuses.
            body = {**desired, "metadata": {**desired["metadata"], "uid": uid_of(live)}}
        try:
            async with self._slots:
                self._leader.require()
                stored = await self._client.apply(body, kind, force=live is not None)
        except ApiError as error:
            self._count(kind, "failed")
            if error.status in (400, 403, 422):
                # It will not be taken as it is: no reason to hold up the other children.
                return Refused(kind.kind, key, False, f"{kind.kind} {key} was refused by the API server: {error}")
            raise
        except (TimeoutError, OSError):
            self._count(kind, "failed")
            raise
        self._count(kind, "created" if live is None else "updated")
        self._written[kind.kind, key] = Written(
            digest_of(desired), uid_of(stored), version_of(stored), self._clock()
        )
        log.debug("applied", kind=kind.kind, object=key, created=live is None)
        return None

    async def delete(self, kind: Kind, live: Manifest) -> None:
        """Delete a child; exactly that one, and only if it is ours."""
        if not is_ours(live) or live["metadata"].get("deletionTimestamp"):
            return
        metadata = live["metadata"]
        async with self._slots:
            self._leader.require()
            deleted = await self._client.delete(kind, metadata.get("namespace", ""), metadata["name"], uid_of(live))
        self._metrics.deletes.labels(kind.kind, "deleted" if deleted else "gone").inc()
        log.info("deleted what is not needed any more", kind=kind.kind, object=key_of(live))

    async def bind_subjects(self, name: str, subjects: list[Manifest]) -> str:
        """Make these the subjects of a ClusterRoleBinding that the chart made. Returns why it cannot be, or nothing."""
        async with self._slots:
            live = await self._client.get(CLUSTER_ROLE_BINDING, "", name)
            if live is None:
                return f"there is no ClusterRoleBinding {name}; gateways cannot check tokens of ServiceAccounts"
            if _subjects(live.get("subjects") or []) == _subjects(subjects):
                self._count(CLUSTER_ROLE_BINDING, "unchanged")
                return ""
            self._leader.require()
            body = {
                "apiVersion": CLUSTER_ROLE_BINDING.api_version, "kind": CLUSTER_ROLE_BINDING.kind,
                "metadata": {"name": name, "uid": uid_of(live)}, "subjects": subjects,
                "roleRef": live["roleRef"],
            }  # fmt: skip
            await self._client.apply(body, CLUSTER_ROLE_BINDING, force=True)
        self._count(CLUSTER_ROLE_BINDING, "updated")
        return ""

    # Statuses

    def with_status(self, live: Manifest) -> Manifest:
        """The object with the status that we wrote last, if the watch has not brought it yet."""
        known = self._statuses.get((live["kind"], key_of(live)))
        if known is None:
            return live
        if uid_of(known) != uid_of(live) or not is_older(live, known):
            del self._statuses[live["kind"], key_of(live)]
            return live
        return {**live, "status": known.get("status")}

    async def write_status(self, live: Manifest, wanted: Manifest, *, guarded: bool = False) -> list[Transition]:
        """Write a status if it says something else; returns the conditions that changed.

        `guarded`: only if the object is still the one that `wanted` was worked out from (409 otherwise).
        """
        kind = kind_of(live)
        current = self.with_status(live)
        before = current.get("status")
        new = settle(before, wanted, datetime.now(UTC))
        patch = merge_patch(before, new)
        if patch is None:
            self._metrics.status_writes.labels(kind.kind, "unchanged").inc()
            return []
        metadata = live["metadata"]
        body: Manifest = {"metadata": {"uid": uid_of(live)}, "status": patch}
        if guarded:
            body["metadata"]["resourceVersion"] = version_of(live)
        try:
            async with self._slots:
                self._leader.require()
                stored = await self._client.patch_status(kind, metadata["namespace"], metadata["name"], body)
        except ApiError as error:
            self._metrics.status_writes.labels(kind.kind, "failed").inc()
            if error.not_found:
                return []
            raise
        self._metrics.status_writes.labels(kind.kind, "written").inc()
        self._statuses[kind.kind, key_of(live)] = stored
        return transitions(before, new)

    def _count(self, kind: Kind, result: str) -> None:
        if result:
            self._metrics.applies.labels(kind.kind, "refused" if result == "refuse" else result).inc()


def _subjects(found: list[Manifest]) -> set[tuple[str, str, str]]:
    return {(each["kind"], each.get("namespace", ""), each["name"]) for each in found}
