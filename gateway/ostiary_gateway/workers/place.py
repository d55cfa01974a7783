"""Which worker of a gateway this process is, and the way to the others. A gateway in one process is alone."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from . import sockets

log = structlog.get_logger(__name__)

MAX_WORKERS: Final = 127
"""A worker's number has to fit into seven bits of a process id (`Place.process_id`)."""
_SHIFT: Final = 24


@dataclass(frozen=True, slots=True)
class Place:
    """`worker` counts from 1; 0 is the only process of its gateway. `data`: where the sockets of the others are."""

    worker: int = 0
    data: Path = Path()
    workers: int = 1

    @property
    def shares_ports(self) -> bool:
        return self.worker > 0

    @property
    def audit(self) -> str:
        """The name of this process's record; each has its own."""
        return "audit.db" if self.worker <= 1 else f"audit-{self.worker}.db"

    def others_serve(self) -> bool:
        """True if another worker of this gateway is there, so that its ports are rightly taken."""
        return any(sockets.listens(sockets.socket_of(self.data, other)) for other in self._others())

    @property
    def others(self) -> list[Path]:
        """The sockets of the other workers of this gateway."""
        return [sockets.socket_of(self.data, other) for other in self._others()] if self.shares_ports else []

    def _others(self) -> Iterator[int]:
        return (number for number in range(1, self.workers + 1) if number != self.worker)

    def process_id(self) -> int:
        """A number of 31 bits for a session's cancel key. It names the worker, whichever of them is asked to cancel.

        In protocol 3.0 a key has 4 bytes besides (BackendKeyData), so what cannot be guessed are 56 bits with these.
        """
        if not self.shares_ports:
            return secrets.randbits(31)
        return self.worker << _SHIFT | secrets.randbits(_SHIFT)

    async def pass_on(self, connection: str, process: int, message: bytes) -> None:
        """A client's message for the session with this process id goes to the worker that has it, if it is another.

        `connection` is `namespace/name`. Says nothing of whether there is such a session, as PostgreSQL does.
        """
        worker = process >> _SHIFT
        if not self.shares_ports or worker == self.worker or not 1 <= worker <= self.workers:
            return
        body = json.dumps({"connection": connection, "message": message.hex()}).encode()
        try:
            await sockets.ask(sockets.socket_of(self.data, worker), "POST", "/pass-on", body)
        except (OSError, ValueError, TimeoutError, asyncio.LimitOverrunError) as problem:
            log.warning("another worker cannot be reached", other=worker, problem=str(problem))


ALONE: Final = Place()
