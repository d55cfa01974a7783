"""deletecollection: which objects would go, and the request that deletes no other. No I/O.

The API server lists and then deletes by name. The list is pinned to the version of ours, so that what appears later
stays; what an object has become between the list and its deletion, a matter of milliseconds, is not looked at again.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Final

import orjson

from . import urls
from .messages import WireError
from .questions import Question, UpstreamAnswer
from .request_info import RequestInfo
from .wire import Request

JsonObject = dict[str, object]

PAGE: Final = 500
MAX_OBJECTS: Final = 5_000
MAX_COUNTED: Final = 50_000
"""Objects, where only their number matters."""
MAX_BYTES: Final = 64 << 20
METADATA_ONLY: Final = b"application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_SELECTS: Final = frozenset(
    ("labelSelector", "fieldSelector", "shardSelector", "resourceVersion", "resourceVersionMatch")
)
_PAGES: Final = frozenset(("limit", "continue"))
_PINS: Final = frozenset(("resourceVersion", "resourceVersionMatch"))
_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,18}", re.ASCII)
_FLAGS: Final = frozenset(("orphanDependents", "ignoreStoreReadErrorWithClusterBreakingPotential"))


@dataclass(frozen=True, slots=True)
class Listed:
    """What is selected. `answer`: the API server's error instead. `problem`: why it is not known."""

    objects: tuple[JsonObject, ...] = ()
    version: str = ""
    answer: UpstreamAnswer | None = None
    problem: str = ""


def listed(
    info: RequestInfo, headers: tuple[tuple[bytes, bytes], ...], *, whole: bool
) -> Generator[tuple[Question, ...], tuple[UpstreamAnswer, ...], Listed]:
    """Lists the objects that would be deleted, page by page; without `whole` only their metadata."""
    accept = b"application/json" if whole else METADATA_ONLY + b",application/json"
    asked = (*headers, (b"accept", accept))
    path = urls.collection(info).encode()
    pairs = [(name, value) for name, value in info.query if name in _SELECTS]
    own_page = [(name, value) for name, value in info.query if name in _PAGES]
    page = own_page or [("limit", str(PAGE))]
    limit = MAX_OBJECTS if whole else MAX_COUNTED
    found: list[JsonObject] = []
    size, version = 0, ""
    while True:
        (answer,) = yield (Question("GET", urls.with_query(path, [*pairs, *page]), asked, limit=MAX_BYTES),)
        if answer.status != 200:
            return Listed(answer=answer)
        size += len(answer.body)
        try:
            document = orjson.loads(answer.body)
            items, metadata = document["items"], document["metadata"]
            found.extend(items or ())
            version, following = str(metadata["resourceVersion"]), str(metadata.get("continue") or "")
        except (KeyError, TypeError, AttributeError, orjson.JSONDecodeError):
            return Listed(problem="the API server's list of what would be deleted cannot be read")
        if len(found) > limit or size > MAX_BYTES:
            return Listed(problem=f"more than {limit:,} objects, or {MAX_BYTES >> 20} MiB of them, would be deleted")
        if own_page or not following:
            return Listed(tuple(found), version)
        pairs = [pair for pair in pairs if pair[0] not in _PINS]
        page = [("limit", str(PAGE)), ("continue", following)]


def pinned(info: RequestInfo, request: Request, version: str) -> Request:
    """The request, with what it deletes pinned to that version of the collection."""
    if any(name == "continue" and value for name, value in info.query):
        return request  # it continues a list, whose version is pinned in it
    head = request.head
    path = head.target.partition(b"?")[0]
    pairs = [pair for pair in info.query if pair[0] not in _PINS]
    target = urls.with_query(path, [*pairs, ("resourceVersion", version), ("resourceVersionMatch", "Exact")])
    body, headers = request.body, head.headers
    if not body:
        # Without a body the query has the options, and resourceVersion there would be each object's.
        body = orjson.dumps(options_of(info))
        headers = [pair for pair in headers if pair[0] != b"content-type"] + [(b"content-type", b"application/json")]
    return Request(replace(head, target=target, headers=headers), body)


def options_of(info: RequestInfo) -> JsonObject:
    """The DeleteOptions in a query (meta/v1: Convert_url_Values_To_v1_DeleteOptions). WireError if they are none."""
    first: dict[str, str] = {}
    for name, value in info.query:
        first.setdefault(name, value)
    made: JsonObject = {"apiVersion": "v1", "kind": "DeleteOptions"}
    if (seconds := first.get("gracePeriodSeconds")) is not None:
        if not _NUMBER.fullmatch(seconds):
            raise WireError(400, "BadRequest", "gracePeriodSeconds is no number.")
        made["gracePeriodSeconds"] = int(seconds)
    for name in _FLAGS & first.keys():
        made[name] = first[name] != "0" and first[name].lower() != "false"
    if (policy := first.get("propagationPolicy")) is not None:
        made["propagationPolicy"] = policy
    if dry_run := [value for name, value in info.query if name == "dryRun"]:
        made["dryRun"] = dry_run
    if own := {name: first[name] for name in ("uid", "resourceVersion") if first.get(name)}:
        made["preconditions"] = own
    return made
