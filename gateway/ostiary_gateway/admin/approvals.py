"""The admin socket: a Unix socket on which people read what is asked, and decide. The kernel says who they are.

    GET  /approvals[?all=1][&limit=N]    {"items": [Item …]}
    GET  /approval?name=NAME             Item; NAME may be its beginning
    POST /approval/decision?name=NAME    {"verdict": "Approve" | "Deny", "reason": "…"} → Item

An Item is {"approval": an ApprovalRequest, "state": …, "acting": {approver: capacity}}; an error is
{"error": a word, "message": for people}.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, cast
from urllib.parse import parse_qs

from ostiary_api.approval import Verdict
from ostiary_api.counting import state_of
from ostiary_gateway.admin.http import MAX_DIGITS, Handler, HttpServer, Request, Response
from ostiary_gateway.approvals.files import Kept
from ostiary_gateway.approvals.local import Answer, LocalApprovals, Refused
from ostiary_gateway.approvals.people import Approvers, Person, person_of
from ostiary_gateway.approvals.store import ApprovalsError
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

SOCKET: Final = "admin.sock"
MAX_REASON: Final = 1024
RETRY: Final = 2.0
"""Seconds until it is looked again whether another process of this gateway still has the socket."""

Given = dict[str, str]
"""A query's parameters."""


class ApprovalsSocket:
    """Serves from `start` to `stop`. Of several processes on one data directory one has the socket; when it goes,
    another takes it over."""

    def __init__(self, path: Path, store: LocalApprovals, approvers: Approvers) -> None:
        self._path = path
        self._store = store
        self._approvers = approvers
        self._lock: int | None = None
        self._http = HttpServer(
            {
                ("GET", "/approvals"): _told(self._list),
                ("GET", "/approval"): _told(self._show),
                ("POST", "/approval/decision"): _told(self._decide),
            }
        )
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens, or waits for the process that does to go. OSError if the path cannot be listened on."""
        if not await self._try():
            self._task = asyncio.get_running_loop().create_task(self._keep_trying())

    async def stop(self) -> None:
        """Stops listening. May be called again."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._http.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    async def _keep_trying(self) -> None:
        while True:
            await asyncio.sleep(RETRY)
            try:
                if await self._try():
                    return
            except OSError as problem:
                log.error("admin socket", path=str(self._path), problem=str(problem))

    async def _try(self) -> bool:
        lock = os.open(self._path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            return False
        try:
            # With members named, each is told apart by the kernel's word; others get nothing but a refusal.
            await self._http.listen_unix(self._path, 0o666 if self._approvers.members else 0o600)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        log.info("admin socket", path=str(self._path))
        return True

    # -- requests

    async def _list(self, request: Request, given: Given) -> object:
        self._person(request)
        limit = given.get("limit", "200")
        wanted = int(limit[:MAX_DIGITS]) if limit.isdecimal() else 200
        found = await self._store.listed(closed=given.get("all") == "1", limit=min(wanted, 10_000))
        return {"items": [item(kept) for kept in found]}

    async def _show(self, request: Request, given: Given) -> object:
        self._person(request)
        return item(await self._one(given.get("name", "")))

    async def _decide(self, request: Request, given: Given) -> object:
        person = self._person(request)
        verdict, reason = _body(request.body)
        kept = await self._one(given.get("name", ""))
        groups = kept.request.spec.approval.groups
        standing = self._approvers.standing(person, groups)
        if standing is None:
            wanted = ", ".join(groups)
            raise _Problem(403, "group", f"{person.name} is in none of the groups that may answer: {wanted}.")
        metadata = kept.request.metadata
        answer = Answer(person.name, verdict, reason, standing.acting, standing.operator, person.uid)
        try:
            await self._store.answer(metadata.namespace, metadata.name, answer)
        except Refused as refused:
            raise _Problem(409 if refused.code == "closed" else 403, refused.code, str(refused)) from None
        return item(await self._one(metadata.name))

    async def _one(self, name: str) -> Kept:
        found = await self._store.matching(name) if name else []
        if not found:
            raise _Problem(404, "unknown", f"There is no approval {name}.")
        exact = [each for each in found if each.request.metadata.name in (name, f"apr-{name}")]
        if len(exact or found) > 1:
            names = ", ".join(each.request.key for each in exact or found)
            raise _Problem(409, "ambiguous", f"{name} may be one of several: {names}.")
        return (exact or found)[0]

    def _person(self, request: Request) -> Person:
        """Who asks, by the kernel's word; nobody else's counts. Where it does not say, only the socket's owner (and
        root) can have opened it: named members need a system that tells."""
        person = person_of(request.uid if request.uid is not None else os.getuid())
        if not self._approvers.knows(person):
            raise _Problem(403, "group", f"{person.name} may answer for no group at this gateway.")
        return person


def item(kept: Kept) -> dict[str, object]:
    """An approval as the socket and `--json` give it."""
    return {"approval": kept.request.to_manifest(), "state": state_of(kept.request.status), "acting": kept.acting}


class _Problem(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def _told(work: Callable[[Request, Given], Awaitable[object]]) -> Handler:
    """The work as a handler: what it gives as JSON, and what goes wrong too."""

    async def handler(request: Request) -> Response:
        given = {key: values[-1] for key, values in parse_qs(request.query).items()}
        try:
            return _json(await work(request, given), 200)
        except _Problem as problem:
            return _json({"error": problem.code, "message": str(problem)}, problem.status)
        except ApprovalsError as problem:
            return _json({"error": "store", "message": str(problem)}, 503)

    return handler


def _body(body: bytes) -> tuple[Verdict, str]:
    try:
        fields = json.loads(body)
        verdict, reason = fields["verdict"], fields.get("reason", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _Problem(400, "request", "A decision is a JSON object with verdict and reason.") from None
    if verdict not in ("Approve", "Deny") or not isinstance(reason, str):
        raise _Problem(400, "request", "verdict is Approve or Deny, reason a text.")
    reason = reason.encode("utf-8", "replace").decode()
    if len(reason) > MAX_REASON:
        raise _Problem(400, "request", f"The reason has {len(reason)} characters; {MAX_REASON} are kept at most.")
    return cast(Verdict, verdict), reason


def _json(value: object, status: int) -> Response:
    return Response(json.dumps(value, ensure_ascii=False), status, "application/json")
