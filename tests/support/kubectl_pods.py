"""A Kubernetes Connection in a cluster: kubectl in an agent's pod, its projected token, the gateway of the operator."""

from __future__ import annotations

import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from support.cluster import ROOT
from support.full_cluster import FullCluster
from support.gateway import run_ostiary

CLUSTER = ROOT / "examples" / "kubernetes" / "cluster" / "cluster.yaml"
IMAGE = "localhost/kubectl:agent"


@contextmanager
def kubectl_pods(release: FullCluster) -> Iterator[FullCluster]:
    """The example's Connection to the API server, in a namespace of its own; an agent; something to scale."""
    namespace = f"creds-{uuid.uuid4().hex[:6]}"
    there = release.within(namespace)
    there.ok("create", "namespace", namespace)
    manifests = yaml.safe_load_all(CLUSTER.read_text().replace("demo", namespace))
    there.ok("apply", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": list(manifests)})
    there.ok("create", "serviceaccount", "planner")
    there.ok("create", "serviceaccount", "stranger")
    there.ok("create", "deployment", "web", f"--image={IMAGE}")
    there.ok("wait", "--for=condition=Programmed", "connection/cluster", "--timeout=240s")
    there.ok("wait", "--for=condition=UpstreamReachable", "connection/cluster", "--timeout=120s")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "config")
        run_ostiary(
            "kubeconfig", "cluster", "-n", namespace, "--kubeconfig", there.environment["KUBECONFIG"], "--insecure",
            "--default-namespace", namespace, "--out", str(out),
        )  # fmt: skip
        there.ok("create", "configmap", "kubeconfig", f"--from-file=config={out}")
    for name in ("planner", "stranger"):
        there.ok("apply", "-f", "-", manifest=agent(name))
        there.ok("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=120s")
    yield there
    release.ok("delete", "namespace", namespace, "--wait=false")


def agent(name: str) -> dict[str, Any]:
    """A pod that holds nothing but a token for gateways, and a kubeconfig without a secret in it."""
    token = {"serviceAccountToken": {"audience": "ostiary", "expirationSeconds": 3600, "path": "token"}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "serviceAccountName": name,
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 0,
            "containers": [
                {
                    "name": "agent",
                    "image": IMAGE,
                    "env": [
                        {"name": "KUBECONFIG", "value": "/etc/agent/config"},
                        {"name": "KUBECACHEDIR", "value": "/tmp/kubectl"},
                    ],
                    "volumeMounts": [
                        {"name": "token", "mountPath": "/var/run/secrets/ostiary", "readOnly": True},
                        {"name": "kubeconfig", "mountPath": "/etc/agent", "readOnly": True},
                    ],
                }
            ],
            "volumes": [
                {"name": "token", "projected": {"sources": [token]}},
                {"name": "kubeconfig", "configMap": {"name": "kubeconfig"}},
            ],
        },
    }


def kubectl(world: FullCluster, *arguments: str, who: str = "planner") -> subprocess.CompletedProcess[str]:
    """In the agent's pod."""
    return world.kubectl("exec", who, "--", "kubectl", *arguments)
