"""When a child is written, and when it is left alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ostiary_operator.apply import APPLIED, Written, contains, decide, digest_of, stamp
from ostiary_operator.inventory import digest, trim_config_map

Manifest = dict[str, Any]


def desired(**data: str) -> Manifest:
    return stamp(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "namespace": "shop",
                "name": "ostiary-app",
                "labels": {"app.kubernetes.io/managed-by": "ostiary-operator"},
            },
            "data": data or {"revision": "1"},
        }
    )


def stored(manifest: Manifest, version: str = "10", uid: str = "u1") -> Manifest:
    """As the API server has it, with what it and others add."""
    live = copy.deepcopy(manifest)
    live["metadata"] |= {"uid": uid, "resourceVersion": version, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return live


def verdict(wanted: Manifest, live: Manifest | None, written: Written | None = None, now: float = 100.0) -> str:
    return decide(wanted, live, written, now, patience=10.0)


def test_what_is_not_there_is_created() -> None:
    assert verdict(desired(), None) == "create"


def test_what_is_as_it_should_be_is_left_alone() -> None:
    assert verdict(desired(), stored(desired())) == "unchanged"


def test_what_should_be_otherwise_is_updated() -> None:
    assert verdict(desired(revision="2"), stored(desired(revision="1"))) == "update"


def test_what_somebody_edited_comes_back() -> None:
    live = stored(desired(revision="1"))
    live["data"]["revision"] = "edited"
    assert verdict(desired(revision="1"), live) == "update"


def test_a_label_that_somebody_took_away_comes_back() -> None:
    wanted = desired()
    wanted["metadata"]["labels"]["more"] = "yes"
    wanted = stamp(wanted)
    live = stored(wanted)
    del live["metadata"]["labels"]["more"]
    assert verdict(wanted, live) == "update"


def test_what_others_add_is_theirs() -> None:
    live = stored(desired())
    live["metadata"]["labels"]["team"] = "shop"
    live["metadata"]["annotations"]["note"] = "hello"
    assert verdict(desired(), live) == "unchanged"


def test_what_is_not_ours_is_refused() -> None:
    live = stored(desired())
    live["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    assert verdict(desired(), live) == "refuse"
    assert verdict(desired(), {"metadata": {"name": "ostiary-app", "uid": "u", "resourceVersion": "1"}}) == "refuse"


def test_what_is_on_its_way_out_is_not_written() -> None:
    live = stored(desired(revision="1"))
    live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert verdict(desired(revision="2"), live) == "unchanged"


def test_what_the_server_writes_in_its_own_way_is_written_once() -> None:
    wanted = desired(cpu="1000m")
    live = stored(wanted, version="11")
    live["data"]["cpu"] = "1"
    assert verdict(wanted, live) == "update"
    assert verdict(wanted, live, Written(digest_of(wanted), "u1", "11", at=0.0)) == "unchanged"
    live["metadata"]["resourceVersion"] = "12"
    assert verdict(wanted, live, Written(digest_of(wanted), "u1", "11", at=0.0)) == "update"


def test_our_own_write_is_waited_for_but_not_for_ever() -> None:
    old, wanted = stored(desired(revision="1"), version="10"), desired(revision="2")
    written = Written(digest_of(wanted), "u1", "11", at=95.0)
    assert verdict(wanted, old, written, now=100.0) == "unchanged"
    assert verdict(wanted, old, written, now=106.0) == "update"
    assert verdict(wanted, None, written, now=100.0) == "unchanged"
    assert verdict(wanted, None, written, now=106.0) == "create"


def test_another_object_of_the_name_is_not_taken_for_the_one_that_was_written() -> None:
    wanted = desired(revision="2")
    live = stored(desired(revision="1"), version="11", uid="u2")
    assert verdict(wanted, live, Written(digest_of(wanted), "u1", "11", at=99.0)) == "update"


def test_a_long_text_is_compared_by_its_digest() -> None:
    wanted = desired(bundle="x" * 5000)
    live = trim_config_map(stored(wanted))
    assert live["data"]["bundle"] == digest("x" * 5000)
    assert verdict(wanted, live) == "unchanged"
    live["data"]["bundle"] = digest("y" * 5000)
    assert verdict(wanted, live) == "update"


def test_the_digest_does_not_depend_on_an_earlier_one() -> None:
    once = desired()
    assert stamp(once) == once
    assert once["metadata"]["annotations"][APPLIED] == digest_of(once) != ""


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"a": 1, "b": 2}, {"a": 1}),
        ({}, {"a": {}, "b": [], "c": None, "d": False, "e": ""}),
        ([{"name": "a", "x": 1, "more": 2}, {"name": "b"}], [{"name": "a", "x": 1}]),
        ([{"name": "b"}, {"name": "a"}], [{"name": "a"}, {"name": "b"}]),
        ([{"port": 1, "protocol": "TCP"}], [{"port": 1}]),
        (["a", "b"], ["a", "b"]),
    ],
)
def test_a_live_value_says_all_that_is_desired(live: object, wanted: object) -> None:
    assert contains(live, wanted)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ({"a": 1}, {"a": 2}),
        ({}, {"a": 0}),
        (None, {"a": 1}),
        (["a", "b"], ["a"]),
        (["b", "a"], ["a", "b"]),
        ([], ["a"]),
        ([{"name": "a"}], [{"name": "b"}]),
        ([{"port": 1}, {"port": 2}], [{"port": 1}]),
        ("a", "b"),
        (None, True),
    ],
)
def test_a_live_value_says_something_else(live: object, wanted: object) -> None:
    assert not contains(live, wanted)


def test_a_digest_that_is_known_is_not_worked_out_again() -> None:
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "annotations": {"team": "web"}}}
    once = stamp(manifest)
    assert stamp(manifest, digest_of(once)) == once


def of_gateway(name: str, connection: str = "u-app") -> Manifest:
    manifest = desired()
    manifest["metadata"]["labels"] |= {"ostiary.dev/gateway": name, "ostiary.dev/gateway-namespace": "shop"}
    manifest["metadata"]["ownerReferences"] = [{"kind": "Connection", "name": "app", "uid": connection}]
    return manifest


def test_a_child_of_another_gateway_is_not_taken_over() -> None:
    assert verdict(of_gateway("app"), stored(of_gateway("evil", "u-evil"))) == "refuse"
    for without in ("ostiary.dev/gateway", "ostiary.dev/gateway-namespace"):
        edited = stored(of_gateway("app"))
        del edited["metadata"]["labels"][without]
        assert verdict(of_gateway("app"), edited) == "update"


def test_a_service_goes_with_its_connection_to_another_gateway() -> None:
    assert verdict(of_gateway("new"), stored(of_gateway("old"))) == "update"


def test_an_owner_that_all_share_does_not_make_a_role_in_the_system_namespace_ours() -> None:
    lease = [{"kind": "Lease", "name": "ostiary-operator", "uid": "u-lease"}]
    ours, theirs = of_gateway("app"), of_gateway("evil")
    ours["metadata"]["ownerReferences"] = theirs["metadata"]["ownerReferences"] = lease
    assert verdict(ours, stored(theirs)) == "refuse"
    assert verdict(ours, stored(ours)) == "unchanged"
