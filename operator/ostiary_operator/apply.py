"""Whether a desired object must be written, decided from the live one. Pure.

A desired object carries its own digest in an annotation. The live object is left alone if it has that digest and still
says all that is desired: so a resync writes nothing, and a child that somebody edited comes back. What the API server
writes in its own way (`1000m` becomes `1`) would look edited for ever; so what came back from our own write is
remembered by its resourceVersion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from ostiary_api.canonical import canonical_json, sha256_hex
from ostiary_api.names import GATEWAY_LABEL, GATEWAY_NAMESPACE_LABEL
from ostiary_operator.inventory import digest, is_older, uid_of, version_of
from ostiary_operator.kube.kinds import Manifest

APPLIED: Final = "ostiary.dev/applied"
"""Annotation: digest of the manifest that was applied."""
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OPERATOR: Final = "ostiary-operator"

Verdict = Literal["create", "update", "unchanged", "refuse"]


@dataclass(frozen=True, slots=True)
class Written:
    """What came back from our last write of an object."""

    digest: str
    uid: str
    version: str
    at: float
    """Local monotonic time."""


def stamp(manifest: Manifest, known: str = "") -> Manifest:
    """The manifest with its digest in an annotation. A resourceVersion guards a write, and is no part of the digest.

    `known`: the digest of an equal manifest.
    """
    metadata = manifest["metadata"]
    annotations = {name: value for name, value in (metadata.get("annotations") or {}).items() if name != APPLIED}
    value = known
    if not value:
        bare = _unguarded({**manifest, "metadata": {**metadata, "annotations": annotations}})
        value = sha256_hex(canonical_json(bare))[:32]
    return {**manifest, "metadata": {**metadata, "annotations": {**annotations, APPLIED: value}}}


def digest_of(manifest: Manifest) -> str:
    """The digest in the annotation; empty if there is none."""
    return str((manifest["metadata"].get("annotations") or {}).get(APPLIED, ""))


def is_ours(live: Manifest) -> bool:
    """Whether the operator made it. What it did not make it never overwrites, and never deletes."""
    return bool((live["metadata"].get("labels") or {}).get(MANAGED_BY) == OPERATOR)


def decide(desired: Manifest, live: Manifest | None, written: Written | None, now: float, patience: float) -> Verdict:
    """What to do about a stamped manifest. `patience`: seconds for our own write to come back through the watch."""
    value = digest_of(desired)
    recent = written is not None and written.digest == value and now - written.at < patience
    if live is None:
        return "unchanged" if recent else "create"
    if not is_ours(live) or _of_another(desired, live):
        return "refuse"
    if live["metadata"].get("deletionTimestamp"):
        # It is on its way out; applied to it, nothing would stay. It is made anew when it is gone.
        return "unchanged"
    if written is not None and written.digest == value and written.uid == uid_of(live):
        if written.version == version_of(live):
            return "unchanged"
        if recent and is_older(live, {"metadata": {"resourceVersion": written.version}}):
            return "unchanged"
    if digest_of(live) == value and contains(live, _unguarded(desired)):
        return "unchanged"
    return "update"


def _of_another(desired: Manifest, live: Manifest) -> bool:
    """Whether it says that it is a child of another gateway. A Service goes with its Connection, from one gateway to
    another: it has that owner before and after."""
    wanted, there = desired["metadata"], live["metadata"]
    whose = _gateway(there)
    if "" in whose or whose == _gateway(wanted):
        return False
    return not _connections(wanted) & _connections(there)


def _gateway(metadata: Manifest) -> tuple[str, str]:
    labels = metadata.get("labels") or {}
    return labels.get(GATEWAY_NAMESPACE_LABEL, ""), labels.get(GATEWAY_LABEL, "")


def _connections(metadata: Manifest) -> set[object]:
    """The uids of the Connections that own it."""
    return {each.get("uid") for each in metadata.get("ownerReferences") or () if each.get("kind") == "Connection"}


def _unguarded(manifest: Manifest) -> Manifest:
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "resourceVersion"}
    return {**manifest, "metadata": metadata}


def contains(live: Any, desired: Any) -> bool:
    """Whether the live value says all that the desired one says; it may say more (defaults, status).

    Lists of objects with names are compared by name, as server-side apply merges them; an empty or absent value is
    like any other that means nothing. A long text may be there as its digest (see `inventory.digest`).
    """
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return not desired
        return all(contains(live.get(name), value) for name, value in desired.items())
    if isinstance(desired, list):
        if not isinstance(live, list):
            return not desired
        return _contains_list(live, desired)
    if isinstance(desired, str) and isinstance(live, str):
        return live == desired or live == digest(desired)
    if desired is None or desired is False or desired == "":
        return live == desired or live is None
    return bool(live == desired)


def _contains_list(live: list[Any], desired: list[Any]) -> bool:
    if len(live) < len(desired):
        return False
    if all(isinstance(item, Mapping) and "name" in item for item in (*live, *desired)):
        by_name = {item["name"]: item for item in live}
        return all(contains(by_name.get(item["name"]), item) for item in desired)
    return len(live) == len(desired) and all(contains(*pair) for pair in zip(live, desired, strict=True))
