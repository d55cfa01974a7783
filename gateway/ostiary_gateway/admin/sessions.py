"""Live sessions at the admin socket: who is in, what runs, and an end to it.

    GET  /sessions/live     {"items": [Session …]}, of all processes of the gateway
    POST /sessions/end      {"target": "SESSION" | "SESSION-NUMBER", "reason": "…"} → {"ended": TARGET}

A Session is what `Gate.live` tells. The beginning of a session's id is enough, as long as it is one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from ostiary_gateway.admin.http import Handler, Request, Response
from ostiary_gateway.admin.local_socket import AdminProblem, Given, Routes, as_json, asker, told
from ostiary_gateway.approvals.people import Approvers, Person
from ostiary_gateway.logging import get_logger
from ostiary_gateway.workers import sockets
from ostiary_gateway.workers.place import Place

log = get_logger(__name__)

LIVE: Final = "/sessions/live"
END: Final = "/sessions/end"
MAX_REASON: Final = 512

Live = Callable[[], list[dict[str, object]]]
End = Callable[[str, str], Awaitable[bool]]
"""Ends a session or a request of this process, with the words that its agent is told."""


class SessionsDesk:
    """`live` and `end` are of this process; others of the gateway are asked at their sockets."""

    def __init__(self, live: Live, end: End, approvers: Approvers, place: Place) -> None:
        self._live = live
        self._end = end
        self._approvers = approvers
        self._place = place

    @property
    def routes(self) -> Routes:
        """At the admin socket."""
        return {("GET", LIVE): told(self._list), ("POST", END): told(self._kill)}

    async def _list(self, request: Request, given: Given) -> object:
        self._person(request)
        return {"items": await self.all()}

    async def all(self) -> list[dict[str, Any]]:
        """The open sessions of all processes, the oldest first."""
        found: list[dict[str, Any]] = list(self._live())
        for answer in await asyncio.gather(*(self._asked(path, "GET", LIVE) for path in self._place.others)):
            found += answer.get("items", [])
        return sorted(found, key=lambda each: (each["opened"], each["session"]))

    async def _kill(self, request: Request, given: Given) -> object:
        person = self._person(request)
        wanted, reason, _ = asked_end(request.body)
        return {"ended": await self.end(wanted, reason, person.name, uid=person.uid)}

    async def end(self, wanted: str, reason: str, person: str, **more: object) -> str:
        """Ends a session or a request in a person's name; its whole id. Raises AdminProblem."""
        target = _one(wanted, await self.all())
        message = f"Ended by {person}" + (f": {reason.rstrip('.')}." if reason else ".")
        # Before it happens: who ends things must not be unknown because the gateway died over it.
        log.warning("ended by a person", target=target, by=person, reason=reason, **more)
        if not await self._end(target, message):
            body = json.dumps({"target": target, "message": message}).encode()
            others = await asyncio.gather(*(self._asked(path, "POST", END, body) for path in self._place.others))
            if not any(answer.get("ended") for answer in others):
                raise AdminProblem(404, "gone", f"{target} has ended by itself.")
        return target

    async def _asked(self, path: Path, method: str, route: str, body: bytes = b"") -> dict[str, Any]:
        try:
            answer = json.loads(await sockets.ask(path, method, route, body))
        except (OSError, ValueError, TimeoutError, asyncio.LimitOverrunError) as problem:
            log.warning("another worker cannot be reached", path=str(path), problem=str(problem))
            return {}
        return answer if isinstance(answer, dict) else {}

    def _person(self, request: Request) -> Person:
        """Only who owns the gateway: what runs is not for everybody's eyes, and its end is not what approvers say."""
        person = asker(request)
        if person.uid not in (self._approvers.owner, 0):
            raise AdminProblem(403, "owner", f"{person.name} may neither see nor end sessions of this gateway.")
        return person


def worker_routes(live: Live, end: End) -> Routes:
    """At a worker's own socket, for the one that has the admin socket."""

    async def listed(_: Request) -> Response:
        return as_json({"items": live()}, 200)

    async def ended(request: Request) -> Response:
        try:
            told = json.loads(request.body)
            target, message = str(told["target"]), str(told["message"])
        except (ValueError, TypeError, LookupError):
            return Response("not an end of a session\n", 400)
        return as_json({"ended": await end(target, message)}, 200)

    handlers: dict[tuple[str, str], Handler] = {("GET", LIVE): listed, ("POST", END): ended}
    return handlers


def _one(wanted: str, live: list[dict[str, Any]]) -> str:
    """The session or request that is meant. Raises AdminProblem."""
    session, dash, number = wanted.partition("-")
    found = [each for each in live if session and each["session"].startswith(session)]
    if not found:
        raise AdminProblem(404, "no session", f"There is no open session {wanted}.")
    if len(found) > 1:
        names = ", ".join(each["session"] for each in found[:5])
        raise AdminProblem(409, "several sessions", f"{wanted} may be one of several: {names}.")
    target = f"{found[0]['session']}{dash}{number}"
    if dash and target not in [each["request"] for each in found[0]["running"]]:
        raise AdminProblem(404, "no session", f"No request {target} runs now.")
    return target


def asked_end(body: bytes) -> tuple[str, str, str]:
    """Target, reason, and the person where another program asks for one. Raises AdminProblem."""
    try:
        fields = json.loads(body)
        target, reason, person = fields["target"], fields.get("reason", ""), fields.get("person", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AdminProblem(400, "request", "An end is a JSON object with target and reason.") from None
    if not isinstance(target, str) or not isinstance(reason, str) or not isinstance(person, str):
        raise AdminProblem(400, "request", "target, reason and person are texts.")
    reason = " ".join("".join(c if c.isprintable() else " " for c in reason).split())
    if len(reason) > MAX_REASON:
        raise AdminProblem(400, "request", f"The reason has {len(reason)} characters; {MAX_REASON} are told at most.")
    return target, reason.encode("utf-8", "replace").decode(), person
