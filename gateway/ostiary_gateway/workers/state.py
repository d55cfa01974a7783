"""What a worker tells of itself, and what the workers of a gateway are together. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from ostiary_gateway.admin.health import Check
from ostiary_gateway.counters import Counters

Snapshot = Mapping[str, object]
"""Counters as plain values: numbers, strings, lists of numbers, or lists of [label or labels, number]."""

_NOW: Final = frozenset({"sessions_open", "record_held", "record_queue", "roles_stuck", "ship_waiting"})
"""What is there now: it goes with its process, and is not counted on."""
_COMMON: Final = frozenset({"approvals_pending", "bundle_loaded_at", "reloads", "reload_failures", "ship_lag"})
"""What every worker sees alike: the most that one tells."""


def snapshot(counters: Counters) -> dict[str, object]:
    """The counts at this moment."""
    found: dict[str, object] = {}
    for name in Counters.__slots__:
        value = getattr(counters, name)
        if callable(value) and not isinstance(value, dict):
            value = value()
        found[name] = [[key, count] for key, count in value.items()] if isinstance(value, dict) else value
    return found


def together(snapshots: Sequence[Snapshot], gone: Snapshot | None = None) -> Counters:
    """The counts of all workers; `gone` is what those have left that are no more."""
    made = Counters()
    for name in Counters.__slots__:
        values = [each[name] for each in snapshots if name in each]
        if name not in _NOW | _COMMON and gone is not None and name in gone:
            values.append(gone[name])
        if values:
            _set(made, name, values)
    return made


def left(gone: Snapshot | None, last: Snapshot) -> dict[str, object]:
    """What has to be counted on when a worker with these counts is no more."""
    both = together([last], gone)
    return {name: value for name, value in snapshot(both).items() if name not in _NOW | _COMMON}


def _set(counters: Counters, name: str, values: list[object]) -> None:
    present = getattr(counters, name)
    if isinstance(present, dict):
        for pairs in values:
            for key, count in cast("Iterable[tuple[str | list[str], int]]", pairs):
                label = tuple(key) if isinstance(key, list) else key
                present[label] = present.get(label, 0) + count
    elif isinstance(present, list):
        setattr(counters, name, [sum(column) for column in zip(*cast("list[list[int]]", values), strict=True)])
    elif isinstance(present, str):
        setattr(counters, name, cast("list[str]", values)[-1])
    else:
        numbers = cast("list[float]", values)
        total = max(numbers) if name in _COMMON else sum(numbers)
        # Some are asked for, not kept: what was told is what they give.
        setattr(counters, name, (lambda: total) if callable(present) else total)


def checks(told: Mapping[int, Sequence[Check] | None], wanted: int) -> list[Check]:
    """All workers' checks as one list. None: a worker that does not answer. Ready is who has all of them ready."""
    silent = [worker for worker, found in told.items() if found is None]
    merged: dict[str, list[tuple[int, Check]]] = {}
    for worker, found in sorted(told.items()):
        for check in found or ():
            merged.setdefault(check.name, []).append((worker, check))
    here = wanted - len(silent)
    missing = f"{here} of {wanted} are there; starting or gone: {', '.join(map(str, silent))}" if silent else ""
    made = [Check("workers", not silent, missing or f"{wanted}")]
    for name, same in merged.items():
        messages = {check.message for _, check in same}
        if len(messages) == 1:
            message = messages.pop()
        else:
            message = "; ".join(f"worker {worker}: {check.message}" for worker, check in same if check.message)
        made.append(Check(name, all(check.ok for _, check in same), message))
    return made
