"""Statuses wait a moment for pods that load a bundle."""

from __future__ import annotations

import pytest

from ostiary_operator.loading import Loading
from ostiary_operator.reconcile import reasons


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def status(reason: str) -> dict[str, object]:
    return {"conditions": [
        {"type": "Accepted", "status": "True", "reason": reasons.ACCEPTED},
        {"type": "Programmed", "status": "True" if reason == reasons.PROGRAMMED else "False", "reason": reason},
    ]}  # fmt: skip


def test_that_pods_load_is_not_written_at_once(clock: Clock) -> None:
    loading = Loading(clock, 1.0)
    assert loading.rest("shop/db", status(reasons.LOADING)) == 1.0
    clock.now += 0.75
    assert loading.rest("shop/db", status(reasons.LOADING)) == 0.25


def test_what_takes_longer_is_written_and_stays_so(clock: Clock) -> None:
    loading = Loading(clock, 1.0)
    loading.rest("shop/db", status(reasons.LOADING))
    clock.now += 1.0
    assert loading.rest("shop/db", status(reasons.LOADING)) <= 0
    clock.now += 60.0
    assert loading.rest("shop/db", status(reasons.LOADING)) <= 0


def test_when_it_is_over_the_next_time_counts_anew(clock: Clock) -> None:
    loading = Loading(clock, 1.0)
    loading.rest("shop/db", status(reasons.LOADING))
    clock.now += 0.5
    assert loading.rest("shop/db", status(reasons.PROGRAMMED)) == 0
    assert loading.rest("shop/db", status(reasons.LOADING)) == 1.0


def test_everything_else_is_written_at_once(clock: Clock) -> None:
    loading = Loading(clock, 1.0)
    for reason in (reasons.PODS_NOT_READY, reasons.REFUSED_BY_GATEWAY, reasons.NOT_ACCEPTED, reasons.PROGRAMMED):
        assert loading.rest("shop/db", status(reason)) == 0
    assert loading.rest("shop/db", {}) == 0


def test_each_waits_for_itself(clock: Clock) -> None:
    loading = Loading(clock, 1.0)
    loading.rest("shop/one", status(reasons.LOADING))
    clock.now += 0.9
    assert loading.rest("shop/two", status(reasons.LOADING)) == 1.0
    loading.forget("shop/one")
    assert loading.rest("shop/one", status(reasons.LOADING)) == 1.0


def of_bundle(revision: str, **more: object) -> dict[str, object]:
    programmed = {"type": "Programmed", "status": "True", "reason": reasons.PROGRAMMED, "message": f"loaded {revision}"}
    return {"observedGeneration": 1, "revision": revision, "conditions": [programmed], **more}


def test_that_it_is_another_bundle_is_told_now_and_then(clock: Clock) -> None:
    loading = Loading(clock, gather=5.0)
    assert loading.rest("shop/db", of_bundle("two"), of_bundle("one")) == 5.0
    clock.now += 4.0
    assert loading.rest("shop/db", of_bundle("three"), of_bundle("one")) == 1.0
    clock.now += 1.0
    assert loading.rest("shop/db", of_bundle("four"), of_bundle("one")) <= 0
    assert loading.rest("shop/db", of_bundle("five"), of_bundle("four")) == 5.0


def test_what_says_something_else_is_told_at_once(clock: Clock) -> None:
    loading = Loading(clock)
    assert loading.rest("shop/db", of_bundle("two", policyCount=2), of_bundle("one", policyCount=1)) == 0
    assert loading.rest("shop/db", of_bundle("two", observedGeneration=2), of_bundle("one")) == 0
    assert loading.rest("shop/db", of_bundle("one"), status(reasons.LOADING)) == 0
    assert loading.rest("shop/db", of_bundle("one"), {}) == 0


def test_new_revisions_of_the_same_policies_are_told_now_and_then_and_another_policy_at_once(clock: Clock) -> None:
    def having(*policies: tuple[str, str]) -> dict[str, object]:
        named = [{"namespace": "shop", "name": name, "revision": revision} for name, revision in policies]
        return of_bundle("one", policies=named)

    loading = Loading(clock, gather=5.0)
    assert loading.rest("shop/db", having(("read", "b")), having(("read", "a"))) == 5.0
    assert loading.rest("shop/db", having(("read", "b"), ("mask", "a")), having(("read", "a"))) == 0


def test_what_is_wrong_is_told_at_once(clock: Clock) -> None:
    def unreachable(why: str) -> dict[str, object]:
        reached = {"type": "UpstreamReachable", "status": "False", "reason": reasons.UNREACHABLE, "message": why}
        return {"observedGeneration": 1, "conditions": [reached]}

    assert Loading(clock).rest("shop/db", unreachable("refused"), unreachable("no such name")) == 0


def test_a_status_that_is_as_wanted_does_not_wait(clock: Clock) -> None:
    loading = Loading(clock)
    assert loading.rest("shop/db", of_bundle("one"), of_bundle("one")) == 0
