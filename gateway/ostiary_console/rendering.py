"""Pages from their templates, and the files that they need: styles, scripts, the player. All from this package."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Final

import jinja2

from ostiary_console import icons
from ostiary_console.shown import sparks, words
from ostiary_console.shown.colouring import coloured, found_words
from ostiary_console.views import Frame, Page, RequestPage, SessionPage

WORKER: Final = "vendor/asciinema-player/asciinema-player-worker.min.js"
"""Of the player: it loads a recording and keeps its time."""
_POLICIES: Final = {WORKER: "default-src 'none'; connect-src 'self'"}
_PAGE: Final = (
    "default-src 'none'; script-src 'self'{}; style-src 'self'; img-src 'self'; connect-src 'self'; worker-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_WITH_TERMINALS: Final = frozenset(("SSH", "Kubernetes"))
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", "": "text/plain"}


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file. `version` changes when its content does; `policy` is its own Content-Security-Policy, if it has one."""

    body: bytes
    type: str
    version: str
    policy: str


def content_policy(page: Page) -> str:
    """The Content-Security-Policy of a page. Only where a terminal may be played, the player's WebAssembly may run, of
    our own files all the same."""
    terminals = isinstance(page, SessionPage | RequestPage) and page.session.protocol in _WITH_TERMINALS
    return _PAGE.format(" 'wasm-unsafe-eval'" if terminals else "")


class Pages:
    """Made once for a process. It reads every template and file when it is made, so that nothing is missing later."""

    def __init__(self) -> None:
        package = resources.files("ostiary_console")
        self.files = dict(_files(package / "static", ""))
        self._environment = jinja2.Environment(
            loader=jinja2.DictLoader(dict(_templates(package / "templates"))),
            autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._environment.filters |= {
            "moment": words.moment, "clock": words.clock, "day": words.day, "duration": words.duration,
            "bytes": words.bytes_text, "count": words.count, "compact": words.compact, "plural": words.plural,
            "iso": words.iso, "ago": words.ago, "span": words.span, "wbr": words.breakable, "path": words.path_piece,
            "visible": words.one_line, "lines": words.visible, "coloured": coloured, "snippet": words.snippet,
        }  # fmt: skip
        self._environment.globals |= {
            "static": self.address, "icon": icons.icon, "found_words": found_words, "done": words.DONE,
            "spark": sparks.spark,
        }  # fmt: skip
        for name in self._environment.list_templates():
            self._environment.get_template(name)

    def html(self, template: str, frame: Frame, page: Page, **more: object) -> str:
        """A whole page, or (templates that begin with `_`) a piece of one."""
        return self._environment.get_template(template).render(frame=frame, page=page, **more)

    def file(self, name: str) -> StaticFile | None:
        """What stands under /static/, by its name there."""
        return self.files.get(name)

    def address(self, name: str) -> str:
        """Of a file, with its version. KeyError if there is none."""
        return f"/static/{name}?v={self.files[name].version}"


def _templates(folder: Traversable) -> Iterator[tuple[str, str]]:
    for each in folder.iterdir():
        if each.name.endswith(".html"):
            yield each.name, each.read_text("utf-8")


def _files(folder: Traversable, before: str) -> Iterator[tuple[str, StaticFile]]:
    for each in folder.iterdir():
        name = before + each.name
        if each.is_dir():
            yield from _files(each, f"{name}/")
            continue
        body = each.read_bytes()
        kind = _TYPES.get(name[name.rfind(".") :] if "." in each.name else "") or mimetypes.guess_type(name)[0]
        yield name, StaticFile(
            body, kind or "application/octet-stream", hashlib.sha256(body).hexdigest()[:12], _POLICIES.get(name, "")
        )
