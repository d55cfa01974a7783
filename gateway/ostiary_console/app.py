"""The console as an aiohttp application: routes, what every request must pass, and how problems are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from ostiary_console import guard, handling
from ostiary_console.handling import CONSOLE, Console, as_json, console_of, is_api
from ostiary_console.problems import Problem, away, bad, forbidden
from ostiary_console.signed_in import SignedIn
from ostiary_console.views import ErrorPage, Rendered
from ostiary_gateway.logging import get_logger
from ostiary_store.model import StoreError

log = get_logger(__name__)

PATIENCE: Final = 30.0
"""Seconds that a request may take, its body included; streams have no such end."""
MAX_BODY: Final = 4 * 1024 * 1024
"""Bytes of candidate policies; other forms are far smaller."""
_PUBLIC: Final = ("/static/", "/signin")
_UPLOADS: Final = frozenset({"/replay", "/api/v1/replay"})
_PLAIN: Final = frozenset({"application/x-www-form-urlencoded", "application/json"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def application(console: Console) -> web.Application:
    """All of it but the sockets."""
    from ostiary_console import (
        approval_pages,
        live_pages,
        other_pages,
        replay_pages,
        request_pages,
        session_pages,
        signing_in,
    )

    app = web.Application(middlewares=[guarded], client_max_size=MAX_BODY)
    app[CONSOLE] = console
    rooms = (signing_in, session_pages, request_pages, live_pages, approval_pages, other_pages, replay_pages)
    for module in rooms:
        app.add_routes(module.routes())
    app.router.add_get("/", _home)
    app.router.add_get("/static/{name:.*}", _static)
    app.router.add_get("/robots.txt", _robots)
    app.on_response_prepare.append(_dressed)
    return app


async def _dressed(request: web.Request, response: web.StreamResponse) -> None:
    console = console_of(request)
    console.counts.requests[f"{response.status // 100}xx"] += 1
    console.guard.dress(response)


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Host, person, form; then the handler. Whatever goes wrong becomes a page, or JSON below /api/v1."""
    console = console_of(request)
    who: SignedIn | None = None
    handling.set_who(request, None)
    try:
        console.guard.check_host(request)
        _check_body(request)
        async with asyncio.timeout(PATIENCE) as limit:
            who = await console.ways.who(request)
            handling.set_who(request, who)
            if who is None and not _public(request):
                return _to_sign_in(request)
            await handling.check_form(request, who)
            if handling.is_stream(request):
                limit.reschedule(None)
            response = await handler(request)
    except web.HTTPRequestEntityTooLarge:
        return await _told(request, Problem(413, "Too large", "The request is larger than what is taken here."))
    except web.HTTPException as answer:
        if answer.status < 400:
            raise
        return await _told(request, _of_router(answer))
    except guard.Forbidden as why:
        message, _, next_step = str(why).partition(" Next: ")
        return await _told(request, forbidden(message, next_step[:1].upper() + next_step[1:]))
    except Problem as problem:
        if problem.status == 401 and who is not None and who.cookie and not is_api(request):
            # The API server does not take the person's token any more.
            await console.sessions.ended.end(who)
            response = _to_sign_in(request)
            console.sessions.clear(response)
            return response
        return await _told(request, problem)
    except StoreError as problem:
        log.warning("the store cannot be asked", path=request.path, problem=str(problem))
        return await _told(request, away(f"The store cannot be asked: {problem}"))
    except TimeoutError:
        return await _told(request, away("This took too long.", "Ask for less: a shorter time, one Connection."))
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:
        log.exception("a request failed", path=request.path)
        message = "Something went wrong in the console; its log says what."
        return await _told(request, Problem(500, "That failed", message, "Tell who runs it."))
    now_who = handling.maybe_who(request)
    if now_who is not None and not response.prepared and console.sessions.stale(now_who):
        console.sessions.write(response, now_who)
    return response


def _public(request: web.Request) -> bool:
    return request.path.startswith(_PUBLIC) or request.path == "/robots.txt"


def _check_body(request: web.Request) -> None:
    if request.method in guard.SAFE:
        return
    if request.method != "POST":
        raise Problem(405, "Not possible", f"{request.method} is not taken here.")
    if request.content_type not in (_PLAIN if request.path not in _UPLOADS else _PLAIN | {"multipart/form-data"}):
        raise Problem(415, "Not understood", "The body must be a form or JSON.")
    if request.path not in _UPLOADS and (request.content_length or 0) > handling.FORM:
        raise Problem(413, "Too large", "The form is larger than what is taken here.")


def _to_sign_in(request: web.Request) -> web.Response:
    wants_page = request.method in guard.SAFE and not is_api(request) and not handling.is_stream(request)
    if not wants_page:
        raise Problem(401, "Not signed in", "You are not signed in, or not any more.", "Sign in.")
    return handling.redirect("/signin", next=guard.safe_path(request.path_qs))


def _of_router(answer: web.HTTPException) -> Problem:
    if answer.status == 404:
        return Problem(404, "Not found", "There is no such page.", "Go to the sessions.")
    if answer.status == 405:
        return Problem(405, "Not possible", "This cannot be done here.")
    return bad(answer.reason) if answer.status == 400 else Problem(answer.status, answer.reason, answer.reason)


async def _told(request: web.Request, problem: Problem) -> web.StreamResponse:
    fields = ErrorPage(problem.status, problem.title, str(problem), problem.next_step)
    headers = {"WWW-Authenticate": 'Bearer realm="ostiary"'} if problem.status == 401 and is_api(request) else {}
    if is_api(request) or handling.is_stream(request):
        answer = as_json({"error": fields}, problem.status)
        answer.headers.update(headers)
        return answer
    rendered = Rendered("error", fields, problem.title, status=problem.status, headers=headers)
    return await handling.html(request, rendered, handling.plain_frame(request, rendered))


async def _home(request: web.Request) -> web.StreamResponse:
    raise handling.see_other("/sessions")


async def _robots(request: web.Request) -> web.StreamResponse:
    return web.Response(text="User-agent: *\nDisallow: /\n")


async def _static(request: web.Request) -> web.StreamResponse:
    """Only what the package holds, by its name there: no path of the file system is ever made of it."""
    file = console_of(request).pages.file(request.match_info["name"])
    if file is None:
        raise web.HTTPNotFound
    forever = request.query.get("v", "") == file.version
    headers = {
        "Cache-Control": "public, max-age=31536000, immutable" if forever else "no-cache",
        "ETag": f'"{file.version}"',
        **({"Content-Security-Policy": file.policy} if file.policy else {}),
    }
    if request.headers.get("If-None-Match") == headers["ETag"]:
        return web.Response(status=304, headers=headers)
    answer = web.Response(body=file.body, headers=headers)
    answer.headers["Content-Type"] = file.type + ("; charset=utf-8" if file.type.startswith("text/") else "")
    return answer
