"""What a request's body is: its media type, and the readers that go with it. Nothing is guessed.

Source: k8s.io/apiserver, pkg/endpoints/handlers (negotiation, patch.go, delete.go). The API server takes a body for
what Content-Type says, and one without for JSON.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary_gateway.protocols.kubernetes.json_bodies import parse_json, write_json, write_json_as_yaml
from ostiary_gateway.protocols.kubernetes.messages import WireError, bad_request
from ostiary_gateway.protocols.kubernetes.protobuf_bodies import (
    append_to_protobuf,
    delete_options_of,
    dry_run_fields,
    parse_envelope,
    preconditions_fields,
    resource_version_fields,
)
from ostiary_gateway.protocols.kubernetes.yaml_bodies import parse_yaml

__all__ = [
    "APPLY_PATCH", "JSON", "JSON_PATCH", "MERGE_PATCH", "PROTOBUF", "STRATEGIC_PATCH", "YAML", "append_to_protobuf",
    "delete_options", "dry_run_fields", "media_type", "parse_body", "parse_envelope", "parse_json", "parse_yaml",
    "preconditions_fields", "resource_version_fields", "write_body", "write_json", "write_json_as_yaml",
]  # fmt: skip

JSON: Final = b"application/json"
YAML: Final = b"application/yaml"
PROTOBUF: Final = b"application/vnd.kubernetes.protobuf"
JSON_PATCH: Final = b"application/json-patch+json"
MERGE_PATCH: Final = b"application/merge-patch+json"
STRATEGIC_PATCH: Final = b"application/strategic-merge-patch+json"
APPLY_PATCH: Final = b"application/apply-patch+yaml"

AS_JSON: Final = frozenset({JSON, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH})
AS_YAML: Final = frozenset({YAML, APPLY_PATCH})

_MEDIA_TYPE: Final = re.compile(
    rb"([a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+)(?:[ \t]*;[ \t]*charset=(\"?)utf-8\2)?", re.IGNORECASE
)
_DELETE_OPTIONS: Final = {
    "gracePeriodSeconds": int, "orphanDependents": bool, "propagationPolicy": str,
    "ignoreStoreReadErrorWithClusterBreakingPotential": bool,
}  # fmt: skip


def media_type(content_type: bytes | None) -> bytes:
    """Lower-case, without parameters; that of JSON if there is none, like the API server. Raises WireError (415).

    Refused are CBOR (clients of Kubernetes then go back to JSON) and parameters other than charset=utf-8.
    """
    if not content_type:
        return JSON
    parts = _MEDIA_TYPE.fullmatch(content_type)
    if parts is None:
        raise _unsupported(f"the Content-Type {_shown(content_type)} has parameters that are not known, or is none")
    name = parts[1].lower()
    if name.endswith((b"/cbor", b"+cbor", b"/cbor-seq")):
        raise _unsupported("CBOR is not taken here: send JSON")
    return name


def parse_body(body: bytes, kind: bytes) -> object:
    """The value of a JSON or YAML body; `kind` is what `media_type` gave. Raises WireError (415 for anything else)."""
    if kind in AS_JSON:
        return parse_json(body)
    if kind in AS_YAML:
        return parse_yaml(body)
    raise _unsupported(f"bodies of the type {_shown(kind)} cannot be read here: send JSON")


def write_body(value: object, kind: bytes) -> bytes:
    """A body that reads as this value under a media type of JSON or YAML."""
    return write_json_as_yaml(value) if kind in AS_YAML else write_json(value)


def delete_options(body: bytes, content_type: bytes | None) -> dict[str, object]:
    """The DeleteOptions in the body of a DELETE, as JSON has them: only those that are known and not null.

    Empty for no body: then the query says them. `dryRun` is a list of str, `preconditions` a dict with `uid` and
    `resourceVersion`. Raises WireError for what the API server would refuse, and for what two readers would read
    differently.
    """
    if not body:
        return {}
    kind = media_type(content_type)
    if kind == PROTOBUF:
        envelope = parse_envelope(body)
        if envelope.kind not in ("DeleteOptions", ""):
            raise _no_delete_options(f"it is a {envelope.kind}")
        return delete_options_of(envelope.raw)
    if kind not in (JSON, YAML):
        raise _unsupported(f"DeleteOptions cannot be {_shown(kind)}: send JSON")
    value = parse_body(body, kind)
    if not isinstance(value, dict):
        raise _no_delete_options("it is no object")
    return _checked_delete_options(value)


def _checked_delete_options(value: dict[str, object]) -> dict[str, object]:
    if value.get("kind") not in (None, "", "DeleteOptions"):
        raise _no_delete_options("its kind is another one")
    found: dict[str, object] = {}
    for name, expected in _DELETE_OPTIONS.items():
        option = value.get(name)
        if option is None:
            continue
        if not isinstance(option, expected) or (expected is int and isinstance(option, bool)):
            raise _no_delete_options(f"{name} must be {expected.__name__}")
        found[name] = option
    dry_run = value.get("dryRun")
    if dry_run is not None:
        if not isinstance(dry_run, list) or not all(isinstance(item, str) for item in dry_run):
            raise _no_delete_options("dryRun must be a list of strings")
        found["dryRun"] = dry_run
    preconditions = value.get("preconditions")
    if preconditions is not None:
        if not isinstance(preconditions, dict):
            raise _no_delete_options("preconditions must be an object")
        kept = {name: preconditions[name] for name in ("uid", "resourceVersion") if preconditions.get(name) is not None}
        if not all(isinstance(text, str) for text in kept.values()):
            raise _no_delete_options("preconditions must be strings")
        found["preconditions"] = kept
    return found


def _no_delete_options(why: str) -> WireError:
    return bad_request(f"the body of a DELETE must be DeleteOptions: {why}")


def _unsupported(message: str) -> WireError:
    return WireError(415, "UnsupportedMediaType", message)


def _shown(value: bytes) -> str:
    return value[:80].decode("ascii", "replace")
