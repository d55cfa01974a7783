"""`python benchmarks/operator_writes.py`: the operator with 100 Connections and 200 policies, at KUBECONFIG's server.

It runs the operator as a process with the chart's rights. No kubelet is needed: what is measured ends with the bundle
in the API server. A gateway that watches its ConfigMap has it milliseconds later.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
import uuid
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / part) for part in ("crds", "gateway", "operator", "tests")]

from support.cluster import Cluster  # noqa: E402
from support.operator import Operator, Release, eventually, install, operator  # noqa: E402
from support.operator_objects import Manifest, connection, create, policy, secret  # noqa: E402

from ostiary_operator.kube.client import Access, Client  # noqa: E402
from ostiary_operator.kube.kinds import CONFIG_MAP, GATEWAY_POLICY  # noqa: E402

NAMESPACES, CONNECTIONS, POLICIES, FOR_ALL, CHANGES = 10, 10, 18, 20, 5
TICKS = os.sysconf("SC_CLK_TCK")


def for_all(number: int, expression: str = "sql.statements.all(s, s.readOnly)") -> Manifest:
    """A policy of the system namespace, for every Connection."""
    made = policy(f"all-{number}", expression)
    made["spec"]["match"]["namespaceSelector"] = {}
    made["spec"]["priority"] = 10
    return made


def cpu(running: Operator) -> float:
    """Seconds of processor time that the process has used."""
    fields = Path(f"/proc/{running.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory(running: Operator) -> int:
    """MB that the process holds."""
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) // 1024


def idle(running: Operator) -> bool:
    """Whether nothing waits and nothing is worked on."""
    return running.metric("ostiary_operator_queue_depth") + running.metric("ostiary_operator_queue_active") == 0


async def change(release: Release, expression: str) -> list[float]:
    """Change a policy that holds for all; seconds until each gateway's bundle had it, in order."""
    client = Client(await Access.find())
    try:
        selector = "app.kubernetes.io/managed-by=ostiary-operator"
        items, version = await client.list(CONFIG_MAP, label_selector=selector)
        before = {item["metadata"]["uid"]: item["data"]["revision"] for item in items}
        manifest = for_all(0, expression)
        manifest["metadata"]["namespace"] = release.system
        took: list[float] = []
        async with client.watch(CONFIG_MAP, since=version, label_selector=selector) as events, asyncio.timeout(60):
            begun = time.monotonic()
            await client.apply(manifest, GATEWAY_POLICY, force=True)
            async for event in events:
                item = event["object"]
                if event["type"] == "MODIFIED" and before.get(item["metadata"]["uid"]) != item["data"]["revision"]:
                    took.append(time.monotonic() - begun)
                    if len(took) == len(before):
                        return took
        raise RuntimeError("the watch ended")
    finally:
        await client.close()


def measure(release: Release, namespaces: list[Cluster]) -> None:
    """The story, printed."""
    total = NAMESPACES * CONNECTIONS
    settings = release.settings(watch={}, log={"level": "warning", "format": "json"})
    with operator(release, "first", settings) as running:
        eventually(lambda: running.leads, why=running.tail)
        begun = time.monotonic()
        for where in namespaces:
            create(
                where, secret(), *(connection(f"app-{n}") for n in range(CONNECTIONS)),
                *(policy(f"own-{n}") for n in range(POLICIES)),
            )  # fmt: skip
        create(release.of_system, *(for_all(n) for n in range(FOR_ALL)))
        created = time.monotonic()
        deployments = "ostiary_operator_applies_total"
        eventually(lambda: running.metric(deployments, kind="Deployment", result="created") >= total, seconds=600)
        eventually(lambda: idle(running), seconds=600, why=running.tail)
        done = time.monotonic()
        policies = NAMESPACES * POLICIES + FOR_ALL
        print(f"kubectl creates {total} Connections, {policies} policies   {created - begun:8.1f} s")
        print(f"until all is made and told                       {done - begun:8.1f} s")
        print(f"writes; processor time; memory   {running.writes:.0f}; {cpu(running):.1f} s; {memory(running)} MB")
        took: list[float] = []
        used = cpu(running)
        for number in range(CHANGES):
            took += asyncio.run(change(release, f"sql.statements.all(s, s.readOnly) && {number} < 1000"))
            eventually(lambda: idle(running), seconds=600)
        used = (cpu(running) - used) / CHANGES
        p50, p99 = statistics.median(took), statistics.quantiles(took, n=100)[98]
        print(f"a policy changes in all {total} bundles: p50, p99   {p50:.2f}, {p99:.2f} s; {used:.2f} s of processor")
    with operator(release, "second", settings) as running:
        eventually(lambda: running.metric(deployments, kind="Deployment", result="unchanged") >= total, seconds=600)
        eventually(lambda: idle(running), seconds=600)
        spent = f"{cpu(running):.1f} s; {memory(running)} MB"
        print(f"begun anew: writes; processor time; memory   {running.writes:.0f}; {spent}")
    print(f"load of the machine at the end: {os.getloadavg()[0]:.1f}, on {os.cpu_count()} processors")


def main() -> None:
    """Set up, measure, clean up."""
    cluster = Cluster(dict(os.environ))
    mark = uuid.uuid4().hex[:5]
    release = install(cluster, f"bench-{mark}", Path(tempfile.mkdtemp()))
    namespaces = [replace(cluster, namespace=f"bench-{mark}-{number}") for number in range(NAMESPACES)]
    try:
        for where in namespaces:
            where.ok("create", "namespace", where.namespace)
        measure(release, namespaces)
    finally:
        cluster.ok("delete", "namespace", release.system, *(each.namespace for each in namespaces), "--wait=false")
        for kind in ("clusterrolebinding", "clusterrole"):
            left = [each for each in cluster.ok("get", kind, "-o", "name").split() if release.system in each]
            cluster.ok("delete", *left)


if __name__ == "__main__":
    main()
