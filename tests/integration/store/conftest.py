"""Both stores, each as its address says: a file of SQLite, and a database of a real PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest
from support.batches import Hand
from support.servers import Server
from support.store import Open

from ostiary_store.opening import open_store
from ostiary_store.store import Store

_COUNT = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a store that nobody has opened yet."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path / 'store.db'}"
    server: Server = request.getfixturevalue("pg18")
    login = f"{server.user}:{quote(server.password, safe='')}@{server.host}:{server.port}"
    return f"postgresql://{login}/{server.database}?schema=store_{next(_COUNT)}"


@pytest.fixture
async def another(address: str) -> AsyncIterator[Open]:
    """Opens the same store again, as another process would."""
    opened: list[Store] = []

    async def again() -> Store:
        opened.append(await open_store(address))
        return opened[-1]

    yield again
    for each in opened:
        await each.close()


@pytest.fixture
async def store(another: Open) -> Store:
    """Open, and empty."""
    return await another()


@pytest.fixture
async def hand(store: Store) -> Hand:
    """A record written by hand, which the store knows."""
    hand = Hand()
    await store.record(hand.ref)
    return hand
