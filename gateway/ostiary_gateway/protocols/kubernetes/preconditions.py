"""A write's body twice: as it is dry-run, and with the precondition that it is forwarded with. No I/O.

The precondition is the version of the object that was decided on: the API server refuses the write if the object is
another by then. Where a body is taken apart, what was made of it is both dry-run and forwarded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from . import bodies, protobuf_bodies
from .bodies import APPLY_PATCH, JSON_PATCH, MERGE_PATCH, PROTOBUF, STRATEGIC_PATCH
from .messages import WireError

JsonObject = dict[str, object]

PATCHES: Final = frozenset((APPLY_PATCH, JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH))
UNBORN: Final = "1"
"""A resourceVersion that no object has that is there: with it a write creates its object, or conflicts."""
_DIRECTIVES: Final = ("$patch", "$retainKeys")
"""What makes a strategic merge patch replace a map, and would take the precondition with it."""


class Shape(Enum):
    """What a body is: the object or a part of it, a list of operations, options of a deletion, an eviction."""

    OBJECT = "object"
    OPERATIONS = "operations"
    OPTIONS = "options"
    EVICTION = "eviction"


@dataclass(frozen=True, slots=True)
class Version:
    """The object that was decided on. `uid` may be empty: not known."""

    resource_version: str
    uid: str = ""

    @classmethod
    def of(cls, document: Mapping[str, object]) -> Version | None:
        """The version of an object of the API; None if it tells none."""
        metadata = document.get("metadata")
        if not isinstance(metadata, dict):
            return None
        version, uid = metadata.get("resourceVersion"), metadata.get("uid")
        if not isinstance(version, str) or not version:
            return None
        return cls(version, uid if isinstance(uid, str) else "")


@dataclass(frozen=True, slots=True)
class Body:
    """A body that was read. `value` is its JSON; None for protobuf, which stays as it is."""

    shape: Shape
    content_type: bytes
    raw: bytes
    value: object = None

    def plain(self) -> bytes:
        """As it is dry-run."""
        return self.raw if self.content_type == PROTOBUF else bodies.write_body(self.value, self.content_type)

    def guarded(self, version: Version) -> bytes:
        """With the precondition. Raises WireError(422) where there is no place for it."""
        if self.content_type == PROTOBUF:
            return bodies.append_to_protobuf(self.raw, _fields(self.shape, version))
        value = _guarded(self.shape, self.value, version, self.content_type)
        return bodies.write_body(value, self.content_type)


def read(body: bytes, content_type: bytes | None, shape: Shape = Shape.OBJECT) -> Body:
    """Reads a body. Raises WireError: 400 if it cannot be read, 415 for types that are not known."""
    kind = bodies.media_type(content_type)
    if kind == PROTOBUF:
        return Body(shape, kind, body)
    value = bodies.parse_body(body, kind)
    if kind == JSON_PATCH:
        if not isinstance(value, list):
            raise WireError(400, "BadRequest", "A JSON patch is a list of operations.")
        return Body(Shape.OPERATIONS, kind, body, value)
    if not isinstance(value, dict):
        raise WireError(400, "BadRequest", "The body is no object.")
    return Body(shape, kind, body, value)


def eviction_options(body: bytes, content_type: bytes | None) -> JsonObject:
    """The DeleteOptions in an Eviction (policy/v1), as `bodies.delete_options` gives them. Raises WireError."""
    if not body:
        return {}
    kind = bodies.media_type(content_type)
    if kind == PROTOBUF:
        parts = protobuf_bodies.fields_of(bodies.parse_envelope(body).raw)
        return protobuf_bodies.delete_options_of(
            b"".join(value for number, _, value in parts if number == 2 and isinstance(value, bytes))
        )
    value = bodies.parse_body(body, kind)
    options = value.get("deleteOptions") if isinstance(value, dict) else None
    return bodies.delete_options(bodies.write_json(options), bodies.JSON) if options is not None else {}


def _guarded(shape: Shape, value: object, version: Version, kind: bytes) -> object:
    if shape is Shape.OPERATIONS:
        assert isinstance(value, list)
        return [{"op": "test", "path": "/metadata/resourceVersion", "value": version.resource_version}, *value]
    assert isinstance(value, dict)
    if shape is Shape.OPTIONS:
        return _with_preconditions(value, version)
    if shape is Shape.EVICTION:
        options = value.get("deleteOptions")
        return {**value, "deleteOptions": _with_preconditions(options if isinstance(options, dict) else {}, version)}
    metadata = value.get("metadata")
    if metadata is None and "metadata" not in value:
        metadata = {}
    if not isinstance(metadata, dict):
        raise WireError(422, "Invalid", "metadata is no object.")
    if kind == STRATEGIC_PATCH and any(word in part for word in _DIRECTIVES for part in (value, metadata)):
        raise WireError(
            422, "Invalid", "This patch replaces the whole object or its metadata. Send the whole object with PUT."
        )
    return {**value, "metadata": {**metadata, "resourceVersion": version.resource_version}}


def _with_preconditions(options: Mapping[str, object], version: Version) -> JsonObject:
    own = options.get("preconditions")
    known: JsonObject = dict(own) if isinstance(own, dict) else {}
    known["resourceVersion"] = version.resource_version
    if version.uid:
        known["uid"] = version.uid
    return {**options, "preconditions": known}


def _fields(shape: Shape, version: Version) -> bytes:
    """What is appended to protobuf: fields behind a message merge into it, and the last scalar counts."""
    if shape is Shape.OBJECT:
        return bodies.resource_version_fields(version.resource_version)
    preconditions = protobuf_bodies.string_field(2, version.resource_version)
    if version.uid:
        preconditions = protobuf_bodies.string_field(1, version.uid) + preconditions
    options = protobuf_bodies.message_field(2, preconditions)
    return options if shape is Shape.OPTIONS else protobuf_bodies.message_field(2, options)
