"""What people are shown of a write that needs their approval."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from support.resultings import MERGE, WEB, asked, changed, web

from ostiary_gateway.protocols.kubernetes.evidence import LAST_APPLIED, MAX_LISTED, Shown, brief, changes, shown
from ostiary_gateway.protocols.kubernetes.questions import Ask
from ostiary_gateway.protocols.kubernetes.resulting import Resulting
from ostiary_gateway.protocols.kubernetes.veil import Veil
from ostiary_policy.masking import NOTHING

PATCH = asked("PATCH", WEB, {"spec": {}}, MERGE)


def seen(ask: Ask, old: dict[str, Any] | None, new: dict[str, Any] | None, **more: Any) -> Shown:
    olds = more.pop("olds", (old,) if old else ())
    return shown(
        ask,
        Resulting(ask.request, new, old, olds, len(olds), **more),
        more.pop("hide", Veil(NOTHING, ask.info).document),
    )


def test_a_change_is_one_line_and_a_diff() -> None:
    found = seen(PATCH, web(3), web(50, "8"))
    assert found.summary == f"Deployment shop/web: spec.replicas 3 → 50\nPATCH {WEB}"
    assert "-  replicas: 3\n+  replicas: 50" in found.diff
    assert "status" not in found.diff
    assert "resourceVersion" not in found.diff
    assert not found.redacted


def test_what_a_container_changes_is_named_by_the_container() -> None:
    new = copy.deepcopy(web(3))
    new["spec"]["template"]["spec"]["containers"][0]["image"] = "shop:2"
    assert "containers[app].image shop:1 → shop:2" in seen(PATCH, web(3), new).summary


def test_many_changes_are_counted_and_those_of_the_spec_come_first() -> None:
    new = changed(web(9), metadata__labels={"a": "b"}, spec__paused=True, spec__minReadySeconds=5)
    title = seen(PATCH, web(3), new).summary.splitlines()[0]
    assert title == (
        "Deployment shop/web: spec.replicas 3 → 9, spec.paused none → true, spec.minReadySeconds none → 5 and 1 more"
    )


def test_a_write_that_changes_nothing_says_so() -> None:
    assert seen(PATCH, web(3), web(3, "9")).summary.startswith("update Deployment shop/web: nothing changes")


def test_a_creation_shows_the_object() -> None:
    found = seen(asked("POST", WEB.removesuffix("/web"), {}), {}, web(3))
    assert found.summary.startswith("create Deployment shop/web\n")
    assert "+  replicas: 3" in found.diff


def test_a_name_that_is_still_to_be_made_up_is_not_shown_as_one() -> None:
    new = changed(web(3), metadata={"name": "web-x7k2p", "generateName": "web-"})
    assert seen(asked("POST", WEB.removesuffix("/web"), {}), {}, new).summary.startswith(
        "create Deployment shop/web-…\n"
    )


def test_a_deletion_shows_what_goes() -> None:
    found = seen(asked("DELETE", WEB), web(3), {})
    assert found.summary.startswith("delete Deployment shop/web\n")
    assert "-  replicas: 3" in found.diff


def test_a_collection_is_counted_and_listed() -> None:
    olds = tuple({"metadata": {"name": f"m{n}", "namespace": "shop"}} for n in range(MAX_LISTED + 5))
    ask = asked("DELETE", "/api/v1/namespaces/shop/configmaps?labelSelector=a%3Db")
    found = seen(ask, None, {}, olds=olds)
    assert found.summary.startswith("delete 205 configmaps in shop (a=b)\n")
    assert found.diff.startswith("-shop/m0\n-shop/m1\n")
    assert found.diff.endswith("… and 5 more")


def test_a_command_is_in_the_first_line_whatever_it_holds() -> None:
    ask = asked("POST", "/api/v1/namespaces/shop/pods/web-1/exec?command=sh&command=-c&command=id%0AGET%20/nothing")
    assert seen(ask, {"kind": "Pod"}, {"kind": "Pod"}).summary.splitlines()[0] == (
        "run in Pod shop/web-1: sh -c 'id GET /nothing'"
    )


def test_the_record_has_what_changes_line_by_line() -> None:
    made = Resulting(PATCH.request, changed(web(50), spec__paused=True), web(3), (web(3),), 1)
    hide = Veil(NOTHING, PATCH.info).document
    assert brief(PATCH, made, hide) == "-spec.replicas: 3\n+spec.replicas: 50\n+spec.paused: true"
    made.object = {}
    assert brief(PATCH, made, hide) == ""


# -- what is not shown


def secret(value: str) -> dict[str, Any]:
    notes = {LAST_APPLIED: '{"data": {"password": "aHVudGVyMg=="}}'}
    data = {"password": value, "user": "c2hvcA=="}
    return {"kind": "Secret", "metadata": {"name": "db", "annotations": notes}, "data": data}


def test_no_value_of_a_secret_is_shown_but_that_it_changes() -> None:
    ask = asked("PATCH", "/api/v1/namespaces/shop/secrets/db", {}, MERGE)
    found = seen(ask, secret("aHVudGVyMg=="), secret("b3RoZXI="))
    assert found.summary.startswith("Secret shop/db: data.password [secret] → [secret] (changed)\n")
    assert "aHVudGVyMg" not in found.diff + found.summary
    assert "b3RoZXI" not in found.diff + found.summary
    assert found.redacted


def test_a_secret_that_is_made_is_not_shown_either() -> None:
    found = seen(asked("POST", "/api/v1/namespaces/shop/secrets", {}), {}, secret("aHVudGVyMg=="))
    assert "+  password: '[secret]'" in found.diff


def test_what_is_masked_is_masked_and_a_change_of_it_is_said() -> None:
    def hide(document: dict[str, Any]) -> dict[str, Any]:
        return changed(document, data__key="[redacted]")

    ask = asked("PATCH", "/api/v1/namespaces/shop/configmaps/c", {}, MERGE)
    old, new = ({"kind": "ConfigMap", "data": {"key": value, "size": "1"}} for value in ("hunter2", "hunter3"))
    found = shown(ask, Resulting(ask.request, new, old, (old,), 1), hide)
    assert "[redacted] → [redacted] (changed)" in found.summary
    assert "hunter" not in found.summary + found.diff
    assert found.redacted


def test_a_dry_run_that_there_is_none_of_is_told_with_the_reason() -> None:
    found = seen(PATCH, web(3), None, missing={"k8s.object": "the webhook knows none"})
    assert found.diff.startswith("No dry run: the webhook knows none.\n")


def test_a_large_object_is_cut() -> None:
    big = {"kind": "ConfigMap", "data": {f"k{n}": "x" * 500 for n in range(1_000)}}
    found = seen(asked("POST", "/api/v1/namespaces/shop/configmaps", {}), {}, big)
    assert len(found.diff) < 65_536
    assert found.diff.endswith("more characters are not shown")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1.0}, []),
        ({"a": [1, 2]}, {"a": [1, 3]}, [("a[1]", 2, 3)]),
        ({"a": [1]}, {"a": [1, 3]}, [("a", [1], [1, 3])]),
        ({"p": [{"port": 80, "x": 1}]}, {"p": [{"port": 81, "x": 1}]}, None),
        ({"x/y": "1"}, {"x/y": "2"}, [('["x/y"]', "1", "2")]),
    ],
)
def test_changes_are_named_by_their_path(old: Any, new: Any, expected: Any) -> None:
    found = list(changes(old, new))
    if expected is None:
        assert [path for path, _, _ in found] == ["p[80]", "p[81]"]
    else:
        assert found == expected
