"""Leader election: takes and renews the Lease, and runs the work of the leader only as long as it surely holds it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import aiohttp

from ostiary_operator import lease
from ostiary_operator.inventory import uid_of
from ostiary_operator.kube.client import ApiError, Client
from ostiary_operator.kube.kinds import LEASE
from ostiary_operator.logging import get_logger
from ostiary_operator.settings import LeaderElection

log = get_logger(__name__)

_TROUBLE = (ApiError, aiohttp.ClientError, TimeoutError, OSError)


class NotLeading(Exception):
    """A write that only the leader may do, by a replica that does not lead (any more)."""


class Leader:
    """One replica's part in the election."""

    def __init__(
        self, client: Client, settings: LeaderElection, *, namespace: str, identity: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._client = client
        self._settings = settings
        self._namespace = namespace
        self._identity = identity
        self._clock = clock
        self._seen: lease.Observation | None = None
        self._sure_until = float("-inf")
        self.holder = ""
        """Who leads, as far as it is known."""
        self.lease_uid = ""
        """Of the Lease, once it was seen."""

    @property
    def leading(self) -> bool:
        """Whether this replica leads now. False as soon as the Lease could not be renewed in time: asked before every
        write, so that a process that was stopped for a while writes nothing when it wakes up."""
        return not self._settings.enabled or self._clock() < self._sure_until

    def require(self) -> None:
        """Raises NotLeading unless this replica leads."""
        if not self.leading:
            raise NotLeading(f"{self._identity} does not hold the Lease {self._settings.lease_name}")

    async def run(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lead, run `work`, cancel it when the lead is lost, and begin again. Until cancelled."""
        if not self._settings.enabled:
            self.holder = self._identity
            await work()
            return
        try:
            while True:
                await self._acquire()
                log.info("leading", lease=self._settings.lease_name, identity=self._identity)
                async with asyncio.TaskGroup() as group:
                    working = group.create_task(_forever(work))
                    await self._keep()
                    self._sure_until = float("-inf")
                    working.cancel()
                log.warning("the lead is lost", lease=self._settings.lease_name, holder=self.holder)
        finally:
            await self._release()

    async def _acquire(self) -> None:
        while True:
            if await self._try():
                return
            await asyncio.sleep(self._settings.retry_period * random.uniform(1.0, 1.2))

    async def _keep(self) -> None:
        """Returns when the Lease is lost: somebody else has it, or it could not be renewed in time."""
        while self.leading:
            await asyncio.sleep(min(self._settings.retry_period, max(0.0, self._sure_until - self._clock())))
            if not await self._try() and self._seen is not None and self._seen.record.holder != self._identity:
                return

    async def _try(self) -> bool:
        """One try to take or renew the Lease; True if it is ours after it."""
        begun = self._clock()
        try:
            # A request that hangs must not outlive the right to work.
            async with asyncio.timeout(max(self._settings.retry_period, 1.0)):
                ours = await self._step()
        except _TROUBLE as error:
            if isinstance(error, ApiError) and error.conflict:
                return False  # somebody was quicker; look again
            log.warning("the Lease cannot be reached", lease=self._settings.lease_name, reason=_say(error))
            return False
        if ours:
            # Counted from before the request: the others count from when they see its result.
            self._sure_until = begun + self._settings.renew_deadline
        return ours

    async def _step(self) -> bool:
        found = await self._client.get(LEASE, self._namespace, self._settings.lease_name)
        now = self._clock()
        if found is not None:
            self.lease_uid = uid_of(found)
        self._seen = None if found is None else lease.observe(self._seen, lease.read(found), now)
        before = None if self._seen is None else self._seen.record
        self.holder = before.holder if before is not None else ""
        step = lease.decide(self._seen, self._identity, now)
        if step == "Wait":
            return False
        wanted = lease.held(before, self._identity, self._settings.lease_duration, datetime.now(UTC))
        await self._write(wanted, create=step == "Create")
        return True

    async def _write(self, record: lease.Record, *, create: bool) -> None:
        manifest = lease.manifest(record, self._namespace, self._settings.lease_name)
        if create:
            stored = await self._client.request("POST", LEASE.path(self._namespace), body=manifest)
        else:
            stored = await self._client.request(
                "PUT", LEASE.path(self._namespace, self._settings.lease_name), body=manifest
            )
        self.lease_uid = uid_of(stored)
        self._seen = lease.Observation(lease.read(stored), self._clock())
        self.holder = self._seen.record.holder

    async def _release(self) -> None:
        """Give it back, so that another replica need not wait until it runs out."""
        seen, self._sure_until = self._seen, float("-inf")
        if seen is None or seen.record.holder != self._identity:
            return
        try:
            async with asyncio.timeout(2.0):
                await self._write(lease.released(seen.record, datetime.now(UTC)), create=False)
            log.info("the Lease is given back", lease=self._settings.lease_name)
        except _TROUBLE as error:
            log.info("the Lease runs out by itself", lease=self._settings.lease_name, reason=_say(error))


async def _forever(work: Callable[[], Awaitable[None]]) -> None:
    await work()
    raise RuntimeError("the leader's work ended by itself")


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__
