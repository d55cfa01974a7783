"""Events of OCSF: of the right class, and as the published schema has it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.export_items import EVERY, line, request
from support.ocsf_schema import CLASSES, problems

from ostiary_store.exports.ocsf import encode


def event(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode(EVERY[name], "0.1.0"))
    return found


@pytest.mark.parametrize("name", EVERY)
def test_it_is_as_the_schema_has_it(name: str) -> None:
    assert problems(event(name)) == []


@pytest.mark.parametrize(
    ("name", "kind", "activity", "status", "action"),
    [
        ("select", 6005, "Query", "Success", "Allowed"),
        ("insert", 6005, "Create", "Success", "Allowed"),
        ("several", 6005, "Several", "Success", "Allowed"),
        ("failing", 6005, "Query", "Failure", "Allowed"),
        ("denied", 6005, "DROP", "Failure", "Denied"),
        ("undecided", 6005, "Query", "Failure", "Denied"),
        ("approved", 6005, "Update", "Success", "Allowed"),
        ("not approved", 6005, "Update", "Failure", "Denied"),
        ("running", 6005, "Query", "Unknown", "Allowed"),
        ("asking", 6005, "Update", "Unknown", "Unknown"),
        ("cut off", 6005, "Query", "Other", "Allowed"),
        ("patch", 6003, "Update", "Success", "Allowed"),
        ("exec", 6003, "Create", "Success", "Allowed"),
        ("forbidden", 6003, "Delete", "Failure", "Allowed"),
        ("command", 1007, "Launch", "Success", "Allowed"),
        ("shell", 1007, "Launch", "Success", "Allowed"),
        ("file", 1001, "Update", "Success", "Allowed"),
        ("rename", 1001, "Rename", "Success", "Allowed"),
        ("forward", 4007, "forward", "Success", "Allowed"),
        ("sftp session", 4007, "sftp", "Success", "Allowed"),
        ("login", 3002, "Logon", "Success", None),
        ("logout", 3002, "Logoff", "Success", None),
        ("lost", 3002, "Logoff", "Lost", None),
        ("refused login", 3002, "Logon", "Failure", "Denied"),
        ("gap", 0, "Gap", "Failure", None),
        ("question", 0, "Approval Asked", "Success", None),
    ],
)
def test_what_becomes_what(name: str, kind: int, activity: str, status: str, action: str | None) -> None:
    found = event(name)
    assert (found["class_uid"], found["activity_name"], found["status"], found.get("action")) == (
        kind, activity, status, action,
    )  # fmt: skip
    assert {each["class_uid"] for each in map(event, EVERY)} == set(CLASSES)


def test_a_statement() -> None:
    found = event("denied")
    assert found["query_info"] == {"query_string": "/* x */ -- y\n drop table t", "uid": "01m83by641k1-7"}
    assert found["database"] == {"name": "app", "uid": "shop/db", "type_id": 1, "type": "Relational"}
    assert found["actor"]["user"] == {
        "name": "system:serviceaccount:agents:planner", "uid": "u-1", "groups": [{"name": "agents"}], "type_id": 4,
        "type": "Service",
    }  # fmt: skip
    assert found["src_endpoint"] == {"ip": "10.0.0.7"}
    assert (found["severity"], found["is_alert"], found["disposition"]) == ("Medium", True, "Blocked")
    assert found["policy"] == {"name": "shop/agents", "uid": "reads", "is_applied": True, "version": "abc"}
    assert found["status_detail"] == "No."
    assert (found["end_time"] - found["start_time"], found["duration"]) == (250, 250)
    assert found["metadata"]["uid"] == "01m83by641k1-7"
    assert found["unmapped"]["onBehalfOf"] == "olga"
    assert {each["name"]: each["value"] for each in found["observables"]} == {
        "src_endpoint.ip": "10.0.0.7", "actor.user.name": "system:serviceaccount:agents:planner",
    }  # fmt: skip


def test_a_call_of_an_api() -> None:
    found = event("patch")
    assert found["api"]["operation"] == "patch deployments"
    assert found["http_request"]["url"]["path"] == "/apis/apps/v1/namespaces/shop/deployments/web"
    assert found["resources"] == [{"name": "web", "type": "deployments", "namespace": "shop"}]
    assert event("forbidden")["api"]["response"] == {"code": 403, "error": "Forbidden", "error_message": "no"}
    assert event("exec")["api"]["operation"] == "create pods/exec"


def test_a_command_has_its_exit_code_even_if_that_is_zero() -> None:
    found = event("command")
    assert found["exit_code"] == 0
    assert found["process"] == {
        "uid": "01m83by641k1-7", "cmd_line": "ls -la /srv | wc -l", "name": "ls", "user": {"name": "deploy"},
    }  # fmt: skip


def test_claims_of_tokens_stay_here() -> None:
    assert not any("olga@example.com" in json.dumps(event(name)) for name in EVERY)


def test_the_example_on_the_page_is_one() -> None:
    page = (Path(__file__).parents[4] / "docs" / "exports.md").read_text()
    [example] = [found for found in re.findall(r"```json\n(.*?)```", page, re.DOTALL) if '"class_uid"' in found]
    assert problems(json.loads(example)) == []


def test_lines_that_another_event_tells_are_none() -> None:
    assert encode(line("session")) == b""


@pytest.mark.parametrize("text", ["", "   ", "--", "/* ", "((((", "é", "x" * 100_000, "/*" * 50_000])
def test_no_text_is_too_odd(text: str) -> None:
    assert problems(json.loads(encode(request(text)))) == []
