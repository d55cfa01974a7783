"""Pages and files: nothing in a page that the policy forbids, files by version, the player as it was released."""

from __future__ import annotations

import hashlib
import re
from importlib import resources

import pytest

from ostiary_console.rendering import WORKER, Pages, content_policy
from ostiary_console.views import ErrorPage, Frame, RequestPage, RequestView, SessionPage, Viewer
from ostiary_store.model import SessionRow

PLAYER = "vendor/asciinema-player/"
XSS = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def pages() -> Pages:
    return Pages()


def frame(**more: object) -> Frame:
    fields: dict[str, object] = {
        "title": "A page", "section": "sessions", "viewer": Viewer(XSS), "csrf": "token", "now": 0.0, "path": "/",
        "standalone": True, "version": "1",
    }  # fmt: skip
    return Frame(**{**fields, **more})  # type: ignore[arg-type]


def row(protocol: str = "Postgres", username: str = "planner") -> SessionRow:
    return SessionRow("01s", 0.0, 1.0, "closed", "shop/app", protocol, username, "Full")


def request(text: str) -> RequestView:
    return RequestView("01s-1", "01s", 1, "Postgres", "statement", 0.0, 1.0, text, "sql", "/sessions/01s/requests/1")


def test_the_player_is_as_it_was_released(pages: Pages) -> None:
    notice = (resources.files("ostiary_console") / "static" / PLAYER / "NOTICE").read_text()
    told = dict(re.findall(r"^([0-9a-f]{64})  (\S+)$", notice, re.MULTILINE))
    found = {name: value for value, name in told.items()}
    held = {name.removeprefix(PLAYER) for name in pages.files if name.startswith(PLAYER)} - {"NOTICE"}
    assert set(found) == held
    for name, value in found.items():
        file = pages.file(PLAYER + name)
        assert file is not None
        assert hashlib.sha256(file.body).hexdigest() == value, name
    assert re.search(r"^asciinema-player 3\.18\.0,", notice)


def test_a_file_has_a_type_and_a_version_that_changes_with_it(pages: Pages) -> None:
    types = {name: file.type for name, file in pages.files.items()}
    assert types["app.js"] == "text/javascript"
    assert types["base.css"] == "text/css"
    assert types["logo.svg"] == "image/svg+xml"
    versions = [file.version for file in pages.files.values()]
    assert len(set(versions)) == len(versions)
    worker = pages.file(WORKER)
    assert worker is not None
    assert worker.policy == "default-src 'none'; connect-src 'self'"


@pytest.mark.parametrize("name", ["../views.py", "", "/etc/passwd", "app.js/", "vendor"])
def test_nothing_else_is_a_file(pages: Pages, name: str) -> None:
    assert pages.file(name) is None


def test_no_page_needs_more_than_its_policy(pages: Pages) -> None:
    folder = resources.files("ostiary_console") / "templates"
    for each in folder.iterdir():
        text = each.read_text("utf-8")
        assert not re.search(r"\sstyle\s*=|\son\w+\s*=\s*[\"']|javascript:|<style", text), each.name
        assert "|safe" not in re.sub(r"\s", "", text), each.name
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", text), each.name
        for script in re.findall(r"<script([^>]*)>", text):
            assert "src=" in script, each.name


def test_only_where_a_terminal_may_be_webassembly_may_run() -> None:
    plain = content_policy(ErrorPage(404, "", ""))
    assert plain == content_policy(SessionPage(row(), (), (), 0, 0))
    assert "wasm" not in plain
    for part in ("default-src 'none'", "script-src 'self';", "frame-ancestors 'none'", "form-action 'self'"):
        assert part in plain
    for protocol in ("SSH", "Kubernetes"):
        assert "script-src 'self' 'wasm-unsafe-eval';" in content_policy(RequestPage(row(protocol), request("")))


def test_what_others_wrote_is_escaped_and_cannot_reorder(pages: Pages) -> None:
    page = SessionPage(row(username=XSS), (("Client", XSS),), (request(f"{XSS}\u202e"),), 1, 1)
    html = pages.html("session.html", frame(), page)
    assert XSS not in html
    assert "\u202e" not in html
    assert "\\u202e" in html


def test_the_look_comes_from_the_cookie(pages: Pages) -> None:
    page = ErrorPage(404, "Not there", "It is gone.", "Look elsewhere.")
    assert 'data-theme="dark"' in pages.html("error.html", frame(theme="dark"), page)
    html = pages.html("error.html", frame(viewer=None, csrf=""), page)
    assert "data-theme=" not in html
    assert "<nav" not in html
    assert "Look elsewhere." in html
