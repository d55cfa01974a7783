"""The admin socket: a Unix socket on which people read what is asked, and decide. The kernel says who they are.

    GET  /approvals[?all=1][&limit=N]      {"items": [Item …]}
    GET  /approvals/NAME                   Item; NAME may be its beginning
    POST /approvals/NAME/decision          {"verdict": "Approve" | "Deny", "reason": "…"} → Item

An Item is {"approval": an ApprovalRequest, "state": …, "acting": {approver: capacity}}; an error is
{"error": a word, "message": for people}.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Final, cast

from aiohttp import web

from ostiary_api.approval import Verdict
from ostiary_api.counting import state_of
from ostiary_gateway.approvals.files import Kept
from ostiary_gateway.approvals.local import Answer, LocalApprovals, Refused
from ostiary_gateway.approvals.people import Approvers, Person, peer_of, person_of
from ostiary_gateway.approvals.store import ApprovalsError
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

SOCKET: Final = "admin.sock"
MAX_BODY: Final = 16_384
MAX_REASON: Final = 1024
MAX_PATH: Final = 100
"""Bytes that the path of a Unix socket may have; the system's limit is 104 to 108."""
RETRY: Final = 2.0
"""Seconds until it is looked again whether another process of this gateway still has the socket."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class ApprovalsSocket:
    """Serves from `start` to `stop`. Of several processes on one data directory one has the socket; when it goes,
    another takes it over."""

    def __init__(self, path: Path, store: LocalApprovals, approvers: Approvers) -> None:
        self._path = path
        self._store = store
        self._approvers = approvers
        self._lock: int | None = None
        self._runner: web.AppRunner | None = None
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
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
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
            await self._listen()
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        return True

    async def _listen(self) -> None:
        app = web.Application(client_max_size=MAX_BODY, middlewares=[web.middleware(_errors)])
        app.router.add_get("/approvals", self._list)
        app.router.add_get("/approvals/{name}", self._show)
        app.router.add_post("/approvals/{name}/decision", self._decide)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=2.0)
        await runner.setup()
        try:
            # Whoever had the lock is gone, so what lies there belongs to nobody.
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            sock.setblocking(False)
            with short_path(self._path) as path:
                before = os.umask(0o177)
                try:
                    sock.bind(path)
                finally:
                    os.umask(before)
            # With members named, each is told apart by the kernel's word; others get nothing but a refusal.
            self._path.chmod(0o666 if self._approvers.members else 0o600)
            await web.SockSite(runner, sock).start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        log.info("admin socket", path=str(self._path))

    # -- requests

    async def _list(self, request: web.Request) -> web.Response:
        self._person(request)
        limit = request.query.get("limit", "200")
        found = await self._store.listed(
            closed=request.query.get("all") == "1", limit=min(int(limit), 10_000) if limit.isdecimal() else 200
        )
        return _answer({"items": [item(kept) for kept in found]})

    async def _show(self, request: web.Request) -> web.Response:
        self._person(request)
        return _answer(item(await self._one(request)))

    async def _decide(self, request: web.Request) -> web.Response:
        person = self._person(request)
        verdict, reason = await _body(request)
        kept = await self._one(request)
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
        return _answer(item(await self._one(request)))

    async def _one(self, request: web.Request) -> Kept:
        name = request.match_info["name"]
        found = await self._store.matching(name)
        if not found:
            raise _Problem(404, "unknown", f"There is no approval {name}.")
        if len(found) > 1 and found[0].request.metadata.name not in (name, f"apr-{name}"):
            names = ", ".join(each.request.metadata.name for each in found)
            raise _Problem(409, "ambiguous", f"{name} may be one of several: {names}.")
        return found[0]

    def _person(self, request: web.Request) -> Person:
        """Who asks, by the kernel's word; nobody else's counts."""
        person = _peer(request)
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


async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _Problem as problem:
        return _answer({"error": problem.code, "message": str(problem)}, problem.status)
    except ApprovalsError as problem:
        return _answer({"error": "store", "message": str(problem)}, 503)


async def _body(request: web.Request) -> tuple[Verdict, str]:
    try:
        fields = json.loads(await request.text())
        verdict, reason = fields["verdict"], fields.get("reason", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _Problem(400, "request", "A decision is a JSON object with verdict and reason.") from None
    if verdict not in ("Approve", "Deny") or not isinstance(reason, str):
        raise _Problem(400, "request", "verdict is Approve or Deny, reason a text.")
    if len(reason) > MAX_REASON:
        raise _Problem(400, "request", f"The reason has {len(reason)} characters; {MAX_REASON} are kept at most.")
    return cast(Verdict, verdict), reason


def _answer(fields: dict[str, object], status: int = 200) -> web.Response:
    return web.Response(text=json.dumps(fields, ensure_ascii=False), status=status, content_type="application/json")


def _peer(request: web.Request) -> Person:
    transport = request.transport
    held = transport.get_extra_info("socket") if transport is not None else None
    if held is None:
        raise _Problem(403, "peer", "The connection is gone.")
    # A copy of the descriptor: what an event loop calls its socket may not have getsockopt.
    with socket.socket(fileno=os.dup(held.fileno())) as sock:
        person = peer_of(sock)
    if person is None:
        # The socket's mode lets in its owner only (and root), and named members need a system that tells.
        return person_of(os.getuid())
    return person


def can_tell_people_apart() -> bool:
    """Whether this system says who is at the other end of a Unix socket."""
    return hasattr(socket, "SO_PEERCRED")


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """The path of a Unix socket, short enough for the system: through its directory's descriptor (Linux)."""
    if len(os.fsencode(path)) <= MAX_PATH or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
