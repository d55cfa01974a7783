"""Bundles from files and directories: loaded once, then again whenever something changed and has settled.

Changes are found by looking at the files' status once a second. That sees what notification may miss: editors that
rename, ConfigMap mounts that swap a link, network file systems, and files that links lead to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path

from ostiary_gateway.feed import files
from ostiary_gateway.feed.loading import Loaded, Rejected, compile_texts
from ostiary_gateway.feed.second_process import SecondProcess
from ostiary_policy import second_parser
from ostiary_policy.bundle import Bundle
from ostiary_policy.testing import FactSource

INTERVAL = 1.0
"""Seconds between two looks."""

SETTLED = 0.5
"""Seconds without a further change before files are read: half of a copied directory is no bundle."""


class DirectoryFeed:
    """Loads bundles from the same paths, again and again. One task may use it."""

    def __init__(
        self,
        paths: Sequence[Path],
        *,
        fact_sources: Mapping[str, FactSource] | None = None,
        second: SecondProcess | None = None,
        interval: float = INTERVAL,
        settled: float = SETTLED,
    ) -> None:
        self._paths = tuple(paths)
        self._fact_sources = fact_sources
        self._second = second or SecondProcess()
        self._interval = interval
        self._settled = settled
        self._seen: files.Signature | None = None
        self._read: files.Files | None = None
        self._good: Bundle | None = None
        self._poked = asyncio.Event()

    @property
    def trouble(self) -> str:
        """Empty: what cannot be read is told as a change that was refused."""
        return ""

    async def start(self) -> None:
        """Nothing: files are looked at when changes are asked for."""

    async def close(self) -> None:
        """Nothing."""

    def poke(self) -> None:
        """Look now, and load even if nothing seems to have changed."""
        self._poked.set()

    async def load(self) -> Loaded | Rejected:
        """Load what is there now. The last bundle that was loaded is what a policy's last accepted revision is from."""
        # Off the event loop: sessions go on while a bundle is compiled.
        self._seen, self._read, outcome = await asyncio.to_thread(self._load)
        if isinstance(outcome, Loaded):
            self._good = outcome.bundle
        return outcome

    async def changes(self) -> AsyncGenerator[Loaded | Rejected, None]:
        """Every change since the last load, as a new bundle or as why there is none. Does not end by itself."""
        while True:
            forced = await self._pause(self._interval)
            seen = await asyncio.to_thread(files.signature, self._paths)
            if seen == self._seen and not forced:
                continue
            seen = await self._settle(seen)
            if not forced and await asyncio.to_thread(files.read, self._paths) == self._read:
                self._seen = seen
                continue
            yield await self.load()

    def _load(self) -> tuple[files.Signature, files.Files, Loaded | Rejected]:
        # The signature is taken first: what changes while we read differs from it, and is loaded next time.
        seen = files.signature(self._paths)
        read = files.read(self._paths)
        try:
            with second_parser.asked_by(self._second):
                outcome = compile_texts(read.texts, read.problems, previous=self._good, fact_sources=self._fact_sources)
        finally:
            self._second.stop()
        return seen, read, outcome

    async def _settle(self, seen: files.Signature) -> files.Signature:
        while True:
            await asyncio.sleep(self._settled)
            now = await asyncio.to_thread(files.signature, self._paths)
            if now == seen:
                return seen
            seen = now

    async def _pause(self, seconds: float) -> bool:
        """Wait, or less if poked. Whether it was."""
        try:
            await asyncio.wait_for(self._poked.wait(), seconds)
        except TimeoutError:
            return False
        self._poked.clear()
        return True
