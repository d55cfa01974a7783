"""The newest seal is noted outside of the store: what no seal inside can show, an anchor does."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from support.sealed_store import Site
from support.sealed_store import site as site_of

from ostiary_store.anchored import Anchored, noted
from ostiary_store.anchors import Anchoring, FileAnchor, HttpAnchor, read
from ostiary_store.store import Store


@pytest.fixture
async def site(address: str, store: Store, tmp_path: Path) -> AsyncIterator[Site]:
    site = await site_of(address, store, tmp_path)
    site.gateway.session("s1", 2)
    await site.sealed()
    yield site
    await site.gateway.recorder.close()


async def anchors(path: Path) -> tuple[Anchored, ...]:
    return tuple(await read(str(path)))


async def test_the_last_seals_and_all_that_they_had(site: Site, tmp_path: Path) -> None:
    """Whoever cuts off the end so that it looks as if it had not come yet."""
    path = tmp_path / "anchors"
    seal = site.sealer.last
    assert seal is not None
    site.gateway.session("s2", 2)
    site.gateway.close("s2")
    await site.sealed()
    last = site.sealer.last
    assert last is not None
    path.write_text(f"1:{seal.hash.hex()}\n2:{last.hash.hex()}\n")
    assert (await site.verify(await anchors(path))).ok
    for table in ("chunk", "part", "request"):
        await site.sql(f"delete from {table} where session = {{s2}}")
    await site.sql("delete from session where name = 's2'", "delete from session where id = 's2'")
    await site.sql("delete from seal where number = 2")
    await site.sql("delete from tally")
    assert not [each for each in await site.findings() if "tally" not in each]
    found = [str(each) for each in (await site.verify(await anchors(path))).findings]
    assert any(
        "the anchored seal 2 (" in each and "the store ends at seal 1; it was cut off, or set back" in each
        for each in found
    )


async def test_the_whole_database_is_set_back(tmp_path: Path) -> None:
    """All in it fits; it is last week's."""
    from ostiary_store.opening import open_store

    address = f"sqlite:{tmp_path / 'store.db'}"
    store = await open_store(address)
    site = await site_of(address, store, tmp_path)
    site.gateway.session("s1", 2)
    await site.sealed()
    with sqlite3.connect(tmp_path / "store.db") as there, sqlite3.connect(tmp_path / "copy.db") as copy:
        there.backup(copy)
    there.close()
    copy.close()
    site.gateway.session("s2", 2)
    await site.sealed()
    last = site.sealer.last
    assert last is not None
    await store.close()
    for name in ("store.db-wal", "store.db-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "copy.db", tmp_path / "store.db")
    site.store = await open_store(address)
    assert (await site.verify()).ok
    found = [str(each) for each in (await site.verify((noted(f"{last.number}:{last.hash.hex()}"),))).findings]
    assert found == [
        "the record: the anchored seal 2 (as given) is not there: the store ends at seal 1; it was cut off, or set "
        "back to an earlier state"
    ]
    # And the service says so when it seals the next time.
    site.sealer._store = site.store
    await site.sealer.seal(troubles=())
    said = [str(each) for each in (await site.verify()).findings]
    assert any(f"seal 2:{last.hash.hex()} and what followed was removed" in each for each in said)
    await site.store.close()
    await site.gateway.recorder.close()


async def test_an_anchor_of_another_history(site: Site) -> None:
    found = [str(each) for each in (await site.verify((noted("1:" + "ab" * 32),))).findings]
    assert found == ["the record: seal 1 is not the one that was anchored (as given): the seals were rewritten"]


async def test_a_file_is_only_appended_to(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "audit" / "anchors"
    anchoring = Anchoring([(FileAnchor(path), 0.0)])
    task = asyncio.create_task(anchoring.run())
    seal = site.sealer.last
    assert seal is not None
    anchoring.told(seal)
    async with asyncio.timeout(5):
        while not anchoring.places[0].noted:
            await asyncio.sleep(0.01)
    with path.open("a") as file:
        file.write('{"seal": 2, "ha')  # as a crash leaves it
    path.write_text(path.read_text().partition('{"seal": 2')[0] + "\n")
    anchoring.told(seal)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    lines = [json.loads(line) for line in path.read_text().splitlines() if line]
    assert {line["seal"] for line in lines} == {1}
    assert len(lines) >= 2
    assert (await site.verify(await anchors(path))).ok


async def test_an_endpoint_gets_the_newest_when_it_is_back(site: Site) -> None:
    told: list[dict[str, object]] = []
    away = True

    async def post(request: web.Request) -> web.Response:
        if away:
            return web.Response(status=503)
        told.append(await request.json() | {"authorization": request.headers.get("Authorization")})
        return web.Response(status=204)

    async def get(_: web.Request) -> web.Response:
        return web.json_response(
            [{key: value for key, value in each.items() if key != "authorization"} for each in told]
        )

    app = web.Application()
    app.add_routes([web.post("/anchors", post), web.get("/anchors", get)])
    runner = web.AppRunner(app)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    url = f"http://127.0.0.1:{port}/anchors"
    anchoring = Anchoring([(HttpAnchor(url, lambda: "secret"), 0.0)])
    task = asyncio.create_task(anchoring.run())
    first = site.sealer.last
    assert first is not None
    anchoring.told(first)
    async with asyncio.timeout(10):
        while not anchoring.places[0].failures:
            await asyncio.sleep(0.01)
        site.gateway.session("s2", 1)
        await site.sealed()
        second = site.sealer.last
        assert second is not None
        anchoring.told(second)
        away = False
        while not told:
            await asyncio.sleep(0.01)
    task.cancel()
    assert [(each["seal"], each["hash"], each["authorization"]) for each in told] == [
        (2, second.hash.hex(), "Bearer secret")
    ]
    key = site.key.private.public_key()
    key.verify(bytes.fromhex(str(told[0]["signature"])), bytes.fromhex(str(told[0]["hash"])))
    assert (await site.verify(tuple(await read(url)))).ok
    await runner.cleanup()
