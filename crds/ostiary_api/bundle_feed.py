"""A bundle on its way from the operator to the gateway: Connections and policies as text in ConfigMaps. Pure.

The text has one JSON document a line, ASCII only: first the header, then the manifests. It is cut into parts that fit
into a ConfigMap each. The revision is the sha256 of the whole text, so that a reader knows that it has all of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ostiary_api.canonical import sha256_hex
from ostiary_api.connection import Connection
from ostiary_api.names import bundle_part_name
from ostiary_api.policy import GatewayPolicy
from ostiary_api.problems import explain, format_path
from ostiary_api.units import MANIFEST

VERSION = 1
"""Of the header. A reader takes no other: it would not know what it passes over."""

MAX_PART_BYTES = 900 * 1024
"""Bytes of text in one ConfigMap, which holds 1 MiB with everything else in it."""
MAX_PARTS = 256

REVISION, PARTS, TEXT = "revision", "parts", "bundle.jsonl"
"""Keys of a ConfigMap's data."""

ConfigMapData = Mapping[str, str]


class BundleError(Exception):
    """A bundle that cannot be taken. The text says what is wrong with it."""


class BundleIncompleteError(BundleError):
    """Parts are missing or are of another revision: it is being written. Look again when the next part comes."""


@dataclass(frozen=True, slots=True, order=True)
class SecretVersion:
    """A Secret that the gateway must have, and which version of it. Never what is in it."""

    namespace: str
    name: str
    uid: str
    resource_version: str


@dataclass(frozen=True, slots=True, order=True)
class RefusedPolicy:
    """A policy of the bundle that was never accepted. The gateway denies whatever it matches, and says this."""

    namespace: str
    name: str
    field: str
    message: str


@dataclass(frozen=True, slots=True)
class Header:
    """What a gateway must know beside the manifests. `namespaces`: labels by name."""

    namespace: str
    gateway: str
    system_namespace: str
    namespaces: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    secrets: tuple[SecretVersion, ...] = ()
    refused: tuple[RefusedPolicy, ...] = ()
    approvals_usable: bool = True
    approvals_reason: str = ""
    """Why approvals cannot be used, if so: statements that need one are denied with it."""


@dataclass(frozen=True, slots=True)
class Packed:
    """A bundle as text, cut into parts. All parts together are the text."""

    revision: str
    parts: tuple[str, ...]

    def config_maps(self, gateway: str) -> dict[str, dict[str, str]]:
        """Name → data of each ConfigMap. To be written last part first, so that a reader seldom sees half of it."""
        maps = {
            bundle_part_name(gateway, number): {REVISION: self.revision, TEXT: text}
            for number, text in enumerate(self.parts)
        }
        maps[bundle_part_name(gateway, 0)][PARTS] = str(len(self.parts))
        return maps


@dataclass(frozen=True, slots=True)
class FeedBundle:
    """A bundle as a reader has it: everything parsed and checked. In the order of the text."""

    revision: str
    header: Header
    connections: tuple[Connection, ...]
    policies: tuple[GatewayPolicy, ...]
    lines: Mapping[str, Connection | GatewayPolicy] = field(default_factory=dict, repr=False, compare=False)
    """Each resource by its line: what stays the same in the next bundle need not be read again."""


def manifest_line(resource: Connection | GatewayPolicy) -> str:
    """One resource as a line: its spec, and of its metadata name, namespace, labels, uid and generation."""
    manifest = resource.to_manifest()
    meta = resource.metadata
    metadata: dict[str, Any] = {"name": meta.name, "namespace": meta.namespace}
    if meta.labels:
        metadata["labels"] = dict(meta.labels)
    if meta.uid:
        metadata["uid"] = meta.uid
    if meta.generation:
        metadata["generation"] = meta.generation
    return _line(
        {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": metadata, "spec": manifest["spec"]}
    )


def pack(header: Header, lines: Iterable[str], *, max_part_bytes: int = MAX_PART_BYTES) -> Packed:
    """The bundle of these lines of `manifest_line`. The same content gives the same revision: sort what has no order.

    Raises BundleError for more than 256 parts.
    """
    text = "".join(f"{line}\n" for line in (_header_line(header), *lines))
    parts: list[str] = []
    start = 0
    while start < len(text):
        end = start + max_part_bytes
        if end < len(text):
            # At the end of a line; inside of one only if it is longer than a part.
            end = text.rfind("\n", start, end) + 1 or end
        parts.append(text[start:end])
        start = end
    if len(parts) > MAX_PARTS:
        raise BundleError(
            f"the bundle has {len(text):,} bytes, more than {MAX_PARTS} ConfigMaps hold; use several gateways"
        )
    return Packed(sha256_hex(text.encode("ascii")), tuple(parts))


def unpack(gateway: str, config_maps: Mapping[str, ConfigMapData], previous: FeedBundle | None = None) -> FeedBundle:
    """Read the ConfigMaps of a gateway's bundle (name → data; others may be among them). Lines that are in `previous`
    too give the same objects.

    Raises BundleIncompleteError if parts are missing or differ in revision, and BundleError, which says what is wrong,
    for anything that is not a bundle of this gateway with exactly this revision.
    """
    first_name = bundle_part_name(gateway, 0)
    first = config_maps.get(first_name)
    if first is None:
        raise BundleIncompleteError(f"there is no ConfigMap {first_name} yet; the operator writes it")
    revision = _key(first, first_name, REVISION)
    count = _count(first_name, _key(first, first_name, PARTS))
    texts = [_key(first, first_name, TEXT)]
    for number in range(1, count):
        name = bundle_part_name(gateway, number)
        data = config_maps.get(name)
        if data is None:
            raise BundleIncompleteError(f"ConfigMap {name} is missing: the bundle has {count} parts")
        found = _key(data, name, REVISION)
        if found != revision:
            raise BundleIncompleteError(
                f"ConfigMap {name} is of revision {found[:12]}, and {first_name} of {revision[:12]}"
            )
        texts.append(_key(data, name, TEXT))
    return read_text("".join(texts), revision, gateway, previous)


def read_text(text: str, revision: str, gateway: str, previous: FeedBundle | None = None) -> FeedBundle:
    """Read the whole text of a bundle. Raises BundleError, which says what is wrong and in which line."""
    try:
        digest = sha256_hex(text.encode("ascii"))
    except UnicodeEncodeError:
        raise BundleError("the bundle has characters that are not ASCII, so the operator did not write it") from None
    if digest != revision:
        raise BundleError(
            f"the bundle's text is not that of its revision {revision[:12]} (its sha256 is {digest[:12]}): it was "
            "changed by hand, or cut; the operator writes it again when it is deleted"
        )
    lines = text.split("\n")
    if lines.pop() != "" or not lines:
        raise BundleError("the bundle does not end with a line")
    header = _read_header(_object(lines[0], 1), gateway)
    connections: list[Connection] = []
    policies: list[GatewayPolicy] = []
    seen: set[tuple[str, str]] = set()
    known = previous.lines if previous is not None else {}
    read: dict[str, Connection | GatewayPolicy] = {}
    for number, line in enumerate(lines[1:], 2):
        item = read[line] = known.get(line) or _resource(_object(line, number), number)
        if (item.kind, item.key) in seen:
            raise BundleError(f"line {number}: {item.kind} {item.key} is there twice")
        seen.add((item.kind, item.key))
        if isinstance(item, GatewayPolicy):
            policies.append(item)
            continue
        if item.metadata.namespace != header.namespace:
            raise BundleError(f"line {number}: Connection {item.key} is not of namespace {header.namespace}")
        if (item.spec.gateway.name or item.metadata.name) != gateway:
            raise BundleError(f"line {number}: Connection {item.key} is not of gateway {gateway}")
        connections.append(item)
    for refused in header.refused:
        if ("GatewayPolicy", f"{refused.namespace}/{refused.name}") not in seen:
            raise BundleError(f"header: refused names {refused.namespace}/{refused.name}, which is not in the bundle")
    return FeedBundle(revision, header, tuple(connections), tuple(policies), read)


def _line(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _header_line(header: Header) -> str:
    return _line(
        {
            "kind": "Bundle",
            "version": VERSION,
            "namespace": header.namespace,
            "gateway": header.gateway,
            "systemNamespace": header.system_namespace,
            "namespaces": {name: dict(labels) for name, labels in header.namespaces.items()},
            "secrets": [
                {"namespace": s.namespace, "name": s.name, "uid": s.uid, "resourceVersion": s.resource_version}
                for s in sorted(header.secrets)
            ],
            "refused": [
                {"namespace": p.namespace, "name": p.name, "field": p.field, "message": p.message}
                for p in sorted(header.refused)
            ],
            "approvals": {"usable": header.approvals_usable, "reason": header.approvals_reason},
        }
    )


def _key(data: ConfigMapData, name: str, key: str) -> str:
    value = data.get(key)
    if not isinstance(value, str):
        raise BundleError(f"ConfigMap {name} has no {key}")
    return value


def _count(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= MAX_PARTS):
        raise BundleError(f"ConfigMap {name}: {PARTS} must be 1 to {MAX_PARTS}, not {text[:16]!r}")
    return int(text)


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"line {number} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BundleError(f"line {number} is no JSON object")
    return value


def _resource(document: dict[str, Any], number: int) -> Connection | GatewayPolicy:
    kind = document.get("kind")
    model: type[Connection] | type[GatewayPolicy]
    if kind == "Connection":
        model = Connection
    elif kind == "GatewayPolicy":
        model = GatewayPolicy
    else:
        raise BundleError(f"line {number}: there is no {str(kind)[:64]} in a bundle")
    try:
        return model.model_validate(document, by_alias=True, by_name=False, context=MANIFEST)
    except ValidationError as error:
        path, message = explain(error, model, secret=False)[0]
        raise BundleError(
            f"line {number}: {kind} {_place(document)}: {format_path(path)} {message}; "
            "operator and gateway may be of different versions"
        ) from None


def _place(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return "without a name"
    return f"{str(metadata.get('namespace'))[:64]}/{str(metadata.get('name'))[:256]}"


def _read_header(document: Mapping[str, Any], gateway: str) -> Header:
    if document.get("kind") != "Bundle":
        raise BundleError("line 1 is not the header of a bundle")
    if document.get("version") != VERSION:
        raise BundleError(
            f"the bundle is of version {str(document.get('version'))[:16]}, and this gateway reads version {VERSION}; "
            "bring operator and gateway to the same release"
        )
    if document.get("gateway") != gateway:
        raise BundleError(f"the bundle is for gateway {str(document.get('gateway'))[:64]}, not for {gateway}")
    approvals = _part(document, "approvals", dict)
    return Header(
        namespace=_text(document, "namespace"),
        gateway=gateway,
        system_namespace=_text(document, "systemNamespace"),
        namespaces={str(name): _labels(name, labels) for name, labels in _part(document, "namespaces", dict).items()},
        secrets=tuple(
            SecretVersion(*_texts("secrets", item, ("namespace", "name", "uid", "resourceVersion")))
            for item in _part(document, "secrets", list)
        ),
        refused=tuple(
            RefusedPolicy(*_texts("refused", item, ("namespace", "name", "field", "message")))
            for item in _part(document, "refused", list)
        ),
        approvals_usable=_part(approvals, "usable", bool),
        approvals_reason=_text(approvals, "reason"),
    )


def _part(document: Mapping[str, Any], key: str, kind: type) -> Any:
    value = document.get(key)
    if type(value) is not kind:
        wanted = {dict: "an object", list: "a list", bool: "true or false", str: "text"}[kind]
        raise BundleError(f"header: {key} must be {wanted}")
    return value


def _text(document: Mapping[str, Any], key: str) -> str:
    value: str = _part(document, key, str)
    return value


def _texts(key: str, item: object, names: Sequence[str]) -> list[str]:
    if not isinstance(item, dict):
        raise BundleError(f"header: an item of {key} must be an object")
    return [_text(item, name) for name in names]


def _labels(name: str, labels: object) -> dict[str, str]:
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise BundleError(f"header: labels of namespace {name[:64]} must be an object of text")
    return labels
