"""One request: its page, its response as it was recorded, and its recording for the player."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Final

from aiohttp import web

from ostiary_console import handling, recorded
from ostiary_console.handling import both, console_of, number, scope_of
from ostiary_console.problems import bad, not_found
from ostiary_console.session_pages import session_row
from ostiary_console.shown.bounds import WHOLE
from ostiary_console.views import Grid, Rendered, RequestPage
from ostiary_gateway.audit.asciinema import cast
from ostiary_gateway.audit.stream_recording import Chunk, Recording
from ostiary_store.model import SessionRow
from ostiary_store.reading import SessionView, StoredRequest

MAX_CAST: Final = 64 * 1024 * 1024
"""Bytes of a recording that are given to the player."""
PIECE: Final = 512 * 1024
_FILES: Final = frozenset(("sftp", "scp"))
_SANDBOX: Final = "sandbox; default-src 'none'; frame-ancestors 'none'"


def _numbered(request: web.Request) -> int:
    text = request.match_info["number"]
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise not_found("request")
    return int(text)


async def one(request: web.Request) -> Rendered:
    """/sessions/{id}/requests/{n}; `row` says from which row of a long result on."""
    console, row, wanted = console_of(request), await session_row(request), _numbered(request)
    first_row = number(request, "row")
    try:
        view = await recorded.whole(console.store, row, wanted, first_row)
    except LookupError:
        raise not_found("request") from None
    shown = max((len(block.rows) for block in view.answered if isinstance(block, Grid)), default=0)
    count = max((block.count for block in view.answered if isinstance(block, Grid)), default=0)
    more = first_row + shown < count and shown
    page = RequestPage(
        row, view, first_row=first_row,
        previous_href=f"/sessions/{row.id}/requests/{wanted - 1}" if wanted > 1 else "",
        next_href=f"/sessions/{row.id}/requests/{wanted + 1}" if wanted < row.requests else "",
        more_href=handling.path_with(view.href, row=str(first_row + WHOLE.rows)) if more else "",
    )  # fmt: skip
    return Rendered("request", page, f"Request {view.id}", "sessions")


async def by_id(request: web.Request) -> web.StreamResponse:
    """/requests/{id}: where a denial's id leads, as agents are told it."""
    try:
        row = await console_of(request).store.request(request.match_info["id"], await scope_of(request))
    except (LookupError, ValueError):
        raise not_found("request") from None
    return handling.redirect(f"/sessions/{row.session}/requests/{row.number}")


async def _recorded(request: web.Request) -> tuple[SessionView, SessionRow, StoredRequest]:
    console, row = console_of(request), await session_row(request)
    view = SessionView(console.store, row)
    try:
        return view, row, await view.request(_numbered(request))
    except LookupError:
        raise not_found("request") from None


async def response(request: web.Request) -> web.StreamResponse:
    """…/response: the bytes as they were recorded, to be kept as a file; `offset` and `limit` for pieces of it."""
    view, _, found = await _recorded(request)
    offset, limit = number(request, "offset", most=2**40), number(request, "limit", 2**40, most=2**40)
    if not found.parts:
        raise not_found("recorded response")
    first = await _piece(view, found, offset, min(limit, PIECE))
    answer = web.StreamResponse(
        headers={
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{found.id}.bin"',
            "Content-Security-Policy": _SANDBOX,
            "X-Response-Size": str(found.size),
        }
    )
    await answer.prepare(request)
    while first:
        await answer.write(first)
        offset, limit = offset + len(first), limit - len(first)
        if limit <= 0:
            break
        with contextlib.suppress(LookupError, ValueError):
            first = await view.response(found, offset, min(limit, PIECE))
            continue
        break
    await answer.write_eof()
    return answer


async def _piece(view: SessionView, found: StoredRequest, offset: int, limit: int) -> bytes:
    try:
        return await view.response(found, offset, limit)
    except LookupError:
        raise not_found("response: its retention is over, and no such response") from None
    except ValueError as problem:
        raise bad(f"The recorded response is damaged: {problem}.", "`ostiary verify` says more.") from None


async def recording(request: web.Request) -> web.StreamResponse:
    """…/cast: asciicast v2. `from` is where to begin, in seconds: what came before is given at once, so that the
    terminal looks as it did then. With `input=1` also what was typed."""
    view, row, found = await _recorded(request)
    begun = found.begun.fields if found.begun is not None else {}
    detail = begun.get("detail")
    start = await _piece(view, found, 0, 64) if found.parts else b""
    if (isinstance(detail, dict) and detail.get("kind") in _FILES) or not Recording([start]).known:
        raise not_found("recording of a terminal")
    at = begun.get("at")
    started = at if isinstance(at, float) else row.opened
    title = f"{begun.get('text', found.id)} ({row.username}, {found.id})"[:200]
    since = float(number(request, "from"))
    input_too = request.query.get("input") == "1"
    answer = web.StreamResponse(headers={"Content-Type": "application/x-asciicast"})
    answer.enable_compression()
    await answer.prepare(request)
    async for lines in _cast(view, found, started, title, input_too, since):
        await answer.write(lines)
    await answer.write_eof()
    return answer


async def _cast(
    view: SessionView, found: StoredRequest, started: float, title: str, input_too: bool, since: float
) -> AsyncIterator[bytes]:
    """Lines of the cast, some hundred KiB at a time, made in a thread that waits for the pieces."""
    loop = asyncio.get_running_loop()

    def pieces() -> Iterator[bytes]:
        offset = 0
        while offset < MAX_CAST:
            fetching = asyncio.run_coroutine_threadsafe(view.response(found, offset, PIECE), loop)
            try:
                piece = fetching.result(30)
            except (LookupError, ValueError, TimeoutError):
                return
            if not piece:
                return
            yield piece
            offset += len(piece)

    def lines() -> Iterator[bytes]:
        stream = Recording(pieces())
        chunks = (_hurried(chunk, since) for chunk in stream.chunks() if isinstance(chunk, Chunk))
        yield from cast(chunks, started=started, title=title, tty=stream.tty, input=input_too)

    made = lines()

    def some() -> bytes:
        out = bytearray()
        for line in made:
            out += line
            if len(out) >= PIECE:
                break
        return bytes(out)

    while out := await asyncio.to_thread(some):
        yield out


def _hurried(chunk: Chunk, since: float) -> Chunk:
    return Chunk(max(0.0, chunk.at - since), chunk.kind, chunk.data) if since else chunk


def routes() -> list[web.RouteDef]:
    base = "/sessions/{session}/requests/{number}"
    return [
        *both(base, one),
        *(web.get(f"{api}{base}/{name}", handler) for api in ("", handling.API) for name, handler in _FILES_OF),
        web.get("/requests/{id}", by_id),
    ]


_FILES_OF: Final = (("response", response), ("cast", recording))
