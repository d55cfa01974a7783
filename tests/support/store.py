"""What tests ask of a store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ostiary_store.model import ALL
from ostiary_store.store import Store

Open = Callable[[], Awaitable[Store]]


async def everything(store: Store) -> list[object]:
    """All that a store holds, in a fixed order."""
    found: list[object] = []
    for day in await store.days():
        found += [day]
        found += [row async for row in store.scan_sessions(day)]
        found += [row async for row in store.scan_rows(day, bodies=True)]
        found += [row async for row in store.scan_requests(day)]
    found += [row async for row in store.scan_decisions()]
    found += sorted([row async for row in store.scan_tallies()], key=repr)
    found += [{key: value for key, value in record.items() if key != "last"} for record in await store.records()]
    found += list(await store.rule_hits(0, ALL))
    return found
