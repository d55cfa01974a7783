"""The pods of a gateway without a kubelet: `ostiary gateway` as processes with the pods' names, rights and commands."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cluster import Cluster
from support.gateway import environment, ostiary
from support.operator import eventually
from support.servers import scratch

from ostiary_api.gateway_state import STATE_PORT
from ostiary_api.names import child_name


@dataclass
class Replica:
    """One pod's process. It listens on an address of loopback of its own, with the ports that it has in a cluster."""

    pod: str
    address: str
    directory: Path
    process: subprocess.Popen[bytes]

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> str:
        return (self.directory / "gateway.log").read_text()


@contextmanager
def replicas(cluster: Cluster, gateway: str) -> Iterator[list[Replica]]:
    """A process for each pod that the Deployment has made; ready in the eyes of the cluster when it is."""
    selector = ("-l", f"ostiary.dev/gateway={gateway}")
    wanted = cluster.get("deployment", child_name(gateway))["spec"]["replicas"]

    def pods() -> list[Any]:
        found: list[Any] = cluster.get("pods", *selector)["items"]
        return found

    eventually(lambda: len(pods()) == wanted, why=lambda: f"no pods of {gateway}")
    running: list[Replica] = []
    try:
        running.extend(_start(cluster, gateway, pod) for pod in pods())
        for each in running:
            _tell_ready(cluster, each)
        yield running
    finally:
        for each in running:
            each.process.terminate()
        for each in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                each.process.wait(15)
            each.process.kill()
            each.process.wait()
            shutil.rmtree(each.directory, ignore_errors=True)


def _start(cluster: Cluster, gateway: str, pod: Any) -> Replica:
    name = pod["metadata"]["name"]
    digest = hashlib.sha256(f"{cluster.namespace} {name}".encode()).digest()
    address = f"127.{64 + digest[0] % 64}.{digest[1]}.{1 + digest[2] % 254}"
    directory = scratch(f"replica-{name}")
    kubeconfig = directory / "kubeconfig"
    kubeconfig.touch(0o600)
    account = pod["spec"]["serviceAccountName"]
    bound = ("--bound-object-kind=Pod", f"--bound-object-name={name}")
    token = cluster.ok("create", "token", account, *bound).strip()
    config = json.loads(cluster.ok("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    config["users"] = [{"name": "pod", "user": {"token": token}}]
    config["contexts"] = [{"name": "pod", "context": {"cluster": config["clusters"][0]["name"], "user": "pod"}}]
    config["current-context"] = "pod"
    kubeconfig.write_text(json.dumps(config))
    _, *arguments = pod["spec"]["containers"][0]["command"]
    own = ["--data", str(directory / "data"), "--listen", address, "--admin", f"{address}:{STATE_PORT}"]
    with (directory / "gateway.log").open("ab") as log:
        process = subprocess.Popen(
            [*ostiary(), *arguments, *own, "--kubeconfig", str(kubeconfig), "--grace", "0"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment({"POD_NAME": name, "POD_IP": address}),
        )  # fmt: skip
    return Replica(name, address, directory, process)


def _tell_ready(cluster: Cluster, replica: Replica) -> None:
    """What the kubelet would write."""
    ready = {"type": "Ready", "status": "True", "lastProbeTime": None, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    at = {"podIP": replica.address, "podIPs": [{"ip": replica.address}]}
    status = {"status": {"phase": "Running", "conditions": [ready], **at}}
    cluster.ok("patch", "pod", replica.pod, "--subresource=status", "--type=merge", "-p", json.dumps(status))
