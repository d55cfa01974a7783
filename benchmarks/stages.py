"""Where benchmarks/cluster_scale.py runs: a control plane with the operator and the gateways as processes of this
machine, or a cluster with nodes, with the pods of the release that is installed there."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml
from fleet import Manifest, Upstream, tables
from support import gateway as gateways
from support import servers
from support.cluster import Cluster
from support.operator import Operator, Release, install, operator
from targets import TICK

from ostiary_operator.kube.client import Access, Client
from ostiary_operator.kube.kinds import POD

OURS = "app.kubernetes.io/name=ostiary-gateway"


@dataclass(frozen=True)
class Process:
    """What a process uses: bytes, and seconds of processor time so far."""

    resident: int
    proportional: int
    cpu: float


@dataclass(frozen=True)
class GatewayPod:
    """A pod that is ready."""

    namespace: str
    gateway: str
    name: str
    address: str


class Stage(Protocol):
    """A cluster with the operator in it."""

    client: Client
    system: str
    upstream: Upstream

    async def pods(self) -> list[GatewayPod]:
        """All pods of gateways that are ready."""
        ...

    async def gateway(self, pod: GatewayPod) -> Process:
        """What a pod uses."""
        ...

    async def operator(self) -> Process:
        """What the leader uses."""
        ...

    async def metrics(self) -> str:
        """The leader's metrics."""
        ...

    async def restart_operator(self) -> None:
        """End the leader without warning, and wait until there is one again."""
        ...


def of_proc(smaps: str, stat: str) -> Process:
    """From the texts of /proc/PID/smaps_rollup and /proc/PID/stat."""
    sizes = {name: rest.split() for name, _, rest in (line.partition(":") for line in smaps.splitlines()[1:])}
    fields = stat.rpartition(")")[2].split()
    return Process(
        int(sizes["Rss"][0]) * 1024, int(sizes["Pss"][0]) * 1024, (int(fields[11]) + int(fields[12])) * TICK
    )


def of_pid(pid: int) -> Process:
    """Of a process of this machine."""
    place = Path(f"/proc/{pid}")
    return of_proc((place / "smaps_rollup").read_text(), (place / "stat").read_text())


async def ready_pods(client: Client) -> list[GatewayPod]:
    """All pods of gateways that are ready and stay."""
    found, _ = await client.list(POD, label_selector=OURS)
    return [
        GatewayPod(
            each["metadata"]["namespace"], each["metadata"]["labels"]["ostiary.dev/gateway"],
            each["metadata"]["name"], each["status"]["podIP"],
        )
        for each in found
        if not each["metadata"].get("deletionTimestamp")
        and any(c["type"] == "Ready" and c["status"] == "True" for c in each["status"].get("conditions") or ())
    ]  # fmt: skip


# A control plane: no kubelet, so the pods' processes are started here, with their ServiceAccounts' tokens


@dataclass
class ControlPlane:
    """The operator and the gateways as processes; the tests' way to run them."""

    client: Client
    cluster: Cluster
    release: Release
    upstream: Upstream
    directory: Path
    settings: Path
    pids: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _running: Any = None
    _operator: Operator | None = None
    _starts: int = 0

    @property
    def system(self) -> str:
        return self.release.system

    async def pods(self) -> list[GatewayPod]:
        return await ready_pods(self.client)

    async def gateway(self, pod: GatewayPod) -> Process:
        return of_pid(self.pids[f"{pod.namespace}/{pod.name}"].pid)

    async def operator(self) -> Process:
        assert self._operator is not None
        return of_pid(self._operator.process.pid)

    async def metrics(self) -> str:
        assert self._operator is not None
        return (await asyncio.to_thread(self._operator.get, "/metrics"))[1]

    async def restart_operator(self) -> None:
        if self._operator is not None:
            await asyncio.to_thread(self._operator.kill)
        await self.start_operator()

    async def start_operator(self) -> None:
        """A replica that leads."""
        self._starts += 1
        self.stop_operator()
        self._running = operator(self.release, f"operator-{self._starts}", self.settings)
        self._operator = await asyncio.to_thread(self._running.__enter__)
        deadline = time.monotonic() + 60
        while not (await asyncio.to_thread(lambda: self._operator is not None and self._operator.leads)):
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not lead:\n{self._operator.tail()}")
            await asyncio.sleep(0.2)

    def stop_operator(self) -> None:
        """End it, if it runs."""
        if self._running is not None:
            self._running.__exit__(None, None, None)
            self._running = None

    async def kubelet(self) -> None:
        """Start what is pending, until cancelled."""
        under_way: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                found, _ = await self.client.list(POD, label_selector=OURS)
                for pod in found:
                    name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
                    if name not in under_way and pod["status"].get("phase") == "Pending":
                        under_way.add(name)
                        group.create_task(self._start(name, pod, len(under_way)))
                await asyncio.sleep(0.3)

    async def _start(self, name: str, pod: Manifest, number: int) -> None:
        namespace, address = pod["metadata"]["namespace"], f"127.50.{number // 250}.{number % 250 + 1}"
        place = self.directory / name.replace("/", "-")
        place.mkdir(parents=True)
        account = pod["spec"]["serviceAccountName"]
        wanted = {"kind": "TokenRequest", "spec": {"expirationSeconds": 7200}}
        token = await self.client.request(
            "POST", f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token",
            body={"apiVersion": "authentication.k8s.io/v1", **wanted},
        )  # fmt: skip
        kubeconfig = place / "kubeconfig"
        kubeconfig.touch(0o600)
        kubeconfig.write_text(json.dumps(self._access(token["status"]["token"])))
        command = [
            *gateways.ostiary(), *pod["spec"]["containers"][0]["command"][1:], "--grace", "0",
            "--data", str(place / "data"), "--listen", address, "--admin", f"{address}:9911", "--peers", address,
            "--kubeconfig", str(kubeconfig),
        ]  # fmt: skip
        environment = gateways.environment({"POD_NAME": pod["metadata"]["name"], "POD_IP": address})
        with (place / "log").open("ab") as log:
            self.pids[name] = await asyncio.to_thread(
                subprocess.Popen, command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )
        while not await asyncio.to_thread(_answers, f"http://{address}:9911/readyz"):
            await asyncio.sleep(0.1)
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ready = {"type": "Ready", "status": "True", "lastTransitionTime": now}
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": [ready]}
        await self.client.patch_status(POD, namespace, pod["metadata"]["name"], {"status": status})

    def _access(self, token: str) -> Manifest:
        view = json.loads(self.cluster.ok("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        return {
            "current-context": "pod",
            "contexts": [{"name": "pod", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": view["clusters"][0]["cluster"]}],
            "users": [{"name": "u", "user": {"token": token}}],
        }


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=3) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@asynccontextmanager
async def control_plane(probes: int, log: Path | None = None) -> AsyncIterator[Stage]:
    """On the API server of KUBECONFIG, which has no nodes."""
    cluster = Cluster(dict(os.environ))
    client = Client(await Access.find(Path(os.environ["KUBECONFIG"])))
    database = servers.embedded("fleet", settings={"max_connections": "1000", "log_statement": "none"})
    try:
        database.sql(tables(probes))
        directory = log or Path(tempfile.mkdtemp(prefix="fleet-"))
        directory.mkdir(parents=True, exist_ok=True)
        release = install(cluster, "ostiary-system", directory)
        maps = release.of_system.get("configmap")["items"]
        text = next(each["data"]["operator.yaml"] for each in maps if "operator.yaml" in (each.get("data") or {}))
        settings = directory / "operator.yaml"
        settings.write_text(yaml.safe_dump(yaml.safe_load(text) | {"log": {"level": "info", "format": "json"}}))
        upstream = Upstream(database.host, database.port, database.user, database.password, database.database)
        stage = ControlPlane(client, cluster, release, upstream, directory, settings)
        kubelet = asyncio.create_task(stage.kubelet())
        try:
            await stage.start_operator()
            yield stage
        finally:
            kubelet.cancel()
            await asyncio.gather(kubelet, return_exceptions=True)
            stage.stop_operator()
            for process in stage.pids.values():
                process.kill()
                process.wait()
    finally:
        await client.close()
        servers.destroy(database)


# A cluster with nodes


@dataclass
class Pods:
    """The release in the system namespace of a cluster with nodes."""

    client: Client
    cluster: Cluster
    system: str
    upstream: Upstream

    async def pods(self) -> list[GatewayPod]:
        return await ready_pods(self.client)

    async def gateway(self, pod: GatewayPod) -> Process:
        return await self._look_at(pod.namespace, pod.name)

    async def operator(self) -> Process:
        return await self._look_at(self.system, (await self._leader())["metadata"]["name"])

    async def metrics(self) -> str:
        name = (await self._leader())["metadata"]["name"]
        path = f"/api/v1/namespaces/{self.system}/pods/{name}:8080/proxy/metrics"
        return await asyncio.to_thread(self.cluster.ok, "get", "--raw", path)

    async def restart_operator(self) -> None:
        before = (await self._leader())["metadata"]["name"]
        await asyncio.to_thread(
            self.cluster.ok, "delete", "pod", "-n", self.system, before, "--force", "--grace-period=0"
        )
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            try:
                if (await self._leader())["metadata"]["name"] != before:
                    return
            except LookupError:
                pass
            await asyncio.sleep(0.2)
        raise AssertionError("no other replica leads")

    async def _leader(self) -> Manifest:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.system}/leases/ostiary-operator"
        holder = (await self.client.request("GET", path))["spec"].get("holderIdentity")
        found, _ = await self.client.list(
            POD, namespace=self.system, label_selector="app.kubernetes.io/name=ostiary-operator"
        )
        for each in found:
            if each["metadata"]["name"] == holder:
                return each
        raise LookupError(f"the Lease's holder {holder!r} is no pod")

    async def _look_at(self, namespace: str, pod: str) -> Process:
        text = await asyncio.to_thread(
            self.cluster.ok, "exec", "-n", namespace, pod, "--", "cat", "/proc/1/smaps_rollup", "/proc/1/stat"
        )
        smaps, _, stat = text.rstrip("\n").rpartition("\n")
        return of_proc(smaps, stat)


@asynccontextmanager
async def with_nodes(probes: int, *, image: str) -> AsyncIterator[Stage]:
    """On the cluster of KUBECONFIG, where the chart is installed, with a PostgreSQL of that image."""
    cluster = Cluster(dict(os.environ), "fleet-database")
    client = Client(await Access.find(Path(os.environ["KUBECONFIG"])))
    try:
        cluster.ok("apply", "-f", "-", text=yaml.safe_dump_all(_database(image, probes)))
        cluster.ok("rollout", "status", "deployment/database", "--timeout=110s")
        host = "database.fleet-database.svc"
        upstream = Upstream(host, 5432, "postgres", "for-the-benchmark-only", "app")
        try:
            yield Pods(client, cluster, "ostiary-system", upstream)
        finally:
            cluster.kubectl("delete", "namespace", "fleet-database", "--wait=false")
    finally:
        await client.close()


def _database(image: str, probes: int) -> list[Manifest]:
    labels = {"app": "database"}
    meta = {"name": "database", "namespace": "fleet-database"}
    container = {
        "name": "postgres",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["postgres", "-c", "max_connections=1000", "-c", "fsync=off"],
        "env": [
            {"name": "POSTGRES_DB", "value": "app"},
            {"name": "POSTGRES_PASSWORD", "value": "for-the-benchmark-only"},
            {"name": "PGDATA", "value": "/var/lib/postgresql/data/pgdata"},
        ],
        "readinessProbe": {
            "exec": {"command": ["pg_isready", "-h", "127.0.0.1", "-U", "postgres", "-d", "app"]}, "periodSeconds": 2,
        },
        "volumeMounts": [
            {"name": "data", "mountPath": "/var/lib/postgresql/data"},
            {"name": "socket", "mountPath": "/var/run/postgresql"},
            {"name": "init", "mountPath": "/docker-entrypoint-initdb.d"},
        ],
    }  # fmt: skip
    volumes = [
        {"name": "data", "emptyDir": {}}, {"name": "socket", "emptyDir": {}},
        {"name": "init", "configMap": {"name": "tables"}},
    ]  # fmt: skip
    security = {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999}
    template = {"metadata": {"labels": labels}, "spec": {
        "securityContext": security, "containers": [container], "volumes": volumes,
    }}  # fmt: skip
    tables_map = {"name": "tables", "namespace": "fleet-database"}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "fleet-database"}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": tables_map, "data": {"tables.sql": tables(probes)}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": {
            "selector": {"matchLabels": labels}, "template": template,
        }},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": {
            "selector": labels, "ports": [{"port": 5432}],
        }},
    ]  # fmt: skip


