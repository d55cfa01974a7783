"""The Events that people read with kubectl describe."""

from __future__ import annotations

from datetime import UTC, datetime

from ostiary_operator.events import event
from ostiary_operator.status import Transition

REGARDING = {
    "apiVersion": "ostiary.dev/v1alpha1",
    "kind": "Connection",
    "metadata": {"namespace": "shop", "name": "app", "uid": "u1", "resourceVersion": "9"},
}
AT = datetime(2026, 11, 1, 12, 0, 0, 5, tzinfo=UTC)


def test_an_event_tells_what_became_of_a_condition() -> None:
    made = event(REGARDING, Transition("Programmed", "Unknown", "True", "Loaded", "2 of 2 pods."), "operator-1", AT)
    assert made["note"] == "Programmed is True: 2 of 2 pods."
    assert (made["type"], made["reason"], made["action"]) == ("Normal", "Loaded", "Programmed")
    assert made["regarding"]["uid"] == "u1"
    assert made["eventTime"] == "2026-11-01T12:00:00.000005Z"
    assert made["metadata"]["namespace"] == "shop"


def test_what_became_false_is_a_warning() -> None:
    assert event(REGARDING, Transition("Accepted", "True", "False", "Bad", ""), "o", AT)["type"] == "Warning"


def test_a_note_fits_even_if_a_letter_has_to_be_cut() -> None:
    note = event(REGARDING, Transition("Accepted", "", "False", "Bad", "ä" * 2000), "o", AT)["note"]
    assert len(note.encode()) <= 1024
    assert note.endswith("…")


def test_what_is_no_condition_is_told_in_its_own_words() -> None:
    told = Transition("Approved", "", "", "Approved", "Approved by alice: it may run, once.")
    assert event(REGARDING, told, "op-1", AT)["note"] == "Approved by alice: it may run, once."
