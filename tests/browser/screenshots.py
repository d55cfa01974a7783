"""Takes the pictures of docs/: `PYTHONPATH=crds:gateway:operator:tests python tests/browser/screenshots.py`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from playwright.sync_api import Browser, Page, sync_playwright
from support import console_scene, servers
from support import sshd as ssh_servers
from support.watched_page import DESK, PHONE

PLACE = Path(__file__).parents[2] / "docs" / "img"


def pictures(browser: Browser, scene: console_scene.Scene) -> None:
    """All of them."""
    start = browser.new_context()
    page = start.new_page()
    page.goto(scene.link())
    state = start.storage_state()
    listed = start.request.get(f"{scene.base}/api/v1/sessions?connection=default/shop&decision=Deny").json()
    shop = f"/sessions/{listed['sessions'][0]['id']}"

    def look(*, dark: bool = False, phone: bool = False) -> Page:
        context = browser.new_context(
            storage_state=state, viewport=PHONE if phone else DESK, color_scheme="dark" if dark else "light",
            is_mobile=phone, has_touch=phone, reduced_motion="reduce", locale="en-GB",
        )  # fmt: skip
        return context.new_page()

    def take(page: Page, name: str, path: str) -> None:
        page.goto(scene.base + path)
        page.wait_for_timeout(400)
        page.screenshot(path=PLACE / f"console-{name}.png")

    light, dark, phone, night = look(), look(dark=True), look(phone=True), look(dark=True, phone=True)
    take(light, "session", shop)
    take(dark, "sessions", "/sessions")
    take(light, "search", "/sessions?q=orders")
    take(dark, "live", "/live")
    take(light, "policies", "/policies")
    take(dark, "connections", "/connections")
    take(phone, "phone", shop)
    question = light.request.get(f"{scene.base}/api/v1/approvals").json()["waiting"]
    asked = next(each["href"] for each in question if "shipped" in each["summary"])
    take(light, "approval", f"{asked}?verdict=Approve")
    take(night, "approval-phone", f"{asked}?verdict=Approve")

    dark.goto(f"{scene.base}/sessions?view=requests&q=shell&protocol=SSH")
    dark.locator(".hit a.what").first.click()
    dark.locator(".ap-wrapper").wait_for()
    dark.wait_for_timeout(800)
    dark.locator(".ap-player").click()
    dark.wait_for_timeout(400)
    dark.keyboard.press("9")
    dark.wait_for_timeout(800)
    dark.screenshot(path=PLACE / "console-terminal.png")

    light.goto(f"{scene.base}/replay")
    light.get_by_label("GatewayPolicy manifests").fill(
        "apiVersion: ostiary.dev/v1alpha1\nkind: GatewayPolicy\nmetadata: {name: guard-rails, namespace: default}\n"
        "spec:\n  match: {protocols: [Postgres]}\n  rules:\n"
        "  - {name: only-customers, action: Allow, expression: \"sql.text.contains('customers')\"}\n"
    )
    light.get_by_role("button", name="Replay").click()
    light.get_by_role("heading", name="change").wait_for(timeout=60_000)
    light.screenshot(path=PLACE / "console-replay.png")


def main() -> None:
    """On servers of its own."""
    server = servers.embedded("pg-pictures")
    place = Path(tempfile.mkdtemp())
    try:
        with (
            ssh_servers.sshd("pictures") as target,
            console_scene.scene(server, target, place) as scene,
            sync_playwright() as playwright,
        ):
            browser = playwright.chromium.launch(executable_path=console_scene.chromium(), args=["--no-sandbox"])
            pictures(browser, scene)
            browser.close()
    finally:
        servers.destroy(server)


if __name__ == "__main__":
    main()
