"""A Kubernetes API server for tests: the one of KUBECONFIG, or a control plane brought up for the run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT.parent / "shared" / "cluster"


class Unavailable(Exception):
    """There is no cluster to test with; says why."""


@dataclass(frozen=True)
class Cluster:
    """kubectl, pointed at one cluster and one namespace."""

    environment: dict[str, str]
    namespace: str = "default"

    def kubectl(self, *arguments: str, manifest: object = None, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl; a manifest goes to its standard input as JSON, a text as it is."""
        return subprocess.run(
            ["kubectl", "--namespace", self.namespace, *arguments],
            input=text if manifest is None else json.dumps(manifest),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def ok(self, *arguments: str, manifest: object = None, text: str = "") -> str:
        """Standard output of a kubectl that must succeed."""
        done = self.kubectl(*arguments, manifest=manifest, text=text)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """An object or a list of them."""
        return json.loads(self.ok("get", *arguments, "-o", "json"))


@contextmanager
def cluster(state: Path) -> Iterator[Cluster]:
    """A cluster for one run of the tests. One that was brought up for it is taken down again.

    Raises Unavailable where there is none.
    """
    if os.environ.get("KUBECONFIG"):
        yield Cluster(dict(os.environ))
    elif (SCRIPTS / "up").exists():
        settings = os.environ | {
            "CLUSTER_STATE": str(state),
            "CLUSTER_PORT": str(_free_ports(4)),
            "CLUSTER_RESTART": str(SCRIPTS / "restart"),
        }
        try:
            _run("up", settings)
            yield Cluster(_shell_environment(settings))
        finally:
            _run("down", settings)
    else:
        raise Unavailable("these tests need a Kubernetes API server: set KUBECONFIG")


def _run(script: str, settings: dict[str, str]) -> None:
    # Its first run builds Kubernetes from source.
    done = subprocess.run(
        [str(SCRIPTS / script), "--control-plane"], env=settings, capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


def _shell_environment(settings: dict[str, str]) -> dict[str, str]:
    script = f'eval "$({SCRIPTS}/env --control-plane)" && env -0'
    done = subprocess.run(["bash", "-c", script], env=settings, capture_output=True, text=True, timeout=60, check=True)
    return dict(line.split("=", 1) for line in done.stdout.split("\0") if "=" in line)


def _free_ports(count: int) -> int:
    """The first of some neighbouring TCP ports of loopback that nobody uses."""
    for first in range(17443, 19443, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise Unavailable("no free ports for a control plane")
