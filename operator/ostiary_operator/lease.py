"""Who leads, decided from a Lease and from what was seen of it so far. Pure.

The times in a Lease were written by other machines' clocks and are never compared with ours: a Lease runs out when
*we* have not seen it change for its whole duration, by our own clock that never goes back. (client-go does the same.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from ostiary_api.units import format_timestamp

Step = Literal["Create", "Take", "Renew", "Wait"]


@dataclass(frozen=True, slots=True)
class Record:
    """What a Lease says. An empty holder: it was given back."""

    holder: str
    duration: float
    """Seconds."""
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """A record, and when we first saw it so (seconds of the local monotonic clock)."""

    record: Record
    at: float


def read(manifest: dict[str, Any]) -> Record:
    """The record of a Lease as the API server has it; what is missing or odd counts as nothing."""
    spec = manifest.get("spec") or {}
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    return Record(
        holder=str(spec.get("holderIdentity") or ""),
        duration=float(duration) if isinstance(duration, int) else 0.0,
        acquired=str(spec.get("acquireTime") or ""),
        renewed=str(spec.get("renewTime") or ""),
        transitions=transitions if isinstance(transitions, int) else 0,
        resource_version=str((manifest.get("metadata") or {}).get("resourceVersion") or ""),
    )


def observe(before: Observation | None, record: Record, now: float) -> Observation:
    """What is known now. A record that has not changed keeps the time at which it was first seen."""
    if before is not None and before.record == record:
        return before
    return Observation(record, now)


def decide(seen: Observation | None, me: str, now: float) -> Step:
    """What to do about the Lease. `seen` None: there is no Lease."""
    if seen is None:
        return "Create"
    if seen.record.holder == me:
        return "Renew"
    if not seen.record.holder or now >= seen.at + seen.record.duration:
        return "Take"
    return "Wait"


def held(before: Record | None, me: str, duration: float, at: datetime) -> Record:
    """The record with which `me` takes or renews the Lease. `at` is for people who look at it."""
    time = _micro_time(at)
    if before is not None and before.holder == me:
        return replace(before, renewed=time, duration=duration)
    return Record(
        holder=me, duration=duration, acquired=time, renewed=time,
        transitions=0 if before is None else before.transitions + 1,
        resource_version="" if before is None else before.resource_version,
    )  # fmt: skip


def released(before: Record, at: datetime) -> Record:
    """The record with which the holder gives the Lease back: the next one need not wait."""
    return replace(before, holder="", duration=1.0, renewed=_micro_time(at))


def manifest(record: Record, namespace: str, name: str) -> dict[str, Any]:
    """The Lease that says so. Its resourceVersion makes a write fail that somebody else was quicker with."""
    metadata = {"namespace": namespace, "name": name}
    if record.resource_version:
        metadata["resourceVersion"] = record.resource_version
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": metadata,
        "spec": {
            "holderIdentity": record.holder,
            "leaseDurationSeconds": max(1, round(record.duration)),
            "acquireTime": record.acquired or None,
            "renewTime": record.renewed or None,
            "leaseTransitions": record.transitions,
        },
    }


def _micro_time(at: datetime) -> str:
    """MicroTime of the API: always six digits of a second."""
    text = format_timestamp(at.replace(microsecond=0))
    return f"{text.removesuffix('Z')}.{at.microsecond:06d}Z"
