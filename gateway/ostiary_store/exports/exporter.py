"""Sends what comes into a store to one sink: each line at least once, of each record in order, for as long as it takes.

The cursor of a sink moves only when the sink has taken everything up to there. After any failure the feed is read again
from the cursor, so nothing but the cursor has to be remembered.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from ostiary_api.logs import get_logger
from ostiary_gateway.version import version
from ostiary_store.exports import jsonlines, ocsf, otlp
from ostiary_store.exports.filters import shaped, wanted
from ostiary_store.exports.item import Item
from ostiary_store.exports.items import Wanted, items
from ostiary_store.exports.sink import Answer, Sink
from ostiary_store.model import Slice, StoreError
from ostiary_store.settings import ExportSettings
from ostiary_store.store import Store

log = get_logger(__name__)

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
STANDBY: Final = 5.0
"""Seconds between looks whether another process has let go of a sink."""
AT_ONCE: Final = 200
"""Lines that get their form together."""
LEAD: Final = 60.0
"""Seconds after which the lease is taken anew: it may have been lost without a sign."""
SAVE: Final = 1000
"""Batches without a line for this sink after which the cursor is kept all the same."""


@dataclass(slots=True)
class ExportCounts:
    """Plain numbers of one sink, for metrics."""

    lines: int = 0
    bytes: int = 0
    """Of bodies, before they are compressed."""
    posts: int = 0
    failures: int = 0
    rejected: int = 0
    """Records that an OTLP receiver took and threw away, by its own word."""
    behind: float = 0.0
    """Time of the oldest line that is not taken yet, seconds since the epoch; 0: there is none."""
    last: float = 0.0
    """When the sink took something, or there was nothing to send."""
    problem: str = ""
    leads: bool = False
    """This process sends."""

    def lag(self, now: float) -> float:
        """Seconds."""
        return max(0.0, now - self.behind) if self.behind else 0.0


class _Failed(Exception):
    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass(slots=True)
class _Load:
    """What waits to be posted."""

    encoded: list[bytes] = field(default_factory=list)
    size: int = 0
    oldest: float = 0.0

    def add(self, one: bytes, at: float) -> None:
        self.encoded.append(one)
        self.size += len(one)
        self.oldest = min(self.oldest or at, at)

    def clear(self) -> None:
        self.encoded = []
        self.size, self.oldest = 0, 0.0


class Exporter:
    """`run` it beside others of the same sink: one of all processes sends."""

    def __init__(self, store: Store, settings: ExportSettings, *, pauses: tuple[float, float] | None = None) -> None:
        self.counts = ExportCounts()
        self.name = settings.name
        self._store = store
        self._settings = settings
        self._first, self._longest = pauses or (FIRST_PAUSE, LONGEST_PAUSE)
        self._pause = self._first
        self._cursor_name = f"export-{settings.name}"
        self._wanted = Wanted(settings.begun, settings.responses)
        self._encode, self._join, kind = _form(settings)
        self._sink = Sink(settings, kind)
        self._cursor: dict[str, int] = {}
        self._kept: dict[str, int] = {}

    async def run(self) -> None:
        """Until cancelled. Raises what the store does: it is started again then."""
        async with self._sink:
            while True:
                async with self._store.lease(self._cursor_name) as held:
                    if held:
                        await self._lead()
                if not held:
                    # How it stands, the process that sends says.
                    self.counts.problem, self.counts.behind = "", 0.0
                    await asyncio.sleep(STANDBY * random.uniform(0.5, 1.0))

    async def _lead(self) -> None:
        self.counts.leads = True
        until = time.monotonic() + LEAD
        try:
            while time.monotonic() < until:
                self._cursor = dict(await self._store.cursor(self._cursor_name))
                self._kept = dict(self._cursor)
                try:
                    await self._pass()
                except _Failed as failed:
                    self._fail(str(failed))
                    await asyncio.sleep(max(self._pause * random.uniform(0.5, 1.0), failed.wait or 0.0))
                    self._pause = min(self._longest, self._pause * 2)
                    continue
                self._well()
                self._pause = self._first
                await asyncio.sleep(self._settings.every)
        finally:
            self.counts.leads = False

    def _fail(self, why: str) -> None:
        self.counts.failures += 1
        if why != self.counts.problem:
            log.error(
                "an export is held up; nothing is lost: it goes on from where it is", export=self._settings.name,
                reason=why,
            )  # fmt: skip
        self.counts.problem = why

    def _well(self) -> None:
        if self.counts.problem:
            log.info("an export goes on", export=self._settings.name)
        self.counts.problem = ""
        self.counts.behind = 0.0
        self.counts.last = time.time()

    async def _pass(self) -> None:
        """All that is there now."""
        load = _Load()
        done: tuple[str, int] | None = None
        quiet = 0
        feed = cast("AsyncGenerator[tuple[str, int, Slice]]", self._store.feed(dict(self._cursor)))
        async with aclosing(feed):
            async for record, number, came in feed:
                if done is not None and done != (record, number):
                    # The batch before is whole in the load.
                    self._cursor[done[0]] = done[1]
                    quiet += 1
                    if load.size >= self._settings.batch or (quiet >= SAVE and not load.encoded):
                        await self._send(load)
                        quiet = 0
                done = record, number
                await self._take(came, load)
            if done is not None:
                self._cursor[done[0]] = done[1]
        await self._send(load)

    async def _take(self, came: Slice, load: _Load) -> None:
        follows = False
        some: list[Item] = []
        async for item in items(self._store, came, self._wanted):
            if item.kind != "response":
                follows = wanted(item, self._settings)
            if not follows:
                continue
            some.append(item)
            if len(some) >= AT_ONCE:
                await self._add(some, load)
                some = []
        await self._add(some, load)

    async def _add(self, some: Sequence[Item], load: _Load) -> None:
        # In a thread: the loop takes records in meanwhile.
        encoded = await asyncio.to_thread(self._encoded, some)
        for item, one in zip(some, encoded, strict=True):
            if one:
                load.add(one, item.at)
            if load.size >= self._settings.batch:
                # In the middle of a batch: the cursor is still before it.
                await self._send(load)

    def _encoded(self, some: Sequence[Item]) -> list[bytes]:
        return [self._encode(shaped(item, self._settings)) for item in some]

    async def _send(self, load: _Load) -> None:
        """Raises _Failed. Then the cursor is where it was, and all after it comes again."""
        if load.encoded:
            self.counts.behind = load.oldest
            await self._post(load.encoded)
            load.clear()
        if self._cursor != self._kept:
            try:
                await self._store.set_cursor(self._cursor_name, dict(self._cursor))
            except StoreError as problem:
                raise _Failed(f"the store does not keep how far it is: {problem}") from problem
            self._kept = dict(self._cursor)

    async def _post(self, encoded: Sequence[bytes]) -> None:
        body = self._join(encoded)
        answer: Answer = await self._sink.post(body)
        self.counts.posts += 1
        if answer.too_large and len(encoded) > 1:
            middle = len(encoded) // 2
            await self._post(encoded[:middle])
            await self._post(encoded[middle:])
            return
        if not answer.ok:
            raise _Failed(answer.why, answer.wait)
        if answer.rejected:
            self.counts.rejected += answer.rejected
            log.error(
                "the receiver of an export threw records away; it must not get them again", reason=answer.why,
                export=self._settings.name, records=answer.rejected,
            )  # fmt: skip
        self.counts.lines += len(encoded)
        self.counts.bytes += len(body)
        self.counts.last = time.time()


Encode = Callable[[Item], bytes]
Join = Callable[[Sequence[bytes]], bytes]


def _form(settings: ExportSettings) -> tuple[Encode, Join, str]:
    ours = version()
    match settings.type:
        case "JSONLines":
            return jsonlines.encode, jsonlines.join, jsonlines.CONTENT_TYPE
        case "OCSF":
            return partial(ocsf.encode, product=ours), ocsf.join, ocsf.CONTENT_TYPE
    return otlp.encode, partial(otlp.join, version=ours), otlp.CONTENT_TYPE
