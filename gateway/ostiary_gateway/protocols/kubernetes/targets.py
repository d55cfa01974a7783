"""What masks pick in what an API server answers: by the URL that was asked, never by what a document says of itself.

The same URL answers with an object, a list, a Table, an event of a watch or a Status, as the client asked for it. So a
path holds below each place where one of them has an object; where a place is not there, nothing is picked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ostiary_gateway.masking.json_paths import Every, JsonPath, Segment, parse_path
from ostiary_gateway.masking.selection import Selection, prefixed
from ostiary_policy.masking import MaskPlan

if TYPE_CHECKING:
    from .request_info import RequestInfo

LAST_APPLIED: Final = "kubectl.kubernetes.io/last-applied-configuration"


class Mark(Enum):
    """What is done at a place, besides masking."""

    KEEP = "clients need it, and it tells nothing that the URL does not"
    BYTES = "a []byte of Go's: base64 in JSON"
    APPLIED = "the annotation that kubectl apply keeps the object in"
    ANNOTATION = "an annotation, that may hold an object too"
    MANAGED = "managedFields: the keys of lists stand in names of members"
    COLUMNS = "a Table's column definitions"
    CELLS = "a row's cells"


@dataclass(frozen=True, slots=True)
class Shape:
    """What about a URL decides where objects and their bytes stand."""

    group: str
    resource: str
    watch: bool = False
    collection: bool = False
    """A list, of which the outer object is no object of the resource."""


def names(*parts: str) -> JsonPath:
    """A path of members; `*` is each of them."""
    return tuple(Segment((Every() if part == "*" else part,)) for part in parts)


ITEMS: Final = names("items", "*")
ROWS: Final = names("rows", "*", "object")
EVENT: Final = names("object")

OF_LISTS: Final = frozenset({b"kind", b"apiVersion", b"metadata", b"columnDefinitions", b"items", b"rows"})
"""Members of the outermost object of a list or a Table."""

_KEPT: Final = (
    names("apiVersion"), names("kind"), names("metadata", "resourceVersion"), names("metadata", "continue"),
)  # fmt: skip
_BYTES: Final[dict[tuple[str, str], tuple[JsonPath, ...]]] = {
    ("", "secrets"): (names("data", "*"),),
    ("", "configmaps"): (names("binaryData", "*"),),
    ("certificates.k8s.io", "certificatesigningrequests"): (
        names("spec", "request"), names("status", "certificate"),
    ),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"): (
        names("webhooks", "*", "clientConfig", "caBundle"),
    ),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations"): (
        names("webhooks", "*", "clientConfig", "caBundle"),
    ),
    ("apiregistration.k8s.io", "apiservices"): (names("spec", "caBundle"),),
    ("apiextensions.k8s.io", "customresourcedefinitions"): (
        names("spec", "conversion", "webhook", "clientConfig", "caBundle"),
    ),
}  # fmt: skip
"""By group and resource, what typed clients decode from base64."""


def shape_of(info: RequestInfo) -> Shape:
    """The shape of what a request answers with."""
    collection = info.verb in ("list", "deletecollection")
    return Shape(info.group, info.resource, info.verb == "watch", collection)


def paths_of(plan: MaskPlan) -> list[tuple[JsonPath, object]]:
    """The plan's paths with their strategies. Raises MaskError."""
    return [(parse_path(mask.path), mask.strategy) for mask in plan.json_paths]


def object_targets(plan: MaskPlan, shape: Shape) -> list[tuple[JsonPath, object]]:
    """What is picked in one object."""
    masks = paths_of(plan)
    if (shape.group, shape.resource) == ("apps", "controllerrevisions"):
        # Its data is a part of a StatefulSet or DaemonSet.
        masks += [(names("data") + path, strategy) for path, strategy in masks]
    if (shape.group, shape.resource) == ("", "secrets"):
        # What is written as stringData is read as data; what kubectl applied last may hold either.
        masks += [(names("stringData") + path[1:], strategy) for path, strategy in masks if _in_data(path)]
    targets = [*masks, *((path, Mark.KEEP) for path in _KEPT)]
    targets += [(path, Mark.BYTES) for path in _BYTES.get((shape.group, shape.resource), ())]
    annotations = names("metadata", "annotations")
    targets.append((annotations + names(LAST_APPLIED), Mark.APPLIED))
    if masks:
        targets.append((annotations + names("*"), Mark.ANNOTATION))
        targets.append((names("metadata", "managedFields"), Mark.MANAGED))
    return targets


def _in_data(path: JsonPath) -> bool:
    first = path[0]
    return not first.descendant and "data" in first.selectors


@lru_cache(maxsize=256)
def whole_object(plan: MaskPlan, shape: Shape) -> Selection:
    """For an object by itself, as in the annotation. Raises MaskError."""
    return Selection(object_targets(plan, shape))


@dataclass(frozen=True, slots=True)
class Document:
    """What is picked in a document, or in an event of a watch. `members`: of a list, what is picked in members of the
    outermost object that lists do not have."""

    selection: Selection
    members: Selection


@lru_cache(maxsize=256)
def document(plan: MaskPlan, shape: Shape) -> Document:
    """For all that a URL may answer with. Raises MaskError."""
    base: JsonPath = EVENT if shape.watch else ()
    places: Sequence[JsonPath] = (base + ITEMS, base + ROWS)
    alone = whole_object(plan, shape)
    objects = object_targets(plan, shape)
    targets = [(found, tag) for path, tag in objects for found in prefixed(places, path)]
    targets += [(base + path, tag) for path, tag in objects if not shape.collection or tag is Mark.KEEP]
    if plan.json_paths:
        targets.append((base + names("columnDefinitions"), Mark.COLUMNS))
        targets.append((base + names("rows", "*", "cells"), Mark.CELLS))
    return Document(Selection(targets), alone)
