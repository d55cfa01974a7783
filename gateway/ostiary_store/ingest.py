"""Takes blocks of gateways' records into a store: each once, in order, whoever sends them and however often."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from ostiary_store.digest import NOBODY, Digest, Unknown, Verdict, start, verdict
from ostiary_store.model import Batch, Moved, Place, RecordRef
from ostiary_store.objects import Bucket, put_parts
from ostiary_store.sealed import Prover
from ostiary_store.store import Store

VERDICTS: Final = 50_000
"""Decisions of one record that are kept in mind."""

RECORDS: Final = 1000
"""Records that are kept in mind. The others are read from the store again when something comes."""

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Known:
    """A record that this process takes in."""

    lock: asyncio.Lock
    verdicts: dict[bytes, Verdict]
    digest: Digest | None = None
    edited: set[str] = field(default_factory=set)
    """Sessions whose rows somebody else has written to: they have no proof any more."""


class Ingest:
    """One for each store in a process. Several processes may take in the same record: then each of them sometimes hears
    Moved, and goes on from there."""

    def __init__(self, store: Store, prover: Prover | None = None, bucket: Bucket | None = None) -> None:
        """prover: proves that the rows of sessions were written here (see sealed.py). bucket: where the bodies of parts
        go, before the rows that name them are committed."""
        self.store = store
        self._bucket = bucket
        self._prover = prover
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        # A few KiB of blocks may become half a GiB while they are digested: one after the other.
        self._digesting = asyncio.Lock()

    async def place(self, record: RecordRef) -> Place:
        """Where the record stands: from there its blocks are wanted. StoreError."""
        known = self._of(record)
        async with known.lock:
            return await self._place(known, record)

    async def take(self, record: RecordRef, place: Place, data: bytes) -> Place:
        """Take in the whole blocks that `data` begins with, which stand at `place` in the record's file. When this
        returns they are durable in the store, and it stands at what is returned.

        Moved: they are not wanted, or not yet; it says what is. Damaged: they do not follow. StoreError: try again.
        """
        known = self._of(record)
        async with known.lock:
            digest = known.digest
            if digest is None or digest.place != place:
                stands = await self._place(known, record)
                if stands != place:
                    raise Moved(stands)
                digest = await self._load(known, record, stands)
            digest.announced(record)
            known.digest = None  # until the store has it
            try:
                batch = await self._digested(digest, data)
            except Unknown as unknown:
                await self._learn(known, unknown.ids)
                digest = await self._load(known, record, place)
                batch = await self._digested(digest, data)
            if batch.end == batch.start:
                known.digest = digest
                return place
            await self._append(known, batch)
            known.digest = digest
            if len(known.verdicts) > VERDICTS:
                known.verdicts.clear()
            return batch.end

    async def _digested(self, digest: Digest, data: bytes) -> Batch:
        async with self._digesting:
            return await asyncio.to_thread(digest.take, data)

    async def _append(self, known: _Known, batch: Batch) -> None:
        if self._prover is not None:
            for rows in (batch.opened, batch.sessions):
                for at, row in enumerate(rows):
                    if row.id not in known.edited:
                        rows[at] = replace(row, proof=self._prover.prove(row))
        if self._bucket is not None and batch.parts:
            await put_parts(self._bucket, batch)
        await self.store.append(batch)

    def _of(self, record: RecordRef) -> _Known:
        known = self._known.get(record.uuid)
        if known is None:
            known = self._known[record.uuid] = _Known(asyncio.Lock(), {})
        self._known.move_to_end(record.uuid)
        if len(self._known) > RECORDS:
            idle = next((uuid for uuid, one in self._known.items() if one is not known and not one.lock.locked()), None)
            if idle is not None:
                del self._known[idle]
        return known

    async def _place(self, known: _Known, record: RecordRef) -> Place:
        place = await self.store.record(record)
        if not place.position:
            place = start(record)
        if known.digest is not None and known.digest.place != place:
            known.digest = None
        return place

    async def _load(self, known: _Known, record: RecordRef, place: Place) -> Digest:
        sessions = await self.store.open_sessions(record)
        if self._prover is not None:
            for row in sessions:
                if row.id not in known.edited and not self._prover.holds(row):
                    log.error("the row of a session was not written by the store", session=row.id)
                    known.edited.add(row.id)
        sessions = [replace(row, proof=b"") for row in sessions]
        running = await self.store.open_requests(record) if sessions else ()
        if sessions:
            log.info("going on with a record", gateway=record.gateway, instance=record.instance, sessions=len(sessions))
        return Digest(record, place, sessions, running, known.verdicts)

    async def _learn(self, known: _Known, ids: frozenset[bytes]) -> None:
        found = await self.store.decisions([ident.hex() for ident in ids])
        for ident in ids:
            fields = found.get(ident.hex())
            if fields is None:
                log.warning("a decision is in no record", decision=ident.hex())
            known.verdicts[ident] = NOBODY if fields is None else verdict(ident, fields)
