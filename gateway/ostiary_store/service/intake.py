"""The HTTP side of taking in, as `ostiary_gateway.audit.shipping` describes it: who sends, and what comes of it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog
from aiohttp import web

from ostiary_gateway.audit.shipping import MAX_ANNOUNCEMENT, Announcement, dump_place
from ostiary_store.model import AnotherGateway, Moved, Place, RecordRef, StoreError
from ostiary_store.service.counts import Counts
from ostiary_store.service.identities import MAX_TOKEN, CannotAsk, Identities, NotAccepted, Sender

MOST: Final = 10_000
"""Records that are kept in mind; a gateway announces its record again when it is asked to."""
PATIENCE: Final = 60.0
"""Seconds for a request to come as a whole."""
WAIT: Final = "1"
"""Seconds after which a gateway should try again."""

log = structlog.get_logger(__name__)


class Taking(Protocol):
    """`ostiary_store.ingest.Ingest`."""

    async def place(self, record: RecordRef) -> Place: ...

    async def take(self, record: RecordRef, place: Place, data: bytes) -> Place: ...


class Intake:
    """The handlers. Records belong to the gateway that announced them, for as long as its token says so."""

    def __init__(
        self, ingest: Taking, identities: Identities, counts: Counts, *, max_body: int, in_flight: int
    ) -> None:
        self._ingest = ingest
        self._identities = identities
        self._counts = counts
        self._max_body = max_body
        self._most = in_flight
        self._under_way: dict[str, int] = {}
        """Bytes by gateway."""
        self._known: OrderedDict[bytes, tuple[RecordRef, Place]] = OrderedDict()
        self.trouble = ""
        """Why the store took nothing in when it was last tried; empty: it did."""

    def application(self) -> web.Application:
        """To be served."""
        made = web.Application(client_max_size=self._max_body)
        made.router.add_put("/v1/records/{uuid:[0-9a-f]{32}}", self._guarded(self._announced))
        made.router.add_post("/v1/records/{uuid:[0-9a-f]{32}}/blocks", self._guarded(self._blocks))
        return made

    def _guarded(
        self, handle: Callable[[web.Request, Sender, bytes], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def guarded(request: web.Request) -> web.Response:
            try:
                sender = await self._sender(request)
                return await handle(request, sender, bytes.fromhex(request.match_info["uuid"]))
            except web.HTTPException as refusal:
                self._counts.refuse(_REASONS.get(refusal.status, "bad request"))
                raise
            except NotAccepted as problem:
                return self._no(401, "token", f"The token is not accepted: {problem}.")
            except (CannotAsk, StoreError, TimeoutError) as problem:
                self.trouble = str(problem) or type(problem).__name__
                return self._no(503, "away", f"Not now: {self.trouble}.", {"Retry-After": WAIT})

        return guarded

    def _no(self, status: int, why: str, text: str, headers: dict[str, str] | None = None) -> web.Response:
        self._counts.refuse(why)
        return web.Response(status=status, text=text + "\n", headers=headers)

    async def _sender(self, request: web.Request) -> Sender:
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
            raise NotAccepted("there is none; a gateway gets its own by --ship-token")
        return await self._identities.identify(token.strip())

    async def _announced(self, request: web.Request, sender: Sender, uuid: bytes) -> web.Response:
        body = await self._body(request, MAX_ANNOUNCEMENT)
        try:
            told = Announcement.parse(body)
            if told.uuid != uuid:
                raise ValueError("the header is that of another record")
        except ValueError as problem:
            return self._no(400, "bad request", f"Not an announcement: {problem}.")
        if not sender.may_ship(told.gateway):
            return self._no(403, "another gateway", f"This token is not that of the gateway {told.gateway}.")
        record = RecordRef(told.uuid, told.header, told.gateway, told.instance, told.address, told.keys)
        try:
            place = await self._ingest.place(record)
        except AnotherGateway as problem:
            return self._no(403, "another gateway", f"{problem}.")
        self._stands(record, place)
        return _placed(place)

    async def _blocks(self, request: web.Request, sender: Sender, uuid: bytes) -> web.Response:
        position = request.query.get("position", "")
        if not (position.isascii() and position.isdecimal() and len(position) < 20):
            return self._no(400, "bad request", "position must be the byte where the blocks stand in the record.")
        known = self._known.get(uuid)
        if known is None or not sender.may_ship(known[0].gateway):
            return self._no(404, "unknown", "Announce the record first.")
        record, place = known
        size = request.content_length or 0
        # Half is the most for one, so that a gateway that sends slowly or much leaves room for the others.
        mine = self._under_way.get(record.gateway, 0)
        if (mine and mine + size > self._most // 2) or (
            self._counts.in_flight and self._counts.in_flight + size > self._most
        ):
            return self._no(503, "busy", "Too much is under way.", {"Retry-After": WAIT})
        self._counts.in_flight += size
        self._under_way[record.gateway] = mine + size
        try:
            data = await self._body(request, self._max_body)
            return await self._taken(record, place, int(position), data)
        finally:
            self._counts.in_flight -= size
            self._under_way[record.gateway] -= size
            if not self._under_way[record.gateway]:
                del self._under_way[record.gateway]

    async def _taken(self, record: RecordRef, place: Place, position: int, data: bytes) -> web.Response:
        try:
            if place.position != position:
                place = await self._ingest.place(record)
            if place.position != position:
                raise Moved(place)
            begun = time.monotonic()
            # A gateway that goes away must not stop what is half done.
            end = await asyncio.shield(self._ingest.take(record, place, data))
        except Moved as moved:
            self._counts.refuse("elsewhere")
            self._stands(record, moved.place)
            return _placed(moved.place, 409)
        except AnotherGateway as problem:
            return self._no(403, "another gateway", f"{problem}.")
        except ValueError as problem:
            log.error(
                "blocks of a record cannot be taken in", gateway=record.gateway, instance=record.instance,
                position=position, problem=str(problem),
            )  # fmt: skip
            return self._no(422, "damaged", f"These blocks cannot be taken in: {problem}.")
        counts = self._counts
        if end.position > position:
            counts.batches += 1
            counts.received += end.position - position
            counts.seconds += time.monotonic() - begun
            counts.last = time.time()
            self.trouble = ""
        elif data:
            return self._no(422, "damaged", "These are no whole blocks.")
        self._stands(record, end)
        return _placed(end)

    def _stands(self, record: RecordRef, place: Place) -> None:
        self._known[record.uuid] = record, place
        self._known.move_to_end(record.uuid)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        self._counts.heard(record.uuid, record.gateway, record.instance, place.position)

    async def _body(self, request: web.Request, most: int) -> bytes:
        if request.content_length is None:
            raise web.HTTPLengthRequired(text="Say how long it is.\n")
        if request.content_length > most:
            text = f"More than the {most} bytes that are taken at once: raise maxBody in the store's settings.\n"
            raise web.HTTPRequestEntityTooLarge(most, request.content_length, text=text)
        async with asyncio.timeout(PATIENCE):
            return await request.read()


_REASONS: Final = {413: "too large", 404: "unknown", 405: "bad request"}


def _placed(place: Place, status: int = 200) -> web.Response:
    return web.Response(status=status, body=dump_place(*place), content_type="application/json")
