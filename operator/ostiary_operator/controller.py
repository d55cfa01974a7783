"""The leader's work: takes keys from the queue, asks reconcile what follows, and has it written.

    change seen → keys → queue → worker ─┬─ Gateway: policies accepted (thread) → plan (thread) → children applied
                                         ├─ Connection, GatewayPolicy: status
                                         ├─ ApprovalRequest: counted, expired, deleted
                                         └─ Cluster: what all gateways share

What goes wrong with one key is logged, counted and tried again later; it never stops another.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

import aiohttp

from ostiary_operator.applier import Applier, Refused
from ostiary_operator.events import EventPoster
from ostiary_operator.judging import Busy, Judge
from ostiary_operator.keys import CLUSTER, Key, everything, gateways_of, of_change, policies, told
from ostiary_operator.kube.client import ApiError, Client
from ostiary_operator.kube.kinds import CHILDREN, CONFIG_MAP, CONNECTION, GATEWAY_POLICY, Kind, Manifest
from ostiary_operator.leader import NotLeading
from ostiary_operator.loading import Loading
from ostiary_operator.logging import get_logger
from ostiary_operator.metrics import Metrics
from ostiary_operator.observed import Approvals, ChildKey, Observed, gateway_of
from ostiary_operator.propagation import Propagation
from ostiary_operator.reconcile import acceptance, cluster, connections, gateways
from ostiary_operator.reconcile import policies as policy_status
from ostiary_operator.reconcile.acceptance import Extensions
from ostiary_operator.reconcile.gateways import GatewayPlan
from ostiary_operator.settings import Settings
from ostiary_operator.states import StatePolls
from ostiary_operator.workqueue import WorkQueue
from ostiary_operator.world import World

log = get_logger(__name__)

_LATER: Final = 0.15
"""Seconds in which changes that touch the status of every policy, or the cluster, are gathered."""
_BUSY: Final = 0.2
"""Seconds until what waits for policies to be judged is looked at again."""
_LONG: Final = 5.0
"""Seconds of such waiting after which others do not wait for it any more."""
_LOOK_AGAIN: Final = 20.0
"""Seconds until a child that could not be written is tried again."""
_CHECK: Final = 60.0
"""Seconds between two checks of whether approvals can be trusted."""
_CHECK_DOUBT: Final = 5.0
"""The same while they cannot: a policy that was just put back needs a moment."""
_MANAGED: Final = "app.kubernetes.io/managed-by=ostiary-operator"
_TROUBLE = (ApiError, aiohttp.ClientError, TimeoutError, OSError)

Result = TypeVar("Result")


class ApprovalWork(Protocol):
    """What is done about ApprovalRequests."""

    async def __call__(self, manifest: Manifest) -> float | None:
        """Do what is due about one; returns the seconds until something is due again, if ever."""
        ...

    async def sweep(self, manifests: Iterable[Manifest]) -> int:
        """Delete closed ones that are too many; returns how many these were."""
        ...


class Check(Protocol):
    """Whether approvals can be trusted."""

    async def run(self) -> Approvals:
        """Try it. Never raises for what the API server does."""
        ...


class Controller:
    """Everything that only the leader does. One for each time that a replica leads."""

    def __init__(
        self, client: Client, world: World, applier: Applier, events: EventPoster, metrics: Metrics,
        settings: Settings, extensions: Extensions, approvals: ApprovalWork, check: Check,
        owner: Callable[[], Manifest | None],
    ) -> None:  # fmt: skip
        self._client = client
        self._world = world
        self._applier = applier
        self._events = events
        self._metrics = metrics
        self._settings = settings
        self._extensions = extensions
        self._approvals = approvals
        self._check = check
        self._owner = owner
        """Of children in the system namespace: something that goes with the release."""
        rates = settings.rates
        self.queue: WorkQueue[Key] = WorkQueue(
            first_retry=rates.first_retry, longest_retry=rates.longest_retry,
            waited=metrics.queue_seconds.observe,
            # What is in force comes before what is told of it.
            urgent=lambda key: key.what in ("Gateway", "ApprovalRequest"),
        )  # fmt: skip
        self.polls = StatePolls(self._told)
        # One more than may judge policies: plans are made meanwhile.
        self._threads = ThreadPoolExecutor(rates.threads + 1, thread_name_prefix="reconcile")
        self._judge = Judge(
            world, extensions, self._in_thread,
            told=lambda policy: self._add(Key("GatewayPolicy", policy)), moved=self._moved,
            at_once=rates.threads, took=metrics.compile_seconds.observe,
        )  # fmt: skip
        self._plans: dict[str, GatewayPlan] = {}
        self._unplanned: set[str] = set()
        """Gateways that could not be planned: a fault of ours, or their policies take long to judge."""
        self._busy: dict[str, float] = {}
        """Gateways that wait for their policies to be judged, and since when."""
        self._refused: dict[str, dict[ChildKey, Refused]] = {}
        self._loading = Loading(time.monotonic)
        self._propagation = Propagation(metrics.propagation_seconds.observe, time.monotonic)

    # What changes

    def changed(self, kind: str, key: str, old: Manifest | None, new: Manifest | None) -> None:
        """The inventory has changed."""
        if new is None:
            self._applier.gone(kind, key)
            self._loading.forget(Key("Connection" if kind == CONNECTION.kind else "GatewayPolicy", key))
        if kind == "Pod":
            self._poll(key, new)
            if new is None and old is not None:
                self._world.told(str(old["metadata"].get("uid")), None)
        observed = self._world.observed()
        for each in of_change(observed, kind, key, old, new):
            if each.what == "Gateway" and kind in (CONNECTION.kind, GATEWAY_POLICY.kind):
                self._propagation.changed(each.name)
            self._add(each)

    def _poll(self, key: str, pod: Manifest | None) -> None:
        # A pod that is labelled like one of another namespace's gateway is nobody's.
        self.polls.pod(key, pod if pod is not None and gateway_of(pod) else None)

    def _told(self, pod: str) -> None:
        """A gateway's pod tells something else."""
        manifest = self._world.stores["Pod"].get(pod)
        if manifest is None:
            return
        self._world.told(str(manifest["metadata"].get("uid")), self.polls.told.get(pod))
        gateway = gateway_of(manifest)
        observed = self._world.observed()
        self._propagation.loaded(gateway, observed)
        for key in told(observed, gateway):
            self._add(key)

    def _moved(self, policy: str) -> None:
        """A policy does not stand as an earlier run left it."""
        for key in gateways_of(self._world.observed(), policy):
            self._add(key)

    @property
    def _system(self) -> str:
        return self._world.observed().settings.system_namespace

    def _add(self, key: Key) -> None:
        if key.what in ("GatewayPolicy", "Cluster"):
            self.queue.add_after(key, _LATER)
        else:
            self.queue.add(key)

    def look_again(self) -> None:
        """What everything depends on has changed."""
        self._add_all()

    def _add_all(self, spread: float = 0.0) -> None:
        store = self._world.stores["ApprovalRequest"]
        for key in everything(self._world.observed(), store):
            if spread:
                self.queue.add_after(key, random.uniform(0.0, spread))
            else:
                self.queue.add(key)

    # Work

    async def run(self) -> None:
        """Until cancelled."""
        async with AsyncExitStack() as stack:
            stack.callback(self._threads.shutdown, wait=False, cancel_futures=True)
            stack.push_async_callback(self.polls.close)
            stack.callback(self.queue.clear)
            await self._recover()
            # Before the first bundle: gateways must not be told that approvals are off because nobody has looked yet.
            self._world.approvals(await self._check.run())
            for key, pod in self._world.stores["Pod"].objects.items():
                self._poll(key, pod)
            self._add_all()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._resync())
                group.create_task(self._check_approvals())
                group.create_task(self._judge.look_again())
                for _ in range(self._settings.rates.workers):
                    group.create_task(self._work())

    async def _recover(self) -> None:
        """What was accepted before: without it a policy that is broken just now would count as never accepted."""
        pause = 0.5
        while True:
            try:
                found: list[Manifest] = []
                for namespace in self._settings.namespaces_with(self._world.observed().settings.system_namespace):
                    items, _ = await self._client.list(CONFIG_MAP, namespace=namespace, label_selector=_MANAGED)
                    found += items
                self._judge.recovered = await self._in_thread(acceptance.recovered, found)
                break
            except _TROUBLE as error:
                log.warning("the bundles of before cannot be read; trying again", reason=_say(error))
                await asyncio.sleep(pause)
                pause = min(10.0, pause * 2)
        for problem in self._judge.recovered.problems:
            log.warning("a bundle of before is of no use", problem=problem)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_period * random.uniform(0.9, 1.1))
            log.debug("looking at everything again")
            try:
                await self._approvals.sweep(self._world.stores["ApprovalRequest"].objects.values())
            except _TROUBLE as error:
                log.warning("closed ApprovalRequests cannot be deleted", reason=_say(error))
            self._add_all(spread=min(10.0, self._settings.resync_period / 10))

    async def _check_approvals(self) -> None:
        """Whether approvals can be trusted, now and then: an admission policy may be taken away at any time."""
        while True:
            usable = self._world.observed().approvals.usable
            await asyncio.sleep((_CHECK if usable else _CHECK_DOUBT) * random.uniform(0.9, 1.1))
            found = await self._check.run()
            if self._world.approvals(found):
                tell = log.info if found.usable else log.error
                tell("approvals can be trusted" if found.usable else "approvals cannot be trusted", reason=found.reason)
                self._add_all()

    async def _work(self) -> None:
        while True:
            key = await self.queue.get()
            begun = time.monotonic()
            failed = True
            try:
                await self._reconcile(key)
                failed = False
            except NotLeading:
                log.info("not written: this replica does not lead", key=str(key))
            except _TROUBLE as error:
                self._metrics.reconcile_errors.labels(key.what).inc()
                log.warning("could not be reconciled; it is tried again", key=str(key), reason=_say(error))
            except Exception:
                self._metrics.reconcile_errors.labels(key.what).inc()
                log.exception("could not be reconciled; it is tried again", key=str(key))
            finally:
                self._metrics.reconcile_seconds.labels(key.what).observe(time.monotonic() - begun)
                self.queue.done(key, failed=failed)

    async def _reconcile(self, key: Key) -> None:
        match key.what:
            case "Gateway":
                await self._gateway(key)
            case "Connection":
                await self._connection(key)
            case "GatewayPolicy":
                await self._policy(key)
            case "ApprovalRequest":
                manifest = self._world.stores["ApprovalRequest"].get(key.name)
                if manifest is not None and (again := await self._approvals(manifest)) is not None:
                    self.queue.add_after(key, max(0.2, again))
            case "Cluster":
                await self._cluster()

    async def _in_thread(self, call: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    # A gateway's children

    async def _gateway(self, key: Key) -> None:
        begun = time.monotonic()
        await self._look_at_refused(key.name)
        try:
            # What is judged elsewhere is for other gateways.
            observed, standings = await self._judge.current(self._system, key.name.partition("/")[0])
            if key.name not in observed.gateway_keys:
                self._forget(key.name)
                return
            plan = await self._in_thread(gateways.plan, observed, standings, key.name)
        except Busy:
            if time.monotonic() - self._busy.setdefault(key.name, begun) > _LONG:
                self._unplanned.add(key.name)  # what all have in common does not wait for it
            self.queue.add_after(key, _BUSY)
            return
        except gateways.NotSeenError as why:
            log.info("a gateway waits", gateway=key.name, reason=str(why))
            self._unplanned.add(key.name)
            self.queue.add_after(key, _LATER)
            return
        except Exception:
            # A bundle without what cannot be judged would let through what that denies. The last bundle stays.
            self._unplanned.add(key.name)
            raise
        self._unplanned.discard(key.name)
        self._busy.pop(key.name, None)
        before = self._plans.get(key.name)
        self._plans[key.name] = plan
        refused: dict[ChildKey, Refused] = {}
        for manifest in map(self._owned, plan.objects):
            if (problem := await self._applier.apply(manifest)) is not None:
                metadata = manifest["metadata"]
                refused[ChildKey(manifest["kind"], metadata.get("namespace", ""), metadata["name"])] = problem
        for child in plan.orphans:
            await self._delete(child)
        self._note_refused(key, refused)
        if before is None or before.revision != plan.revision or bool(before.objects) != bool(plan.objects):
            log.info(
                "bundle written", gateway=key.name, revision=plan.revision[:12],
                milliseconds=round((time.monotonic() - begun) * 1000),
            )  # fmt: skip
            self._add(CLUSTER)
            for each in told(observed, key.name):
                self._add(each)
        self._propagation.written(key.name, plan.revision, begun)
        self._propagation.loaded(key.name, self._world.observed())
        for connection in observed.by_gateway.get(key.name, ()):
            self._add(Key("Connection", connection.key))

    def _owned(self, manifest: Manifest) -> Manifest:
        """Across namespaces there are no owners; what is made in the system namespace goes with the release."""
        metadata = manifest["metadata"]
        system = self._world.observed().settings.system_namespace
        owner = self._owner()
        if metadata.get("ownerReferences") or metadata.get("namespace") != system or owner is None:
            return manifest
        return {**manifest, "metadata": {**metadata, "ownerReferences": [owner]}}

    async def _delete(self, child: ChildKey) -> None:
        store = self._world.stores[child.kind]
        live = store.get(f"{child.namespace}/{child.name}" if child.namespace else child.name)
        if live is not None:
            await self._applier.delete(_kind(child.kind), live)

    async def _look_at_refused(self, gateway: str) -> None:
        """What was in the way may be gone: nothing tells of objects that are not ours."""
        known = self._refused.get(gateway)
        if not known:
            return
        for child, problem in list(known.items()):
            if problem.foreign and await self._client.get(_kind(child.kind), child.namespace, child.name) is None:
                del known[child]
        self._publish_refused()

    def _note_refused(self, key: Key, refused: dict[ChildKey, Refused]) -> None:
        before = self._refused.get(key.name, {})
        # Those in the way are not in the plan any more, and stay noted until they are gone.
        kept = {child: problem for child, problem in before.items() if problem.foreign} | refused
        for child, problem in refused.items():
            if before.get(child) != problem:
                log.warning("a child is not written", gateway=key.name, problem=problem.message)
        if kept:
            self._refused[key.name] = kept
            self.queue.add_after(key, _LOOK_AGAIN)
        else:
            self._refused.pop(key.name, None)
        if kept != before:
            self._publish_refused()
            if refused:
                self.queue.add_after(key, 0.0)  # once more, now that it is known: others may depend on it

    def _publish_refused(self) -> None:
        every = {child: problem for known in self._refused.values() for child, problem in known.items()}
        self._world.refused(
            frozenset(child for child, problem in every.items() if problem.foreign),
            {child: problem.message for child, problem in every.items() if not problem.foreign},
        )

    def _forget(self, gateway: str) -> None:
        self._plans.pop(gateway, None)
        self._busy.pop(gateway, None)
        self._unplanned.discard(gateway)
        if self._refused.pop(gateway, None):
            self._publish_refused()
        self._propagation.forget(gateway)
        self._add(CLUSTER)
        for key in policies(self._world.observed()):
            self._add(key)

    # Statuses

    async def _connection(self, key: Key) -> None:
        live = self._world.stores[CONNECTION.kind].get(key.name)
        observed = self._world.observed()
        seen = observed.connections.get(key.name)
        if live is None or seen is None or seen.deleting:
            return
        plan = self._plans.get(seen.gateway_key)
        if plan is None and seen.gateway_key not in self._refused:
            self.queue.add(Key("Gateway", seen.gateway_key))
            return
        written = connections.status(observed, plan, key.name, datetime.now(UTC))
        await self._write_status(key, live, written.status, written.recheck_at)

    async def _policy(self, key: Key) -> None:
        live = self._world.stores[GATEWAY_POLICY.kind].get(key.name)
        try:
            observed, standings = await self._judge.current(key.name.partition("/")[0])
        except Busy:
            self.queue.add_after(key, _BUSY)
            return
        if live is None or key.name not in observed.policies or key.name not in standings:
            return
        if self._judge.taken_as_it_was(key.name):
            return  # its status is as it was, too; when it was looked at it comes again
        if not self._all_planned(observed):
            self.queue.add_after(key, _LATER)
            return
        written = policy_status.status(observed, standings, self._plans, key.name, datetime.now(UTC))
        await self._write_status(key, live, written.status, written.recheck_at)

    async def _write_status(self, key: Key, live: Manifest, wanted: Manifest, again: datetime | None) -> None:
        stored = self._applier.with_status(live).get("status")
        if (rest := self._loading.rest(key, wanted, stored)) > 0.0:
            self.queue.add_after(key, rest)
            return
        for transition in await self._applier.write_status(live, wanted):
            self._events.tell(live, transition)
        if again is not None:
            self.queue.add_after(key, max(0.5, (again - datetime.now(UTC)).total_seconds()))

    # The cluster

    def _all_planned(self, observed: Observed) -> bool:
        """Whether each gateway was planned once, or cannot be: what is said of all would be wrong before."""
        return all(gateway in self._plans or gateway in self._unplanned for gateway in observed.by_gateway)

    async def _cluster(self) -> None:
        observed = self._world.observed()
        if not self._all_planned(observed):
            self.queue.add_after(CLUSTER, _LATER)
            return
        for manifest in cluster.plan(observed, self._plans, self._unplanned).objects:
            if manifest["kind"] == "ClusterRoleBinding":
                name, subjects = manifest["metadata"]["name"], manifest.get("subjects") or []
                problem = await self._applier.bind_subjects(name, subjects)
            else:
                refused = await self._applier.apply(manifest)
                problem = refused.message if refused is not None else ""
            if problem:
                log.warning("not written", problem=problem)


def _kind(name: str) -> Kind:
    return next(kind for kind in CHILDREN if kind.kind == name)


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__
