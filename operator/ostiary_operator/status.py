"""A status as it is to be written, and whether it must be. Pure.

`lastTransitionTime` of a condition moves only when its status changes; a status that says the same is not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ostiary_api.units import format_timestamp
from ostiary_operator.kube.kinds import Manifest


@dataclass(frozen=True, slots=True)
class Transition:
    """A condition whose status is another than before."""

    type: str
    before: str
    """Empty: it was not there."""
    after: str
    """Empty: it is no condition, and the message says all."""
    reason: str
    message: str


def settle(old: Mapping[str, Any] | None, new: Manifest, now: datetime) -> Manifest:
    """The new status with its conditions' times: the old ones where the condition's status is the same."""
    before = _conditions(old)
    conditions = []
    for condition in new.get("conditions") or ():
        known = before.get(condition["type"])
        same = known is not None and known.get("status") == condition["status"]
        time = known.get("lastTransitionTime") if same and known is not None else None
        conditions.append({**condition, "lastTransitionTime": time or format_timestamp(now.replace(microsecond=0))})
    return {**new, "conditions": conditions} if "conditions" in new else dict(new)


def merge_patch(old: Mapping[str, Any] | None, new: Manifest) -> Manifest | None:
    """The JSON merge patch (RFC 7396) from the old status to the new; None if they say the same.

    Lists are replaced as a whole. What the new status does not name is taken away: the operator alone writes it.
    """
    before = dict(old or {})
    patch: Manifest = {name: value for name, value in new.items() if not _same(before.get(name), value)}
    patch |= {name: None for name, value in before.items() if name not in new and not _same(value, None)}
    # A map would be merged, not replaced: keys that are gone are named.
    for name, value in patch.items():
        earlier = before.get(name)
        if isinstance(value, dict) and isinstance(earlier, dict):
            patch[name] = value | {key: None for key in earlier if key not in value}
    return patch or None


def transitions(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[Transition]:
    """What people should hear of: conditions whose status changed, and those that begin as False."""
    before = _conditions(old)
    found = []
    for kind, condition in _conditions(new).items():
        known = before.get(kind)
        earlier = str(known.get("status", "")) if known is not None else ""
        status = str(condition["status"])
        if status != earlier and not (known is None and status == "Unknown"):
            found.append(
                Transition(kind, earlier, status, str(condition.get("reason", "")), str(condition.get("message", "")))
            )
    return found


def _conditions(status: Mapping[str, Any] | None) -> dict[str, Manifest]:
    found = (status or {}).get("conditions") or ()
    return {str(each.get("type")): each for each in found}


def _same(one: Any, other: Any) -> bool:
    """Equal, where an absent value, an empty list, object or text, and null are the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_same(one.get(name), other.get(name)) for name in {*one, *other})
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_same(*pair) for pair in zip(one, other, strict=True))
    if one is None or other is None:
        return one in (None, "", [], {}) and other in (None, "", [], {})
    return bool(one == other)
