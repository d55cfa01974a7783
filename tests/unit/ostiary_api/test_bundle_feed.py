"""A bundle goes through ConfigMaps and comes out as it went in, or not at all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.resources import good

from ostiary_api.bundle_feed import (
    BundleError,
    BundleIncompleteError,
    Header,
    Packed,
    RefusedPolicy,
    SecretVersion,
    manifest_line,
    pack,
    read_text,
    unpack,
)
from ostiary_api.canonical import sha256_hex
from ostiary_api.connection import Connection
from ostiary_api.names import child_name
from ostiary_api.policy import GatewayPolicy

CONNECTION = Connection.model_validate(good()["minimal"])
POLICY = GatewayPolicy.model_validate(good()["expiring"])
HEADER = Header(
    CONNECTION.metadata.namespace,
    "minimal",
    "ostiary-system",
    {CONNECTION.metadata.namespace: {"team": "shop"}},
    (SecretVersion("default", "app-db", "u1", "17"),),
)
LINES = [manifest_line(CONNECTION), manifest_line(POLICY)]
PACKED = pack(HEADER, LINES)


def changed(change: Any) -> Packed:
    """The bundle with another header."""
    lines = "".join(PACKED.parts).split("\n")
    header = json.loads(lines[0])
    change(header)
    text = "\n".join([json.dumps(header), *lines[1:]])
    return Packed(sha256_hex(text.encode()), (text,))


def with_line(line: str) -> Packed:
    text = "".join(PACKED.parts) + line + "\n"
    return Packed(sha256_hex(text.encode()), (text,))


def test_what_is_packed_comes_out_the_same() -> None:
    read = unpack("minimal", PACKED.config_maps("minimal"))
    assert read.header == HEADER
    assert read.revision == PACKED.revision
    assert [item.revision for item in read.connections] == [CONNECTION.revision]
    assert [item.revision for item in read.policies] == [POLICY.revision]


def test_the_config_maps_are_as_agreed() -> None:
    assert list(PACKED.config_maps("minimal")) == ["ostiary-minimal"]
    data = PACKED.config_maps("minimal")["ostiary-minimal"]
    assert data["parts"] == "1"
    assert data["revision"] == sha256_hex(data["bundle.jsonl"].encode())
    header, connection, policy = map(json.loads, data["bundle.jsonl"].splitlines())
    assert (header["kind"], header["version"], header["systemNamespace"]) == ("Bundle", 1, "ostiary-system")
    assert header["secrets"] == [{"namespace": "default", "name": "app-db", "uid": "u1", "resourceVersion": "17"}]
    assert header["approvals"] == {"usable": True, "reason": ""}
    assert (connection["kind"], policy["kind"]) == ("Connection", "GatewayPolicy")
    assert connection["metadata"]["name"] == "minimal"


def test_of_the_metadata_only_what_counts_is_in_it() -> None:
    noisy = good()["minimal"]
    noisy["metadata"] |= {
        "uid": "u7",
        "generation": 3,
        "resourceVersion": "99",
        "annotations": {"note": "long"},
        "labels": {"env": "prod"},
        "managedFields": [{"manager": "kubectl"}],
    }
    line = json.loads(manifest_line(Connection.model_validate(noisy)))
    kept = {"name": "minimal", "namespace": CONNECTION.metadata.namespace, "labels": {"env": "prod"}}
    assert line["metadata"] == kept | {"uid": "u7", "generation": 3}


@given(st.integers(1, 5000), st.text(max_size=200))
@settings(max_examples=60, deadline=None)
def test_however_it_is_cut_it_is_put_together_again(size: int, message: str) -> None:
    ref = (POLICY.metadata.namespace, POLICY.metadata.name)
    header = Header("default", "minimal", "s", refused=(RefusedPolicy(*ref, "spec", message),))
    lines = [manifest_line(CONNECTION.model_copy(update={"metadata": CONNECTION.metadata})), manifest_line(POLICY)]
    packed = pack(header, lines, max_part_bytes=max(size, 60))
    assert all(0 < len(part.encode()) <= max(size, 60) for part in packed.parts)
    assert packed.revision == pack(header, lines).revision
    read = unpack("minimal", packed.config_maps("minimal"))
    assert read.header == header
    assert len(read.connections + read.policies) == 2


def test_a_part_ends_with_a_line_where_it_can() -> None:
    longest = max(map(len, "".join(PACKED.parts).splitlines())) + 1
    assert all(part.endswith("\n") for part in pack(HEADER, LINES, max_part_bytes=longest).parts)


def test_what_is_too_large_for_config_maps_is_not_packed() -> None:
    with pytest.raises(BundleError, match="more than 256 ConfigMaps hold; use several gateways"):
        pack(HEADER, LINES, max_part_bytes=1)


@given(st.data())
@settings(deadline=None)
def test_a_bundle_that_is_being_written_is_waited_for(data: st.DataObject) -> None:
    new = pack(HEADER, LINES, max_part_bytes=700).config_maps("minimal")
    old = pack(Header("default", "minimal", "old"), LINES, max_part_bytes=700).config_maps("minimal")
    mixed = {}
    for name in new.keys() | old.keys():
        source = data.draw(st.sampled_from([new, old, {}]))
        if name in source:
            mixed[name] = source[name]
    try:
        read = unpack("minimal", mixed)
    except BundleIncompleteError:
        return
    assert read.header.system_namespace in ("ostiary-system", "old")
    whole = new if read.header.system_namespace == "ostiary-system" else old
    assert whole.items() <= mixed.items()


def test_a_reader_says_what_it_waits_for() -> None:
    with pytest.raises(BundleIncompleteError, match="no ConfigMap ostiary-minimal yet"):
        unpack("minimal", {})
    maps = pack(HEADER, LINES, max_part_bytes=700).config_maps("minimal")
    last = f"ostiary-minimal-part-{len(maps) - 1}"
    with pytest.raises(BundleIncompleteError, match=f"{last} is of revision aaaaaaaaaaaa"):
        unpack("minimal", maps | {last: maps[last] | {"revision": "a" * 64}})
    del maps[last]
    with pytest.raises(BundleIncompleteError, match=f"{last} is missing: the bundle has {len(maps) + 1} parts"):
        unpack("minimal", maps)


@given(st.integers(0, 10**6), st.characters(codec="ascii"))
def test_a_single_other_character_is_seen(place: int, character: str) -> None:
    text = PACKED.parts[0]
    place %= len(text)
    if text[place] == character:
        return
    with pytest.raises(BundleError, match="is not that of its revision"):
        read_text(text[:place] + character + text[place + 1 :], PACKED.revision, "minimal")


WRONG: list[tuple[str, Packed | dict[str, Any], str]] = [
    ("no revision", {"parts": "1", "bundle.jsonl": ""}, "ConfigMap ostiary-minimal has no revision"),
    ("no text", {"parts": "1", "revision": ""}, "has no bundle.jsonl"),
    ("parts", {"parts": "0", "revision": "", "bundle.jsonl": ""}, "parts must be 1 to 256, not '0'"),
    ("parts in words", {"parts": "²", "revision": "", "bundle.jsonl": ""}, "parts must be 1 to 256"),
    ("empty", Packed(sha256_hex(b""), ("",)), "does not end with a line"),
    ("cut", Packed(sha256_hex(b"{}"), ("{}",)), "does not end with a line"),
    ("not ASCII", Packed("", ("é\n",)), "not ASCII"),
    ("version", changed(lambda h: h.update(version=2)), "version 2, and this gateway reads version 1"),
    ("another gateway", changed(lambda h: h.update(gateway="other")), "is for gateway other, not for minimal"),
    ("no header", Packed(sha256_hex(b"{}\n"), ("{}\n",)), "line 1 is not the header"),
    ("secrets", changed(lambda h: h.update(secrets={})), "header: secrets must be a list"),
    ("a secret", changed(lambda h: h.update(secrets=[1])), "an item of secrets must be an object"),
    ("a secret's uid", changed(lambda h: h["secrets"][0].pop("uid")), "header: uid must be text"),
    ("approvals", changed(lambda h: h["approvals"].update(usable=1)), "usable must be true or false"),
    ("labels", changed(lambda h: h.update(namespaces={"a": {"b": 1}})), "labels of namespace a must be an object"),
    (
        "refused",
        changed(lambda h: h.update(refused=[{"namespace": "a", "name": "b", "field": "", "message": ""}])),
        "refused names a/b, which is not in the bundle",
    ),
    ("no JSON", with_line("{"), "line 4 is not JSON"),
    ("deep", with_line("[" * 100_000), "line 4 is not JSON"),
    ("a list", with_line("[]"), "line 4 is no JSON object"),
    ("a Secret", with_line('{"kind":"Secret"}'), "there is no Secret in a bundle"),
    ("a stranger", with_line(LINES[0].replace('"minimal"', '"other"')), "is not of gateway minimal"),
    ("twice", with_line(LINES[1]), "is there twice"),
    ("unknown field", with_line('{"kind":"Connection","new":1}'), "may be of different versions"),
    (
        "another namespace",
        with_line(LINES[0].replace('"namespace":"default"', '"namespace":"elsewhere"')),
        "Connection elsewhere/minimal is not of namespace default",
    ),
]


@pytest.mark.parametrize(("given", "says"), [item[1:] for item in WRONG], ids=[item[0] for item in WRONG])
def test_what_is_wrong_is_said(given: Packed | dict[str, str], says: str) -> None:
    maps = given.config_maps("minimal") if isinstance(given, Packed) else {child_name("minimal"): given}
    with pytest.raises(BundleError, match=says):
        unpack("minimal", maps)


def test_the_label_of_a_secret_is_never_its_content() -> None:
    """There is no place in a bundle where a value of a Secret could stand."""
    assert set(SecretVersion.__dataclass_fields__) == {"namespace", "name", "uid", "resource_version"}


def test_lines_that_stay_the_same_give_the_same_objects() -> None:
    first = unpack("minimal", PACKED.config_maps("minimal"))
    later = POLICY.model_copy(update={"metadata": POLICY.metadata.model_copy(update={"name": "another"})})
    packed = pack(HEADER, [*LINES, manifest_line(later)])
    second = unpack("minimal", packed.config_maps("minimal"), first)
    assert second.connections[0] is first.connections[0]
    assert [item.metadata.name for item in second.policies] == [POLICY.metadata.name, "another"]
    assert second.policies[0] is first.policies[0]
    assert second == unpack("minimal", packed.config_maps("minimal"))
