"""The operator from its start to its end: watches, election, the leader's work, the admin address."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

from ostiary_api.secret import TOKEN_TYPE
from ostiary_notify.notifier import Notifier
from ostiary_notify.sender import Sender
from ostiary_operator import store_ca
from ostiary_operator.admin import AdminServer
from ostiary_operator.applier import Applier
from ostiary_operator.approval_work import Approving
from ostiary_operator.controller import ApprovalWork, Controller
from ostiary_operator.events import EventPoster
from ostiary_operator.extensions import Loaded, load
from ostiary_operator.keys import Key
from ostiary_operator.kube.client import Access, Client
from ostiary_operator.kube.kinds import CHILDREN, LEASE, NAMESPACE, POD, RESOURCES, SECRET, Manifest
from ostiary_operator.kube.kopf_feed import KopfFeed
from ostiary_operator.kube.reflector import Reflector, Selection
from ostiary_operator.leader import Leader
from ostiary_operator.logging import get_logger
from ostiary_operator.metrics import Metrics
from ostiary_operator.notifying import Notifying
from ostiary_operator.observed import Settings as ObservedSettings
from ostiary_operator.pulse import Pulse
from ostiary_operator.reconcile.approvals import Retention, Step
from ostiary_operator.selfcheck import SelfCheck
from ostiary_operator.settings import Pod, Settings
from ostiary_operator.status import Transition
from ostiary_operator.world import TOKENS, World

log = get_logger(__name__)

_STEPS: Final[dict[Step, str]] = {
    "Answered": "{by} has answered.",
    "Approved": "Approved by {by}: it may run, once.",
    "Denied": "Denied by {by}.",
    "Expired": "Nobody decided in time, or the grant was not used in time.",
}
"""What Events say of an ApprovalRequest."""

_CHILD_LABELS: Final = "app.kubernetes.io/managed-by=ostiary-operator"
_POD_LABELS: Final = "app.kubernetes.io/name=ostiary-gateway,ostiary.dev/gateway"
_SYNC_LOOK: Final = 0.1
"""Seconds between two looks at whether everything was listed."""


def selections(namespaces: tuple[str, ...]) -> list[Selection]:
    """All watches but those of kopf. Secrets and namespaces come as metadata only."""
    found: list[Selection] = []
    for where in namespaces:
        found += [Selection(kind.kind, kind, where, label_selector=_CHILD_LABELS) for kind in CHILDREN]
        found.append(Selection(POD.kind, POD, where, label_selector=_POD_LABELS))
        found.append(Selection(SECRET.kind, SECRET, where, metadata_only=True))
        found.append(Selection(TOKENS, SECRET, where, field_selector=f"type={TOKEN_TYPE}", metadata_only=True))
        selector = f"metadata.name={where}" if where else ""
        found.append(Selection(NAMESPACE.kind, NAMESPACE, field_selector=selector, only=where, metadata_only=True))
    return found


class Operator:
    """One replica."""

    def __init__(self, settings: Settings, pod: Pod, access: Access, loaded: Loaded) -> None:
        watch = settings.watch
        self._settings = settings
        keep = settings.approvals
        self._retention = Retention(timedelta(seconds=keep.keep_closed), keep.keep_per_connection)
        self._extensions = loaded.extensions
        self._system = pod.namespace
        self.metrics = Metrics()
        self.client = Client(
            access, request_timeout=watch.request_timeout, connect_timeout=watch.connect_timeout,
            answered=lambda method, status: self.metrics.requests.labels(method, status).inc(),
        )  # fmt: skip
        namespaces = settings.namespaces_with(pod.namespace)
        self._ca_file = settings.gateway.store.ca_file if settings.gateway.store is not None else ""
        self._ca = store_ca.read(self._ca_file)
        seen_by = ObservedSettings(
            gateway=settings.gateway, store_ca=self._ca, system_namespace=pod.namespace,
            gateways_binding=settings.gateways_binding,
            protocols=loaded.protocols,
        )  # fmt: skip
        self.world = World(seen_by, self._changed)
        chosen = selections(namespaces)
        self.pulse = Pulse([kind.kind for kind in RESOURCES] + [each.name for each in chosen])
        self._reflectors = [
            Reflector(self.client, each, self.world.stores[each.store], self.pulse, watch) for each in chosen
        ]
        self._kopf = KopfFeed(
            access, self.client, {kind: self.world.stores[kind.kind] for kind in RESOURCES}, self.pulse, watch,
            namespaces=namespaces if settings.watch_namespaces else (),
        )  # fmt: skip
        self.leader = Leader(self.client, settings.leader_election, namespace=pod.namespace, identity=pod.name)
        self._events = EventPoster(self.client, self.metrics, instance=pod.name)
        self._applier = Applier(
            self.client, self.leader, self.world.children, self.metrics, at_once=settings.rates.requests
        )
        self._controller: Controller | None = None
        self.metrics.leader.set_function(lambda: float(self.leader.leading))
        self.metrics.approvals_usable.set_function(self._approvals_usable)
        self.metrics.watch(self.pulse, queue=self._queue, objects=self.world.counts, polls=self._polls)

    def _queue(self) -> tuple[int, int]:
        held = self._controller
        return (0, 0) if held is None else (len(held.queue), held.queue.active)

    def _approvals_usable(self) -> float:
        return float(self._controller is not None and self.world.observed().approvals.usable)

    def _polls(self) -> dict[str, int]:
        return {} if self._controller is None else dict(self._controller.polls.counts())

    def _owner(self) -> Manifest | None:
        """The Lease, which the chart makes and takes away."""
        name, uid = self._settings.leader_election.lease_name, self.leader.lease_uid
        return {"apiVersion": LEASE.api_version, "kind": LEASE.kind, "name": name, "uid": uid} if uid else None

    def _approval_told(self, request: Manifest, step: Step, by: str) -> None:
        self._events.tell(request, Transition(step, "", "", step, _STEPS[step].format(by=by)))

    def not_ready(self) -> dict[str, str]:
        """What is not well, by watch."""
        return self.pulse.stale(self._settings.watch.stale_after)

    def _changed(self, kind: str, key: str, old: Manifest | None, new: Manifest | None) -> None:
        if self._controller is not None:
            self._controller.changed(kind, key, old, new)

    def _store_has(self, authorities: str) -> None:
        self.world.store_has(authorities)
        if self._controller is not None:
            self._controller.look_again()

    async def _lead(self) -> None:
        """The leader's work. It begins when everything was listed: what is not known would look as if it were gone."""
        while True:
            if all(beat.listed for beat in self.pulse.beats.values()):
                break
            await asyncio.sleep(_SYNC_LOOK)
        work, sender = self._told_work()
        self._controller = Controller(
            self.client, self.world, self._applier, self._events, self.metrics, self._settings, self._extensions,
            work, SelfCheck(self.client, self._system), self._owner,
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                sending = group.create_task(sender.run()) if sender is not None else None
                await self._controller.run()
                if sending is not None:
                    sending.cancel()
        finally:
            self._controller = None

    def _told_work(self) -> tuple[ApprovalWork, Sender | None]:
        """What is done about ApprovalRequests, and who sends what it has to tell: the leader does."""
        work = Approving(self.client, self._system, self._retention, tell=self._approval_told)
        settings = self._settings.notifications
        if not settings.receivers:
            return work, None
        sender = Sender(
            settings.receivers, give_up_after=settings.fresh_for,
            counted=lambda receiver, result: self.metrics.notifications.labels(receiver, result).inc(),
        )  # fmt: skip
        notifier = Notifier(settings, sender, self._look_again, cluster=True)
        return Notifying(work, notifier, self.client, self._system), sender

    def _look_again(self, request: str) -> None:
        if self._controller is not None:
            self._controller.queue.add(Key("ApprovalRequest", request))

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set. The Lease is given back at the end."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.client.close)
            async with asyncio.TaskGroup() as group:
                # The watches end last: while the Lease is given back nothing is learnt anew, and nothing needs it.
                working = [group.create_task(self.leader.run(self._lead)), group.create_task(self._events.run())]
                watching = [group.create_task(each.run()) for each in self._reflectors]
                watching.append(group.create_task(self._kopf.run()))
                if self._ca_file:
                    watching.append(group.create_task(store_ca.watch(self._ca_file, self._ca, self._store_has)))
                await stop.wait()
                for task in working:
                    task.cancel()
                await asyncio.wait(working)
                for task in watching:
                    task.cancel()


async def run(settings: Settings, pod: Pod, *, admin: tuple[str, int] | None, kubeconfig: Path | None) -> None:
    """Run a replica until SIGTERM or SIGINT. Raises NoCluster, ExtensionError or AdminError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    access = await Access.find(kubeconfig)
    loaded = await asyncio.to_thread(load)
    operator = Operator(settings, pod, access, loaded)
    server = None if admin is None else AdminServer(admin, operator.metrics, operator.not_ready)
    try:
        if server is not None:
            host, port = await server.start()
            log.info("admin address", url=f"http://{f'[{host}]' if ':' in host else host}:{port}")
        protocols = sorted(loaded.protocols)
        log.info("started", server=access.server, pod=pod.name, system=pod.namespace, protocols=protocols)
        await operator.run(stop)
        log.info("stopped")
    finally:
        if server is not None:
            await server.stop()
