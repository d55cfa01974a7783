"""A cluster with nodes, and Ostiary in it: that of KUBECONFIG, or one of the scripts beside this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from support.cluster import ROOT, SCRIPTS, Cluster, Unavailable

STEPS = ROOT / "scripts" / "cluster"
SYSTEM = "ostiary-system"
LONG = 3600
"""Seconds: a cluster's first time builds Kubernetes from source, an image compiles the hot modules."""


@dataclass(frozen=True)
class FullCluster(Cluster):
    """kubectl, helm and the steps of scripts/cluster, for a cluster with nodes."""

    local_images: bool = False
    """Whether images are made here, because the nodes cannot pull."""

    def within(self, namespace: str) -> FullCluster:
        """The same, in another namespace."""
        return replace(self, namespace=namespace)

    def helm(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run helm in the system namespace."""
        return self._run("helm", "--namespace", SYSTEM, *arguments)

    def helm_ok(self, *arguments: str) -> str:
        """Standard output of a helm that must succeed."""
        done = self.helm(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def step(self, *steps: str, **settings: str) -> str:
        """Run steps of scripts/cluster, which must succeed; what they print."""
        done = self._run(str(STEPS), *steps, **settings)
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]
        return done.stdout

    def make_images(self) -> None:
        """Build the images, and load them into the nodes."""
        if os.environ.get("E2E_IMAGES") == "ready":
            return
        if self.local_images:
            done = self._run(str(ROOT / "tests" / "e2e" / "images" / "make"))
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        self.step("images")

    def _run(self, *command: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, env={**self.environment, **settings}, capture_output=True, text=True, timeout=LONG, cwd=ROOT
        )


@contextmanager
def full_cluster() -> Iterator[FullCluster]:
    """A cluster with nodes for one run of the tests. One that was brought up for it is taken down again.

    Raises Unavailable where there is none.
    """
    if os.environ.get("KUBECONFIG"):
        found = FullCluster(_with_loader(dict(os.environ)))
        if not _has_nodes(found):
            raise Unavailable("the cluster of KUBECONFIG has no node that is ready: pods would wait for ever")
        yield replace(found, local_images="LOAD_IMAGE" in found.environment)
    elif (SCRIPTS / "up").exists() and os.geteuid() == 0:
        there = _has_nodes(FullCluster(_shell_environment(dict(os.environ)), local_images=True))
        if there and os.environ.get("CI") == "true":
            # Whatever somebody left in it.
            _script("down")
            there = False
        try:
            _script("up")
            yield FullCluster(_with_loader(_shell_environment(dict(os.environ))), local_images=True)
        finally:
            if not there:
                _script("down")
    else:
        raise Unavailable("these tests need a Kubernetes cluster with nodes: set KUBECONFIG")


def _with_loader(environment: dict[str, str]) -> dict[str, str]:
    """The environment, told how images come to the nodes, if this is the cluster of the scripts."""
    loader = SCRIPTS / "load-image"
    mine = loader.exists() and environment["KUBECONFIG"] == _shell_environment(environment).get("KUBECONFIG")
    if not mine:
        return environment
    base = "--build-arg BASE=localhost/python:3.13-slim"
    builder = "--build-arg BUILDER=localhost/python:3.13-build --build-arg REQUIRE_COMPILED=1"
    return {"LOAD_IMAGE": str(loader), "BUILD_ARGS": f"{base} {builder}", **environment}


def _has_nodes(found: FullCluster) -> bool:
    if shutil.which("kubectl", path=found.environment["PATH"]) is None:
        return False
    ready = found.kubectl("wait", "--for=condition=Ready", "node", "--all", "--timeout=5s")
    return ready.returncode == 0 and "condition met" in ready.stdout


def _script(name: str) -> None:
    done = subprocess.run([str(SCRIPTS / name)], capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def _shell_environment(environment: dict[str, str]) -> dict[str, str]:
    script = f'eval "$({SCRIPTS}/env)" && env -0'
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)
