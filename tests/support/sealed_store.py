"""A store with a real record in it, sealed; and somebody who may write its database with SQL."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncpg

from ostiary_gateway.audit.event import SessionOpened, SessionRecord
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_policy.decision import Action, Decision, Matched, RuleRef
from ostiary_store.anchored import Anchored
from ostiary_store.digest import start
from ostiary_store.ingest import Ingest
from ostiary_store.model import Batch, RecordRef
from ostiary_store.objects import Bucket
from ostiary_store.opening import open_store
from ostiary_store.sealing import Sealer
from ostiary_store.signing import StoreKey
from ostiary_store.store import Store
from ostiary_store.verify import Wanted, verify_store
from ostiary_store.verify_report import StoreReport

READS = RuleRef("shop", "agents", "reads", "sha256:1")
DROPS = RuleRef("shop", "agents", "no-drop", "sha256:1")
TRIAL = RuleRef("shop", "trial", "no-select", "sha256:1")
ALLOW = Decision(Action.ALLOW, READS, "", matched=(Matched(READS, "Allow", True, 0), Matched(TRIAL, "Deny", False, 0)))
DENY = Decision(Action.DENY, DROPS, "Dropping is not allowed.", matched=(Matched(DROPS, "Deny", True, 0),))


class Gateway:
    """Records for real, and hands its record over."""

    def __init__(self, folder: Path, recorder: FileRecorder) -> None:
        self.recorder = recorder
        self._folder = folder
        self.sessions: dict[str, SessionRecord] = {}
        header = (folder / "audit.log").read_bytes()[:64]
        keys = tuple((folder / "audit.pub").read_text().splitlines())
        self.ref = RecordRef(header[16:32], header, "shop/app-db", "app-db-0", keys=keys)

    @classmethod
    async def open(cls, folder: Path) -> Gateway:
        return cls(folder, await FileRecorder.open(folder / "audit.db"))

    def session(self, name: str, requests: int, *, retention: dict[str, float] | None = None, size: int = 40) -> None:
        """Opens one and lets it ask: `select 1`, `select 2` … and a drop that is denied."""
        self.sessions[name] = self.recorder.session_opened(
            SessionOpened(
                name, time.time(), "shop/app", "Postgres", {"username": "planner"}, {"address": "10.0.0.7"},
                {"database": "app"}, "Full", retention=retention or {},
            )
        )  # fmt: skip
        for number in range(1, requests + 1):
            self.ask(name, number, f"select {number}", ALLOW, size=size)
        self.ask(name, requests + 1, "drop table customers", DENY)

    def ask(self, name: str, number: int, text: str, decision: Decision, *, size: int = 40) -> None:
        session = self.sessions[name]
        session.begin(number, time.time(), text, {}, decision, False)
        data = bytes((number * 31 + place * place) % 251 for place in range(min(size, 4096))) * (size // 4096 or 1)
        session.response(number, data)
        session.end(number, time.time(), "denied" if decision is DENY else "ok", {}, 1, len(data))

    def close(self, name: str) -> None:
        self.sessions.pop(name).closed(time.time(), "the client went away", 3)

    async def ship(self, ingest: Ingest) -> None:
        """All that is written."""
        path, size = self._folder / "audit.log", -1
        while size != (size := path.stat().st_size):
            await asyncio.sleep(0.15)
        place = await ingest.place(self.ref)
        data = path.read_bytes()[place.position :]
        while data:
            after = await ingest.take(self.ref, place, data)
            if after == place:
                return
            data = data[after.position - place.position :]
            place = after


@dataclass
class Site:
    """A store, whoever keeps it, and whoever attacks it."""

    address: str
    store: Store
    key: StoreKey
    ingest: Ingest
    sealer: Sealer
    gateway: Gateway
    bucket: Bucket | None = None

    async def sealed(self) -> None:
        await self.gateway.ship(self.ingest)
        await self.sealer.drain()

    async def verify(self, anchors: tuple[Anchored, ...] = (), **wanted: Any) -> StoreReport:
        """As another process would, which knows nothing of what this one wrote."""
        keys = {self.key.id: self.key.private.public_key()}
        store = await open_store(self.address, bucket=self.bucket)
        try:
            return await verify_store(store, Wanted(**wanted), keys=keys, anchors=anchors)
        finally:
            await store.close()

    async def findings(self, **wanted: Any) -> list[str]:
        return [str(finding) for finding in (await self.verify(**wanted)).findings]

    # The attacker

    @property
    def sqlite(self) -> bool:
        return self.address.startswith("sqlite:")

    async def sql(self, sqlite: str, postgres: str | None = None, *values: object) -> list[tuple[Any, ...]]:
        """The same statement for both, or one for each. `{s1}` is the key of the session s1 in other tables."""
        statement = sqlite if self.sqlite or postgres is None else postgres
        for name in ("s1", "s2", "s3", "s4"):
            key = (
                f"(select id from session where name = '{name}')"
                if self.sqlite
                else f"(select key from session where id = '{name}')"
            )
            statement = statement.replace("{" + name + "}", key)
        if self.sqlite:
            with sqlite3.connect(self.address.removeprefix("sqlite:"), timeout=10) as connection:
                rows = connection.execute(statement, values).fetchall()
            connection.close()
            return rows
        for place in range(len(values)):
            statement = statement.replace("?", f"${place + 1}", 1)
        address, _, schema = self.address.partition("?schema=")
        connection = await asyncpg.connect(address, server_settings={"search_path": schema.partition("&")[0]})
        try:
            return [tuple(row) for row in await connection.fetch(statement, *values)]
        finally:
            await connection.close()


def proven(batch: Batch, key: StoreKey) -> Batch:
    """A batch as ingest would write it."""
    prove = key.prover().prove
    batch.opened = [replace(row, proof=prove(row)) for row in batch.opened]
    batch.sessions = [replace(row, proof=prove(row)) for row in batch.sessions]
    return batch


Opened = Callable[[], Awaitable[Store]]


async def site(address: str, store: Store, folder: Path, bucket: Bucket | None = None) -> Site:
    """Not sealed yet, and empty."""
    key = StoreKey.load(folder / "store.key", create=True)
    prover = key.prover()
    gateway = await Gateway.open(folder / "data")
    return Site(address, store, key, Ingest(store, prover, bucket), Sealer(store, key, prover=prover), gateway, bucket)


__all__ = ["Gateway", "Site", "proven", "site", "start"]
