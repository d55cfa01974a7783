"""What a grant of a request is for: what it asks, and what that makes of the object. No I/O.

Of objects counts what a write is about: not who wrote what when, nor the status, which controllers write all the time.
So a question stays open while pods come and go, and any change of what was looked at is another question.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ostiary_api.canonical import revision, sha256_hex

from . import bodies, preconditions
from .messages import WireError
from .preconditions import Shape
from .questions import Ask
from .resulting import Resulting

JsonObject = dict[str, object]

_NOISE: Final = frozenset(("dryRun", "fieldManager", "fieldValidation", "pretty", "timeout", "timeoutSeconds"))
"""Parameters that change nothing in what happens. Whether it is a dry run is a fact of its own."""
_VERSIONS: Final = frozenset(("resourceVersion", "resourceVersionMatch", "uid"))
_VOLATILE: Final = frozenset(("generation", "managedFields", "resourceVersion", "selfLink"))
_GIVEN: Final = frozenset(("creationTimestamp", "uid"))
"""What a created object gets from the API server: another one in each dry run."""
_MAX_PREFIX: Final = 58
"""Characters of a generateName that are used (k8s.io/apiserver, pkg/storage/names)."""


def normal_form(ask: Ask, resulting: Resulting) -> dict[str, object]:
    """The request and what it does, without what changes by itself. ValueError, or WireError, if it has none."""
    info, body = ask.info, ask.request.body
    if ask.verb == "connect" or not info.is_resource:
        return _passed_on(ask, resulting)
    kind = bodies.media_type(ask.request.head.get(b"content-type")) if body else b""
    dropped = _NOISE if kind != bodies.APPLY_PATCH else _NOISE - {"fieldManager"}
    if info.verb in ("delete", "deletecollection"):
        dropped |= _VERSIONS
    return {
        "verb": ask.verb,
        "method": ask.request.head.method,
        "path": info.path,
        "query": [[name, value] for name, value in info.query if name not in dropped],
        "dryRun": bool(ask.facts.get("dryRun")),
        "contentType": kind.decode("ascii", "backslashreplace") if kind in preconditions.PATCHES else "",
        "body": _body(ask, resulting, kind) if body else None,
        "object": digest(resulting.object, writes_status(ask, resulting), made=resulting.old == {}),
        "old": [digest(each) for each in resulting.olds] if resulting.olds is not None else None,
    }


def _passed_on(ask: Ask, resulting: Resulting) -> dict[str, object]:
    """A request that the API server passes on, or that is about no object: what its parts mean nobody here knows."""
    head = ask.request.head
    return {
        "verb": ask.verb,
        "method": head.method,
        "path": ask.info.path,
        "query": [[name, value] for name, value in ask.info.query],
        "contentType": (head.get(b"content-type") or b"").decode("ascii", "backslashreplace"),
        "body": sha256_hex(ask.request.body) if ask.request.body else None,
        "old": [digest(each) for each in resulting.olds] if resulting.olds is not None else None,
    }


def writes_status(ask: Ask, resulting: Resulting) -> bool:
    """Whether a write may change the status: by /status, by another subresource (`approval` of a certificate's request
    does), or because it is an ordinary member, as of custom resources without that subresource."""
    if ask.info.subresource in ("status", "approval"):
        return True
    if ask.verb not in ("create", "update", "patch", "debug") or ask.info.subresource == "scale":
        return False
    if resulting.old is None or resulting.object is None:
        return True
    return bool(resulting.old) and resulting.old.get("status") != resulting.object.get("status")


def digest(document: Mapping[str, object] | None, status: bool = False, *, made: bool = False) -> str:
    """A sum of what counts in an object; empty if there is none. `status`: so does that. `made`: it is only being
    created."""
    if not document:
        return ""
    return revision(essential(document, status, made=made))


def essential(document: Mapping[str, object], status: bool = False, *, made: bool = False) -> JsonObject:
    """An object without what changes by itself. `status`: what is written is that."""
    kept = {key: value for key, value in document.items() if key != "status" or status}
    metadata = kept.get("metadata")
    if isinstance(metadata, dict):
        dropped = _VOLATILE | _GIVEN if made else _VOLATILE
        if made and _is_generated(metadata):
            dropped |= {"name"}
        kept["metadata"] = {key: value for key, value in metadata.items() if key not in dropped}
    return kept


def _is_generated(metadata: Mapping[str, object]) -> bool:
    """Whether the name may be one that the API server has made up: five characters behind the prefix."""
    name, prefix = metadata.get("name"), metadata.get("generateName")
    if not isinstance(name, str) or not isinstance(prefix, str) or not prefix:
        return False
    return name.startswith(prefix[:_MAX_PREFIX]) and len(name) == len(prefix[:_MAX_PREFIX]) + 5


def _body(ask: Ask, resulting: Resulting, kind: bytes) -> object:
    """What the client sent. Protobuf counts by what it brings about; where that is not known, by its bytes."""
    raw = ask.request.body
    if kind == bodies.PROTOBUF and ask.verb in ("delete", "deletecollection"):
        return _options(bodies.delete_options(raw, kind))
    if kind == bodies.PROTOBUF and ask.verb == "evict":
        return _options(preconditions.eviction_options(raw, kind))
    if kind == bodies.PROTOBUF:
        return None if resulting.object else sha256_hex(raw)
    try:
        value = preconditions.read(raw, kind, Shape.OBJECT).value
    except WireError:
        return sha256_hex(raw)
    if isinstance(value, list):
        return [each for each in value if not _is_version_test(each)]
    assert isinstance(value, dict)
    if ask.verb in ("delete", "deletecollection"):
        return _options(value)
    # A status that a client sends where it has no effect is what it has read, and that changes all the time.
    return essential(value, resulting.old == {} or writes_status(ask, resulting))


def _options(options: Mapping[str, object]) -> JsonObject:
    return {key: value for key, value in options.items() if key not in ("apiVersion", "kind", "preconditions")}


def _is_version_test(operation: object) -> bool:
    return (
        isinstance(operation, dict)
        and operation.get("op") == "test"
        and operation.get("path") == "/metadata/resourceVersion"
    )
