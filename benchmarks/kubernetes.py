"""The Kubernetes API through the gateway, beside a direct connection and kubectl proxy, in one run.

    python benchmarks/kubernetes.py [get] [list] [watch] [write] [idle] [--rounds 5] [--seconds 2] [--audit Strict]

Needs an API server (KUBECONFIG, or the scripts that bring one up) and Go, for a client that costs next to nothing.
Everything goes over TLS with 12 rules (kubernetes_12_rules.yaml) and is recorded in full, responses included; kubectl
proxy has no TLS towards its clients, decides nothing and records nothing. Ratios are medians over pairs of runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests")]

from support import api_gateway  # noqa: E402
from support import cluster as clusters  # noqa: E402
from support.api_gateway import ApiGateway, Plane  # noqa: E402
from support.gateway import TOKEN, Manifest  # noqa: E402
from support.servers import free_port  # noqa: E402

PODS = 2000
WATCHERS = 50
EVENTS = 100
WRITES = 200
IDLE = 1000
NAMESPACE = "bench"


@dataclass(frozen=True)
class Target:
    """Something that is measured."""

    name: str
    url: str
    token: str
    pids: Callable[[], list[int]]

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        return sum(_cpu(pid) for pid in self.pids())


@dataclass(frozen=True)
class Load:
    """The client, built."""

    program: Path

    def command(self, target: Target, path: str, *more: str) -> list[str]:
        return [str(self.program), "-url", target.url, "-token", target.token, "-path", path, *more]

    def run(self, target: Target, path: str, *more: str) -> dict[str, float]:
        done = subprocess.run(self.command(target, path, *more), capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"the client failed against {target.name}: {done.stderr}")
        found: dict[str, float] = json.loads(done.stdout)
        if found["errors"]:
            raise SystemExit(f"{target.name} answered with errors: {found['first_error']}")
        return found

    @contextmanager
    def watching(self, target: Target, path: str, mode: str, count: int) -> Iterator[subprocess.Popen[str]]:
        """Clients that watch; the block begins when all do."""
        command = self.command(target, path, "-mode", mode, "-c", str(count))
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            if running.stdout.readline() != "ready\n":
                raise SystemExit(f"the watchers of {target.name} did not start")
            try:
                yield running
            finally:
                running.kill()


def main() -> None:
    options = arguments()
    wanted = options.work or ["get", "list", "watch", "write", "idle"]
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        load = Load(built(scratch))
        plane = api_gateway.plane(stack.enter_context(clusters.cluster(scratch / "plane")))
        prepare(plane, load)
        direct = Target("direct", plane.server, plane.token, list)
        proxy = stack.enter_context(kubectl_proxy(plane))
        if "get" in wanted:
            with gateway(plane, options.audit) as mine:
                get(load, direct, proxy, mine, options)
        if "list" in wanted:
            with gateway(plane, options.audit) as mine:
                lists("passing", load, direct, proxy, mine, options)
            with gateway(plane, options.audit, masks()) as mine:
                lists("masked", load, direct, proxy, mine, options)
        if "watch" in wanted:
            with gateway(plane, options.audit) as mine:
                watch(load, direct, proxy, mine, options)
        if "write" in wanted:
            with gateway(plane, options.audit) as mine:
                write(load, direct, mine, options)
        if "idle" in wanted:
            with gateway(plane, options.audit) as mine:
                idle(load, mine)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="*", choices=["get", "list", "watch", "write", "idle", []])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--audit", default="Relaxed", choices=["Relaxed", "Strict"])
    return parser.parse_args()


# -- what is measured


def get(load: Load, direct: Target, proxy: Target, mine: Target, options: argparse.Namespace) -> None:
    """A small object, again and again, over kept connections."""
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/small"
    load.run(mine, path, "-c", "8", "-t", "1")  # what is loaded once is not what is measured
    for connections in (1, 8, 32):
        more = ("-c", str(connections), "-t", str(options.seconds))
        to_direct, to_proxy, costs, proxy_costs, shown = [], [], [], [], ""
        for _ in range(options.rounds):
            plain = load.run(direct, path, *more)
            before = mine.cpu()
            ours = load.run(mine, path, *more)
            costs.append((mine.cpu() - before) / ours["count"] * 1e6)
            before = proxy.cpu()
            theirs = load.run(proxy, path, *more)
            proxy_costs.append((proxy.cpu() - before) / theirs["count"] * 1e6)
            to_direct.append(_rate(ours) / _rate(plain))
            to_proxy.append(_rate(ours) / _rate(theirs))
            shown = f"{_rate(plain):,.0f}/s direct, {_rate(theirs):,.0f}/s kubectl proxy, {_rate(ours):,.0f}/s Ostiary"
        print(
            f"GET, {connections:2} connections: {_median(to_direct)} of direct, {_median(to_proxy)} of kubectl proxy; "
            f"{statistics.median(costs):.0f} µs CPU a request (kubectl proxy {statistics.median(proxy_costs):.0f}); "
            f"last: {shown}",
            flush=True,
        )


def lists(name: str, load: Load, direct: Target, proxy: Target, mine: Target, options: argparse.Namespace) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    ratios, against, megabytes = [], [], 0.0
    for _ in range(options.rounds):
        plain = load.run(direct, path, "-t", str(options.seconds))
        ours = load.run(mine, path, "-t", str(options.seconds))
        theirs = load.run(proxy, path, "-t", str(options.seconds))
        ratios.append(_speed(ours) / _speed(plain))
        against.append(_speed(ours) / _speed(theirs))
        megabytes = _speed(ours) / 1e6
    print(
        f"LIST of {PODS} pods, {name}: {_median(ratios)} of direct, {_median(against)} of kubectl proxy; "
        f"{megabytes:.0f} MB/s",
        flush=True,
    )


def watch(load: Load, direct: Target, proxy: Target, mine: Target, options: argparse.Namespace) -> None:
    """How long after a change its event is with each of the watchers."""
    to_direct: list[float] = []
    to_proxy: list[float] = []
    took: dict[str, float] = {}
    for _ in range(options.rounds):
        for target in (direct, proxy, mine):
            took[target.name] = _watched(load, direct, target)
        to_direct.append(took[mine.name] / took[direct.name])
        to_proxy.append(took[mine.name] / took[proxy.name])
    shown = ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in took.items())
    print(
        f"{WATCHERS} watchers, p50 of an event: {_median(to_direct)} times direct, {_median(to_proxy)} times kubectl "
        f"proxy; last: {shown}",
        flush=True,
    )


def _watched(load: Load, writer: Target, target: Target) -> float:
    changed = f"/api/v1/namespaces/{NAMESPACE}/configmaps/watched"
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&fieldSelector=metadata.name%3Dwatched"
    with load.watching(target, path, "watch", WATCHERS) as running:
        patch = '{"metadata":{"annotations":{"bench-at":"%t"}}}'
        kind = "application/merge-patch+json"
        for _ in range(EVENTS // 10):
            load.run(writer, changed, "-mode", "patch", "-type", kind, "-body", patch, "-n", "10")
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.close()
        found: float = json.loads(running.stdout.readline())["p50"]
    return found


def write(load: Load, direct: Target, mine: Target, options: argparse.Namespace) -> None:
    """A patch of a Deployment, decided on the object that it results in: dry run, GET, and the patch itself."""
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/scaled"
    body = '{"metadata":{"annotations":{"bench":"%d-%t"}}}'
    more = ("-mode", "patch", "-type", "application/merge-patch+json", "-body", body, "-n", str(WRITES))
    added, plain, ours = [], 0.0, 0.0
    for _ in range(options.rounds):
        plain = load.run(direct, path, *more)["p50"]
        ours = load.run(mine, path, *more)["p50"]
        added.append((ours - plain) * 1e3)
    print(
        f"a write decided on its result: {statistics.median(added):.1f} ms more "
        f"({min(added):.1f} to {max(added):.1f}); last: {plain * 1e3:.1f} ms direct, {ours * 1e3:.1f} ms Ostiary",
        flush=True,
    )


def idle(load: Load, mine: Target) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/configmaps?watch=true&fieldSelector=metadata.name%3Dnone"
    with load.watching(mine, path, "idle", 50):
        before = sum(_resident(pid) for pid in mine.pids())
        with load.watching(mine, path, "idle", IDLE):
            after = sum(_resident(pid) for pid in mine.pids())
    print(f"{IDLE} idle watches: {(after - before) / IDLE / 1000:.1f} kB each", flush=True)


# -- what it is measured with


def built(scratch: Path) -> Path:
    program = scratch / "load"
    subprocess.run(["go", "build", "-o", str(program), "."], cwd=ROOT / "benchmarks" / "kubernetes_load", check=True)
    return program


def rules(audit: str) -> Manifest:
    found: Manifest = yaml.safe_load((ROOT / "benchmarks" / "kubernetes_12_rules.yaml").read_text())
    return found


def masks() -> Manifest:
    """Paths and detectors that each pod is looked at for."""
    hidden: Manifest = {
        "name": "hidden",
        "action": "Mask",
        "masking": [
            {"jsonPath": "$.spec.containers[*].env[*].value", "strategy": {"type": "Redact"}},
            {"detector": "Email", "strategy": {"type": "Partial", "keepLast": 4}},
        ],
    }
    return api_gateway.policy("masks", hidden)


@contextmanager
def gateway(plane: Plane, audit: str, *more: Manifest) -> Iterator[Target]:
    limits = {"maxSessions": IDLE * 2}
    made: ApiGateway = api_gateway.prepare(plane, rules(audit), *more, audit=audit, limits=limits)
    try:
        made.start()
        yield Target("Ostiary", made.url, TOKEN, made.pids)
    finally:
        made.destroy()


@contextmanager
def kubectl_proxy(plane: Plane) -> Iterator[Target]:
    port = free_port()
    command = ["kubectl", "proxy", f"--port={port}"]
    with subprocess.Popen(command, env=plane.cluster.environment, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        running.stdout.readline()
        try:
            yield Target("kubectl proxy", f"http://127.0.0.1:{port}", "", lambda: [running.pid])
        finally:
            running.kill()


def prepare(plane: Plane, load: Load) -> None:
    """The objects that are asked for."""
    cluster = plane.cluster
    there = cluster.kubectl("get", "pod", f"pod-{PODS}", "--namespace", NAMESPACE).returncode == 0
    if not there:
        cluster.ok("delete", "namespace", NAMESPACE, "--ignore-not-found")
        cluster.ok("create", "namespace", NAMESPACE)
    direct = Target("direct", plane.server, plane.token, list)
    for name in ("small", "watched"):
        body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}})
        _make(load, direct, f"/api/v1/namespaces/{NAMESPACE}/configmaps", body, 1, cluster_has=there)
    template = {"metadata": {"labels": {"app": "scaled"}}, "spec": _pod_spec()}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "scaled"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "scaled"}}, "template": template},
    }
    path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
    _make(load, direct, path, json.dumps(deployment), 1, cluster_has=there)
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod-%d"}, "spec": _pod_spec()}
    _make(load, direct, f"/api/v1/namespaces/{NAMESPACE}/pods", json.dumps(pod), PODS, cluster_has=there)


def _make(load: Load, direct: Target, path: str, body: str, count: int, *, cluster_has: bool) -> None:
    if not cluster_has:
        more = ("-mode", "post", "-body", body, "-n", str(count), "-c", str(min(count, 8)))
        load.run(direct, path, *more)


def _pod_spec() -> dict[str, object]:
    environment = [{"name": f"SETTING_{number}", "value": f"value-{number}@example.org"} for number in range(12)]
    container = {"name": "app", "image": "registry.example/app:1", "env": environment}
    # Nobody schedules it, so that it neither runs nor is collected with a node that is not there.
    return {"containers": [container], "schedulerName": "nobody"}


def _rate(found: dict[str, float]) -> float:
    return found["count"] / found["seconds"]


def _speed(found: dict[str, float]) -> float:
    return found["bytes"] / found["seconds"]


def _median(found: list[float]) -> str:
    return f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})"


def _cpu(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _resident(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


if __name__ == "__main__":
    main()
