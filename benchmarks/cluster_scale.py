"""How the operator and its gateways do with many Connections and policies, in a real cluster.

    KUBECONFIG=… python benchmarks/cluster_scale.py             # the release that is installed in a cluster with nodes
    KUBECONFIG=… python benchmarks/cluster_scale.py --processes # an API server without nodes: everything runs here

It makes a fleet (100 Connections at 10 gateways, 200 policies), waits until all is in force, opens a session through
every Connection of every pod, and then changes policies: each change turns the answer to one statement. Propagation is
the time from the API server's answer to the change until the statement's answer is the new one at every gateway that
the policy is for. docs/scale.md has the tables.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("tests", "benchmarks", "crds", "gateway", "operator")]

import aiohttp  # noqa: E402
import asyncpg  # noqa: E402
import report  # noqa: E402
from fleet import AGENT, TOKEN, Fleet, Manifest, Place, Policy, fleet  # noqa: E402
from stages import GatewayPod, Process, Stage, control_plane, with_nodes  # noqa: E402

from ostiary_operator.kube.client import ApiError, Client  # noqa: E402
from ostiary_operator.kube.kinds import CONFIG_MAP, CONNECTION, GATEWAY_POLICY, NAMESPACE, Kind, Manifest  # noqa: E402,F811

LOOK = 0.01
"""Seconds between two tries of a statement that is to change, for each session that tries: a denial with its grounds
takes a gateway milliseconds, and what is measured is not how many of them there can be."""
PATIENCE = 60.0
Mebibyte = 2**20


async def put(client: Client, manifest: Manifest) -> Manifest:
    """Server-side apply, as kubectl does it."""
    meta = manifest["metadata"]
    group, _, version = manifest["apiVersion"].rpartition("/")
    plural = manifest["kind"].lower() + "s" if manifest["kind"] != "GatewayPolicy" else "gatewaypolicies"
    kind = Kind(manifest["kind"], plural, group, version, namespaced=manifest["kind"] != "Namespace")
    done: Manifest = await client.request(
        "PATCH", kind.path(meta.get("namespace", ""), meta["name"]),
        query={"fieldManager": "fleet", "force": "true"}, body=manifest, content_type="application/apply-patch+yaml",
    )  # fmt: skip
    return done


async def put_all(client: Client, manifests: Iterable[Manifest], at_once: int = 16) -> None:
    """Many of them."""
    room = asyncio.Semaphore(at_once)

    async def one(manifest: Manifest) -> None:
        async with room:
            await put(client, manifest)

    await asyncio.gather(*map(one, manifests))


def condition(manifest: Manifest, which: str) -> str:
    """Status of a condition, of this generation of the object."""
    status = manifest.get("status") or {}
    if status.get("observedGeneration") != manifest["metadata"].get("generation"):
        return "old"
    return next((each["status"] for each in status.get("conditions") or () if each["type"] == which), "")


class Sessions:
    """One session through every Connection of every pod, open all the time."""

    def __init__(self) -> None:
        self.by_place: dict[tuple[Place, str], Any] = {}
        self._locks: dict[tuple[Place, str], asyncio.Lock] = {}
        self._pids: dict[tuple[Place, str], int] = {}
        self._looking = 0

    async def open(self, made: Fleet, pods: Sequence[GatewayPod]) -> None:
        for place in made.places:
            for pod in pods:
                if (pod.namespace, pod.gateway) == (place.namespace, place.gateway):
                    session = await asyncpg.connect(
                        host=pod.address, port=place.port, user=AGENT, password=TOKEN, database="app", ssl=False,
                        timeout=30, statement_cache_size=0,
                    )  # fmt: skip
                    key = place, pod.name
                    self.by_place[key] = session
                    self._locks[key] = asyncio.Lock()
                    self._pids[key] = session.get_server_pid()

    def witnesses(self, policy: Policy) -> list[tuple[Place, str]]:
        """For every pod that a policy concerns one session."""
        chosen: dict[tuple[str, str], tuple[Place, str]] = {}
        for place, pod in self.by_place:
            if place in policy.places:
                chosen.setdefault((place.namespace, pod), (place, pod))
        return list(chosen.values())

    async def until(self, key: tuple[Place, str], statement: str, denied: bool) -> float:
        """When the answer is so."""
        end = time.monotonic() + PATIENCE
        self._looking += 1
        try:
            return await self._until(key, statement, denied, end)
        finally:
            self._looking -= 1

    async def _until(self, key: tuple[Place, str], statement: str, denied: bool, end: float) -> float:
        while True:
            async with self._locks[key]:
                try:
                    await self.by_place[key].execute(statement)
                    found = False
                except asyncpg.InsufficientPrivilegeError:
                    found = True
            if found == denied:
                return time.monotonic()
            if time.monotonic() > end:
                raise AssertionError(f"{statement} at {key} is still {'denied' if found else 'allowed'}")
            await asyncio.sleep(LOOK * max(1, self._looking))

    async def check(self) -> int:
        """How many of the sessions are still the same ones."""
        kept = 0
        for key, session in self.by_place.items():
            try:
                kept += session.get_server_pid() == self._pids[key] and await session.fetchval("select 1") == 1
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                print(f"{key}: {error!r}", flush=True)
        return kept

    async def close(self) -> None:
        for session in self.by_place.values():
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await session.close(timeout=5)


class Watching:
    """When bundles were written, and when the statuses of policies said that they are in force."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.bundles: dict[str, list[float]] = {}
        self.policies: dict[str, list[tuple[int, float]]] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For as long as the block lasts."""
        ours = "app.kubernetes.io/managed-by=ostiary-operator"
        tasks = [
            asyncio.create_task(self._follow(CONFIG_MAP, self._bundle, ours)),
            asyncio.create_task(self._follow(GATEWAY_POLICY, self._policy, "benchmark=scale")),
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, kind: Kind, seen: Callable[[Manifest], None], labels: str) -> None:
        while True:
            with suppress(ApiError, aiohttp.ClientError, TimeoutError):
                _, since = await self._client.list(kind, label_selector=labels)
                async with self._client.watch(kind, since=since, label_selector=labels) as events:
                    async for event in events:
                        if event["type"] in ("ADDED", "MODIFIED"):
                            seen(event["object"])

    def _bundle(self, manifest: Manifest) -> None:
        meta = manifest["metadata"]
        gateway = f"{meta['namespace']}/{meta['labels']['ostiary.dev/gateway']}"
        self.bundles.setdefault(gateway, []).append(time.monotonic())

    def _policy(self, manifest: Manifest) -> None:
        if condition(manifest, "Programmed") == "True":
            meta = manifest["metadata"]
            known = self.policies.setdefault(f"{meta['namespace']}/{meta['name']}", [])
            if not known or known[-1][0] != meta["generation"]:
                known.append((meta["generation"], time.monotonic()))

    def bundle_after(self, gateway: str, since: float) -> float | None:
        """The first write of a bundle since then."""
        return next((at for at in self.bundles.get(gateway, ()) if at >= since), None)

    def told(self, policy: str, generation: int) -> float | None:
        """When a policy's status said that this generation is in force."""
        return next((at for known, at in self.policies.get(policy, ()) if known >= generation), None)


@dataclass
class Numbers:
    """Seconds of one kind of change."""

    name: str
    everywhere: list[float] = field(default_factory=list)
    """Until every gateway that the policy is for had it."""
    written: list[float] = field(default_factory=list)
    """Until the last bundle was written."""
    status: list[float] = field(default_factory=list)
    """Until the policy's status said so."""

    def tell(self) -> None:
        """Print it: a run takes minutes."""
        print(" | ".join(self.row()), flush=True)

    def row(self) -> list[str]:
        def cell(values: list[float]) -> str:
            return " / ".join(f"{quantile(values, part):.2f}" for part in (0.5, 0.99, 1.0)) if values else "—"

        return [self.name, str(len(self.everywhere)), cell(self.written), cell(self.everywhere), cell(self.status)]


def quantile(values: Sequence[float], part: float) -> float:
    """The value that so many are not above."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


@dataclass(frozen=True)
class Used:
    """What the operator has used so far."""

    process: Process
    samples: dict[str, float]

    def total(self, name: str, *containing: str) -> float:
        return sum(
            value for head, value in self.samples.items()
            if head.partition("{")[0] == name and all(each in head for each in containing)
        )  # fmt: skip

    @property
    def requests(self) -> float:
        return self.total("ostiary_operator_requests_total")

    @property
    def writes(self) -> float:
        results = ("created", "updated", "failed")
        applied = sum(self.total("ostiary_operator_applies_total", f'result="{each}"') for each in results)
        return applied + self.total("ostiary_operator_status_writes_total", 'result="written"')


@dataclass
class Run:
    """One run of the benchmark."""

    stage: Stage
    fleet: Fleet
    rounds: int
    lines: list[str] = field(default_factory=list)
    sessions: Sessions = field(default_factory=Sessions)

    def say(self, what: str, *values: str) -> None:
        print(f"{what}: " + " · ".join(values), flush=True)
        self.lines.append(f"| {what} | {' · '.join(values)} |")

    async def used(self) -> Used:
        samples = {}
        for line in (await self.stage.metrics()).splitlines():
            head, _, value = line.rpartition(" ")
            if head and not line.startswith("#"):
                samples[head] = float(value)
        return Used(await self.stage.operator(), samples)

    async def settled(self) -> None:
        """Until every Connection and every policy says that it is in force."""
        end = time.monotonic() + 900
        missing: list[str] = []
        while time.monotonic() < end:
            missing = []
            for kind in (CONNECTION, GATEWAY_POLICY):
                found, _ = await self.stage.client.list(kind, fresh=False)
                mine = [each for each in found if self._is_mine(each)]
                missing += [
                    f"{kind.kind} {each['metadata']['namespace']}/{each['metadata']['name']}"
                    for each in mine if condition(each, "Programmed") != "True"
                ]  # fmt: skip
                wanted = len(self.fleet.places if kind is CONNECTION else self.fleet.policies)
                if len(mine) < wanted:
                    missing.append(f"{wanted - len(mine)} {kind.plural}")
            if not missing:
                return
            await asyncio.sleep(0.25)
        raise AssertionError(f"not in force: {missing[:10]}")

    def _is_mine(self, manifest: Manifest) -> bool:
        meta = manifest["metadata"]
        return meta["namespace"] in self.fleet.namespaces or (meta.get("labels") or {}).get("benchmark") == "scale"

    async def quiet(self, seconds: float = 3.0) -> None:
        """Until the operator has written nothing for so long."""
        before, since = -1.0, time.monotonic()
        while time.monotonic() - since < seconds:
            await asyncio.sleep(0.5)
            if (writes := (await self.used()).writes) != before:
                before, since = writes, time.monotonic()

    # What is measured

    async def converge(self, replicas: int) -> None:
        client = self.stage.client
        await put_all(client, self.fleet.base()[: len(self.fleet.namespaces)])
        await put_all(client, self.fleet.base()[len(self.fleet.namespaces) :])
        begun = time.monotonic()
        manifests = [each.manifest(probe=False) for each in self.fleet.policies] + self.fleet.connections(replicas)
        await put_all(client, manifests)
        applied = time.monotonic()
        await self.settled()
        done = time.monotonic()
        self.say("applied, one after another 16 at a time", f"{applied - begun:.1f} s")
        self.say("everything Programmed, from the last apply", f"{done - applied:.1f} s")
        await self.quiet()
        used = await self.used()
        self.say(
            "the operator for all of it", f"{used.requests:.0f} requests", f"{used.writes:.0f} writes",
            f"{used.process.cpu:.1f} s of processor time",
        )  # fmt: skip

    async def memory(self, when: str) -> None:
        process = await self.stage.operator()
        self.say(f"memory of the operator {when}", *_sizes([process]))
        pods = await self.stage.pods()
        found = await asyncio.gather(*(self.stage.gateway(each) for each in pods))
        self.say(f"memory of a gateway {when} ({len(pods)} pods: median, most)", *_sizes(found))

    async def change(self, policy: Policy, probe: bool, numbers: Numbers, watching: Watching) -> None:
        stored = await put(self.stage.client, policy.manifest(probe=probe))
        begun = time.monotonic()
        witnesses = self.sessions.witnesses(policy)
        seen = await asyncio.gather(*(self.sessions.until(each, policy.statement, probe) for each in witnesses))
        numbers.everywhere.append(max(seen) - begun)
        gateways = {f"{place.namespace}/{place.gateway}" for place in policy.places}
        written = [watching.bundle_after(each, begun - 0.005) for each in gateways]
        if all(at is not None for at in written):
            numbers.written.append(max(at for at in written if at is not None) - begun)
        generation = stored["metadata"]["generation"]
        end = time.monotonic() + PATIENCE
        while (at := watching.told(policy.key, generation)) is None and time.monotonic() < end:
            await asyncio.sleep(0.05)
        if at is not None:
            numbers.status.append(at - begun)

    async def changes(self) -> list[Numbers]:
        narrow = [each for each in self.fleet.policies if each.namespace != self.stage.system]
        wide = [each for each in self.fleet.policies if each.namespace == self.stage.system]
        alone = Numbers("one policy of a namespace at a time")
        everywhere = Numbers("one policy for all Connections at a time")
        burst, storm = Numbers("20 policies at once"), Numbers(f"all {len(self.fleet.policies)} policies at once")
        watching = Watching(self.stage.client)
        async with watching.running():
            await asyncio.sleep(1)
            before, count = await self.used(), 0
            for policy in narrow[: self.rounds]:
                await self.change(policy, True, alone, watching)
                count += 1
            await self.quiet(1.5)
            alone.tell()
            self._cost("one policy of a namespace", before, await self.used(), count)
            before, count = await self.used(), 0
            for probe in (True, False) * max(1, self.rounds // (2 * max(1, len(wide)))):
                for policy in wide:
                    await self.change(policy, probe, everywhere, watching)
                    count += 1
            await self.quiet(1.5)
            everywhere.tell()
            self._cost("one policy for all Connections", before, await self.used(), count)
            before = await self.used()
            for start in range(0, self.rounds, 20):
                chosen = narrow[start : start + 20]
                await asyncio.gather(*(self.change(each, False, burst, watching) for each in chosen))
            await self.quiet(1.5)
            burst.tell()
            self._cost("one policy of 20 at once", before, await self.used(), self.rounds)
            before = await self.used()
            # A statement asked again and again at every gateway for each of them would be what is measured.
            step = max(1, len(self.fleet.policies) // 20)
            watched = self.fleet.policies[::step]
            others = [each.manifest(probe=True) for each in self.fleet.policies if each.number % step]
            await asyncio.gather(
                put_all(self.stage.client, others), *(self.change(each, True, storm, watching) for each in watched)
            )
            await self.quiet(1.5)
            storm.tell()
            self._cost("one policy of all at once", before, await self.used(), len(self.fleet.policies))
        return [alone, everywhere, burst, storm]

    def _cost(self, what: str, before: Used, after: Used, count: int) -> None:
        self.say(
            f"the operator's work for {what}", f"{(after.requests - before.requests) / count:.1f} requests",
            f"{(after.writes - before.writes) / count:.1f} writes",
            f"{(after.process.cpu - before.process.cpu) / count * 1000:.0f} ms of processor time",
        )  # fmt: skip

    async def rest(self, seconds: float) -> None:
        await self.quiet()
        before, begun = await self.used(), time.monotonic()
        pods = await self.stage.pods()
        gateways = [await self.stage.gateway(each) for each in pods]
        await asyncio.sleep(seconds)
        after, passed = await self.used(), time.monotonic() - begun
        idle = [
            (await self.stage.gateway(each)).cpu - was.cpu for each, was in zip(pods, gateways, strict=True)
        ]
        self.say(
            "the operator at rest", f"{(after.requests - before.requests) / passed:.2f} requests a second",
            f"{after.writes - before.writes:.0f} writes in {passed:.0f} s",
            f"{(after.process.cpu - before.process.cpu) / passed * 100:.1f} % of a core",
        )  # fmt: skip
        usual = quantile(idle, 0.5) / passed * 100
        self.say("a gateway at rest, with its sessions (median)", f"{usual:.1f} % of a core")

    async def again(self) -> None:
        """The operator begins anew: everything is worked out again, and nothing is to be written."""
        begun = time.monotonic()
        await self.stage.restart_operator()
        leads = time.monotonic()
        await self.quiet(8.0)
        used = await self.used()
        busy = used.total("ostiary_operator_reconcile_seconds_count")
        self.say(
            "the operator killed and started again", f"leads after {leads - begun:.1f} s", f"{busy:.0f} keys looked at",
            f"{used.requests:.0f} requests", f"{used.writes:.0f} writes",
            f"{used.process.cpu:.1f} s of processor time",
        )  # fmt: skip


def _sizes(found: Sequence[Process]) -> list[str]:
    texts = []
    for name in ("resident", "proportional"):
        values = [getattr(each, name) / Mebibyte for each in found]
        short = {"resident": "RSS", "proportional": "PSS"}[name]
        texts.append(f"{short} {quantile(values, 0.5):.0f} MiB" + (f", {max(values):.0f}" if len(values) > 1 else ""))
    return texts


async def clean(stage: Stage, made: Fleet) -> None:
    """Everything that the fleet has put there."""
    for policy in made.policies:
        with suppress(ApiError):
            await stage.client.request("DELETE", GATEWAY_POLICY.path(policy.namespace, policy.name))
    for place in made.places:
        with suppress(ApiError):
            await stage.client.request("DELETE", CONNECTION.path(place.namespace, place.name))
    for name in made.namespaces:
        with suppress(ApiError):
            await stage.client.request("DELETE", NAMESPACE.path("", name))


async def measure(options: argparse.Namespace) -> None:
    """The whole run."""
    at = control_plane(options.policies, options.log) if options.processes else with_nodes(
        options.policies, image=options.image
    )
    async with at as stage:
        made = fleet(stage.upstream, stage.system, connections=options.connections, policies=options.policies)
        run = Run(stage, made, options.rounds)
        try:
            await run.converge(options.replicas)
            await run.memory("with everything in force")
            await run.sessions.open(made, await stage.pods())
            print(f"{len(run.sessions.by_place)} sessions", flush=True)
            found = await run.changes()
            kept = await run.sessions.check()
            run.say("sessions kept through all changes", f"{kept} of {len(run.sessions.by_place)}")
            await run.memory("after all changes")
            await run.rest(options.rest)
            await run.again()
            kept = await run.sessions.check()
            run.say("sessions kept to the end", f"{kept} of {len(run.sessions.by_place)}")
        finally:
            await run.sessions.close()
            if not options.keep:
                await clean(stage, made)
    head = ["change", "changes", "bundle written", "in force everywhere", "told in the status"]
    print("\nseconds from the API server's answer: median / 99 % / most\n")
    print(report.markdown(head, [each.row() for each in found]))
    print("\n" + "\n".join(run.lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", action="store_true", help="no nodes: operator and gateways run on this machine")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--policies", type=int, default=200)
    parser.add_argument("--replicas", type=int, default=1, help="pods of each gateway")
    parser.add_argument("--rounds", type=int, default=200, help="single changes to measure")
    parser.add_argument("--rest", type=float, default=60.0, help="seconds of rest to measure")
    parser.add_argument("--image", default="localhost/postgres:17", help="PostgreSQL for a cluster with nodes")
    parser.add_argument("--log", type=Path, help="directory for the logs of the processes")
    parser.add_argument("--keep", action="store_true", help="leave the fleet there")
    asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
