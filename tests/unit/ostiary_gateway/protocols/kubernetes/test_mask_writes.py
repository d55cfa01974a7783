"""Masked values that come back in a write, by every way in which a body may carry them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from support.answers_masked import dumped, info, plan, shown

from ostiary_gateway.protocols.kubernetes.masks import MaskedValueReturned, check_write
from ostiary_gateway.protocols.kubernetes.wire import Request, RequestHead
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

SECRET = "/api/v1/namespaces/shop/secrets/db"
CONFIG = "/api/v1/namespaces/shop/configmaps/c"
POD = "/api/v1/namespaces/shop/pods/p"
LAST = "kubectl.kubernetes.io/last-applied-configuration"
DATA = plan("$.data.*")
MERGE, STRATEGIC, APPLY, JSON_PATCH = (
    b"application/merge-patch+json", b"application/strategic-merge-patch+json", b"application/apply-patch+yaml",
    b"application/json-patch+json",
)  # fmt: skip


def check(
    masks: MaskPlan, target: str, body: object, *, method: str = "PUT", kind: bytes = b"application/json"
) -> None:
    data = body if isinstance(body, bytes) else dumped(body)
    head = RequestHead(method, target.encode(), [(b"content-type", kind)], True, b"")
    check_write(masks, info(target, method), Request(head, data))


def refused(
    masks: MaskPlan, target: str, body: object, *, method: str = "PUT", kind: bytes = b"application/json"
) -> str:
    with pytest.raises(MaskedValueReturned) as found:
        check(masks, target, body, method=method, kind=kind)
    assert found.value.hint
    return found.value.path


def secret(value: str = "hunter2") -> dict[str, Any]:
    return {
        "kind": "Secret",
        "metadata": {"name": "db"},
        "data": {"password": base64.b64encode(value.encode()).decode()},
    }


STRATEGIES = [
    Strategy("Redact"), Strategy("Redact", replacement="—"), Strategy("Partial", keep_last=2), Strategy("Partial"),
    Strategy("Partial", keep_first=20), Strategy("Pseudonym", key=b"k" * 16), Strategy("Null"),
]  # fmt: skip


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda each: each.type)
def test_an_object_that_was_read_through_a_mask_is_not_written(strategy: Strategy) -> None:
    masks = plan("$.data.*", strategy=strategy)
    read = json.loads(shown(masks, SECRET, dumped(secret())))
    assert refused(masks, SECRET, read) == "$.data.password"
    assert refused(masks, SECRET, read, method="PATCH", kind=APPLY) == "$.data.password"
    check(masks, SECRET, secret("my own value"))


@pytest.mark.parametrize("kind", [MERGE, STRATEGIC, APPLY])
def test_patches_carry_it_no_further(kind: bytes) -> None:
    read = json.loads(shown(DATA, SECRET, dumped(secret())))["data"]
    assert refused(DATA, SECRET, {"data": read}, method="PATCH", kind=kind) == "$.data.password"
    check(DATA, SECRET, {"metadata": {"labels": {"a": "b"}}}, method="PATCH", kind=kind)


def test_a_patch_may_delete_what_is_masked() -> None:
    for strategy in STRATEGIES:
        check(plan("$.data.*", strategy=strategy), SECRET, {"data": {"password": None}}, method="PATCH", kind=MERGE)
    assert (
        refused(plan("$.data.*", strategy=Strategy("Null")), SECRET, {"data": {"password": None}}) == "$.data.password"
    )


def test_string_data_is_data() -> None:
    for text in ("[redacted]", base64.b64encode(b"[redacted]").decode()):
        body = {"kind": "Secret", "stringData": {"password": text}}
        assert refused(DATA, "/api/v1/namespaces/shop/secrets", body, method="POST") == "$.stringData.password"


def test_what_kubectl_applied_last_is_looked_into() -> None:
    read = shown(DATA, SECRET, dumped(secret())).decode()
    body = {"metadata": {"annotations": {LAST: read}}, "data": {"password": "bmV3"}}
    path = refused(DATA, SECRET, body, method="PATCH", kind=MERGE)
    assert path == f"$.metadata.annotations[{LAST!r}].data.password"


def test_yaml_is_read_too() -> None:
    assert (
        refused(DATA, SECRET, b"data:\n  password: W3JlZGFjdGVkXQ==\n", method="PATCH", kind=APPLY) == "$.data.password"
    )
    assert refused(DATA, SECRET, b"data: {a: '[redacted]'}", method="PATCH", kind=APPLY) == "$.data.a"
    assert refused(DATA, SECRET, b"a: [", method="PATCH", kind=APPLY) == "$"


def test_yaml_that_grows_is_refused() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert refused(DATA, SECRET, "\n".join(lines).encode(), method="PATCH", kind=APPLY) == "$"


def test_a_member_that_stands_twice_is_looked_at_twice() -> None:
    twice = b'{"data":{"a":"W3JlZGFjdGVkXQ==","a":"bmV3"}}'
    assert refused(DATA, SECRET, twice) == "$.data.a"


def test_protobuf_is_searched() -> None:
    kind = b"application/vnd.kubernetes.protobuf"
    assert refused(DATA, SECRET, b"k8s\0\x0a\x0c[redacted]\x12", kind=kind) == "$"
    pseudonyms = plan("$.data.*", strategy=Strategy("Pseudonym", key=b"k" * 16))
    assert refused(pseudonyms, SECRET, b"k8s\0\x0a\x1aabcdefghijklmnopqrstuvwxyz\x12", kind=kind) == "$"
    check(DATA, SECRET, b"k8s\0\x0a\x05value", kind=kind)


def test_elements_that_moved_are_recognised() -> None:
    masks = plan("$.spec.containers[0].env[?(@.name=='A')].value")
    body = {"spec": {"containers": [{}, {"env": [{"name": "B", "value": "[redacted]"}]}]}}
    assert refused(masks, POD, body) == "$.spec.containers[1].env[0].value"


@pytest.mark.parametrize("kind", ["copy", "move"])
@pytest.mark.parametrize(
    "source", ["/data/password", "/data", "", "/metadata", "/metadata/annotations", "/metadata/managedFields",
               "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"]
)  # fmt: skip
def test_a_json_patch_copies_nothing_that_is_masked(kind: str, source: str) -> None:
    refused(DATA, SECRET, [{"op": kind, "from": source, "path": "/metadata/labels/x"}], method="PATCH", kind=JSON_PATCH)


def test_a_json_patch_does_not_test_what_is_masked() -> None:
    for pointer, value in (("/data/password", "aHVudGVyMg=="), ("/data", {}), ("", {})):
        guess = [{"op": "test", "path": pointer, "value": value}]
        refused(DATA, SECRET, guess, method="PATCH", kind=JSON_PATCH)
    known = [
        {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}, {"op": "remove", "path": "/data/old"},
        {"op": "replace", "path": "/data/password", "value": "bmV3"},
        {"op": "test", "path": "/type", "value": "Opaque"},
        {"op": "copy", "from": "/metadata/labels/a", "path": "/metadata/labels/b"},
    ]  # fmt: skip
    check(DATA, SECRET, known, method="PATCH", kind=JSON_PATCH)
    check(plan("$.metadata.*"), SECRET, known[:1], method="PATCH", kind=JSON_PATCH)


def test_a_json_patch_carries_masked_values_no_further() -> None:
    for path, value in (
        ("/data/x", "W3JlZGFjdGVkXQ=="),
        ("/data", {"x": "W3JlZGFjdGVkXQ=="}),
        ("", {"data": {"x": "[redacted]"}}),
    ):
        patch = [{"op": "add", "path": path, "value": value}]
        assert refused(DATA, SECRET, patch, method="PATCH", kind=JSON_PATCH) == "$.data.x"
    twice = b'[{"op":"test","op":"add","path":"/a","value":1}]'
    assert refused(DATA, SECRET, twice, method="PATCH", kind=JSON_PATCH) == "$[0]"
    assert refused(DATA, SECRET, {"op": "add"}, method="PATCH", kind=JSON_PATCH) == "$"


@pytest.mark.parametrize(
    ("strategy", "text"),
    [
        (Strategy("Redact"), "to [redacted] now"),
        (Strategy("Partial", keep_last=4), "card ****-****-****-1111"),
        (Strategy("Pseudonym", key=b"k" * 16), "id abcdefghijklmnopqrstuvwxyz."),
    ],
)
def test_what_a_detector_left_inside_a_text_is_recognised(strategy: Strategy, text: str) -> None:
    masks = MaskPlan(detectors=(DetectorMask("CreditCard", strategy),))
    assert refused(masks, CONFIG, {"data": {"note": text}}) == "$.data.note"
    encoded = base64.b64encode(text.encode()).decode()
    assert refused(masks, SECRET, {"data": {"note": encoded}}) == "$.data.note"
    check(masks, CONFIG, {"data": {"note": "a note ** with *** stars", "cron": "* * * * *"}})


def test_reads_and_other_requests_are_none_of_its_business() -> None:
    check(DATA, SECRET, {"data": {"a": "[redacted]"}}, method="DELETE")
    check(MaskPlan(), SECRET, {"data": {"a": "[redacted]"}})


def test_depth_is_no_way_around() -> None:
    deep = b'{"data":' * 3000 + b"1" + b"}" * 3000
    assert refused(DATA, SECRET, deep) == "$"


@pytest.mark.parametrize("text", ["* ", "*-", "*  ", "** ", "- ", "*", "-*- "])
def test_a_long_text_like_a_mask_is_looked_at_once(text: str) -> None:
    # It took the square of its length: two minutes for 80 kB.
    masks = MaskPlan(detectors=(DetectorMask("Email", Strategy("Partial", keep_last=2)),))
    body = {"data": {"note": text * 100_000}}
    if text == "*":
        assert refused(masks, CONFIG, body) == "$.data.note"
    else:
        check(masks, CONFIG, body)
    assert refused(masks, CONFIG, {"data": {"note": f"{text * 50_000} ****-****-****-1111"}}) == "$.data.note"


def test_a_long_text_that_is_almost_base64_is_looked_at_once() -> None:
    check(DATA, SECRET, {"data": {"a": "\n" * 1_000_000 + "!"}})
    check(DATA, SECRET, {"data": {"a": "\n" * 1_000_000 + "==\n!"}})
    assert refused(DATA, SECRET, {"data": {"a": "\nW3JlZGF\njdGVkXQ==\n"}}) == "$.data.a"
