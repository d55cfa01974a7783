"""What runs now: the list that renews itself, a session that is followed, and an end to one."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
from aiohttp import web

from ostiary_console import asked_for, handling, recorded
from ostiary_console.handling import both, console_of, form, html, number, scope_of, who_asks
from ostiary_console.limits import Full
from ostiary_console.problems import Problem, bad, forbidden, too_many
from ostiary_console.session_pages import session_row
from ostiary_console.signed_in import SignedIn
from ostiary_console.views import KillPage, LivePage, LiveSession, Rendered, Running, SessionPage
from ostiary_console.world import TERMINATE
from ostiary_gateway.logging import get_logger
from ostiary_store.model import SessionRow, StoreError

log = get_logger(__name__)

LOOK: Final = 0.5
"""Seconds between looks at a session that is followed."""
LIST: Final = 1.0
HEARTBEAT: Final = 15.0
"""Seconds after which something is sent, so that nothing on the way takes the stream for dead."""
LONGEST: Final = 1800.0
"""Seconds of one stream. The browser comes again by itself, and is let in again or not."""
AT_ONCE: Final = 50
"""Requests that one event brings."""
MAX_REASON: Final = 512
MAX_SHOWN: Final = 1000


async def live_now(request: web.Request) -> LivePage:
    """What this person may see of what is open now. Raises Problem."""
    console, who, scope = console_of(request), who_asks(request), await scope_of(request)
    found = await console.world.live()
    seen = [each for each in found.items if asked_for.within(scope, str(each.get("connection", "")))]
    may: dict[str, bool] = {}
    for connection in sorted({str(each.get("connection", "")) for each in seen}):
        may[connection] = await console.world.may(who, TERMINATE, connection)
    shown = [_session(each, can_end=may[str(each.get("connection", ""))]) for each in seen]
    unreachable = tuple(each for each in found.unreachable if asked_for.touches(scope, each.partition("/")[0]))
    if console.world.standalone:
        unreachable = found.unreachable
    return LivePage(tuple(sorted(shown, key=lambda each: -each.opened)[:MAX_SHOWN]), unreachable)


def _session(each: Mapping[str, Any], *, can_end: bool) -> LiveSession:
    client = each.get("client")
    fields = client if isinstance(client, dict) else {}
    running = [one for one in each.get("running") or () if isinstance(one, dict)]
    return LiveSession(
        session=str(each.get("session", "")),
        connection=str(each.get("connection", "")),
        protocol=str(each.get("protocol", "")),
        username=str(each.get("username", "")),
        on_behalf_of=str(each.get("onBehalfOf") or ""),
        client=" ".join(str(fields[name]) for name in ("address", "application") if fields.get(name)),
        opened=_number(each.get("opened")),
        requests=int(_number(each.get("requests"))),
        running=tuple(
            Running(str(one.get("request", "")), _number(one.get("since")), str(one.get("text", ""))) for one in running
        ),
        gateway=str(each.get("gateway", "")),
        can_end=can_end,
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else 0.0


async def page(request: web.Request) -> Rendered:
    try:
        shown = await live_now(request)
    except Problem as problem:
        if problem.status == 401:
            raise
        shown = LivePage((), problem=str(problem))
    return Rendered("live", shown, "Live sessions", "live")


# -- streams


@dataclass(slots=True)
class _Stream:
    """Server-sent events to one browser. `check` is asked now and then whether it may go on."""

    request: web.Request
    who: SignedIn
    response: web.StreamResponse = field(init=False)

    async def open(self) -> None:
        self.response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        )
        await self.response.prepare(self.request)

    async def send(self, event: str, data: str, ident: str = "") -> None:
        lines = "".join(f"data: {line}\n" for line in data.splitlines() or [""])
        head = f"id: {ident}\n" if ident else ""
        await self.response.write(f"{head}event: {event}\n{lines}\n".encode("utf-8", "replace"))

    async def beat(self) -> None:
        await self.response.write(b": still here\n\n")


async def _streamed(request: web.Request, step: Callable[[_Stream], Awaitable[float]]) -> web.StreamResponse:
    """Calls `step` again after as many seconds as it says, until it says less than none, or its person is gone."""
    console, who = console_of(request), who_asks(request)
    loop = asyncio.get_running_loop()
    try:
        with console.streams.place(who.name):
            stream = _Stream(request, who)
            await stream.open()
            began = beaten = loop.time()
            while loop.time() - began < LONGEST:
                if _is_over(console, who) or await console.sessions.ended.has(who):
                    break
                try:
                    wait = await step(stream)
                except Problem as problem:
                    await stream.send("problem", orjson.dumps({"message": str(problem)}).decode())
                    if problem.status in (401, 404):
                        break
                    wait = 5.0
                except StoreError as problem:
                    log.warning("a stream waits for the store", problem=str(problem))
                    wait = 5.0
                if wait < 0:
                    break
                if loop.time() - beaten >= HEARTBEAT:
                    await stream.beat()
                    beaten = loop.time()
                await asyncio.sleep(wait)
            else:
                return stream.response
            await stream.send("bye", "")
            return stream.response
    except Full:
        raise too_many("You have too many live pages open.", "Close one, then load this page again.") from None
    except ConnectionError:
        return web.Response()  # the browser has gone; nobody gets this


def _is_over(console: handling.Console, who: SignedIn) -> bool:
    now = console.clock()
    return now >= who.until or (who.token_ends is not None and now >= who.token_ends)


async def events(request: web.Request) -> web.StreamResponse:
    """/live/events: `rows` whenever the list has changed."""
    last = b""

    async def step(stream: _Stream) -> float:
        nonlocal last
        shown = await live_now(request)
        digest = hashlib.sha256(orjson.dumps(shown)).digest()
        if digest != last:
            rendered = Rendered("live", shown, "Live sessions", "live")
            frame = handling.plain_frame(request, rendered)
            await stream.send("rows", handling.piece(request, "_live_rows", shown, frame))
            last = digest
        return LIST

    return await _streamed(request, step)


async def follow(request: web.Request) -> web.StreamResponse:
    """/sessions/{id}/follow: `requests` as they come and end, `state` when the session does."""
    row = await session_row(request)
    last_id = request.headers.get("Last-Event-ID", "")
    follower = _Follower(row, int(last_id) if last_id.isdecimal() and len(last_id) < 18 else number(request, "after"))

    async def step(stream: _Stream) -> float:
        console = console_of(request)
        try:
            # Asked anew each time with the rights of now: who loses them sees no more.
            now = await console.store.session(row.id, await scope_of(request))
        except LookupError:
            return -1.0
        for views in [await follower.new(console.store, now)]:
            if views:
                shown = SessionPage(now, (), views, views[0].number, views[-1].number, live=now.state == "open")
                frame = handling.plain_frame(request, Rendered("session", shown, row.id))
                await stream.send(
                    "requests", handling.piece(request, "_requests", shown, frame), str(follower.last)
                )  # fmt: skip
        if follower.behind:
            return 0.0
        if now.state != "open":
            await stream.send("state", orjson.dumps({"state": now.state, "closed": now.closed}).decode())
            return -1.0
        return LOOK

    return await _streamed(request, step)


class _Follower:
    """What is new in a session: requests that begin, and those that were seen running and have ended."""

    def __init__(self, row: SessionRow, last: int) -> None:
        self.last = last
        self.behind = False
        self._events = -1
        self._running: set[int] = set()

    async def new(self, store: Any, row: SessionRow) -> tuple[Any, ...]:
        if row.events == self._events and not self.behind:
            return ()
        found = await recorded.stretch(store, row, self.last + 1, AT_ONCE)
        self.behind = bool(found.next)
        ended = []
        for wanted in sorted(self._running)[:AT_ONCE]:
            try:
                view = await recorded.whole(store, row, wanted)
            except LookupError:
                continue
            if view.outcome:
                ended.append(view)
                self._running.discard(wanted)
        if not self.behind:
            self._events = row.events
        self.last = max([self.last, *(view.number for view in found.views)])
        self._running |= {view.number for view in found.views if not view.outcome}
        return (*ended, *found.views)


# -- an end


async def _target(request: web.Request) -> tuple[LiveSession, str]:
    """The live session in the path, which the person may see. Raises Problem."""
    wanted = request.match_info["session"]
    shown = await live_now(request)
    found = next((each for each in shown.sessions if each.session == wanted), None)
    if found is None:
        row = await session_row(request)
        raise Problem(
            409, "It has ended", f"The session {row.id} is not open at any gateway that answers.", "Look at its record."
        )
    if not found.can_end:
        raise forbidden(
            f"You may not end sessions of {found.connection}.", "Ask for the verb terminate on its Connection."
        )
    return found, wanted


async def ask(request: web.Request) -> web.StreamResponse:
    """GET /sessions/{id}/kill: asks once more."""
    found, _ = await _target(request)
    rendered = Rendered("kill", await _kill_page(request, found), f"End {found.session}", "live")
    return await html(request, rendered)


async def _kill_page(request: web.Request, found: LiveSession, reason: str = "", problem: str = "") -> KillPage:
    try:
        row = await session_row(request)
    except Problem:
        # So new that the store has not heard of it.
        row = SessionRow(
            found.session, found.opened, None, "open", found.connection, found.protocol, found.username, "",
            found.requests,
        )  # fmt: skip
    return KillPage(row, found.running, reason, problem)


async def kill(request: web.Request) -> web.StreamResponse:
    """POST /sessions/{id}/kill: `reason`, and `target` where it is one request of the session."""
    console, who = console_of(request), who_asks(request)
    fields = await form(request)
    found, session = await _target(request)
    reason = " ".join(fields.get("reason", "").split())
    target = fields.get("target", "") or session
    if target != session and target not in [one.request for one in found.running]:
        raise Problem(409, "It has ended", f"{target} does not run now.", "Look at the session.")
    if len(reason) > MAX_REASON:
        raise bad(f"The reason has {len(reason)} characters; {MAX_REASON} are told at most.")
    log.warning("a session is ended", target=target, by=who.name, reason=reason)
    ended = await handling.done(console.world.end(who, found.connection, target, reason))
    console.counts.ended += 1
    if handling.is_api(request):
        return handling.as_json({"ended": ended})
    return handling.redirect(f"/sessions/{session}", done="killed") if target == session else handling.redirect(
        f"/sessions/{session}", done="ending"
    )


def routes() -> list[web.RouteDef]:
    api = handling.API
    return [
        *both("/live", page),
        web.get("/live/events", events),
        web.get("/sessions/{session}/follow", follow),
        web.get("/sessions/{session}/kill", ask),
        web.post("/sessions/{session}/kill", kill),
        web.post(f"{api}/sessions/{{session}}/kill", kill),
    ]


