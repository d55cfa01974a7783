"""The record and the store: whether it is handed over, how much of it stays here, and what there is to tell of that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from ostiary_api.gateway_state import ShippingState
from ostiary_gateway.admin.health import Check
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.counters import Counters

if TYPE_CHECKING:
    from ostiary_gateway.audit.shipper import Shipper, Source
    from ostiary_gateway.audit.store_client import ShipTo

GRACE: Final = 10.0
"""Seconds that the rest of the record gets to reach the store when the gateway stops."""
FAILS: Final = 60.0
"""Seconds of trouble after which a pod tells it to the operator."""
BEHIND: Final = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Handing:
    """`to`: the store; None: the record stays here. `keep`: bytes that stay here in any case (None: all). `limit`:
    bytes of the disk that it may take up (0: all there are)."""

    to: ShipTo | None = None
    grace: float = GRACE
    keep: int | None = None
    limit: int = 0


HERE: Final = Handing()
"""There is no store."""


class Handed:
    """How it goes, for who asks."""

    def __init__(self, shipper: Shipper | None) -> None:
        self._shipper = shipper
        self._since = time.time()
        self._state = "Off" if shipper is None else "Shipping"

    def checks(self) -> list[Check]:
        """For /readyz. A store that is away makes no gateway unready: what waits is safe here."""
        return [] if self._shipper is None else [Check("store", True, self._shipper.message())]

    def state(self) -> ShippingState:
        """For /state."""
        shipper = self._shipper
        if shipper is None:
            return ShippingState()
        shipped = shipper.shipped
        failing = bool(shipped.trouble) and time.time() - shipped.since > FAILS
        state = "Failing" if failing else "Behind" if shipped.trouble or shipper.lag > BEHIND else "Shipping"
        if state != self._state:
            self._state, self._since = state, time.time()
        return ShippingState.model_validate(
            {
                "state": state, "message": shipped.trouble if failing else "", "behindBytes": max(shipper.waiting, 0),
                "since": datetime.fromtimestamp(self._since, UTC).replace(microsecond=0),
            }
        )  # fmt: skip


@asynccontextmanager
async def handing_over(
    handing: Handing,
    recorder: FileRecorder,
    counters: Counters,
    *,
    gateway: str,
    instance: str,
    address: str = "",
    left: Sequence[Path] = (),
) -> AsyncIterator[Handed]:
    """For as long as the block lasts, then until the rest is in the store or the grace is over. The recorder is to
    be closed inside of the block. `left`: indexes of records that nobody writes any more."""
    counters.record_held = lambda: recorder.held
    counters.record_freed = lambda: recorder.freed
    recorder.spool(handing.keep if handing.to is not None else None, handing.limit)
    if handing.to is None:
        yield Handed(None)
        return
    from ostiary_gateway.audit.shipper import Left, Shipper, Who

    sources: list[Source] = [recorder]
    for path in left:
        try:
            sources.append(await asyncio.to_thread(Left, path))
        except (OSError, ValueError) as problem:
            log.warning("a record of an earlier worker is not handed over", record=path.name, problem=str(problem))
    shipper = Shipper(handing.to, sources, Who(gateway, instance, address))
    counters.ship_waiting = lambda: max(shipper.waiting, 0)
    counters.ship_lag = lambda: shipper.lag
    counters.ship_batches = lambda: shipper.shipped.batches
    counters.ship_bytes = lambda: shipper.shipped.bytes
    counters.ship_failures = lambda: shipper.shipped.failures
    shipper.start()
    log.info("the record is handed over", store=shipper.url, keeps=handing.keep)
    try:
        yield Handed(shipper)
    finally:
        await asyncio.to_thread(shipper.stop, handing.grace)
