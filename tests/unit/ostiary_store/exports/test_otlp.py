"""Logs of OpenTelemetry in the JSON of OTLP, checked against the rules of that encoding."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from support.export_items import EVERY

from ostiary_store.exports.otlp import encode, join

# Of the proto: field → the form of its JSON. 64 bits are texts; enums are numbers; names are lowerCamelCase.
RECORD = {
    "timeUnixNano": r"\d{19}", "observedTimeUnixNano": r"\d{19}", "severityNumber": int, "severityText": str,
    "eventName": str, "body": dict, "attributes": list,
}  # fmt: skip
VALUES = {"stringValue": str, "boolValue": bool, "intValue": r"-?\d+", "doubleValue": float, "arrayValue": dict,
          "kvlistValue": dict}  # fmt: skip


def valid(value: Any) -> None:
    [(kind, held)] = value.items()
    form = VALUES[kind]
    assert re.fullmatch(form, held) if isinstance(form, str) else type(held) is form, (kind, held)
    if kind == "arrayValue":
        for each in held["values"]:
            valid(each)
    if kind == "kvlistValue":
        pairs(held["values"])


def pairs(found: list[dict[str, Any]]) -> dict[str, Any]:
    for each in found:
        assert set(each) == {"key", "value"}
        valid(each["value"])
    keys = [each["key"] for each in found]
    assert len(set(keys)) == len(keys)
    return {each["key"]: next(iter(each["value"].values())) for each in found}


def attributes(name: str) -> dict[str, Any]:
    return pairs(json.loads(encode(EVERY[name]))["attributes"])


@pytest.mark.parametrize("name", EVERY)
def test_a_record_is_as_the_encoding_has_it(name: str) -> None:
    record = json.loads(encode(EVERY[name]))
    assert set(record) == set(RECORD)
    for field, form in RECORD.items():
        held = record[field]
        assert re.fullmatch(form, held) if isinstance(form, str) else isinstance(held, form), (field, held)  # type: ignore[arg-type]
    assert record["severityNumber"] in (9, 13)
    assert pairs(record["attributes"])["log.record.uid"]
    valid(record["body"])


def test_a_request_of_several() -> None:
    body = json.loads(join([encode(EVERY["select"]), encode(EVERY["denied"])], "0.1.0"))
    [resource] = body["resourceLogs"]
    assert pairs(resource["resource"]["attributes"]) == {"service.name": "ostiary", "service.version": "0.1.0"}
    [scope] = resource["scopeLogs"]
    assert [each["severityText"] for each in scope["logRecords"]] == ["INFO", "WARN"]


def test_names_are_those_of_the_semantic_conventions() -> None:
    select = attributes("select")
    assert (select["db.system.name"], select["db.namespace"], select["db.operation.name"]) == (
        "postgresql", "app", "SELECT",
    )  # fmt: skip
    assert (select["db.query.text"], select["db.response.returned_rows"]) == ("select * from orders", "3")
    assert (select["user.name"], select["client.address"]) == ("system:serviceaccount:agents:planner", "10.0.0.7")
    assert select["ostiary.duration"] == 0.25
    failing = attributes("failing")
    assert (failing["error.type"], failing["db.response.status_code"]) == ("22012", "22012")
    patch = attributes("patch")
    assert (patch["http.request.method"], patch["k8s.deployment.name"], patch["k8s.namespace.name"]) == (
        "PATCH", "web", "shop",
    )  # fmt: skip
    command = attributes("command")
    assert (command["process.command_line"], command["process.exit.code"]) == ("ls -la /srv | wc -l", "0")
    assert attributes("file")["file.path"] == "/etc/motd"
    refused = attributes("refused login")
    assert (refused["client.address"], refused["ostiary.connection"]) == ("10.0.0.9", "shop/db")
    assert "user.name" not in refused
    assert attributes("denied")["ostiary.decision.rule"] == "reads"
