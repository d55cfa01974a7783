"""Several workers told as one gateway."""

from __future__ import annotations

import json

from ostiary_gateway.admin.health import Check
from ostiary_gateway.counters import Counters
from ostiary_gateway.workers.state import checks, left, snapshot, together


def counted(sessions: int, opened: int, loads: int = 1, queued: int = 0) -> dict[str, object]:
    counters = Counters()
    for _ in range(sessions):
        counters.session_opened("prod/app")
    for _ in range(sessions - opened):
        counters.session_closed("prod/app")
    for _ in range(sessions):
        counters.request("prod/app", "Postgres", "Allow")
        counters.decided(30e-6)
    for _ in range(loads):
        counters.bundle_loaded("r1", 1700000000.0)
    counters.record_queue = lambda: queued
    told: dict[str, object] = json.loads(json.dumps(snapshot(counters)))
    return told


def test_counts_add_up() -> None:
    made = together([counted(3, 2, queued=10), counted(4, 1, queued=5)])
    assert made.sessions == {"prod/app": 7}
    assert made.sessions_open == {"prod/app": 3}
    assert made.requests == {("prod/app", "Postgres", "Allow"): 7}
    assert made.decision_buckets[1] == 7
    assert made.record_queue() == 15


def test_what_all_see_alike_is_not_added_up() -> None:
    made = together([counted(0, 0, loads=2), counted(0, 0, loads=2)])
    assert (made.reloads, made.bundle_loaded_at, made.bundle_revision) == (2, 1700000000.0, "r1")


def test_a_snapshot_of_them_all_is_that_of_them_all() -> None:
    both = [counted(3, 2, queued=10), counted(4, 1)]
    assert json.loads(json.dumps(snapshot(together([json.loads(json.dumps(snapshot(together(both))))])))) == json.loads(
        json.dumps(snapshot(together(both)))
    )


def test_what_a_dead_worker_counted_stays_but_not_what_it_had_open() -> None:
    gone = left(left(None, counted(3, 2, queued=10)), counted(1, 1))
    made = together([counted(4, 1)], gone)
    assert made.sessions == {"prod/app": 8}
    assert made.sessions_open == {"prod/app": 1}
    assert made.decision_buckets[1] == 8
    assert made.record_queue() == 0
    assert made.reloads == 1


def test_ready_is_who_has_all_workers_ready() -> None:
    fine = [Check("bundle", True), Check("record", True)]
    full = [Check("bundle", True), Check("record", False, "disk full")]
    assert checks({1: fine, 2: fine}, 2) == [Check("workers", True, "2"), *fine]
    assert checks({1: fine, 2: None}, 2)[0] == Check("workers", False, "1 of 2 are there; starting or gone: 2")
    assert checks({1: fine, 2: full}, 2)[2] == Check("record", False, "worker 2: disk full")
    assert checks({1: full, 2: full}, 2)[2] == Check("record", False, "disk full")
    assert checks({1: None, 2: None}, 2) == [Check("workers", False, "0 of 2 are there; starting or gone: 1, 2")]
