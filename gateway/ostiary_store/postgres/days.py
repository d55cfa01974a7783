"""The partitions: one of each table for every day on which sessions were opened."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import asyncpg

from ostiary_store.model import StoreError
from ostiary_store.postgres.database import Database

DAY: Final = 86_400
TABLES: Final = ("request", "chunk", "part")

NEAR: Final = 1100
"""Days before today of which there may be any number."""
FAR: Final = 30
"""Partitions that there may be of other days, those of clocks that are wrong. Else one gateway that lies about the time
of its sessions would make tables until every search is slow."""
AT_ONCE: Final = 20
"""Days that are made in one transaction: each table takes locks, and there is room for so many in all."""

_LOCK: Final = 0x4F53_5459_0002
_SETTINGS: Final = {
    # Room for the end of a request beside its begin, so that no index must be touched.
    "request": "fillfactor = 90, autovacuum_vacuum_insert_scale_factor = 0.1, autovacuum_analyze_scale_factor = 0.05",
    "chunk": "",
    "part": "",
}


def day_of(time: float) -> int:
    """Days since 1970-01-01, in UTC."""
    return int(time // DAY)


def partition(table: str, day: int) -> str:
    """Its name."""
    return f"{table}_{datetime.fromtimestamp(0, UTC) + timedelta(days=day):%Y%m%d}"


def _far(day: int, today: int) -> bool:
    return not today - NEAR <= day <= today + 1


class Days:
    """Which days have partitions, as far as this process knows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[int] = set()

    async def ensure(self, days: Iterable[int]) -> None:
        """Make the partitions that are missing."""
        wanted = set(days)
        if wanted <= self._known:
            return
        today = day_of(time.time())
        if today in wanted:
            # Ahead, so that nobody waits at midnight.
            wanted.add(today + 1)
        missing = sorted(wanted - self._known)
        for begin in range(0, len(missing), AT_ONCE):
            some = missing[begin : begin + AT_ONCE]
            async with self._database.transaction() as connection:
                await connection.execute("select pg_advisory_xact_lock($1)", _LOCK)
                there = set(await self.existing(connection))
                new = [day for day in some if day not in there]
                far = [day for day in new if _far(day, today)]
                if far and len(far) + sum(_far(day, today) for day in there) > FAR:
                    raise StoreError(
                        f"there are sessions of {FAR} days far from today already, and no room for another: the clock"
                        f" of the gateway is wrong (a session of {partition('day', far[0])[4:]})"
                    )
                for day in new:
                    await self._make(connection, day)
            self._known.update(some)

    async def existing(self, connection: asyncpg.Connection) -> list[int]:
        """Newest first."""
        rows = await connection.fetch(
            "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid"
            " where i.inhparent = 'request'::regclass"
        )
        found = []
        for (name,) in rows:
            day = datetime.strptime(name.rpartition("_")[2], "%Y%m%d").replace(tzinfo=UTC)
            found.append(int(day.timestamp()) // DAY)
        return sorted(found, reverse=True)

    def forget(self) -> None:
        """They may be gone: another process removes days too."""
        self._known.clear()

    async def _make(self, connection: asyncpg.Connection, day: int) -> None:
        for table in TABLES:
            name = partition(table, day)
            settings = f" with ({_SETTINGS[table]})" if _SETTINGS[table] else ""
            # Made apart and attached: that waits for nobody who reads, and nobody waits for it.
            await connection.execute(
                f"create table {name} (like {table} including defaults including storage){settings}"
            )
            await connection.execute(f"alter table {name} add constraint day check (day = {day})")
            await connection.execute(f"alter table {table} attach partition {name} for values in ({day})")
            await connection.execute(f"alter table {name} drop constraint day")
