"""Checks a whole store against itself, its seals and its anchors: what was changed, removed or moved is named.

It streams: sessions, their chunks, their requests and their sealed heads come in the same order, a day at a time, and
are compared as they pass. What must be remembered lies in a temporary database.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ostiary_store.anchored import Anchored
from ostiary_store.gateway_seals import key_ids
from ostiary_store.model import ALL, RequestRow, SessionRow, Tally
from ostiary_store.sealed import Head
from ostiary_store.store import Store
from ostiary_store.verify_expired import Expired
from ostiary_store.verify_ledger import Ledger, day_of
from ostiary_store.verify_report import StoreReport
from ostiary_store.verify_seals import SealChain
from ostiary_store.verify_session import Finding, SessionCheck

_T = TypeVar("_T")

AGAIN: Final = 5
"""Times that a session is looked at again that changes while it is looked at."""

WAITING: Final = 100_000
"""Sessions that wait for a seal, of which it is looked up whether they really do."""

Progress = Callable[[int, int], None]
"""Sessions and requests so far."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to check."""

    quick: bool = False
    """Links, seals and rows of sessions only: no bodies, no requests, no tallies."""
    since: float | None = None
    """Sessions of this day and later ones."""
    session: str = ""
    """This one alone, by its id or the beginning of it."""

    @property
    def all(self) -> bool:
        return self.since is None and not self.session


async def verify_store(
    store: Store,
    wanted: Wanted,
    *,
    keys: Mapping[str, Ed25519PublicKey] | None = None,
    anchors: Sequence[Anchored] = (),
    progress: Progress = lambda _sessions, _requests: None,
    bucket: bool = True,
) -> StoreReport:
    """bucket: whether the store was opened with the bucket that its long responses may lie in.

    StoreError if the store cannot be asked; LookupError if there is no such session."""
    ledger = Ledger()
    try:
        return await _Verification(store, wanted, keys, anchors, ledger, progress, bucket).run()
    finally:
        ledger.close()


class _Stream(Generic[_T]):
    """Rows in the order of their sessions, of which the next one is known."""

    def __init__(self, rows: AsyncIterator[_T], name: Callable[[_T], str]) -> None:
        self._rows = rows
        self._name = name
        self.next: _T | None = None

    async def start(self) -> None:
        self.next = await anext(self._rows, None)

    @property
    def session(self) -> str | None:
        return None if self.next is None else self._name(self.next)

    async def of(self, session: str) -> AsyncIterator[_T]:
        """Those of this session, which is the next one."""
        while self.next is not None and self._name(self.next) == session:
            row = self.next
            self.next = await anext(self._rows, None)
            yield row


class _Verification:
    def __init__(
        self,
        store: Store,
        wanted: Wanted,
        keys: Mapping[str, Ed25519PublicKey] | None,
        anchors: Sequence[Anchored],
        ledger: Ledger,
        progress: Progress,
        bucket: bool,
    ) -> None:
        self._store = store
        self._wanted = wanted
        self._ledger = ledger
        self._progress = progress
        self._body_of = store.part_body if bucket else None
        self._elsewhere = 0
        self.report = StoreReport(quick=wanted.quick)
        self._name = wanted.session
        since = wanted.since
        self._since = -math.inf if since is None else day_of(since)
        self._read = False
        """The sessions have passed by: whatever is sealed of others is of later ones."""
        self._seals = SealChain(self.report, ledger, keys, anchors, self._keeps)
        self._expired = Expired(self.report, ledger)
        self._decompressor = zstandard.ZstdDecompressor()
        self._gaps = False
        self._records: dict[str, int] = {}

    async def run(self) -> StoreReport:
        report, wanted, store = self.report, self._wanted, self._store
        days: list[int] | None = None
        if wanted.session:
            row = await store.session(wanted.session, ALL)
            self._name, days = row.id, [day_of(row.opened)]
        self._records = {str(each["uuid"]): int(str(each["position"])) for each in await store.records()}
        await self._seals.take(store.seals())
        if not wanted.quick:
            await self._decisions()
        if days is None:
            known = {*await store.days(), *self._ledger.days()}
            days = sorted(day for day in known if wanted.since is None or day >= day_of(wanted.since))
        for day in days:
            await self._day(day)
        self._read = True
        # What was sealed and stated meanwhile explains what is newer than the seals that were read at first.
        waiting = {row.id for row in await store.unsealed(WAITING)}
        await self._seals.take(store.seals(self._seals.number))
        self._seals.finish()
        self._waiting(waiting)
        self._expired.judge(days, self._seals)
        if wanted.all:
            await self._compare_records()
            if not wanted.quick:
                await self._tallies()
                self._missing_numbers()
        if self._elsewhere:
            report.note(
                f"{self._elsewhere} parts of long responses lie in a bucket that was not looked at: give --config "
                "with the settings of the service"
            )
        if not report.seals:
            report.note("there is no seal: what a chain of links shows by itself was checked, and nothing is signed")
        return report

    def _keeps(self, head: Head) -> bool:
        """Whether a head in a seal is about what is looked at."""
        if head.opened < self._since or (self._name and head.session != self._name):
            return False
        return not self._read or self._ledger.knows(day_of(head.opened), head.session)

    async def _decisions(self) -> None:
        batch: list[tuple[bytes, bytes]] = []
        async for each in self._store.scan_decisions():
            batch.append(each)
            if len(batch) >= 1000:
                self._ledger.add_decisions(batch)
                batch.clear()
        self._ledger.add_decisions(batch)

    # Sessions

    async def _day(self, day: int) -> None:
        store, name, quick = self._store, self._name, self._wanted.quick
        sessions = _Stream(store.scan_sessions(day, name), lambda row: row.id)
        rows = _Stream(store.scan_rows(day, name, bodies=not quick), lambda row: row.session)
        found = _none() if quick else store.scan_requests(day, name)
        requests = _Stream(found, lambda row: row.session)
        for stream in (sessions, rows, requests):
            await stream.start()
        sealed = iter(self._ledger.sessions(day))
        head = next(sealed, None)
        while names := [
            name for name in (sessions.session, rows.session, requests.session, head) if name is not None
        ]:  # fmt: skip
            current = min(names)
            row = None
            if sessions.session == current:
                async for each in sessions.of(current):
                    row = each
            if head == current:
                head = next(sealed, None)
            if row is None and rows.session != current and requests.session != current:
                continue  # all of it is gone: _expired says whether it may be
            if row is None and current.startswith("#"):
                await self._nobodys(current, rows.of(current), requests.of(current))
                continue
            check = self._check(day, current, row, requests.of(current), counting=True)
            async for stored in rows.of(current):
                await check.take(stored)
            await check.finish()
            async for _ in requests.of(current):
                pass
            findings = check.findings
            if findings:
                findings = await self._again(day, current, row, check)
            for seq, what in findings:
                self.report.add(current, seq, what)
            self._count(day, row, check, removed=row is None)
            self._progress(self.report.sessions, self.report.requests)
            await asyncio.sleep(0)

    async def _nobodys(self, name: str, *rows: AsyncIterator[object]) -> None:
        """Rows of a session that is not in the list, and of which the database knows a number only."""
        count = 0
        for each in rows:
            async for _ in each:
                count += 1
        what = f"{count} rows belong to a session, number {name[1:]} in the database, that is not in the list"
        self.report.add("", None, f"{what}: it was removed from there, or they were added")

    def _check(
        self, day: int, name: str, row: SessionRow | None, requests: AsyncIterator[RequestRow], *, counting: bool
    ) -> SessionCheck:
        return SessionCheck(
            name, row, self._ledger.heads(day, name), requests, self._ledger, quick=self._wanted.quick,
            counting=counting, body_of=self._body_of, decompressor=self._decompressor,
        )  # fmt: skip

    async def _again(self, day: int, name: str, row: SessionRow | None, check: SessionCheck) -> list[Finding]:
        """A session that goes on while it is looked at is looked at once more, by itself."""
        findings = check.findings
        for _ in range(AGAIN):
            before = await anext(self._store.scan_sessions(day, name), None)
            if before == row and row is not None and row.state != "open":
                return findings
            found = _none() if self._wanted.quick else self._store.scan_requests(day, name)
            again = self._check(day, name, before, found, counting=False)
            async for each in self._store.scan_rows(day, name, bodies=not self._wanted.quick):
                await again.take(each)
            await again.finish()
            findings = again.findings
            if not findings or before == await anext(self._store.scan_sessions(day, name), None):
                return findings
        return findings

    def _count(self, day: int, row: SessionRow | None, check: SessionCheck, *, removed: bool) -> None:
        report = self.report
        report.sessions += not removed
        report.events += check.events
        report.requests += check.requests
        report.response_bytes += check.response_bytes
        self._gaps = self._gaps or check.gap
        self._elsewhere += check.elsewhere
        if check.bodiless:
            self._expired.bodiless(day, check.name, check.bodiless)
        if row is None:
            if check.events or check.requests:
                self._ledger.add_present(day, check.name, "", 0, check.parts > 0)
                return
            report.add(check.name, None, "there are requests of it in the search, and nothing else: they never were")
            return
        record = row.record.hex()
        self._ledger.add_present(day, check.name, record, row.sid, check.parts > 0)
        if record not in self._records:
            report.add(check.name, None, f"it belongs to the record {record}, which the store does not know")
        if not any(head.seq == row.events for head in self._ledger.heads(day, check.name)):
            self._ledger.add_waiting(check.name, row.events, row.head)

    def _waiting(self, waiting: set[str]) -> None:
        report = self.report
        for name in self._ledger.waiting():
            report.waiting += 1
            if report.seals and name not in waiting and len(waiting) < WAITING:
                report.add(name, None, "it is marked as sealed, and no seal has it as it stands")
        report.unsealed = report.waiting

    # The whole

    async def _compare_records(self) -> None:
        add = self.report.add
        records = {str(each["uuid"]): each for each in await self._store.records()}
        for uuid, (seal, head) in self._seals.records.items():
            name = f"the record {uuid} of {head.gateway}"
            row = records.get(uuid)
            if row is None:
                add("", None, f"{name} was removed; seal {seal} has it")
                continue
            position = int(str(row["position"]))
            if position < head.position:
                add("", None, f"{name} was set back to byte {position}: seal {seal} has it at {head.position}")
            elif position == head.position and (str(row["link"]), int(str(row["number"]))) != (head.link, head.number):
                add("", None, f"{name} was changed: it does not stand where seal {seal} has it")
            if str(row["gateway"]) != head.gateway:
                add("", None, f"{name} was changed: it is said to be of {row['gateway']}")

            for key in set(head.keys) - set(key_ids(row.get("keys"))):
                add("", None, f"{name} has lost its key {key}: somebody replaced the gateway's public keys")

    async def _tallies(self) -> None:
        now = {str(each["uuid"]): int(str(each["position"])) for each in await self._store.records()}
        quiet = now == self._records
        more = 0
        async for tally in self._store.scan_tallies():
            seen = self._ledger.tallied(tally)
            if tally.requests == seen or (tally.requests > seen and self._expired.covers(tally.hour)):
                continue
            if tally.requests > seen and not quiet:
                more += 1
                continue

            self.report.add("", None, f"{_of(tally)} was changed to {tally.requests}, from {seen}")
        for tally in self._ledger.untold():
            self.report.add("", None, f"{_of(tally)} was removed; {tally.requests} requests were made")
        if more:
            self.report.note(f"{more} tallies were not compared: something came in meanwhile")

    def _missing_numbers(self) -> None:
        for record, first, last in self._ledger.gaps():
            if not record:
                continue
            numbers = f"number {first} is" if first == last else f"numbers {first} to {last} are"
            what = f"sessions of the record {record} are missing: {numbers} not there and in no seal"
            if self._gaps:
                self.report.note(f"{what}; a gateway could not record everything (its disk was full)")
            else:
                self.report.add("", None, what)


async def _none() -> AsyncIterator[RequestRow]:
    nothing: tuple[RequestRow, ...] = ()
    for row in nothing:
        yield row


def _of(tally: Tally) -> str:
    hour = time.strftime("%Y-%m-%d %H:00Z", time.gmtime(tally.hour))
    what = f"{tally.action} of {tally.policy}/{tally.rule}" if tally.rule else tally.action
    return f"the tally of {hour} for {tally.connection}, {tally.username}, {what}"
