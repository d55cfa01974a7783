"""What makes two requests the same one to a grant, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from support.resultings import APPLY, JSON_PATCH, MERGE, PROTOBUF, WEB, asked, changed, web

from ostiary_gateway.protocols.kubernetes.normal import normal_form
from ostiary_gateway.protocols.kubernetes.questions import Ask
from ostiary_gateway.protocols.kubernetes.resulting import Resulting

FIFTY = {"spec": {"replicas": 50}}


def form(ask: Ask, old: dict[str, Any] | None = None, new: dict[str, Any] | None = None) -> dict[str, object]:
    old, new = (web(3) if old is None else old), (web(50) if new is None else new)
    return normal_form(ask, Resulting(ask.request, new, old, (old,) if old else (), 1))


PATCH = form(asked("PATCH", WEB, FIFTY, MERGE))


@pytest.mark.parametrize(
    "same",
    [
        form(asked("PATCH", f"{WEB}?fieldManager=kubectl&timeout=5s", FIFTY, MERGE)),
        form(asked("PATCH", WEB, '{"spec":\n{"replicas":50}}', MERGE)),
        form(asked("PATCH", WEB, FIFTY, MERGE), *(web(count, "8", status={"readyReplicas": 1}) for count in (3, 50))),
        form(asked("PATCH", WEB, FIFTY, MERGE), changed(web(3), metadata__generation=9, metadata__managedFields=[1])),
        form(asked("PATCH", WEB, {**FIFTY, "metadata": {"resourceVersion": "7"}}, MERGE)) | {"body": FIFTY},
    ],
)
def test_what_changes_by_itself_is_the_same_request(same: dict[str, object]) -> None:
    assert same == PATCH


@pytest.mark.parametrize(
    "other",
    [
        form(asked("PATCH", WEB, {"spec": {"replicas": 51}}, MERGE), new=web(51)),
        form(asked("PATCH", WEB, FIFTY, MERGE), web(4)),
        form(asked("PATCH", WEB, FIFTY, MERGE), new=changed(web(50), spec__paused=True)),
        form(asked("PATCH", WEB, FIFTY, MERGE), changed(web(3), metadata__uid="u-new")),
        form(asked("PATCH", WEB, FIFTY, APPLY)),
        form(asked("PATCH", f"{WEB}?dryRun=All", FIFTY, MERGE)),
        form(asked("PATCH", f"{WEB}?force=true", FIFTY, MERGE)),
        form(asked("PATCH", f"{WEB}/scale", FIFTY, MERGE)),
        form(asked("PUT", WEB, FIFTY)),
    ],
)
def test_what_does_something_else_is_another_request(other: dict[str, object]) -> None:
    assert other != PATCH


def test_who_applies_matters_to_an_apply() -> None:
    one, other = (form(asked("PATCH", f"{WEB}?fieldManager={who}", FIFTY, APPLY)) for who in ("one", "other"))
    assert one != other


def test_two_dry_runs_of_one_creation_are_the_same() -> None:
    ask = asked("POST", WEB.removesuffix("/web"), {"metadata": {"generateName": "web-"}})
    made = [
        changed(web(3), metadata={"generateName": "web-", "name": name, "uid": name, "creationTimestamp": name})
        for name in ("web-abcde", "web-fghij")
    ]
    assert form(ask, {}, made[0]) == form(ask, {}, made[1])
    assert form(ask, {}, changed(made[0], spec__replicas=4)) != form(ask, {}, made[1])


def test_a_write_to_the_status_is_about_the_status() -> None:
    ask = asked("PATCH", f"{WEB}/status", {"status": {}}, MERGE)
    assert form(ask, new=web(3, status={"a": 1})) != form(ask, new=web(3, status={"a": 2}))


def test_a_deletion_is_of_this_object_with_these_options() -> None:
    ask = asked("DELETE", WEB)
    assert form(ask, web(3), {}) != form(ask, changed(web(3), metadata__uid="u-new"), {})
    orphan = {"propagationPolicy": "Orphan"}
    assert form(asked("DELETE", WEB, orphan), web(3), {}) != form(ask, web(3), {})
    assert form(asked("DELETE", WEB, {**orphan, "preconditions": {"uid": "u-web"}}), web(3), {}) == form(
        asked("DELETE", WEB, orphan), web(3), {}
    )


def test_commands_are_told_apart() -> None:
    one, other = (
        asked("POST", f"/api/v1/namespaces/shop/pods/p/exec?command={command}") for command in ("ls", "reboot")
    )
    assert form(one, web(), web()) != form(other, web(), web())


def test_a_test_of_the_version_in_a_json_patch_counts_for_nothing() -> None:
    replace = {"op": "replace", "path": "/spec/replicas", "value": 50}
    test = {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
    assert form(asked("PATCH", WEB, [test, replace], JSON_PATCH)) == form(asked("PATCH", WEB, [replace], JSON_PATCH))


def test_a_name_of_ones_own_counts_beside_a_prefix() -> None:
    ask = asked("POST", WEB.removesuffix("/web"), b"k8s\0", PROTOBUF)
    one, other = ({"metadata": {"generateName": "web-", "name": name}} for name in ("cart", "checkout"))
    assert form(ask, {}, one) != form(ask, {}, other)


CSR = "/apis/certificates.k8s.io/v1/certificatesigningrequests/agent"


def answered(kind: str) -> dict[str, Any]:
    return {"metadata": {"name": "agent", "uid": "u"}, "status": {"conditions": [{"type": kind, "status": "True"}]}}


def test_a_certificate_that_may_be_denied_may_not_be_approved() -> None:
    old = {"metadata": {"name": "agent", "uid": "u"}, "status": {}}
    deny, approve = (
        form(asked("PUT", f"{CSR}/approval", answered(kind)), old, answered(kind)) for kind in ("Denied", "Approved")
    )
    assert deny != approve
    assert deny["body"] != approve["body"]
    assert deny["object"] != approve["object"]


def test_a_status_counts_where_a_write_changes_it() -> None:
    # As of a custom resource without the subresource status.
    ask = asked("PATCH", "/apis/example.com/v1/namespaces/shop/valves/main", {"status": {"open": True}}, MERGE)
    old = {"metadata": {"name": "main"}, "status": {"open": False}}
    opened, emptied = (
        form(ask, old, {"metadata": {"name": "main"}, "status": status}) for status in ({"open": True}, {})
    )
    assert opened != emptied
    assert form(asked("POST", WEB, {"status": 1}), {}) != form(asked("POST", WEB, {"status": 2}), {})


SERVICE = "/api/v1/namespaces/shop/services/admin/proxy/tables"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (asked("POST", f"{SERVICE}?dryRun=All"), asked("POST", SERVICE)),
        (asked("POST", f"{SERVICE}?timeout=1"), asked("POST", f"{SERVICE}?timeout=2")),
        (asked("POST", SERVICE, {"status": "keep"}), asked("POST", SERVICE, {"status": "drop"})),
        (asked("POST", SERVICE, b"k8s\0a", PROTOBUF), asked("POST", SERVICE, b"k8s\0b", PROTOBUF)),
        (asked("POST", SERVICE, "{}"), asked("POST", SERVICE, "{}", "text/plain")),
        (asked("POST", "/debug/x?pretty=1"), asked("POST", "/debug/x?pretty=2")),
    ],
)
def test_of_what_is_passed_on_all_counts(one: Ask, other: Ask) -> None:
    service = {"metadata": {"name": "admin"}}
    assert form(one, service, service) != form(other, service, service)
