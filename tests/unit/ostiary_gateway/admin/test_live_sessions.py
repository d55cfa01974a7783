"""Who may look at live sessions and end them, and which one is meant."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ostiary_gateway.admin.http import HttpServer, Request
from ostiary_gateway.admin.sessions import END, LIVE, SessionsDesk, worker_routes
from ostiary_gateway.approvals.people import Approvers, person_of
from ostiary_gateway.workers.place import ALONE, Place
from ostiary_gateway.workers.sockets import socket_of

ME = person_of(os.getuid()).name
CODES = {404: "no session", 409: "several sessions"}


class Process:
    """One process of a gateway, with these sessions."""

    def __init__(self, *sessions: str) -> None:
        self.sessions = sessions
        self.ended: list[tuple[str, str]] = []

    def live(self) -> list[dict[str, object]]:
        return [
            {"session": each, "opened": 1.0, "running": [{"request": f"{each}-1", "since": 2.0, "text": "sleep"}]}
            for each in self.sessions
        ]

    async def end(self, target: str, message: str) -> bool:
        if target.partition("-")[0] not in self.sessions:
            return False
        self.ended.append((target, message))
        return True

    async def ask(
        self, method: str, route: str, body: object = None, *, uid: int | None = None, place: Place = ALONE,
        approvers: Approvers | None = None,
    ) -> tuple[int, Any]:  # fmt: skip
        desk = SessionsDesk(self.live, self.end, approvers or Approvers(), place)
        uid = os.getuid() if uid is None else uid
        request = Request(method, route, body=json.dumps(body).encode(), uid=uid)
        answer = await desk.routes[method, route](request)
        return answer.status, json.loads(answer.body)

    async def kill(self, target: str, reason: str = "", **more: Any) -> tuple[int, Any]:
        return await self.ask("POST", END, {"target": target, "reason": reason}, **more)


async def test_a_session_is_named_by_its_beginning_and_a_request_by_its_number() -> None:
    process = Process("aaa1", "aab2")
    assert await process.kill("aab", "enough.") == (200, {"ended": "aab2"})
    assert await process.kill("aaa-1") == (200, {"ended": "aaa1-1"})
    assert process.ended == [("aab2", f"Ended by {ME}: enough."), ("aaa1-1", f"Ended by {ME}.")]


@pytest.mark.parametrize(
    ("target", "status", "says"),
    [
        ("aa", 409, "aa may be one of several: aaa1, aab2."),
        ("b", 404, "There is no open session b."),
        ("", 404, "There is no open session ."),
        ("-1", 404, "There is no open session -1."),
        ("aaa-2", 404, "No request aaa1-2 runs now."),
        ("aaa-x", 404, "No request aaa1-x runs now."),
    ],
)
async def test_nothing_is_ended_by_guess(target: str, status: int, says: str) -> None:
    process = Process("aaa1", "aab2")
    assert await process.kill(target) == (status, {"error": CODES[status], "message": says})
    assert process.ended == []


async def test_only_who_owns_the_gateway_sees_and_ends_sessions() -> None:
    """Approvers answer questions; what runs is not for their eyes."""
    process = Process("aaa1")
    approvers = Approvers({"dba": frozenset({person_of(65534).name})}, owner=os.getuid())
    for method, route in (("GET", LIVE), ("POST", END)):
        status, told = await process.ask(method, route, {"target": "aaa1"}, uid=65534, approvers=approvers)
        assert (status, told["error"]) == (403, "owner")
    assert (await process.ask("GET", LIVE, uid=0))[0] == 200
    assert process.ended == []


@pytest.mark.parametrize("body", [None, [], {"target": 1}, {"reason": "x"}, {"target": "aaa1", "reason": "x" * 513}])
async def test_what_is_no_order_to_end_something_is_refused(body: object) -> None:
    process = Process("aaa1")
    assert (await process.ask("POST", END, body))[0] == 400
    assert process.ended == []


async def test_a_reason_is_one_printable_line() -> None:
    process = Process("aaa1")
    await process.kill("aaa1", "a\n\x1b[31mb  c")
    assert process.ended == [("aaa1", f"Ended by {ME}: a [31mb c.")]


@asynccontextmanager
async def worker(process: Process, data: Path, number: int) -> AsyncIterator[None]:
    server = HttpServer(dict(worker_routes(process.live, process.end)))
    await server.listen_unix(socket_of(data, number))
    try:
        yield
    finally:
        await server.close()


async def test_sessions_of_other_processes_are_seen_and_ended_too(tmp_path: Path) -> None:
    here, there = Process("aaa1"), Process("bbb2")
    place = Place(1, tmp_path, 3)  # the third does not answer
    async with worker(there, tmp_path, 2):
        _, told = await here.ask("GET", LIVE, place=place)
        assert [each["session"] for each in told["items"]] == ["aaa1", "bbb2"]
        assert await here.kill("bbb2", place=place) == (200, {"ended": "bbb2"})
        assert there.ended == [("bbb2", f"Ended by {ME}.")]


async def test_what_has_just_ended_by_itself_is_told() -> None:
    process = Process("aaa1")

    async def gone(target: str, message: str) -> bool:
        return False

    process.end = gone  # type: ignore[method-assign]
    assert await process.kill("aaa1") == (404, {"error": "gone", "message": "aaa1 has ended by itself."})
