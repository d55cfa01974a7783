"""The console over a store on PostgreSQL: the same pages from the same record."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from support import console_scene
from support.console_scene import Scene
from support.gateway import environment, ostiary, run_ostiary
from support.servers import Server, free_port
from support.waiting import until
from support.watched_page import DESK, Watched

from ostiary_store.follow import Follower
from ostiary_store.ingest import Ingest
from ostiary_store.opening import open_store


def filled(server: Server, data: Path) -> str:
    """A store with what the gateway of this directory has recorded so far; its URL."""
    server.recreate("store")
    url = f"postgresql://{server.user}:{server.password}@{server.host}:{server.port}/store"

    async def fill() -> None:
        store = await open_store(url)
        try:
            await Follower(data, Ingest(store)).catch_up()
        finally:
            await store.close()

    with ThreadPoolExecutor(1) as other:  # this thread's loop is the browser's
        other.submit(asyncio.run, fill()).result()
    return url


@pytest.fixture(scope="module")
def base(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A console over it, and a link."""
    data, port = tmp_path_factory.mktemp("data"), free_port()
    url = filled(scene.server, scene.gateway.data)
    command = [*ostiary(), "console", "--data", str(data), "--listen", f"127.0.0.1:{port}"]
    with (data / "log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment({"OSTIARY_STORE": url})
        )
    try:
        base = f"http://127.0.0.1:{port}"
        until(lambda: console_scene.listening(base), "the console answers", 30)
        link = run_ostiary("console", "--link", "--data", str(data)).strip().rpartition(" ")[2]
        yield base, link
    finally:
        process.terminate()
        process.wait(20)


def test_the_same_pages_from_postgresql(chromium: Browser, base: tuple[str, str]) -> None:
    address, link = base
    context = chromium.new_context(viewport=DESK, reduced_motion="reduce")
    watched = Watched(context.new_page(), address)
    page = watched.page
    page.goto(link)
    expect(page.locator("tr[data-row]").first).to_be_visible()
    page.locator("tr.denied a[data-open]").last.click()
    expect(page.locator("#r1 pre.said")).to_contain_text("from customers where city = 'Göteborg'")
    expect(page.locator("#r1 table.grid tbody tr")).to_have_count(8)
    expect(page.locator(".request.denied").first).to_contain_text("A DELETE or UPDATE without WHERE")
    watched.open("/sessions?q=orders+-drop")
    expect(page.locator(".hit mark").first).to_have_text("orders")
    page.locator(".facets a", has_text="denied").click()
    expect(page.locator(".hit")).to_have_count(1)
    watched.open("/sessions?view=requests&protocol=SSH&q=shell")
    page.locator(".hit a.what").first.click()
    expect(page.locator(".ap-player")).to_be_visible()
    watched.open("/policies")
    rails = page.locator(".policy", has_text="default/guard-rails")
    expect(rails.get_by_role("link", name="1 hit").first).to_be_visible()
    watched.open("/connections")
    expect(page.locator("tr", has_text="default/shop")).to_contain_text("requests")
    context.close()
    watched.clean()
