"""A Table's cells repeat what stands in its objects: what may be masked there is withheld here.

Which column shows what is known for Kubernetes' own resources (pkg/printers/internalversion/printers.go). Of all others
only the name and the age are shown while a path is masked, since a CRD's columns may show anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import orjson

from ostiary_gateway.masking.json_paths import Every, Filter, JsonPath, parse_path
from ostiary_gateway.masking.json_walk import Malformed
from ostiary_policy.masking import MaskPlan

from .targets import Shape

WITHHELD: Final = "[redacted]"
OWN_GROUPS: Final = frozenset({"", "apps", "autoscaling", "batch", "extensions", "policy"}) | frozenset(
    f"{name}.k8s.io"
    for name in (
        "admissionregistration", "apiextensions", "apiregistration", "authentication", "authorization", "certificates",
        "coordination", "discovery", "events", "flowcontrol.apiserver", "internal.apiserver", "networking", "node",
        "rbac.authorization", "resource", "scheduling", "storage", "storagemigration",
    )
)  # fmt: skip
"""Groups whose columns Kubernetes itself defines."""

_TEMPLATES: Final = ("spec", "spec.template.spec", "spec.jobTemplate.spec.template.spec", "template.spec")
SOURCES: Final[dict[str, tuple[str, ...]]] = {
    "Name": ("metadata.name",),
    "Age": ("metadata.creationTimestamp",),
    "Created At": ("metadata.creationTimestamp",),
    "Data": (),
    "Secrets": (),
    "Type": ("type", "spec.type"),
    "Status": ("status.*", "spec.unschedulable", "metadata.deletionTimestamp"),
    "Ready": ("status.*", "spec.replicas"),
    "Restarts": ("status.*",),
    "Desired": ("spec.replicas", "status.*"),
    "Current": ("status.*",),
    "Up-to-date": ("status.*",),
    "Available": ("status.*",),
    "IP": ("status.podIP", "status.podIPs.*"),
    "Node": ("spec.nodeName",),
    "Nominated Node": ("status.nominatedNodeName",),
    "Readiness Gates": ("spec.readinessGates.*", "status.conditions.*"),
    "Containers": tuple(f"{spec}.containers.#.name" for spec in _TEMPLATES),
    "Images": tuple(f"{spec}.containers.#.image" for spec in _TEMPLATES),
    "Selector": ("spec.selector.*", "spec.jobTemplate.spec.selector.*"),
    "Node Selector": ("spec.template.spec.nodeSelector.*",),
    "Cluster-IP": ("spec.clusterIP", "spec.clusterIPs.*"),
    "External-IP": ("status.*", "spec.externalIPs.*", "spec.externalName"),
    "Port(s)": ("spec.ports.*",),
    "Last Seen": ("lastTimestamp", "eventTime", "series.*", "metadata.creationTimestamp", "deprecatedLastTimestamp"),
    "First Seen": ("firstTimestamp", "eventTime", "metadata.creationTimestamp", "deprecatedFirstTimestamp"),
    "Reason": ("reason", "status.reason"),
    "Object": ("involvedObject.*", "regarding.*"),
    "Message": ("message", "note", "conditions.*"),
    "Roles": ("metadata.labels.*",),
    "Version": ("status.*",),
    "Internal-IP": ("status.*",),
    "OS-Image": ("status.*",),
    "Kernel-Version": ("status.*",),
    "Container-Runtime": ("status.*",),
    "Completions": ("spec.completions", "status.*"),
    "Duration": ("status.*",),
    "Schedule": ("spec.schedule",),
    "Suspend": ("spec.suspend",),
    "Active": ("status.*",),
    "Last Schedule": ("status.*",),
}
"""By column, the members that it is made of: `*` all below, `#` each element."""
_UNSHOWN: Final = frozenset({"data", "stringData", "binaryData"})
"""Members that no column of Kubernetes' own shows, but by counting."""


def may_pick(path: JsonPath, source: str) -> bool:
    """Whether a path may pick the member, something around it or, if it ends in `*`, something below it."""
    names = source.split(".")
    below = names[-1] == "*"
    if below:
        names.pop()
    positions = {0}
    for name in names:
        following = set[int]()
        for position in positions:
            segment = path[position]
            if segment.descendant:
                following.add(position)
            for selector in segment.selectors:
                element = isinstance(selector, (int, Filter)) and name == "#"
                if element or isinstance(selector, (Every, Filter)) or selector == name:
                    following.add(position + 1)
        if len(path) in following:
            return True
        positions = following
    return below and bool(positions)


def withheld(paths: Iterable[JsonPath], shape: Shape, index: int, name: str) -> bool:
    """Whether a column may show what one of the paths picks."""
    own = shape.group in OWN_GROUPS
    if own:
        # A descendant step may go anywhere, so only a first step by name says where a path stays.
        paths = [
            path
            for path in paths
            if path[0].descendant or not all(selector in _UNSHOWN for selector in path[0].selectors)
        ]
        if not paths:
            return False
    elif not (index == 0 and name == "Name") and name not in ("Age", "Created At"):
        return True
    sources = SOURCES.get(name)
    if sources is None:
        return True
    return any(may_pick(path, source) for path in paths for source in sources)


@lru_cache(maxsize=256)
def _paths(plan: MaskPlan) -> tuple[JsonPath, ...]:
    return tuple(parse_path(mask.path) for mask in plan.json_paths)


class Columns:
    """The columns of the Table that is being read. Until they are known every cell is withheld."""

    def __init__(self, plan: MaskPlan, shape: Shape) -> None:
        self._plan = plan
        self._shape = shape
        self._hidden: list[bool] | None = None

    def define(self, raw: bytes) -> None:
        """`columnDefinitions`, as JSON. In a watch only the first event has them."""
        definitions = _loaded(raw)
        if definitions is None:
            return
        if not isinstance(definitions, list):
            raise Malformed("a Table's columns cannot be read")
        names = [str(each.get("name")) if isinstance(each, dict) else "" for each in definitions]
        kinds = [str(each.get("type")) if isinstance(each, dict) else "" for each in definitions]
        paths = _paths(self._plan)
        own = self._shape.group in OWN_GROUPS
        self._hidden = [
            withheld(paths, self._shape, index, name)
            or (not own and name in ("Age", "Created At") and kinds[index] != "date")
            for index, name in enumerate(names)
        ]

    def cells(self, raw: bytes) -> bytes | None:
        """A row's cells as they may be shown; None if they are shown as they are."""
        hidden = self._hidden
        if hidden is not None and not any(hidden):
            return None
        cells = _loaded(raw)
        if not isinstance(cells, list):
            return b"[]" if cells else None
        shown = [
            WITHHELD if cell is not None and (hidden is None or index >= len(hidden) or hidden[index]) else cell
            for index, cell in enumerate(cells)
        ]
        return orjson.dumps(shown)


def _loaded(raw: bytes) -> object:
    try:
        found: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"a Table cannot be read: {error}") from None
    return found
