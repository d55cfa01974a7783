"""Names of what the operator makes."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_api import names

LABEL = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", fullmatch=True)


@pytest.mark.parametrize(
    ("name", "child"),
    [
        ("app-db", "ostiary-app-db"),
        ("1st", "ostiary-1st"),
        ("a" * 49, "ostiary-" + "a" * 49),
        ("a" * 50, "ostiary-" + "a" * 40 + "-160b4e43"),
        ("agents.app-db", "ostiary-agents-app-db-544a48a7"),
        ("app-db-peers", "ostiary-app-db-peers-8c4b3ffd"),
        ("app-db-part-1", "ostiary-app-db-part-1-9a2aeb06"),
        ("agents-app-db-544a48a7", "ostiary-agents-app-db-544a48a7-068268b7"),
    ],
)
def test_a_child_is_named_for_its_owner(name: str, child: str) -> None:
    assert names.child_name(name) == child


@given(LABEL)
def test_every_child_has_a_dns_label_and_room_for_peers(name: str) -> None:
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", names.child_name(name))
    assert len(names.peers_name(name)) <= 63


@given(LABEL, LABEL, st.integers(1, 255))
def test_no_two_children_share_a_name(one: str, other: str, part: int) -> None:
    assert (names.child_name(one) == names.child_name(other)) == (one == other)
    assert names.peers_name(one) != names.child_name(other)
    assert names.bundle_part_name(one, part) != names.child_name(other)


@given(st.from_regex(r"[a-z0-9][-.a-z0-9]{0,80}[a-z0-9]", fullmatch=True))
def test_no_name_is_another_childs_name_without_its_prefix(name: str) -> None:
    squatter = names.child_name(name).removeprefix(names.PREFIX)
    assert (names.child_name(squatter) == names.child_name(name)) == (squatter == name)


def test_roles_in_the_system_namespace_differ_where_the_cut_names_do_not() -> None:
    long = "x" * 60
    assert names.system_role_name("team", f"a-{long}1") != names.system_role_name("team-a", f"{long}1")
    assert len(names.system_role_name("n" * 63, "g" * 253).rpartition("-")[2]) == 32


def test_a_child_says_whose_it_is() -> None:
    labels = names.child_labels("agents", "app-db")
    assert labels == {
        "app.kubernetes.io/name": "ostiary-gateway",
        "app.kubernetes.io/instance": "app-db",
        "app.kubernetes.io/managed-by": "ostiary-operator",
        "app.kubernetes.io/part-of": "ostiary",
        "ostiary.dev/gateway": "app-db",
        "ostiary.dev/gateway-namespace": "agents",
    }
    assert names.pod_selector("agents", "app-db").items() <= labels.items()


def test_agents_connect_to_the_service_of_the_connection() -> None:
    assert names.service_host("app-db", "agents") == "ostiary-app-db.agents.svc"
