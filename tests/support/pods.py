"""`ostiary gateway` as a process with a pod's rights: a ServiceAccount's token, its Role, a bundle in ConfigMaps."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from support.cluster import Cluster
from support.gateway import Manifest, environment, ostiary
from support.servers import free_port, scratch
from support.waiting import until

from ostiary_api.bundle_feed import MAX_PART_BYTES, Header, RefusedPolicy, SecretVersion, manifest_line, pack
from ostiary_api.connection import Connection
from ostiary_api.gateway_state import GatewayState
from ostiary_api.names import MANAGED_BY_LABEL, MANAGER, child_name
from ostiary_api.policy import GatewayPolicy

START = 60.0


class Way:
    """A TCP proxy before the API server: it can be cut, and fall silent, for one client only."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._open: set[socket.socket] = set()
        self._guard = threading.Lock()
        self.mode = "pass"
        """pass · cut (connections are refused) · silent (nothing comes through)"""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._relays: set[threading.Thread] = set()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def cut(self) -> None:
        """As an API server that is killed."""
        self.mode = "cut"
        with self._guard:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        self.mode = "pass"

    def close(self) -> None:
        self.cut()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes who accepts
        self._accepting.join(5)
        self._listener.close()
        for each in list(self._relays):
            each.join(5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.mode == "cut":
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, 5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._guard:
                self._open |= {client, server}
            relay = threading.Thread(target=self._relay, args=(client, server), daemon=True)
            self._relays.add(relay)
            relay.start()

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        back = threading.Thread(target=self._pump, args=(server, client), daemon=True)
        back.start()
        self._pump(client, server)
        back.join()
        with self._guard:
            self._open -= {client, server}
        client.close()
        server.close()

    def _pump(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while data := one.recv(65536):
                while self.mode == "silent":
                    time.sleep(0.02)
                other.sendall(data)
        except OSError:
            pass
        finally:
            for each in (one, other):
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)


@dataclass
class Operator:
    """What the operator does for one gateway: ServiceAccount, Role by names, and the bundle."""

    cluster: Cluster
    gateway: str
    connections: list[Manifest] = field(default_factory=list)
    policies: list[Manifest] = field(default_factory=list)
    secrets: list[str] = field(default_factory=list)
    refused: tuple[RefusedPolicy, ...] = ()
    max_part_bytes: int = MAX_PART_BYTES

    @property
    def name(self) -> str:
        return child_name(self.gateway)

    def apply(self, *manifests: Manifest) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.cluster.ok("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=listed)

    def delete(self, kind: str, name: str) -> None:
        self.cluster.ok("delete", kind, name, "--ignore-not-found", "--wait=true")

    def account(self) -> None:
        """The gateway's ServiceAccount, with no rights yet."""
        self.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": self.name}})

    def role(self, config_maps: Iterable[str], secrets: Iterable[str]) -> None:
        """Exactly what a gateway may: its ConfigMaps and its Secrets, by name."""
        rules: list[Manifest] = [
            {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": sorted(config_maps),
             "verbs": ["get", "list", "watch"]},
        ]  # fmt: skip
        if names := sorted(secrets):
            rules.append({"apiGroups": [""], "resources": ["secrets"], "resourceNames": names, "verbs": ["get"]})
        meta = {"name": self.name}
        rbac = "rbac.authorization.k8s.io"
        self.apply(
            {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": rules},
            {"apiVersion": f"{rbac}/v1", "kind": "RoleBinding", "metadata": meta,
             "roleRef": {"apiGroup": rbac, "kind": "Role", "name": self.name},
             "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": self.cluster.namespace}]},
        )  # fmt: skip

    def publish(self, *, rights: Iterable[str] | None = None) -> str:
        """The bundle as it stands now; its revision. `rights`: the Secrets that the gateway may read, if not all."""
        namespace = self.cluster.namespace
        found = []
        for name in self.secrets:
            done = self.cluster.kubectl("get", "secret", name, "-o", "json")
            if done.returncode == 0:
                meta = json.loads(done.stdout)["metadata"]
                found.append(SecretVersion(namespace, name, meta["uid"], meta["resourceVersion"]))
        lines = [manifest_line(Connection.model_validate(self._placed(each))) for each in self.connections]
        lines += [manifest_line(GatewayPolicy.model_validate(self._placed(each))) for each in self.policies]
        made = Header(namespace, self.gateway, "ostiary-system", {namespace: {}}, tuple(found), self.refused)
        packed = pack(made, lines, max_part_bytes=self.max_part_bytes)
        maps = packed.config_maps(self.gateway)
        self.role(maps, [each.name for each in found] if rights is None else rights)
        for name, data in reversed(maps.items()):
            self.config_map(name, data)
        return packed.revision

    def config_map(self, name: str, data: Mapping[str, str]) -> None:
        metadata = {"name": name, "labels": {MANAGED_BY_LABEL: MANAGER}}
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(data)})

    def _placed(self, manifest: Manifest) -> Manifest:
        meta: Any = manifest["metadata"]
        return {**manifest, "metadata": {**meta, "namespace": self.cluster.namespace}}


@dataclass
class PodGateway:
    """One `ostiary gateway`: a replica, as far as it can tell."""

    operator: Operator
    way: Way
    directory: Path
    port: int
    admin_port: int
    host: str = "127.0.0.1"
    arguments: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.directory / "gateway.log"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    def start(self, *, wait: bool = True) -> None:
        """Starts it, and waits until it is ready unless told otherwise."""
        kubeconfig = self._kubeconfig()
        operator = self.operator
        command = [
            *ostiary(), "gateway", "--namespace", operator.cluster.namespace, "--name", operator.gateway,
            "--data", str(self.data), "--listen", self.host, "--admin", f"{self.host}:{self.admin_port}",
            "--kubeconfig", str(kubeconfig), *self.arguments,
        ]  # fmt: skip
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=environment({"POD_NAME": f"pod-{self.port}", "POD_IP": self.host}),
            )  # fmt: skip
        if wait:
            self.until_ready()

    def until_ready(self) -> None:
        until(lambda: self.ask("/readyz")[0] == 200, f"ready:\n{self.log_text()[-3000:]}", START)

    def until_serving(self, revision: str, seconds: float = 60) -> GatewayState:
        """Until this revision is in force."""
        return until(
            lambda: s if (s := self.state()) and s.revision == revision else None,
            f"revision {revision[:12]} in force", seconds,
        )  # fmt: skip

    def _kubeconfig(self) -> Path:
        operator = self.operator
        token = operator.cluster.ok("create", "token", operator.name, "--duration=1h").strip()
        view = json.loads(operator.cluster.ok("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        cluster = view["clusters"][0]["cluster"]
        cluster["server"] = f"https://127.0.0.1:{self.way.port}"
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "kubeconfig"
        file.touch(0o600)
        config = {
            "current-context": "pod",
            "contexts": [{"name": "pod", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": token}}],
        }
        file.write_text(yaml.safe_dump(config))
        return file

    def ask(self, path: str, **headers: str) -> tuple[int, str, dict[str, str]]:
        """GET of the admin address: status, body, headers; status 0 where nobody answers."""
        request = urllib.request.Request(f"http://{self.host}:{self.admin_port}{path}")
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=40) as answer:
                return answer.status, answer.read().decode(), dict(answer.headers)
        except urllib.error.HTTPError as failure:
            with failure:
                return failure.code, failure.read().decode(), dict(failure.headers)
        except OSError:
            return 0, "", {}

    def state(self) -> GatewayState | None:
        status, body, _ = self.ask("/state")
        return GatewayState.model_validate_json(body) if status == 200 else None

    def log_text(self) -> str:
        return self.log.read_text("utf-8", "replace") if self.log.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def signal(self, number: int = signal.SIGTERM) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """As a node that fails."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def ended(self, seconds: float = 60) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def destroy(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.way.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def pod_gateway(operator: Operator, *arguments: str, host: str = "127.0.0.1", port: int = 0) -> PodGateway:
    """A gateway that was not started yet."""
    config = operator.cluster.ok("config", "view", "--raw", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    found = re.fullmatch(r"https://(.+):(\d+)", config.strip())
    assert found is not None, config
    way = Way(found[1], int(found[2]))
    listen = port or free_port()
    return PodGateway(
        operator, way, scratch(f"pod-{host}-{listen}"), listen, free_port(), host, ("--grace", "0", *arguments)
    )


def packed(**values: str) -> dict[str, str]:
    """Values of a Secret, base64."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
