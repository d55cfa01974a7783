"""What every handler has at hand: the console's parts, who asks, and pages as HTML or JSON."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeVar

import orjson
from aiohttp import web
from yarl import URL

from ostiary_console.counts import Counts
from ostiary_console.guard import SAFE, TOKEN_FIELD, TOKEN_HEADER, Guard
from ostiary_console.limits import Attempts, Places
from ostiary_console.problems import Problem, bad, signed_out
from ostiary_console.rendering import Pages, content_policy
from ostiary_console.signed_in import Sessions, SignedIn
from ostiary_console.views import Frame, Page, Rendered, Viewer
from ostiary_console.world import World
from ostiary_gateway.version import version
from ostiary_store.model import Scope
from ostiary_store.store import Store

if TYPE_CHECKING:
    from ostiary_console.links import Links
    from ostiary_console.signing_in import Ways

API: Final = "/api/v1"
FORM: Final = 256 * 1024
"""Bytes of a form."""
MAX_PARAMETER: Final = 4096
"""Characters of a query parameter."""
_DONE: Final = frozenset({"approved", "denied", "killed", "ending", "signed-out", "too-late"})


@dataclass(slots=True)
class Console:
    """The parts of one console process."""

    store: Store
    world: World
    pages: Pages
    guard: Guard
    sessions: Sessions
    ways: Ways
    links: Links | None = None
    """Where one signs in by a link."""
    attempts: Attempts = field(default_factory=lambda: Attempts(10, 10))
    streams: Places = field(default_factory=lambda: Places(256, 8))
    counts: Counts = field(default_factory=Counts)
    replays: Places = field(default_factory=lambda: Places(2, 1))
    proxies: tuple[str, ...] = ()
    clock: Callable[[], float] = time.time


CONSOLE: Final = web.AppKey("console", Console)
_WHO: Final[ContextVar[SignedIn | None]] = ContextVar("who", default=None)
"""Of the request that is handled; set anew at the beginning of each."""
Done = TypeVar("Done")
Maker = Callable[[web.Request], Awaitable[Rendered]]


def console_of(request: web.Request) -> Console:
    return request.app[CONSOLE]


def set_who(request: web.Request, who: SignedIn | None) -> None:
    _WHO.set(who)


def maybe_who(request: web.Request) -> SignedIn | None:
    return _WHO.get()


def who_asks(request: web.Request) -> SignedIn:
    """Raises Problem if nobody is signed in."""
    who = maybe_who(request)
    if who is None:
        raise signed_out()
    return who


async def scope_of(request: web.Request) -> Scope:
    """What the person may see. Every question to the store takes it."""
    return await console_of(request).world.scope(who_asks(request))


def parameter(request: web.Request, name: str, default: str = "") -> str:
    """A query parameter. Raises Problem if it is too long."""
    value = request.query.get(name, default)
    if len(value) > MAX_PARAMETER:
        raise bad(f"The parameter {name} is too long.")
    return value


def number(request: web.Request, name: str, default: int = 0, most: int = 2**31) -> int:
    """A query parameter that is a number."""
    text = request.query.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdecimal() or len(text) > 10:
        raise bad(f"The parameter {name} is no number.")
    return min(int(text), most)


async def form(request: web.Request) -> Mapping[str, str]:
    """The fields of a form; files are not among them. JSON is taken from programs. Raises Problem."""
    if request.content_type == "application/json":
        try:
            found = orjson.loads(await request.read())
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise bad("The body is no JSON object of texts.")
        return found
    try:
        fields = await request.post()
    except ValueError:
        raise bad("The body is no form.") from None
    return {name: value for name, value in fields.items() if isinstance(value, str)}


async def done(work: Coroutine[object, object, Done]) -> Done:
    """What must not be left half done, and must be told to the log: it goes on when the browser goes away."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.gather(task, return_exceptions=True)
        raise


async def check_form(request: web.Request, who: SignedIn | None) -> None:
    """A change that comes with a cookie must come from our own page, with its token. Raises Forbidden or Problem."""
    if request.method in SAFE or (who is not None and not who.cookie):
        return
    console = console_of(request)
    console.guard.check_origin(request)
    given = request.headers.get(TOKEN_HEADER) or (await form(request)).get(TOKEN_FIELD, "")
    console.guard.check_token(given, who.csrf if who is not None else console.ways.form_token(request))


def is_api(request: web.BaseRequest) -> bool:
    return request.path.startswith(f"{API}/") or request.path == API


def as_json(value: object, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(value, default=_plain, option=orjson.OPT_NON_STR_KEYS), status=status,
        content_type="application/json", charset="utf-8",
    )  # fmt: skip


def _plain(value: object) -> object:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value, key=str)
    raise TypeError


async def frame_of(request: web.Request, rendered: Rendered) -> Frame:
    """What is around a page."""
    done = request.query.get("done", "")
    pending = await _pending(console_of(request), maybe_who(request))
    return replace(plain_frame(request, rendered), pending=pending, done=done if done in _DONE else "")


async def _pending(console: Console, who: SignedIn | None) -> int | None:
    if who is None:
        return None
    try:
        return await console.world.pending(who)
    except Problem:
        return None


async def html(request: web.Request, rendered: Rendered, frame: Frame | None = None) -> web.Response:
    """The page for a browser."""
    frame = frame or await frame_of(request, rendered)
    text = console_of(request).pages.html(f"{rendered.template}.html", frame, rendered.page)
    headers = {"Content-Security-Policy": content_policy(rendered.page), **rendered.headers}
    return web.Response(
        text=text, status=rendered.status, content_type="text/html", charset="utf-8", headers=headers
    )


def both(path: str, make: Maker) -> list[web.RouteDef]:
    """The page at its path, and the same as JSON below /api/v1."""

    async def shown(request: web.Request) -> web.StreamResponse:
        return await html(request, await make(request))

    async def told(request: web.Request) -> web.StreamResponse:
        rendered = await make(request)
        return as_json(rendered.page, rendered.status)

    return [web.get(path, shown), web.get(API + path, told)]


def is_stream(request: web.BaseRequest) -> bool:
    """Whether it goes on for as long as somebody listens."""
    return request.path.endswith(("/follow", "/live/events"))


def see_other(where: str) -> web.HTTPSeeOther:
    return web.HTTPSeeOther(URL(where, encoded=True))


def path_with(path: str, **query: str) -> str:
    """A path and its query; what is empty is left out."""
    return str(URL.build(path=path, query={name: value for name, value in query.items() if value}))


def redirect(path: str, **query: str) -> web.Response:
    """To a page of the console."""
    return web.Response(status=303, headers={"Location": path_with(path, **query)})


def plain_frame(request: web.Request, rendered: Rendered) -> Frame:
    """What is around a page on which nothing else is asked."""
    console, who = console_of(request), maybe_who(request)
    theme = request.cookies.get("ostiary-theme", "")
    return Frame(
        title=rendered.title,
        section=rendered.section,
        viewer=None if who is None else Viewer(who.name, who.groups, who.method, who.until),
        csrf=who.csrf if who is not None else "",
        now=console.clock(),
        path=request.path_qs,
        standalone=console.world.standalone,
        version=version(),
        theme=theme if theme in ("light", "dark") else "",
    )


def piece(request: web.Request, template: str, page: Page, frame: Frame) -> str:
    """A part of a page as HTML."""
    return console_of(request).pages.html(f"{template}.html", frame, page)
