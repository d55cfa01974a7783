"""Follows the records of a data directory into a store, also while gateways write them: standalone, and `--follow`.

Only what is on this disk for good is taken in: a machine without power then knows no less than the store.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from ostiary_gateway.audit.blocks import Log
from ostiary_gateway.audit.endmark import EndMark
from ostiary_gateway.audit.index import connect_readonly, indexed
from ostiary_gateway.audit.shipping import BATCH, first_size, uuid_of, whole_blocks
from ostiary_store.digest import Damaged
from ostiary_store.ingest import Ingest
from ostiary_store.model import AnotherGateway, Moved, Place, RecordRef, StoreError

PAUSE: Final = 0.1
"""Seconds between looks."""
SEEK: Final = 1.0
"""Seconds between looks for new records, and into the index of a record that has no mark."""
BACKOFF: Final = (0.5, 15.0)

_NAME: Final = re.compile(r"audit(?:-([2-9]|[1-9][0-9]+))?\.log")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far it came: bytes that the store has, of those that are there."""

    taken: int
    there: int


class _Tail:
    """One record, and how far the store has it."""

    def __init__(self, path: Path, gateway: str) -> None:
        self.path = path
        self.log = Log.open(path)
        self.uuid = uuid_of(self.log.header)
        host = platform.node() or "localhost"
        instance = host + path.stem.removeprefix("audit")
        self.ref = RecordRef(self.uuid, self.log.header, gateway or host, instance, keys=_keys(path))
        self.place: Place | None = None
        self.trouble = ""
        self.wait = 0.0
        """Seconds until it is tried again; they grow."""
        self.again = 0.0
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._mark: EndMark | None = None
        self._indexed = 0
        self._sought = -SEEK
        self._synced = 0

    def close(self) -> None:
        self.log.close()
        os.close(self._descriptor)
        if self._mark is not None:
            self._mark.close()

    def end(self) -> int:
        """Where it ends; what is before that stays as it is."""
        now = time.monotonic()
        if self._mark is None and now - self._sought >= SEEK:
            self._mark = EndMark.find(self.path, self.uuid)
        marked = self._mark.position if self._mark is not None else None
        if (marked is None or marked < self.log.size) and now - self._sought >= SEEK:
            # The gateway that wrote the mark may have gone, and the next one could make none.
            self._sought = now
            self._indexed = self._by_index()
        return max(marked or 0, self._indexed)

    def _by_index(self) -> int:
        try:
            connection = connect_readonly(self.path.with_suffix(".db"))
        except FileNotFoundError:
            return self.log.size  # a copy of the record alone, which nobody writes
        except (ValueError, sqlite3.Error):
            return self._indexed
        try:
            return indexed(connection).position
        except sqlite3.Error:
            return self._indexed
        finally:
            connection.close()

    def waiting(self) -> int:
        """Bytes that the store does not have."""
        return max(0, self.end() - (self.place.position if self.place is not None else 0))

    def next(self) -> bytes:
        """The next whole blocks, on the disk for good; empty if there are none. OSError; ValueError: damaged."""
        assert self.place is not None
        start, end = self.place.position, min(self.end(), self.log.size)
        if start >= end:
            return b""
        first = self.log.first()
        if start < first:
            raise ValueError(
                f"the beginning of {self.path.name} was handed over to another store and is not here any more. "
                "Ask that one: --store URL"
            )
        if end > self._synced:
            os.fdatasync(self._descriptor)
            self._synced = end
        data = self.log.read(start, min(BATCH, end - start))
        size = whole_blocks(data)
        if size == 0 and len(data) < first_size(data) <= end - start:
            data = self.log.read(start, first_size(data))
            size = whole_blocks(data)
        if size < 0:
            raise ValueError(f"{self.path.name} is damaged at byte {start}. See: ostiary verify")
        return data[:size]

    def failed(self, what: str) -> None:
        """It is tried again later, and later each time."""
        if what != self.trouble:
            log.warning("a record cannot be taken into the store", record=str(self.path), trouble=what)
        self.trouble = what
        self.wait = min(max(self.wait * 2, BACKOFF[0]), BACKOFF[1])
        self.again = time.monotonic() + self.wait
        self.place = None


class Follower:
    """`run` follows for good; `catch_up` takes in what is there now. One task at a time."""

    def __init__(self, data: Path, ingest: Ingest, *, gateway: str = "") -> None:
        """data: a gateway's data directory. gateway: `namespace/name`; the host's name if it is empty."""
        self._data = data
        self._ingest = ingest
        self._gateway = gateway
        self._tails: dict[Path, _Tail] = {}
        self._sought = -SEEK
        self._taken = 0

    async def __aenter__(self) -> Follower:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing of it may run any more."""
        for tail in self._tails.values():
            tail.close()
        self._tails.clear()

    @property
    def troubles(self) -> dict[str, str]:
        """By the name of a record: why it is not taken in just now."""
        return {path.name: tail.trouble for path, tail in self._tails.items() if tail.trouble}

    @property
    def behind(self) -> int:
        """Bytes that the store does not have."""
        return sum(tail.waiting() for tail in self._tails.values())

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                if not await self._round():
                    await asyncio.sleep(PAUSE)
        finally:
            self.close()

    async def catch_up(self, told: Callable[[Progress], None] | None = None) -> None:
        """Take in all that is there now; what grows meanwhile need not be. StoreError or ValueError with what is in the
        way."""
        self._sought = -SEEK
        self._seek()
        ends = {path: tail.end() for path, tail in self._tails.items()}
        while True:
            await self._round()
            for path in ends:
                tail = self._tails.get(path)
                if tail is not None and tail.trouble:
                    raise StoreError(tail.trouble)
            places = [(self._tails[path].place, end) for path, end in ends.items() if path in self._tails]
            taken = sum(min(place.position, end) for place, end in places if place is not None)
            there = sum(end for _, end in places)
            if told is not None:
                told(Progress(taken, there))
            if taken >= there:
                return
            if not any(place is not None and place.position < end for place, end in places):
                await asyncio.sleep(PAUSE)

    async def _round(self) -> bool:
        """One stretch of each record. Whether there may be more."""
        now = time.monotonic()
        if now - self._sought >= SEEK:
            self._sought = now
            self._seek()
        more = False
        for tail in list(self._tails.values()):
            if tail.again <= now and (tail.place is None or tail.waiting()):
                more = await self._some(tail) or more
        return more

    async def _some(self, tail: _Tail) -> bool:
        """Whether something was taken in."""
        try:
            if tail.place is None:
                tail.place = await self._stands(tail)
            data = await asyncio.to_thread(tail.next)
            if not data:
                return False
            place = await self._ingest.take(tail.ref, tail.place, data)
            moved = place != tail.place
            tail.place = place
        except Moved as error:
            tail.place = error.place  # another process takes it in too
            return True
        except Damaged as error:
            tail.failed(f"{tail.path.name} is not what a gateway wrote: {error}. See: ostiary verify")
            return False
        except (StoreError, ValueError, OSError) as error:
            tail.failed(str(error))
            return False
        tail.trouble, tail.wait = "", 0.0
        return moved

    async def _stands(self, tail: _Tail) -> Place:
        try:
            place = await self._ingest.place(tail.ref)
        except AnotherGateway:
            # The machine was given another name since. Who can write here is trusted with it.
            known = {each["uuid"]: each for each in await self._ingest.store.records()}
            gateway = known[tail.uuid.hex()]["gateway"]
            tail.ref = RecordRef(tail.uuid, tail.ref.header, str(gateway), tail.ref.instance, keys=tail.ref.keys)
            place = await self._ingest.place(tail.ref)
        end = tail.end()
        if place.position > end:
            raise ValueError(
                f"the store has {tail.path.name} up to byte {place.position}, and here it ends at {end}: an older copy "
                "was put back. Move the store's file away; it is made anew from the record"
            )
        if tail.log.link_before(place.position) != place.link and place.position >= tail.log.first():
            raise ValueError(
                f"{tail.path.name} and what the store has of it differ before byte {place.position}. "
                "See: ostiary verify"
            )
        return place

    def _seek(self) -> None:
        """Records that came, and those that went or were put in the place of others."""
        try:
            found = sorted(path for path in self._data.iterdir() if _NAME.fullmatch(path.name))
        except OSError:
            found = []
        for path in [path for path in self._tails if path not in found or _another(self._tails[path], path)]:
            self._tails.pop(path).close()
        for path in found:
            if path not in self._tails:
                # A gateway that just starts has not written its header yet.
                with suppress(OSError, ValueError):
                    self._tails[path] = _Tail(path, self._gateway)


def _another(tail: _Tail, path: Path) -> bool:
    """Whether another file stands there now."""
    try:
        with path.open("rb") as file:
            return file.read(len(tail.ref.header)) != tail.ref.header
    except OSError:
        return True


def _keys(path: Path) -> tuple[str, ...]:
    """The public keys beside it."""
    try:
        return tuple(path.with_suffix(".pub").read_text("ascii").splitlines())
    except (OSError, ValueError):
        return ()
