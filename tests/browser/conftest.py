"""A browser at a real console, over a store that real agents have filled."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import Browser, BrowserContext, sync_playwright
from support import console_scene, servers
from support import sshd as ssh_servers
from support.console_scene import Scene
from support.presence import missing
from support.servers import Unavailable
from support.watched_page import DESK, Watched

HINT = "chromium is not here: apt-get install -y chromium"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for each module: Playwright has an event loop running meanwhile, and other tests have loops of their own."""
    program = console_scene.chromium()
    if not program:
        missing(HINT)
    with sync_playwright() as playwright:
        # The sandbox needs rights that a container's root may not have; what it shows here is our own.
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """The gateway and its console."""
    try:
        server = servers.embedded("pg-console")
    except Unavailable as failure:
        missing(str(failure))
    try:
        place = tmp_path_factory.mktemp("console")
        with ssh_servers.sshd("console") as target, console_scene.scene(server, target, place) as found:
            yield found
    finally:
        servers.destroy(server)


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, scene: Scene) -> str:
    """Cookies of who has used a link, as a file for contexts."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(scene.link())
    if "/signin" in page.url:
        page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{scene.base}/sessions**")
    state = str(scene.gateway.directory / "browser.json")
    context.storage_state(path=state)
    context.close()
    return state


def _context(chromium: Browser, state: str | None, *, scripts: bool = True) -> BrowserContext:
    return chromium.new_context(
        storage_state=state, viewport=DESK, color_scheme="light", reduced_motion="reduce", locale="en-GB",
        java_script_enabled=scripts,
    )  # fmt: skip


@pytest.fixture
def desk(chromium: Browser, scene: Scene, signed_in: str) -> Iterator[Watched]:
    """Signed in, at a desk."""
    context = _context(chromium, signed_in)
    watched = Watched(context.new_page(), scene.base)
    watched.page.set_default_timeout(15_000)
    yield watched
    context.close()
    watched.clean()


@pytest.fixture
def stranger(chromium: Browser, scene: Scene) -> Iterator[Watched]:
    """Not signed in."""
    context = _context(chromium, None)
    watched = Watched(context.new_page(), scene.base)
    yield watched
    context.close()
    watched.clean()


@pytest.fixture
def plain(chromium: Browser, scene: Scene, signed_in: str) -> Iterator[Watched]:
    """Signed in, without JavaScript."""
    context = _context(chromium, signed_in, scripts=False)
    yield Watched(context.new_page(), scene.base)
    context.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where there is no CI, a machine without chromium skips all of it at once."""
    if os.environ.get("CI") != "true" and not console_scene.chromium():
        for item in items:
            if Path(str(item.fspath)).parent == Path(__file__).parent:
                item.add_marker(pytest.mark.skip(reason=HINT))
