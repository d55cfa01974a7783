"""Whom an API server is told to see: the subject's own names, and never one of the cluster's."""

from __future__ import annotations

from typing import Any

import pytest

from ostiary_gateway.credentials.impersonation import impersonation
from ostiary_gateway.credentials.static import CredentialError
from ostiary_policy.facts import SubjectFacts

PLANNER = "system:serviceaccount:demo:planner"


def subject(**more: Any) -> SubjectFacts:
    plain: dict[str, Any] = {
        "username": "ana@example.com", "uid": "", "groups": [], "kind": "User", "namespace": "",
        "name": "ana@example.com", "claims": {}, "onBehalfOf": "",
    }  # fmt: skip
    return SubjectFacts(**{**plain, **more})


def account(**more: Any) -> SubjectFacts:
    groups = ["system:serviceaccounts", "system:serviceaccounts:demo", "system:authenticated"]
    plain = {
        "username": PLANNER, "uid": "6d1f", "groups": groups, "kind": "ServiceAccount", "namespace": "demo",
        "name": "planner",
    }  # fmt: skip
    return subject(**{**plain, **more})


def test_a_user_comes_with_uid_and_groups() -> None:
    ana = subject(uid="u-1", groups=["devs", "oncall", "system:authenticated"])
    assert impersonation(ana) == [
        (b"impersonate-user", b"ana@example.com"),
        (b"impersonate-uid", b"u-1"),
        (b"impersonate-group", b"devs"),
        (b"impersonate-group", b"oncall"),
    ]


def test_a_service_account_is_its_name_alone_so_that_a_role_in_its_namespace_allows_it() -> None:
    assert impersonation(account()) == [(b"impersonate-user", PLANNER.encode())]


def test_whom_an_agent_acts_for_is_in_extra() -> None:
    (_, person) = impersonation(account(onBehalfOf="dana@example.com"))
    assert person == (b"impersonate-extra-ostiary.dev%2fon-behalf-of", b"dana@example.com")


def test_a_name_beyond_ascii_goes_as_utf_8() -> None:
    assert impersonation(subject(username="bjørn"))[0] == (b"impersonate-user", "bjørn".encode())


@pytest.mark.parametrize(
    "who",
    [
        subject(username="system:admin"),
        subject(username=PLANNER),
        subject(groups=["devs", "system:masters"]),
        subject(username="ana\r\nImpersonate-Group: system:masters"),
        subject(groups=["devs\n"]),
        subject(uid="a\0b"),
        subject(username=" ana"),
        subject(username=""),
        subject(onBehalfOf="x\ry"),
        account(groups=["system:masters"]),
        account(username="system:serviceaccount:kube-system:planner"),
        account(name="", username="system:serviceaccount:demo:"),
    ],
)
def test_nobody_gets_a_name_that_is_the_clusters_or_that_ends_a_header(who: SubjectFacts) -> None:
    with pytest.raises(CredentialError) as refused:
        impersonation(who)
    assert "impersonated" in str(refused.value) or "user name" in str(refused.value)
