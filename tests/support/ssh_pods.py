"""The example of SSH in a cluster: sshd in a pod for the host, an agent with ssh in another, both behind a gateway."""

from __future__ import annotations

import re
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from support import sshd as keys
from support.cluster import ROOT
from support.full_cluster import FullCluster

EXAMPLE = ROOT / "examples" / "ssh" / "cluster"
IMAGE = "localhost/ssh:target"


@dataclass
class SshPods:
    """The example in a namespace of these tests, and its host in another."""

    cluster: FullCluster
    host: FullCluster
    private: dict[str, str]
    """What agents must never see: private keys, by what they are for."""

    def agent(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A program in the agent's pod."""
        return self.cluster.kubectl("exec", "deploy/deployer", "--", *command)

    def ssh(self, *command: str) -> subprocess.CompletedProcess[str]:
        """`ssh web …` as the agent."""
        return self.agent("ssh", "-F", "/scripts/ssh_config", "web", *command)

    def tool(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.agent(program, "-F", "/scripts/ssh_config", *arguments)

    def gateways(self) -> list[str]:
        """The gateway's pods."""
        listed = self.cluster.get("pods", "-l", "app.kubernetes.io/name=ostiary-gateway")["items"]
        return [each["metadata"]["name"] for each in listed]

    def ostiary(self, pod: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """In a gateway's pod, on its record."""
        data = ["--data", "/var/lib/ostiary"]
        return self.cluster.kubectl("exec", pod, "-c", "gateway", "--", "ostiary", *arguments, *data)

    def recorded(self, request: str) -> tuple[str, str]:
        """The pod that has the record of a request, and its transcript: a session is in the record of one replica."""
        found = ((pod, self.ostiary(pod, "session", request)) for pod in self.gateways())
        pod, done = next((pod, done) for pod, done in found if done.returncode == 0)
        return pod, done.stdout


@contextmanager
def ssh_pods(release: FullCluster) -> Iterator[SshPods]:
    """All of it ready to work, in namespaces of their own, which go with the block."""
    namespace = f"ssh-{uuid.uuid4().hex[:6]}"
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = _set_up(release.within(namespace), release.within(f"{namespace}-host"), Path(folder))
        yield made
    finally:
        release.ok("delete", "namespace", namespace, f"{namespace}-host", "--wait=false", "--ignore-not-found")


def _set_up(there: FullCluster, outside: FullCluster, place: Path) -> SshPods:
    for name in ("host_key", "user_ca", "gateway"):
        keys.make_key(place / name)
    outside.ok("create", "namespace", outside.namespace)
    outside.ok(
        "create", "secret", "generic", "keys", f"--from-file=host_key={place / 'host_key'}",
        f"--from-file=user_ca.pub={place / 'user_ca.pub'}",
    )  # fmt: skip
    apply(outside, *host())
    lines = {"connection": _public(place / "host_key"), "gateway": _public(place / "gateway")}
    manifests = example(there.namespace, f"web.{outside.namespace}.svc", lines)
    apply(there, *[each for each in manifests if each["kind"] == "Namespace"])
    there.ok("create", "secret", "generic", "web-ca", f"--from-file=privateKey={place / 'user_ca'}")
    there.ok("create", "secret", "generic", "web-gateway-key", f"--from-file=privateKey={place / 'gateway'}")
    outside.ok("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
    apply(there, *[each for each in manifests if each["kind"] != "Namespace"])
    there.ok("rollout", "status", "deployment/deployer", "--timeout=120s")
    there.ok("wait", "--for=condition=Programmed", "connection/web", "--timeout=240s")
    there.ok("wait", "--for=condition=UpstreamReachable", "connection/web", "--timeout=120s")
    return SshPods(there, outside, {name: (place / name).read_text() for name in ("user_ca", "gateway", "host_key")})


def example(namespace: str, host_name: str, lines: dict[str, str]) -> list[dict[str, Any]]:
    """The example's manifests, with what a user puts in: the host, the public keys, the agent's image."""
    texts = [path.read_text() for path in sorted(EXAMPLE.glob("*.yaml"))]
    text = "\n---\n".join(texts).replace("demo", namespace).replace("web-1.example.com", host_name)
    text = text.replace("registry.example.com/agent:1", IMAGE)
    key = r"ssh-ed25519 AAAA[A-Za-z0-9+/=]+"
    text = re.sub(rf"(hostKeys:.*\n *- ){key}", lambda found: found[1] + lines["connection"], text)
    text = re.sub(rf"(svc ){key}", lambda found: found[1] + lines["gateway"], text)
    return [each for each in yaml.safe_load_all(text) if each]


def host() -> list[dict[str, Any]]:
    """A pod that runs sshd and a web server, and its Service."""
    container = {
        "name": "host",
        "image": IMAGE,
        "ports": [{"containerPort": 22}],
        "readinessProbe": {"tcpSocket": {"port": 22}, "periodSeconds": 1},
        "volumeMounts": [{"name": "keys", "mountPath": "/keys", "readOnly": True}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [{"name": "keys", "secret": {"secretName": "keys"}}],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 22}]},
    }
    return [pod, service]


def apply(cluster: FullCluster, *manifests: dict[str, Any]) -> None:
    cluster.ok("apply", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def _public(path: Path) -> str:
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])
