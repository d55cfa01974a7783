"""Statuses: what is written of them, and what people hear."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ostiary_operator.status import Transition, merge_patch, settle, transitions

NOW = datetime(2026, 11, 1, 12, 0, 0, 999, tzinfo=UTC)


def condition(kind: str, status: str, reason: str = "Why", time: str | None = None) -> dict[str, Any]:
    made = {"type": kind, "status": status, "reason": reason, "message": "", "observedGeneration": 1}
    return made if time is None else made | {"lastTransitionTime": time}


OLD = {"conditions": [condition("Accepted", "True", time="2026-01-01T00:00:00Z")], "revision": "abc"}


def test_the_time_of_a_condition_moves_with_its_status_only() -> None:
    wanted = {"conditions": [condition("Accepted", "True", "Other"), condition("Programmed", "False")]}
    accepted, programmed = settle(OLD, wanted, NOW)["conditions"]
    assert (accepted["reason"], accepted["lastTransitionTime"]) == ("Other", "2026-01-01T00:00:00Z")
    assert programmed["lastTransitionTime"] == "2026-11-01T12:00:00Z"
    flipped = settle(OLD, {"conditions": [condition("Accepted", "False")]}, NOW)
    assert flipped["conditions"][0]["lastTransitionTime"] == "2026-11-01T12:00:00Z"


def test_a_status_that_says_the_same_is_not_written() -> None:
    wanted = {"conditions": [condition("Accepted", "True")], "revision": "abc"}
    assert merge_patch(OLD, settle(OLD, wanted, NOW)) is None
    assert merge_patch({"policies": [], "message": ""}, {"policies": None}) is None
    assert merge_patch(None, {}) is None


def test_only_what_changed_is_written_and_what_is_gone_is_taken_away() -> None:
    patch = merge_patch({"a": 1, "b": 2, "c": {"x": 1, "y": 2}}, {"a": 1, "c": {"x": 3}})
    assert patch == {"b": None, "c": {"x": 3, "y": None}}


def test_people_hear_of_what_changed() -> None:
    new = {"conditions": [condition("Accepted", "False", "BadRule"), condition("Programmed", "Unknown")]}
    assert transitions(OLD, new) == [Transition("Accepted", "True", "False", "BadRule", "")]


def test_people_hear_nothing_of_what_stayed() -> None:
    assert transitions(OLD, {"conditions": [condition("Accepted", "True", "OtherReason")]}) == []


def test_what_begins_well_or_badly_is_told_and_what_begins_unknown_is_not() -> None:
    new = {"conditions": [condition("A", "True"), condition("B", "False"), condition("C", "Unknown")]}
    assert [(each.type, each.before, each.after) for each in transitions(None, new)] == [
        ("A", "", "True"),
        ("B", "", "False"),
    ]
