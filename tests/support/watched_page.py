"""A page in a browser whose every complaint is noted: errors, policy violations, requests to elsewhere, dialogs."""

from __future__ import annotations

from dataclasses import dataclass, field

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, Request, ViewportSize

DESK: ViewportSize = {"width": 1280, "height": 860}
PHONE: ViewportSize = {"width": 390, "height": 844}

NOTED = """
addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
});
"""


@dataclass
class Watched:
    """A page whose every complaint is noted."""

    page: Page
    base: str
    complaints: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()
    """Parts of complaints that a test is about."""

    def __post_init__(self) -> None:
        self.page.add_init_script(NOTED)
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        self.page.on("request", self._asked)
        self.page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(f"{message.type}: {message.text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((self.base, "data:", "blob:")):
            self.complaints.append(f"a request to {request.url}")

    def open(self, path: str) -> Page:
        answer = self.page.goto(self.base + path)
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"
        return self.page

    def clean(self) -> None:
        """Nothing was complained of."""
        found = [each for each in self.complaints if not any(part in each for part in self.expected)]
        assert not found

    def accessible(self, *rules: str) -> None:
        """axe finds nothing wrong."""
        found = Axe().run(self.page, options={"runOnly": [*rules]} if rules else None)
        assert found.violations_count == 0, found.generate_report()

    def accessible_everywhere(self) -> None:
        """Nothing is wrong in any look: light or dark, at a desk or on a phone. Only colours differ by theme."""
        for window in (DESK, PHONE):
            self.page.set_viewport_size(window)
            self.page.emulate_media(color_scheme="light")
            self.fits()
            self.accessible()
            self.page.emulate_media(color_scheme="dark")
            self.accessible("color-contrast")

    def fits(self) -> None:
        """Nothing makes the page wider than the window."""
        wide = self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, f"the page is {wide} pixels too wide"
