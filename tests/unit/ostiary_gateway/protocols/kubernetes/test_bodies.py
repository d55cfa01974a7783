"""Bodies are read where every reader agrees, and refused where two may differ."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from ostiary_gateway.protocols.kubernetes.bodies import (
    APPLY_PATCH,
    JSON,
    PROTOBUF,
    append_to_protobuf,
    delete_options,
    dry_run_fields,
    media_type,
    parse_body,
    parse_envelope,
    parse_json,
    parse_yaml,
    preconditions_fields,
    resource_version_fields,
    write_body,
)
from ostiary_gateway.protocols.kubernetes.messages import WireError
from ostiary_gateway.protocols.kubernetes.protobuf_bodies import (
    Envelope,
    delete_options_of,
    fields_of,
    message_field,
    string_field,
    write_envelope,
)


@pytest.mark.parametrize(
    ("content_type", "kind"),
    [
        (None, JSON),
        (b"", JSON),
        (b"application/json", JSON),
        (b"Application/JSON; charset=UTF-8", JSON),
        (b'application/json;charset="utf-8"', JSON),
        (b"application/vnd.kubernetes.protobuf", PROTOBUF),
        (b"application/apply-patch+yaml", APPLY_PATCH),
        (b"text/plain", b"text/plain"),
    ],
)
def test_a_media_type(content_type: bytes | None, kind: bytes) -> None:
    assert media_type(content_type) == kind


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/cbor", b"application/apply-patch+cbor", b"application/cbor-seq",
        b"application/json; charset=utf-16", b"application/json; charset=utf-8; charset=utf-16",
        b"application/json, application/yaml", b"json",
        b"application/json; x", b"application/json;", b"application/json; stream=watch", b" application/json",
    ],
)  # fmt: skip
def test_a_media_type_that_is_not_known_is_refused(content_type: bytes) -> None:
    with pytest.raises(WireError) as refused:
        media_type(content_type)
    assert (refused.value.status, refused.value.reason) == (415, "UnsupportedMediaType")


@pytest.mark.parametrize(
    "text",
    [
        '{"a": {"b": [1, {"c": null}, "x:y", "\\":"], "b2": true}, "c": {"a": 1}}',
        "[]", "{}", "1", '"a"', "null", " \n{ } ", "[1.5, -0.25, 9223372036854775807, -9223372036854775808, 1e22]",
        "[" * 128 + "]" * 128, '{"a":' * 127 + '1' + "}" * 127,
        '{"1234567890123456789012": "1234567890123456789012", "a": 1234567890123456789012.5}',
        '{"a\\u003a": 1, "a": 2}', '{"ä€😀\\n\\t\\\\": "\\ud83d\\ude00"}',
    ],
)  # fmt: skip
def test_json_that_all_readers_read_the_same(text: str) -> None:
    assert parse_json(text.encode()) == json.loads(text)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b'{"a": 1, "a": 2}', "the same name twice"),
        (b'{"a": 1, "\\u0061": 2}', "the same name twice"),
        (b'{"x": [{"a": {"b": 1, "c": 2, "b": 1}}]}', "the same name twice"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": -9223372036854775809}', "64 bits"),
        (b'{"a": ' + b"1" * 40 + b"}", "64 bits"),
        (b'{"a": 1e999}', "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b'{"a": 1,}', "not JSON"),
        (b'{"a": 01}', "not JSON"),
        (b'{"a": 1} {}', "not JSON"),
        (b'{"a": 1} // x', "not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'{"a": "\\ud800"}', "not JSON"),
        (b'{"a": "\n"}', "not JSON"),
        (b"", "not JSON"),
        (b"\x00", "not JSON"),
        (b"[" * 129 + b"]" * 129, "nested"),
        (b'{"a":' * 129 + b"1" + b"}" * 129, "nested"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_json_that_readers_read_differently_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why) as refused:
        parse_json(body)
    assert refused.value.status == 400


@pytest.mark.parametrize(("digits", "value"), [(b"1", 1.1111111111111112), (b"0", 0.0)])
def test_a_number_with_many_digits_is_looked_at_once(digits: bytes, value: float) -> None:
    # It took the square of their number: hours for a megabyte.
    assert parse_json(b"[0." + digits * 1_000_000 + b"e1, 12345678901234567890.5, -9223372036854775808]") == [
        value, 12345678901234567890.5, -(1 << 63),
    ]  # fmt: skip


MANIFEST = b"""\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web, "version": "1"}
  annotations:
    note: |
      two
      lines
    folded: >-
      one
      line
spec:
  replicas: 3
  paused: false
  nothing: ~
  empty:
  ratio: 0.5
  below: -1
  template:
    spec:
      containers:
      - name: web
        image: nginx:1.25.3
        args: ["--port=80", '-v', plain words, 10.0.0.1, 100m, 1Gi, v1]
        resources: {limits: {cpu: 100m, memory: 1Gi}}
      - {name: other, image: 'busybox'}
"""


def test_yaml_that_all_readers_read_the_same() -> None:
    assert parse_yaml(MANIFEST) == yaml.safe_load(MANIFEST)


def test_yaml_goes_on_as_json_which_is_yaml_too() -> None:
    value = parse_yaml(MANIFEST + '  text: "tab\\t, \\\\, \\x7f, \\x85, \\u2028, ä, 😀"\n'.encode())
    body = write_body(value, APPLY_PATCH)
    assert json.loads(body) == value
    assert yaml.safe_load(body) == value
    assert parse_body(body, APPLY_PATCH) == value
    assert b"\xe2\x80\xa8" not in body


def test_json_under_a_type_of_yaml_is_read_as_json() -> None:
    assert parse_yaml(b' {"a": "no", "b": 1}') == {"a": "no", "b": 1}
    with pytest.raises(WireError, match="twice"):
        parse_yaml(b'{"a": 1, "a": 2}')


@pytest.mark.parametrize(
    ("text", "why"),
    [
        *[(f"a: {word}", re.escape(f"has {word} without quotes")) for word in (
            "yes", "No", "on", "OFF", "y", "N", "tRue", "nUll", "0o7", "0x1f", "0b1", "1_000", "007", "+1", "1e3",
            "1.5e3", "1.", ".5", "12:30:45", "190:20", "2026-11-23", "2026-11-23T10:00:00Z", ".inf", "-.INF", ".nan",
            "=", "-0", "99999999999999999999",
        )],
        ("a: &x 1\nb: *x", "anchor"),
        ("a: *x", "anchor|alias"),
        ("a: !!str 1", "tag"),
        ("a: !custom {b: 1}", "tag"),
        ("- !!set {a}", "tag"),
        ("<<: {a: 1}", "without quotes"),
        ("a: 1\na: 2", "a twice"),
        ("a: {b: 1, c: 2, b: 3}", "b twice"),
        ("1: a", "no string"),
        ("true: a", "no string"),
        ("~: a", "no string"),
        ("- [a]: b", "no string"),
        ("? {a: 1}\n: b", "no string"),
        ("a: 1\n---\nb: 2", "several documents"),
        ("%YAML 1.1\n---\na: 1", "directive"),
        ("%TAG ! tag:x,2000:\n---\na: 1", "directive"),
        ("a: x\u2028y", "line separators"),
        ('a: "\\/"', "escape"),
        ("a:\tb", "tabs"),
        ("a:\n\t- b", "tabs"),
        ("\ufeffa: x", "byte order mark"),
        ("a: " + "x" * 300_000, "longer than"),
    ],
)  # fmt: skip
def test_yaml_on_which_readers_differ_is_refused_with_a_way_out(text: str, why: str) -> None:
    with pytest.raises(WireError, match=why) as refused:
        parse_yaml(text.encode())
    assert refused.value.status == 415
    assert "Send JSON" in refused.value.message


@pytest.mark.parametrize(
    "body", [b"", b"# nothing", b"a: [", b"a: b: c", b"\xff", b"a: \x00", b"- " * 200 + b"a", b"@a"]
)
def test_what_is_no_yaml_is_refused(body: bytes) -> None:
    with pytest.raises(WireError) as refused:
        parse_yaml(body)
    assert refused.value.status == 400


def test_types_that_are_not_read_are_refused() -> None:
    with pytest.raises(WireError) as refused:
        parse_body(b"a=b", b"application/x-www-form-urlencoded")
    assert refused.value.status == 415


POD = write_envelope(Envelope("v1", "Pod", message_field(1, string_field(1, "web") + string_field(6, "1"))))


def test_a_protobuf_envelope_says_what_it_is() -> None:
    envelope = parse_envelope(POD)
    assert (envelope.api_version, envelope.kind) == ("v1", "Pod")
    assert write_envelope(envelope) == POD


def test_fields_are_appended_to_the_object_inside() -> None:
    raw = parse_envelope(append_to_protobuf(POD, resource_version_fields("42"))).raw
    metadata = b"".join(value for number, _, value in fields_of(raw) if number == 1 and isinstance(value, bytes))
    # Messages merge, and of a string the last one counts.
    assert {number: value for number, _, value in fields_of(metadata)} == {1: b"web", 6: b"42"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"k8s", b"k8s\0\x0a", b"k8s\0\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"{}", POD[:-3], POD[:9],
        POD + message_field(2, b""), POD + message_field(9, b""), POD + b"\x08\x01", POD + b"\x0b", POD + b"\x00\x00",
        b"k8s\0" + message_field(1, string_field(1, "v1") + string_field(1, "v2")),
        b"k8s\0" + message_field(1, message_field(2, b"\xff")),
    ],
)  # fmt: skip
def test_a_protobuf_body_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(WireError) as refused:
        parse_envelope(body)
    assert refused.value.status == 400


def test_nothing_is_appended_to_a_message_that_is_cut() -> None:
    cut = write_envelope(Envelope("v1", "Pod", b"\x0a\x7fweb"))
    with pytest.raises(WireError, match="cut short"):
        append_to_protobuf(cut, resource_version_fields("42"))


@pytest.mark.parametrize("fields", [string_field(3, "gzip"), string_field(4, "application/json")])
def test_an_envelope_within_which_is_something_else_is_refused(fields: bytes) -> None:
    with pytest.raises(WireError) as refused:
        parse_envelope(b"k8s\0" + message_field(2, b"{}") + fields)
    assert refused.value.status == 415


def test_delete_options_are_the_same_in_every_encoding() -> None:
    as_json = (
        b'{"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "propagationPolicy": "Orphan",'
        b' "dryRun": ["All"], "orphanDependents": null, "preconditions": {"uid": "u", "resourceVersion": "7"}}'
    )
    options = {
        "gracePeriodSeconds": 0, "propagationPolicy": "Orphan", "dryRun": ["All"],
        "preconditions": {"uid": "u", "resourceVersion": "7"},
    }  # fmt: skip
    assert delete_options(as_json, None) == options
    as_yaml = (
        b"gracePeriodSeconds: 0\npropagationPolicy: Orphan\ndryRun: [All]\n"
        b"preconditions: {uid: u, resourceVersion: '7'}"
    )
    assert delete_options(as_yaml, b"application/yaml") == options
    raw = b"\x08\x00" + string_field(4, "Orphan") + dry_run_fields() + preconditions_fields("u", "7")
    assert delete_options(write_envelope(Envelope("v1", "DeleteOptions", raw)), PROTOBUF) == options
    assert delete_options(b"", b"application/json") == {}


def test_numbers_and_truths_in_protobuf_delete_options() -> None:
    assert delete_options_of(b"\x08" + b"\xff" * 9 + b"\x01" + b"\x18\x01\x30\x00") == {
        "gracePeriodSeconds": -1, "orphanDependents": True, "ignoreStoreReadErrorWithClusterBreakingPotential": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"[]", None),
        (b'{"dryRun": "All"}', None),
        (b'{"dryRun": [1]}', None),
        (b'{"gracePeriodSeconds": "0"}', None),
        (b'{"gracePeriodSeconds": true}', None),
        (b'{"preconditions": []}', None),
        (b'{"preconditions": {"uid": 1}}', None),
        (b'{"kind": "Pod"}', None),
        (b'{"dryRun": ["All"], "dryRun": null}', None),
        (b"{}", b"application/json-patch+json"),
        (b"a=b", b"application/x-www-form-urlencoded"),
        (POD, PROTOBUF),
        (write_envelope(Envelope("v1", "DeleteOptions", b"\x08\x00\x08\x01")), PROTOBUF),
        (write_envelope(Envelope("v1", "DeleteOptions", b"\x38\x01")), PROTOBUF),
        (write_envelope(Envelope("v1", "DeleteOptions", b"\x28\x01")), PROTOBUF),
    ],
)
def test_delete_options_that_are_none_are_refused(body: bytes, content_type: bytes | None) -> None:
    with pytest.raises(WireError):
        delete_options(body, content_type)


def test_a_name_that_only_looks_like_dry_run_is_not_one() -> None:
    """The API server takes names by their case, and drops what it does not know: such a DELETE really deletes."""
    assert delete_options(b'{"dryrun": ["All"], "DryRun": ["All"]}', None) == {}
