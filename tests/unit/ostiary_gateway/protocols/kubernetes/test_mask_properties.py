"""Any document, any plan, any pieces: what the masks show is what a simple recursive reference shows."""

from __future__ import annotations

import base64
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.answers_masked import dumped, shown
from support.masked_reference import LAST_APPLIED, Reference

from ostiary_policy.masking import DetectorMask, JsonPathMask, MaskPlan, Strategy, combine

ENOUGH = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

STRATEGIES = [
    Strategy("Redact"), Strategy("Redact", replacement='<"x">'), Strategy("Null"), Strategy("Partial", keep_last=2),
    Strategy("Partial", keep_first=1, keep_last=1, char="é"), Strategy("Pseudonym", key=b"k" * 16),
]  # fmt: skip
PATHS = [
    "$.data.*", "$.data", "$.data['a.b/c']", "$.spec.containers[*].env[*].value", "$..password", "$.*", "$..*",
    "$.spec.containers[*].env[?(@.name=='A')].value", "$.spec.containers[0]", "$.metadata.annotations['a.b/c']",
    "$.metadata.labels", "$.spec[?(@.name)]", "$.spec.containers[?(@.name != 'A' && !@.password)]", "$..env[1,'name']",
    "$.metadata.annotations.*", "$.metadata.*", "$..containers..name", "$.kind",
]  # fmt: skip
DETECTORS = ["Email", "CreditCard", "IPAddress", "JWT", "PrivateKey"]
NAMES = [
    "data",
    "spec",
    "containers",
    "env",
    "name",
    "value",
    "password",
    "a.b/c",
    "A",
    "größe",
    'q"',
    "kind",
    "labels",
]

texts = st.sampled_from(
    [
        "", "A", "plain text", "bob@example.com", "mail carol@example.org and dave@example.net", "10.0.0.7", "x" * 70,
        "4111 1111 1111 1111", "4111111111111111", "2026-11-23T10:00:00Z", "hunter2-secret", "größe-geheim",
        "\t\"\\/<&>\u2028",
        "hunter2-secret\nsecond line", "null", "{", "\U0001f511 key-of-gold",
        base64.b64encode(b"eve@example.com").decode(),
        base64.b64encode(b"hunter2-secret").decode(), "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----",
    ]
) | st.text(max_size=8)  # fmt: skip
scalars = (
    texts | st.none() | st.booleans() | st.integers(-(10**17), 10**17) | st.sampled_from([4111111111111111, 1.5, 0.25])
)
names = st.sampled_from(NAMES) | st.sampled_from(["x@y.com", "n"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
envs = st.lists(st.fixed_dictionaries({"name": texts, "value": scalars}), max_size=3)
containers = st.lists(st.fixed_dictionaries({"env": envs}, optional={"name": texts, "password": values}), max_size=3)
specs = st.fixed_dictionaries({}, optional={"containers": containers, "x": values, "password": scalars})
plain = st.fixed_dictionaries(
    {"kind": texts}, optional={"data": st.dictionaries(names, scalars, max_size=3), "spec": specs}
)


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    found: dict[str, Any] = draw(plain)
    metadata: dict[str, Any] = draw(
        st.fixed_dictionaries({"name": texts, "resourceVersion": st.just("12")}, optional={"labels": values})
    )
    notes: dict[str, Any] = draw(st.dictionaries(st.sampled_from(["a.b/c", "note"]), st.sampled_from(["x", "f@g.com"])))
    if draw(st.booleans()):
        notes[LAST_APPLIED] = (
            json.dumps(draw(plain)) if draw(st.booleans()) else draw(st.sampled_from(["", "{", "[1]"]))
        )
    if draw(st.booleans()):
        metadata["annotations"] = notes
    found["metadata"] = metadata
    return found


@st.composite
def plans(draw: st.DrawFn) -> MaskPlan:
    strategies = st.sampled_from(STRATEGIES)
    paths = draw(st.lists(st.builds(JsonPathMask, st.sampled_from(PATHS), strategies), max_size=3))
    detectors = draw(st.lists(st.builds(DetectorMask, st.sampled_from(DETECTORS), strategies), max_size=2))
    return combine(
        [MaskPlan(json_paths=(each,)) for each in paths] + [MaskPlan(detectors=(each,)) for each in detectors]
    )


def escaped(value: Any) -> bytes:
    """Every character of a string as an escape."""
    if isinstance(value, dict):
        return b"{%s}" % b",".join(escaped(name) + b" : " + escaped(each) for name, each in value.items())
    if isinstance(value, list):
        return b"[%s]" % b",".join(map(escaped, value))
    if not isinstance(value, str):
        return json.dumps(value).encode()
    units = value.encode("utf-16-be", "surrogatepass").hex()
    return b'"%s"' % "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)).encode()


def indented(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, indent=1).encode()


writers = st.sampled_from([dumped, escaped, indented, lambda value: json.dumps(value).encode()])


def alike(masked: Any, wanted: Any) -> bool:
    """Equal, where an annotation is compared by the object in it."""
    if isinstance(wanted, dict) and set(wanted) == {"json"} and isinstance(masked, str):
        return alike(json.loads(masked), wanted["json"])
    if isinstance(wanted, dict):
        return (
            isinstance(masked, dict)
            and wanted.keys() == masked.keys()
            and all(alike(masked[k], wanted[k]) for k in wanted)
        )
    if isinstance(wanted, list):
        return isinstance(masked, list) and len(masked) == len(wanted) and all(map(alike, masked, wanted))
    return type(masked) is type(wanted) and masked == wanted


def strings(value: Any) -> set[str]:
    if isinstance(value, dict):
        return {*value, *(text for each in value.values() for text in strings(each))}
    if isinstance(value, list):
        return {text for each in value for text in strings(each)}
    return {value} if isinstance(value, str) else set()


def compare(plan: MaskPlan, target: str, body: bytes, document: Any, wanted: Any, size: int) -> None:
    masked = shown(plan, target, body, size=size)
    assert masked == shown(plan, target, body)
    assert alike(json.loads(masked), wanted), (json.loads(masked), wanted)
    if wanted == document:
        assert masked == body
    rest = " ".join(strings(wanted)) + json.dumps(wanted)
    for text in strings(document) - strings(wanted):
        if len(text) > 6 and text.isalnum() and text not in rest:
            assert text.encode() not in masked


@ENOUGH
@given(plans(), objects(), writers, st.sampled_from(["secrets", "pods"]), st.integers(1, 40))
def test_an_object(plan: MaskPlan, value: dict[str, Any], write: Any, resource: str, size: int) -> None:
    reference = Reference(plan, secret=resource == "secrets")
    compare(plan, f"/api/v1/namespaces/a/{resource}/b", write(value), value, reference.object(value), size)


@ENOUGH
@given(
    plans(), st.lists(objects(), max_size=3), values, writers, st.sampled_from(["secrets", "pods"]), st.integers(1, 40)
)
def test_a_list(plan: MaskPlan, items: list[Any], more: Any, write: Any, resource: str, size: int) -> None:
    value = {"kind": "List", "metadata": {"resourceVersion": "3", "continue": "a@b.com", "x": more}, "items": items}
    reference = Reference(plan, secret=resource == "secrets")
    compare(plan, f"/api/v1/{resource}", write(value), value, reference.listed(value), size)


@ENOUGH
@given(plans(), st.lists(objects(), min_size=1, max_size=3), writers, st.integers(1, 40))
def test_a_watch(plan: MaskPlan, seen: list[Any], write: Any, size: int) -> None:
    reference = Reference(plan, secret=True)
    seen = [{**each, "kind": "Secret"} for each in seen]
    events = [{"type": "MODIFIED", "object": each} for each in seen]
    body = b"".join(write(event) + b"\n" for event in events)
    masked = shown(plan, "/api/v1/secrets?watch=1", body, size=size)
    decoder, at = json.JSONDecoder(), 0
    for each in seen:
        event, at = decoder.raw_decode(masked.decode(), at)
        at += 1
        assert alike(event["object"], reference.object(each)), (event, reference.object(each))
    if all(reference.object(each) == each for each in seen):
        assert masked == body
