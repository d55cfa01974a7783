"""Who leads, told as what two replicas see of one Lease."""

from __future__ import annotations

from datetime import UTC, datetime

from ostiary_operator import lease
from ostiary_operator.lease import Observation, Record

AT = datetime(2026, 11, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def record(holder: str, *, renewed: str = "t1", version: str = "1", duration: float = 15.0) -> Record:
    return Record(holder, duration, "t0", renewed, 3, version)


def test_where_there_is_no_lease_it_is_made() -> None:
    assert lease.decide(None, "a", 0.0) == "Create"


def test_a_lease_that_another_holds_is_waited_for() -> None:
    seen = lease.observe(None, record("b"), now=100.0)
    assert lease.decide(seen, "a", 100.0) == "Wait"
    assert lease.decide(seen, "a", 114.9) == "Wait"


def test_a_lease_that_did_not_change_for_its_duration_is_taken() -> None:
    seen = lease.observe(None, record("b"), now=100.0)
    seen = lease.observe(seen, record("b"), now=110.0)
    assert seen.at == 100.0
    assert lease.decide(seen, "a", 115.0) == "Take"


def test_every_renewal_begins_the_wait_anew() -> None:
    seen = lease.observe(None, record("b"), now=100.0)
    seen = lease.observe(seen, record("b", renewed="t2", version="2"), now=112.0)
    assert lease.decide(seen, "a", 115.0) == "Wait"
    assert lease.decide(seen, "a", 127.0) == "Take"


def test_the_times_in_the_lease_do_not_count_whatever_they_say() -> None:
    for renewed in ("1970-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z", "nonsense"):
        seen = lease.observe(None, record("b", renewed=renewed), now=100.0)
        assert lease.decide(seen, "a", 101.0) == "Wait"
        assert lease.decide(seen, "a", 115.0) == "Take"


def test_a_lease_that_was_given_back_is_taken_at_once() -> None:
    assert lease.decide(Observation(record(""), 100.0), "a", 100.0) == "Take"


def test_its_holder_renews_it_even_after_it_ran_out() -> None:
    assert lease.decide(Observation(record("a"), 100.0), "a", 999.0) == "Renew"


def test_a_new_holder_counts_a_transition_and_an_old_one_does_not() -> None:
    taken = lease.held(record("b"), "a", 20.0, AT)
    assert taken == Record("a", 20.0, "2026-11-01T12:00:00.250000Z", "2026-11-01T12:00:00.250000Z", 4, "1")
    renewed = lease.held(taken, "a", 20.0, AT.replace(second=7))
    assert renewed.renewed == "2026-11-01T12:00:07.250000Z"
    assert (renewed.acquired, renewed.transitions) == (taken.acquired, 4)


def test_a_write_names_the_version_that_it_was_decided_from() -> None:
    manifest = lease.manifest(lease.held(record("b", version="77"), "a", 15.0, AT), "system", "operator")
    assert manifest["metadata"] == {"namespace": "system", "name": "operator", "resourceVersion": "77"}
    assert manifest["spec"]["leaseDurationSeconds"] == 15
    assert "resourceVersion" not in lease.manifest(lease.held(None, "a", 15.0, AT), "system", "operator")["metadata"]


def test_what_is_read_is_what_was_written() -> None:
    taken = lease.held(record("b"), "a", 15.0, AT)
    assert lease.read(lease.manifest(taken, "system", "operator")) == taken


def test_an_odd_lease_is_read_as_one_that_nobody_holds() -> None:
    for spec in (None, {}, {"holderIdentity": None}, {"leaseDurationSeconds": "15", "leaseTransitions": None}):
        found = lease.read({"metadata": {"resourceVersion": "5"}, "spec": spec})
        assert lease.decide(lease.observe(None, found, 0.0), "a", 0.0) == "Take"


def test_giving_it_back_names_nobody() -> None:
    manifest = lease.manifest(lease.released(record("a"), AT), "system", "operator")
    assert manifest["spec"]["holderIdentity"] == ""
    assert manifest["spec"]["leaseDurationSeconds"] == 1
