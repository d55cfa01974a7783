"""Whatever target or body comes: it means the same to an independent reader, or is refused."""

from __future__ import annotations

import json
import posixpath
import re
import urllib.parse
from collections.abc import Callable

import yaml
from support.fuzzing import Target

from ostiary_gateway.protocols.kubernetes.bodies import (
    APPLY_PATCH,
    JSON,
    PROTOBUF,
    YAML,
    append_to_protobuf,
    delete_options,
    media_type,
    parse_envelope,
    parse_json,
    parse_yaml,
    preconditions_fields,
    resource_version_fields,
    write_body,
)
from ostiary_gateway.protocols.kubernetes.protobuf_bodies import fields_of, write_envelope
from ostiary_gateway.protocols.kubernetes.request_info import RequestInfo, request_info
from ostiary_gateway.protocols.kubernetes.wire import METHODS, WireError

LONG_KEY = re.compile(rb'"(?:[^"\\]|\\.){800,}":')
"""YAML takes keys of up to 1,024 characters; the API server then refuses the body."""

ORDERED = sorted(METHODS)


def run_target(data: bytes) -> RequestInfo | str | None:
    """The first byte tells the method; the rest is a target."""
    if not data:
        return None
    method, target = ORDERED[data[0] % len(ORDERED)], data[1:]
    try:
        info = request_info(method, target)
    except WireError as problem:
        return f"{problem.status} {problem.message}"
    raw_path, _, raw_query = target.partition(b"?")
    # Segment by segment, decoded once: no other segments come of it.
    segments = [urllib.parse.unquote_to_bytes(segment).decode() for segment in raw_path.split(b"/")]
    assert "/".join(segments) == info.path
    assert info.path in (posixpath.normpath(info.path), posixpath.normpath(info.path) + "/", "/")
    assert not {"..", "."} & set(segments)
    assert all("/" not in part and part for part in info.parts)
    if info.is_resource:
        assert list(info.parts) == info.path.strip("/").split("/")[-len(info.parts) :]
        assert info.parts[0] == info.resource
        assert (info.namespace or info.path.split("/")[1]) in segments
    else:
        assert info.verb == method.lower()
        assert info.resource == info.name == info.subresource == info.namespace == ""
    pairs = urllib.parse.parse_qsl(raw_query.decode(), keep_blank_values=True, errors="strict", separator="&")
    assert list(info.query) == pairs
    return info


def outcome(work: Callable[[], object]) -> tuple[bool, object]:
    try:
        return True, work()
    except WireError as problem:
        return False, f"{problem.status} {problem.message}"


def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def same(one: object, other: object) -> bool:
    """Values and their types, in their order; 1 and 1.0 and true are different."""
    return repr(one) == repr(other)


def run_json(data: bytes) -> object:
    good, value = outcome(lambda: parse_json(data))
    if good:
        # Also by readers that see every member, in both encodings that go out.
        assert same(json.loads(data, object_pairs_hook=once), value)
        assert same(json.loads(write_body(value, JSON), object_pairs_hook=once), value)
        as_yaml = write_body(value, APPLY_PATCH)
        assert same(json.loads(as_yaml), value)
        if LONG_KEY.search(as_yaml) is None:
            assert same(yaml.safe_load(as_yaml), value)
    outcome(lambda: delete_options(data, JSON))
    return repr(value)


def read_by_others(data: bytes) -> list[object]:
    """By libyaml, of which the API server's reader is a port, and by PyYAML's own parser where it takes it at all."""
    found = [yaml.load(data, Loader=yaml.CSafeLoader)]
    try:
        found.append(yaml.safe_load(data))
    except yaml.YAMLError:
        pass
    return found


def run_yaml(data: bytes) -> object:
    good, value = outcome(lambda: parse_yaml(data))
    if good:
        assert data.lstrip()[:1] in (b"{", b"[") or all(same(other, value) for other in read_by_others(data))
        as_yaml = write_body(value, APPLY_PATCH)
        assert same(yaml.safe_load(as_yaml), value)
        assert same(parse_yaml(as_yaml), value)
    outcome(lambda: delete_options(data, YAML))
    return repr(value)


def run_protobuf(data: bytes) -> object:
    good, envelope = outcome(lambda: parse_envelope(data))
    if good:
        again = write_envelope(parse_envelope(data))
        assert parse_envelope(again) == envelope
        appended, longer = outcome(lambda: append_to_protobuf(data, resource_version_fields("7")))
        if appended and isinstance(longer, bytes):
            assert parse_envelope(longer).raw == parse_envelope(data).raw + resource_version_fields("7")
            assert [number for number, _, _ in fields_of(parse_envelope(longer).raw)][-1] == 1
    read, options = outcome(lambda: delete_options(data, PROTOBUF))
    if read and isinstance(options, dict) and "preconditions" not in options and data:
        guarded = delete_options(append_to_protobuf(data, preconditions_fields("u", "7")), PROTOBUF)
        assert guarded == {**options, "preconditions": {"uid": "u", "resourceVersion": "7"}}
    outcome(lambda: media_type(data))
    return repr(envelope), repr(options)


TARGETS = Target("kubernetes_targets", run_target)
JSON_BODIES = Target("kubernetes_json", run_json)
YAML_BODIES = Target("kubernetes_yaml", run_yaml, longest=1024)
PROTOBUF_BODIES = Target("kubernetes_protobuf", run_protobuf)


def test_the_corpus_of_targets_and_its_mutations() -> None:
    TARGETS.replay(6000)


def test_the_corpus_of_json_and_its_mutations() -> None:
    JSON_BODIES.replay(1500)


def test_the_corpus_of_yaml_and_its_mutations() -> None:
    YAML_BODIES.replay(1000)


def test_the_corpus_of_protobuf_and_its_mutations() -> None:
    PROTOBUF_BODIES.replay(4000)
