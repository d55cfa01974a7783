"""Answers of an API server under masks: every shape that one URL may answer with."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from support.answers_masked import dumped, fed, info, plan, shown

from ostiary_gateway.protocols.kubernetes.masks import accept_for, for_record, response_mask
from ostiary_gateway.protocols.kubernetes.questions import Unmaskable
from ostiary_policy.masking import MaskPlan, Strategy

SECRETS = "/api/v1/namespaces/shop/secrets"
SECRET = f"{SECRETS}/db"
PODS = "/api/v1/namespaces/shop/pods"
DATA = plan("$.data.*")
VALUE = base64.b64encode(b"hunter2").decode()
MASKED = base64.b64encode(b"[redacted]").decode()
LAST = "kubectl.kubernetes.io/last-applied-configuration"


def secret(value: str = VALUE, **metadata: object) -> dict[str, Any]:
    return {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "db", **metadata}, "data": {"password": value}}


def loaded(body: bytes) -> Any:
    return json.loads(body)


def test_a_secret_keeps_its_keys_and_stays_base64() -> None:
    assert loaded(shown(DATA, SECRET, dumped(secret()))) == secret(MASKED)


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        (Strategy("Redact", replacement="gone"), base64.b64encode(b"gone").decode()),
        (Strategy("Partial", keep_last=2), base64.b64encode(b"*****r2").decode()),
        (Strategy("Null"), None),
    ],
)
def test_a_strategy_works_on_what_is_inside_the_base64(strategy: Strategy, wanted: str | None) -> None:
    masked = loaded(shown(plan("$.data.*", strategy=strategy), SECRET, dumped(secret())))
    assert masked["data"] == {"password": wanted}


def test_a_pseudonym_of_a_secret_is_that_of_its_value() -> None:
    strategy = Strategy("Pseudonym", key=b"k" * 16)
    masked = loaded(shown(plan("$.data.*", strategy=strategy), SECRET, dumped(secret())))
    in_a_config_map = {"data": {"password": "hunter2"}}
    other = loaded(
        shown(plan("$.data.*", strategy=strategy), "/api/v1/namespaces/a/configmaps/b", dumped(in_a_config_map))
    )
    assert base64.b64decode(masked["data"]["password"]).decode() == other["data"]["password"]


def test_a_list_is_masked_by_its_items_however_it_is_cut() -> None:
    body = dumped(
        {"kind": "SecretList", "metadata": {"resourceVersion": "7", "continue": "x"}, "items": [secret()] * 3}
    )
    wanted = body.replace(VALUE.encode(), MASKED.encode())
    for size in (1, 7, 64, 1 << 20):
        assert shown(DATA, SECRETS, body, size=size) == wanted


def test_what_is_not_masked_is_not_touched() -> None:
    body = b' {"items" : [ {"a":1e400} , {"\\u0062":"\\/"} ] , "kind":"x" }\n'
    mask = response_mask(plan("$.data.*", detectors=["Email"]), info(PODS), 200, b"application/json")
    assert fed(mask, body, 5) == body
    assert mask is not None
    assert not mask.touched


def test_each_event_of_a_watch_goes_out_when_it_is_whole() -> None:
    mask = response_mask(DATA, info(SECRETS + "?watch=1"), 200, b"application/json")
    assert mask is not None
    event = dumped({"type": "MODIFIED", "object": secret()}) + b"\n"
    assert mask.feed(event[:40]) == []
    (first, *_) = mask.feed(event[40:])
    assert loaded(first) == {"type": "MODIFIED", "object": secret(MASKED)}
    bookmark = dumped({"type": "BOOKMARK", "object": {"kind": "Secret", "metadata": {"resourceVersion": "9"}}})
    assert b"".join(mask.feed(bookmark + b"\n" + event)).startswith(bookmark)


def test_what_kubectl_keeps_of_an_object_is_masked_wherever_the_annotation_is() -> None:
    annotations = {LAST: dumped(secret()).decode()}
    partial = {"kind": "PartialObjectMetadata", "metadata": {"name": "db", "annotations": annotations}}
    for body in (partial, {"rows": [{"cells": [], "object": partial}]}, {"items": [partial]}):
        masked = shown(DATA, SECRET, dumped(body))
        assert VALUE.encode() not in masked
        assert MASKED.encode() in masked
    broken = {"metadata": {"annotations": {LAST: f"oops {VALUE}"}}}
    assert loaded(shown(DATA, SECRET, dumped(broken))) == {"metadata": {"annotations": {LAST: "[redacted]"}}}


def test_what_was_applied_as_string_data_is_data() -> None:
    applied = {"kind": "Secret", "stringData": {"password": "hunter2", "time": "2026-11-23T00:00:00Z"}}
    body = dumped({"metadata": {"annotations": {LAST: dumped(applied).decode()}}})
    masked = loaded(shown(DATA, SECRET, body))["metadata"]["annotations"][LAST]
    assert json.loads(masked)["stringData"] == {"password": "[redacted]", "time": None}


def test_managed_fields_do_not_name_a_masked_value() -> None:
    fields = {"f:status": {"f:podIPs": {'k:{"ip":"10.0.0.9"}': {}, 'k:{"ip":"10.0.0.8"}': {}, 'v:"10.0.0.9"': {}}}}
    pod = {"metadata": {"managedFields": [{"fieldsV1": fields}]}, "status": {"podIPs": [{"ip": "10.0.0.9"}]}}
    masked = shown(plan("$.status.podIPs[*].ip"), f"{PODS}/a", dumped(pod))
    assert b"10.0.0.9" not in masked
    assert b"10.0.0.8" in masked


TABLE = {
    "kind": "Table", "columnDefinitions": [{"name": "Name", "type": "string"}, {"name": "Who", "type": "string"}],
    "rows": [{"cells": ["a", "mary"], "object": {"kind": "PartialObjectMetadata", "metadata": {"name": "a"}}}],
}  # fmt: skip


def test_a_tables_cells_are_shown_if_they_cannot_repeat_a_masked_value() -> None:
    custom = "/apis/example.com/v1/namespaces/shop/people"
    masked = loaded(shown(plan("$.spec.who"), custom, dumped(TABLE), size=9))
    assert masked["rows"][0]["cells"] == ["a", "[redacted]"]
    assert loaded(shown(plan(detectors=["Email"]), custom, dumped(TABLE))) == TABLE
    pods = TABLE | {"columnDefinitions": [{"name": "Name"}, {"name": "Node"}]}
    assert loaded(shown(plan("$.spec.containers[*].env[*].value"), PODS, dumped(pods))) == pods
    for hiding in ("$.spec.nodeName", "$.spec.*", "$..nodeName", "$.spec"):
        assert loaded(shown(plan(hiding), PODS, dumped(pods)))["rows"][0]["cells"] == ["a", "[redacted]"]
    unknown = TABLE | {"columnDefinitions": None}
    assert loaded(shown(plan("$.spec.who"), PODS, dumped(unknown)))["rows"][0]["cells"] == ["[redacted]", "[redacted]"]


def test_the_rows_of_a_watch_follow_the_columns_of_its_first_event() -> None:
    events = [{"type": "ADDED", "object": TABLE}, {"type": "ADDED", "object": TABLE | {"columnDefinitions": None}}]
    body = b"\n".join(map(dumped, events)) + b"\n"
    masked = shown(plan("$.spec.who"), "/apis/example.com/v1/people?watch=true", body)
    assert [loaded(line)["object"]["rows"][0]["cells"] for line in masked.splitlines()] == [["a", "[redacted]"]] * 2


INVALID = {
    "kind": "Status", "status": "Failure", "reason": "Invalid", "code": 422,
    "message": f'Secret "db" is invalid: data[password]: Invalid value: "{VALUE}": no',
    "details": {"name": "db", "kind": "Secret", "causes": [
        {"reason": "FieldValueInvalid", "message": f'Invalid value: "{VALUE}": no', "field": "data[password]"},
    ]},
}  # fmt: skip


def test_an_error_says_which_field_and_not_which_value() -> None:
    masked = shown(DATA, SECRET, dumped(INVALID), method="PATCH", status=422)
    assert VALUE.encode() not in masked
    assert 'Secret "db" was refused (Invalid): data[password]: Invalid value: [redacted]' in loaded(masked)["message"]
    assert loaded(masked)["details"]["causes"][0]["field"] == "data[password]"
    event = dumped({"type": "ERROR", "object": INVALID})
    assert VALUE.encode() not in shown(DATA, SECRETS + "?watch=1", event)
    assert shown(DATA, SECRET, b"<html>", status=500) != b"<html>"


@pytest.mark.parametrize("reason", ["NotFound", "AlreadyExists", "Conflict", "Expired"])
def test_an_error_made_of_names_passes(reason: str) -> None:
    body = dumped({"kind": "Status", "status": "Failure", "reason": reason, "message": 'secrets "db" …', "code": 404})
    assert shown(DATA, SECRET, body, status=404) == body


def test_a_webhook_may_say_anything_under_any_reason() -> None:
    words = f'admission webhook "w" denied the request: password {VALUE} is bad'
    for reason in ("NotFound", "Forbidden", "Conflict"):
        body = dumped({"kind": "Status", "status": "Failure", "reason": reason, "message": words, "code": 404})
        assert VALUE.encode() not in shown(DATA, SECRET, body, status=404)


def test_what_is_no_text_becomes_null_and_what_clients_need_stays() -> None:
    pod = {
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "resourceVersion": "5", "creationTimestamp": "2026-11-23T00:00:00Z",
                     "labels": {"a": "b"}},
        "spec": {"priority": 3, "hostNetwork": True},
    }  # fmt: skip
    masked = loaded(shown(plan("$.metadata.*", "$.spec.*", "$.kind", "$.apiVersion"), f"{PODS}/a", dumped(pod)))
    wanted = {"name": "[redacted]", "resourceVersion": "5", "creationTimestamp": None, "labels": None}
    assert masked == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": wanted,
        "spec": {"priority": None, "hostNetwork": None},
    }


def test_detectors_look_into_every_string_key_and_number() -> None:
    masks = plan(detectors=["CreditCard", "Email"])
    body = (
        rb'{"a":"mail to a\u0040b.com now","b@c.com":1,"n":4111111111111111,"e":4.111111111111111e15,'
        rb'"x":"4111\u0020111111111111","plain":"1"}'
    )
    masked = shown(masks, f"{PODS}/a", body)
    assert loaded(masked) == {
        "a": "mail to [redacted] now", "[redacted]": 1, "n": None, "e": None, "x": "[redacted]", "plain": "1",
    }  # fmt: skip


def test_detectors_look_into_the_base64_of_secrets() -> None:
    mail = base64.b64encode(b"user: bob@example.com").decode()
    masked = loaded(
        shown(
            plan(detectors=["Email"]), SECRET, dumped(secret(mail, annotations={LAST: dumped(secret(mail)).decode()}))
        )
    )
    assert base64.b64decode(masked["data"]["password"]) == b"user: [redacted]"
    assert loaded(masked["metadata"]["annotations"][LAST].encode())["data"] == masked["data"]


def test_paths_hold_in_the_revisions_of_a_controller() -> None:
    template = {"spec": {"template": {"spec": {"containers": [{"env": [{"name": "A", "value": "s3cret"}]}]}}}}
    body = dumped({"kind": "ControllerRevision", "data": template})
    masks = plan("$.spec.template.spec.containers[*].env[*].value")
    assert b"s3cret" not in shown(masks, "/apis/apps/v1/namespaces/a/controllerrevisions/b", body)


@pytest.mark.parametrize(
    "kind", [b"application/vnd.kubernetes.protobuf", b"application/cbor", b"application/yaml", b"", b"text/html"]
)
def test_what_cannot_be_masked_is_not_shown(kind: bytes) -> None:
    with pytest.raises(Unmaskable, match="Ask for application/json"):
        response_mask(DATA, info(SECRET), 200, kind)


@pytest.mark.parametrize(
    "body", [b'{"a":', b"[1", b'{"data":{"a":"b"}}x', b"\x1f\x8b\x08", b'{"a":"\x01"}', b"{'a':1}", b"[" * 600]
)
def test_what_is_no_json_is_not_shown(body: bytes) -> None:
    for target in (SECRET, SECRETS):
        with pytest.raises(Unmaskable):
            shown(DATA, target, body, size=3)


def test_what_describes_the_api_is_not_masked() -> None:
    for target in ("/api", "/apis/apps/v1", "/openapi/v2", "/openapi/v3/api/v1", "/version"):
        assert response_mask(DATA, info(target), 200, b"anything") is None
        assert accept_for(DATA, info(target), b"application/x") == b"application/x"


def test_logs_are_looked_at_by_detectors_only() -> None:
    logs = f"{PODS}/a/log?follow=true"
    masks = plan("$.data.*", detectors=["Email"])
    body = b"hello\nfrom bob@example.com\nbye"
    for size in (1, 5, 100):
        assert shown(masks, logs, body, kind=b"text/plain", size=size) == b"hello\nfrom [redacted]\nbye"
    assert response_mask(DATA, info(logs), 200, b"text/plain") is None


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (b"application/vnd.kubernetes.protobuf, application/json", b"application/json"),
        (b"application/vnd.kubernetes.protobuf", b"application/json"),
        (b"application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
         b"application/json;as=Table;v=v1;g=meta.k8s.io, application/json"),
        (b"", b"application/json"), (b"*/*", b"application/json"), (b"application/cbor,*/*", b"application/json"),
    ],
)  # fmt: skip
def test_json_is_asked_for(accept: bytes, wanted: bytes) -> None:
    assert accept_for(DATA, info(SECRET), accept) == wanted
    assert accept_for(MaskPlan(), info(SECRET), accept) == accept


def test_the_record_holds_no_value_of_a_secret_and_no_token() -> None:
    for target, method, side, body in [
        (SECRET, "GET", "response", secret()),
        (SECRETS, "GET", "response", {"items": [secret(), secret()]}),
        (SECRETS + "?watch=1", "GET", "response", {"type": "ADDED", "object": secret()}),
        (SECRETS, "POST", "request", secret() | {"stringData": {"a": "hunter2"}}),
        (SECRET, "PUT", "request", secret(annotations={LAST: dumped(secret()).decode()})),
        ("/api/v1/namespaces/a/serviceaccounts/b/token", "POST", "response", {"status": {"token": "hunter2"}}),
    ]:
        mask = for_record(info(target, method), side, b"application/json")  # type: ignore[arg-type]
        kept = fed(mask, dumped(body), 11)
        assert b"[secret]" in kept
        assert b"hunter2" not in kept
        assert VALUE.encode() not in kept
    patch = b'[{"op":"add","path":"/data/x","value":"aHVudGVyMg=="}]'
    kept = fed(for_record(info(SECRET, "PATCH"), "request", b"application/json-patch+json"), patch)
    assert loaded(kept) == [{"op": "add", "path": "/data/x", "value": "[secret]"}]
    for kind in (b"application/vnd.kubernetes.protobuf", b"application/yaml"):
        assert fed(for_record(info(SECRET), "response", kind), b"k8s\0hunter2", 3) == b"[secret]"
    assert fed(for_record(info(SECRET), "response", b"application/json"), b'{"data": hunter2') == b"[secret]"
    assert for_record(info(PODS), "response", b"application/json") is None
