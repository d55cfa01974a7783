"""Helm for tests: the one on PATH, or the one of the cluster scripts beside this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml
from support.cluster import ROOT, SCRIPTS, Unavailable

CHART = ROOT / "charts" / "ostiary"
Manifest = dict[str, Any]


def binary() -> str:
    """Path of helm. Raises Unavailable where there is none."""
    if found := shutil.which("helm"):
        return found
    if (SCRIPTS / "build").exists():
        # Its first run builds Helm from source.
        subprocess.run([str(SCRIPTS / "build"), "helm"], check=True, capture_output=True, timeout=1800)
        cache = os.environ.get("CLUSTER_CACHE") or Path.home() / ".cache" / "local-cluster"
        return str(Path(cache, "bin", "helm"))
    raise Unavailable("the tests of the chart need Helm: install it, or put it on PATH")


def helm(*arguments: str, values: Manifest | None = None) -> subprocess.CompletedProcess[str]:
    """Run helm on the chart; values go to its standard input."""
    given = ["--values", "-"] if values is not None else []
    return subprocess.run(
        [binary(), *arguments, *given],
        input=yaml.safe_dump(values or {}),
        capture_output=True,
        text=True,
        timeout=120,
    )


def template(values: Manifest | None = None, *arguments: str) -> list[Manifest]:
    """The objects that an installation with these values would make."""
    done = helm("template", "ostiary", str(CHART), "--namespace", "ostiary-system", *arguments, values=values or {})
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def refusal(values: Manifest) -> str:
    """What helm says against these values."""
    done = helm("template", "ostiary", str(CHART), values=values)
    assert done.returncode != 0, "these values were taken"
    return done.stderr


def pick(objects: list[Manifest], kind: str, name: str, namespace: str = "") -> Manifest:
    """The one object of this kind and name (and namespace, where it matters)."""
    found = [
        each
        for each in objects
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
        and (not namespace or each["metadata"].get("namespace") == namespace)
    ]
    assert len(found) == 1, f"{len(found)} of {kind} {name}"
    return found[0]


def rules(role: Manifest) -> list[tuple[str, str, str]]:
    """(group, resource, verb) of every rule of a role."""
    return [
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
