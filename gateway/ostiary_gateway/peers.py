"""The other pods of the same gateway: a CancelRequest that came to the wrong one is passed on to them.

A client opens another connection to cancel, and its Service may send that to any replica. Only the replica that has
the session knows the key. So a key that is not known here goes to all others, at the address at which they are probed;
what was passed on is not passed on again.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from ostiary_api.gateway_state import PASSED_ON
from ostiary_gateway.admin.http import Handler, Request, Response
from ostiary_gateway.workers.place import Place
from ostiary_gateway.workers.sockets import TIMEOUT, ask_at

log = structlog.get_logger(__name__)

MOST: Final = 16
"""Messages that may be under way to the others; more are dropped, as PostgreSQL drops a wrong key: in silence."""
Take = Callable[[str, bytes], Awaitable[None]]
"""What is done with a message: it gets the Connection's `namespace/name` too."""


@dataclass(frozen=True, slots=True)
class PeerPlace(Place):
    """A gateway among its replicas. The addresses of `hosts` are those of all, this one's `own` among them."""

    hosts: tuple[str, ...] = ()
    port: int = 0
    own: frozenset[str] = frozenset()
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(MOST), compare=False, repr=False)

    async def pass_on(self, connection: str, process: int, message: bytes) -> None:
        """To all others, whichever of them has the session. Says nothing of whether there is one."""
        if self._room.locked():
            log.warning("too many cancel requests for other replicas; one is dropped", connection=connection)
            return
        async with self._room:
            try:
                async with asyncio.timeout(TIMEOUT):
                    others = await self._addresses()
            except (OSError, TimeoutError) as problem:
                log.warning("the other replicas are not known", hosts=self.hosts, problem=repr(problem))
                return
            await asyncio.gather(*(self._tell(other, packed(connection, message)) for other in others))

    async def _addresses(self) -> list[str]:
        loop = asyncio.get_running_loop()
        found: set[str] = set()
        for host in self.hosts:
            found |= {
                str(address[0]) for *_, address in await loop.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
            }
        return sorted(found - self.own)

    async def _tell(self, address: str, body: bytes) -> None:
        try:
            await ask_at(address, self.port, "POST", PASSED_ON, body)
        except (OSError, ValueError, TimeoutError, asyncio.LimitOverrunError) as problem:
            log.warning("another replica cannot be reached", address=address, problem=repr(problem))


def packed(connection: str, message: bytes) -> bytes:
    """A message of a client as a request's body. `connection` is `namespace/name`."""
    return json.dumps({"connection": connection, "message": message.hex()}).encode()


def unpacked(body: bytes) -> tuple[str, bytes] | None:
    """Connection and message; None if it is no such body."""
    try:
        told = json.loads(body)
        return str(told["connection"]), bytes.fromhex(told["message"])
    except (ValueError, TypeError, LookupError):
        return None


def receiver(take: Take) -> Handler:
    """The other end, for the admin address."""

    async def handle(request: Request) -> Response:
        body = unpacked(request.body)
        if body is None:
            return Response("not a message that is passed on\n", 400)
        await take(*body)
        return Response("done\n")

    return handle
