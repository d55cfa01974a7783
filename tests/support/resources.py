"""Example objects that are taken and objects that are refused, shared by the models' tests and the API server's."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent.parent / "unit" / "ostiary_api"

Manifest = dict[str, Any]

SCALARS: list[tuple[str, object]] = [
    ("yes", True),
    ("off", False),
    ("y", True),
    ("N", False),
    ("True", True),
    ("~", None),
    ("0x1F", 31),
    ("010", 8),
    ("0o10", 8),
    ("0b11", 3),
    ("-5", -5),
    ("+5", 5),
    ("08", 8),
    ("1_000", 1000),
    ("-0x10", -16),
    ("1e3", 1000),
    (".5", 0.5),
    ("5.", 5),
    ("1e-3", 0.001),
    ("1_000.5", 1000.5),
    ("1:30", "1:30"),
    ("2027-01-01", "2027-01-01"),
    ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
    ("'yes'", "yes"),
    ('"5"', "5"),
    ("!!str 5", "5"),
    ("yess", "yess"),
    ("1.2.3", "1.2.3"),
    ("0x", "0x"),
    ("1e3x", "1e3x"),
    ("_1", "_1"),
]
"""Scalars as they are written in YAML, and the JSON values that kubectl makes of them."""


def good_text() -> str:
    return (HERE / "good.yaml").read_text(encoding="utf-8")


def good() -> dict[str, Manifest]:
    """The objects of good.yaml by name, times as text."""

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    return {item["metadata"]["name"]: item for item in yaml.load_all(good_text(), Loader)}


@dataclass(frozen=True, slots=True)
class Refused:
    """An object that must be refused. `says`: part of the models' message; `server`: of the API server's."""

    name: str
    manifest: Manifest
    says: str
    server: str

    def __str__(self) -> str:
        return self.name


def refused() -> list[Refused]:
    objects = good()
    cases = []
    for case in yaml.safe_load((HERE / "refused.yaml").read_text(encoding="utf-8")):
        manifest = copy.deepcopy(objects[case["of"]])
        for path, value in case.get("set", {}).items():
            change(manifest, path, value)
        if "unset" in case:
            parent, key = _parent(manifest, case["unset"])
            del parent[key]
        cases.append(Refused(case["name"], manifest, case["says"], case.get("server", case["says"])))
    return cases


def change(manifest: Manifest, path: str, value: object) -> None:
    """Set the field at a path like `spec.rules.0.name`; objects on the way are made."""
    parent, key = _parent(manifest, path)
    parent[key] = value


def _parent(manifest: Manifest, path: str) -> tuple[Any, Any]:
    *above, last = path.split(".")
    parent: Any = manifest
    for part in above:
        parent = parent[int(part)] if isinstance(parent, list) else parent.setdefault(part, {})
    return parent, int(last) if isinstance(parent, list) else last
