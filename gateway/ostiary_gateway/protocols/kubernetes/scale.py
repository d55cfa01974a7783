"""The subresource `scale`: which field of which object it sets, and that object with the field set. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

JsonObject = dict[str, object]

REPLICAS: Final = ("spec", "replicas")
BUILT_IN: Final = frozenset(
    (
        ("", "replicationcontrollers"),
        ("apps", "deployments"),
        ("apps", "replicasets"),
        ("apps", "statefulsets"),
    )
)
"""Group and resource of Kubernetes' own objects that have a scale: spec.replicas."""
_PATH: Final = re.compile(r"(?:\.[A-Za-z_][A-Za-z0-9_-]*)+")


def replicas_of(scale: Mapping[str, object]) -> int | None:
    """`spec.replicas` of a Scale; absent stands for 0 (autoscaling/v1). None if it is none."""
    if scale.get("kind") != "Scale":
        return None
    spec = scale.get("spec")
    if spec is None:
        return 0
    value = spec.get("replicas", 0) if isinstance(spec, dict) else None
    return value if type(value) is int else None


def path_of(definition: Mapping[str, object], version: str) -> tuple[str, ...] | None:
    """specReplicasPath of this version in a CustomResourceDefinition, as keys; None if it has no scale."""
    spec = definition.get("spec")
    versions = spec.get("versions") if isinstance(spec, dict) else None
    for each in versions if isinstance(versions, list) else ():
        if isinstance(each, dict) and each.get("name") == version:
            subresources = each.get("subresources")
            scale = subresources.get("scale") if isinstance(subresources, dict) else None
            path = scale.get("specReplicasPath") if isinstance(scale, dict) else None
            if isinstance(path, str) and _PATH.fullmatch(path):
                return tuple(path[1:].split("."))
    return None


def with_replicas(parent: JsonObject, path: tuple[str, ...], replicas: int) -> JsonObject:
    """The object with so many replicas. `parent` itself stays as it is. ValueError if the path leads nowhere."""
    made = dict(parent)
    at = made
    for key in path[:-1]:
        inside = at.get(key, {})
        if not isinstance(inside, dict):
            raise ValueError(f"{'.'.join(path)} leads through what is no object")
        at[key] = at = dict(inside)
    at[path[-1]] = replicas
    return made
