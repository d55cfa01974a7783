"""What makes two requests the same one to a grant, and what does not."""

from __future__ import annotations

from typing import Any

import pytest
from support.resultings import APPLY, JSON_PATCH, MERGE, WEB, asked, changed, web

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
        form(asked("PATCH", WEB, FIFTY, MERGE), web(3, "8", status={"readyReplicas": 1}), web(50, "8")),
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
