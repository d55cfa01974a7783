"""Approvals as a gateway runs them: kept by itself (the store, the admin socket, the clock), or in its cluster."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final, Self

from ostiary_gateway.admin.approvals import ApprovalsDesk
from ostiary_gateway.admin.http import can_tell_people_apart
from ostiary_gateway.admin.local_socket import SOCKET, LocalSocket, Routes
from ostiary_gateway.approvals import files
from ostiary_gateway.approvals.cluster import ClusterApprovals
from ostiary_gateway.approvals.local import LocalApprovals
from ostiary_gateway.approvals.people import Approvers
from ostiary_gateway.approvals.store import ApprovalsError
from ostiary_gateway.approvals.telling import Telling
from ostiary_gateway.audit.event import Recorder
from ostiary_gateway.counters import Counters
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

SWEEP: Final = 1.0
"""Seconds between looks for what has expired."""


class ApprovalService:
    """`await ApprovalService.open(…)`, then `close`. `store` is what the checkpoint asks."""

    def __init__(self, store: LocalApprovals, socket: LocalSocket) -> None:
        self.store = store
        self._socket = socket
        self._sweeper = asyncio.get_running_loop().create_task(self._sweep())

    @classmethod
    async def open(
        cls, data: Path, counters: Counters, recorder: Recorder, approvers: Approvers, socket: Path | None,
        more: Routes,
    ) -> Self:  # fmt: skip
        """The approvals in `data`; people come to `socket`, which is in `data` too if not given, and has `more` for
        them besides. OSError, or ApprovalsError."""
        if approvers.members and not can_tell_people_apart():
            raise OSError("this system does not say who is at a Unix socket, so approvers cannot be told apart")
        store = await LocalApprovals.open(data / files.FILE, tell=Telling(counters, recorder))
        # With members named, each is told apart by the kernel's word; others get nothing but a refusal.
        routes = {**ApprovalsDesk(store, approvers).routes, **more}
        served = LocalSocket(socket or data / SOCKET, routes, open_to_all=bool(approvers.members))
        try:
            await served.start()
        except BaseException:
            await store.close()
            raise
        counters.approvals_pending = lambda: store.pending
        return cls(store, served)

    async def close(self) -> None:
        """Nobody can decide any more; what is open stays open for the next start."""
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, return_exceptions=True)
        await self._socket.stop()
        await self.store.close()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            try:
                await self.store.sweep()
            except ApprovalsError as problem:
                log.error("approvals cannot be kept", problem=str(problem))


class ClusterApprovalService:
    """Approvals of a gateway in a cluster: people answer at the API server, the operator counts. `close` it."""

    def __init__(
        self, client: KubeClient, namespace: str, gateway: str, counters: Counters, recorder: Recorder
    ) -> None:
        self.store = ClusterApprovals(client, namespace, gateway, tell=Telling(counters, recorder))
        self.store.unusable = "no bundle is in force yet"
        counters.approvals_pending = lambda: self.store.pending
        self.store.start()
        self._socket: LocalSocket | None = None

    @classmethod
    async def open(
        cls, client: KubeClient, namespace: str, gateway: str, counters: Counters, recorder: Recorder, data: Path,
        routes: Routes,
    ) -> Self:  # fmt: skip
        """With an admin socket in `data` for who gets into the pod (`kubectl exec`): `routes`, but no approvals."""
        made = cls(client, namespace, gateway, counters, recorder)
        socket = LocalSocket(data / SOCKET, routes)
        try:
            await socket.start()
        except OSError as problem:
            log.warning("no admin socket", path=str(data / SOCKET), problem=str(problem))
        else:
            made._socket = socket
        return made

    def believe(self, doubt: str) -> None:
        """`doubt`, from the bundle: why an answer may not be of the person that it names; empty: it surely is."""
        self.store.unusable = doubt

    async def close(self) -> None:
        """Who waits gets what stands; questions and grants are kept by the cluster."""
        if self._socket is not None:
            await self._socket.stop()
        await self.store.close()
