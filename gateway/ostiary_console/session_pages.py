"""Sessions: searched and listed, and one of them with its requests."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web

from ostiary_console import asked_for, handling, recorded
from ostiary_console.handling import both, console_of, html, number, parameter, scope_of, who_asks
from ostiary_console.problems import bad, not_found
from ostiary_console.shown.search import sessions_page
from ostiary_console.shown.sessions import session_page
from ostiary_console.views import Rendered
from ostiary_console.world import TERMINATE
from ostiary_store.model import SessionRow

IN_PAGE: Final = 50
"""Requests of a session's page."""


async def listed(request: web.Request) -> Rendered:
    """/sessions: sessions or requests that fit, and how many fit by value."""
    console, scope = console_of(request), await scope_of(request)
    form = asked_for.search_form(request.query)
    after, now = parameter(request, "after"), console.clock()
    limit = min(max(number(request, "limit", asked_for.PAGE), 1), asked_for.LARGEST)
    of_requests = asked_for.request_query(form, now, after=after, limit=limit)
    counting = asyncio.ensure_future(console.store.facets(asked_for.request_query(form, now), scope))
    try:
        if asked_for.shows_requests(form):
            found = await console.store.requests(of_requests, scope)
            page = sessions_page(form, requests=found, facets=await counting, after=after)
        else:
            some = await console.store.sessions(asked_for.session_query(form, now, after=after, limit=limit), scope)
            page = sessions_page(form, sessions=some, facets=await counting, after=after)
    except ValueError as error:
        raise bad(f"This cannot be looked for: {error}") from None
    finally:
        counting.cancel()
    return Rendered("sessions", page, "Sessions", "sessions")


async def session_row(request: web.Request) -> SessionRow:
    """The session in the path, by its whole id. Raises Problem; also for one that the person may not see."""
    wanted = request.match_info["session"]
    try:
        row = await console_of(request).store.session(wanted, await scope_of(request))
    except (LookupError, ValueError):
        raise not_found("session") from None
    if row.id != wanted:
        raise not_found("session")
    return row


async def one(request: web.Request) -> Rendered:
    """/sessions/{id}: who, what, how it ended, and a page of its requests."""
    console, who = console_of(request), who_asks(request)
    row = await session_row(request)
    first = max(number(request, "at", 1), 1)
    found = await recorded.stretch(console.store, row, first, IN_PAGE)
    rare = await recorded.remarks(console.store, row)
    live = row.state == "open"
    page = session_page(
        row, rare, found.views, now=console.clock(), next_href=_from(row, found.next) if found.next else "",
        previous_href=_from(row, max(1, first - IN_PAGE)) if first > 1 else "",
        can_end=live and await console.world.may(who, TERMINATE, row.connection),
    )  # fmt: skip
    return Rendered("session", page, f"Session {row.id}", "sessions")


def _from(row: SessionRow, first: int) -> str:
    return handling.path_with(f"/sessions/{row.id}", **{"at": str(first)} if first > 1 else {})


async def shown(request: web.Request) -> web.StreamResponse:
    """The page; with `fragment=1` only its requests, for more of them below those that are there."""
    wanted = request.match_info["session"]
    row = await _by_beginning(request, wanted)
    if row is not None:
        return handling.redirect(f"/sessions/{row.id}")
    rendered = await one(request)
    if request.query.get("fragment") == "1":
        frame = handling.plain_frame(request, rendered)
        text = handling.piece(request, "_requests", rendered.page, frame)
        return web.Response(text=text, content_type="text/html", charset="utf-8")
    return await html(request, rendered)


async def _by_beginning(request: web.Request, wanted: str) -> SessionRow | None:
    """Another id than the one that was given, which begins so: as in commands, the beginning is enough."""
    try:
        row = await console_of(request).store.session(wanted, await scope_of(request))
    except (LookupError, ValueError):
        raise not_found("session") from None
    return row if row.id != wanted else None


def routes() -> list[web.RouteDef]:
    return [
        *both("/sessions", listed),
        web.get("/sessions/{session}", shown),
        *both("/sessions/{session}", one)[1:],
    ]


