"""Approvals at the admin socket: people read what is asked, and decide.

    GET  /approvals[?all=1][&limit=N]    {"items": [Item …]}
    GET  /approval?name=NAME             Item; NAME may be its beginning
    POST /approval/decision?name=NAME    {"verdict": "Approve" | "Deny", "reason": "…"} → Item

An Item is {"approval": an ApprovalRequest, "state": …, "acting": {approver: capacity}}; an error is
{"error": a word, "message": for people}.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Final, cast

from ostiary_api.approval import Verdict
from ostiary_api.counting import state_of
from ostiary_gateway.admin.http import MAX_DIGITS, Handler, Request
from ostiary_gateway.admin.local_socket import AdminProblem, Given, Routes, asker
from ostiary_gateway.admin.local_socket import told as told_otherwise
from ostiary_gateway.approvals.files import Kept
from ostiary_gateway.approvals.local import Answer, LocalApprovals, Refused
from ostiary_gateway.approvals.people import Approvers, Person
from ostiary_gateway.approvals.store import ApprovalsError

MAX_REASON: Final = 1024

class ApprovalsDesk:
    """What people may do with approvals at the admin socket."""

    def __init__(self, store: LocalApprovals, approvers: Approvers) -> None:
        self._store = store
        self._approvers = approvers

    @property
    def routes(self) -> Routes:
        return {
            ("GET", "/approvals"): told(self._list),
            ("GET", "/approval"): told(self._show),
            ("POST", "/approval/decision"): told(self._decide),
        }

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
            raise AdminProblem(403, "group", f"{person.name} is in none of the groups that may answer: {wanted}.")
        metadata = kept.request.metadata
        answer = Answer(person.name, verdict, reason, standing.acting, standing.operator, person.uid)
        try:
            await self._store.answer(metadata.namespace, metadata.name, answer)
        except Refused as refused:
            raise AdminProblem(409 if refused.code == "closed" else 403, refused.code, str(refused)) from None
        return item(await self._one(metadata.name))

    async def _one(self, name: str) -> Kept:
        found = await self._store.matching(name) if name else []
        if not found:
            raise AdminProblem(404, "unknown", f"There is no approval {name}.")
        exact = [each for each in found if each.request.metadata.name in (name, f"apr-{name}")]
        if len(exact or found) > 1:
            names = ", ".join(each.request.key for each in exact or found)
            raise AdminProblem(409, "ambiguous", f"{name} may be one of several: {names}.")
        return (exact or found)[0]

    def _person(self, request: Request) -> Person:
        person = asker(request)
        if not self._approvers.knows(person):
            raise AdminProblem(403, "group", f"{person.name} may answer for no group at this gateway.")
        return person


def item(kept: Kept) -> dict[str, object]:
    """An approval as the socket and `--json` give it."""
    return {"approval": kept.request.to_manifest(), "state": state_of(kept.request.status), "acting": kept.acting}


def _body(body: bytes) -> tuple[Verdict, str]:
    try:
        fields = json.loads(body)
        verdict, reason = fields["verdict"], fields.get("reason", "")
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AdminProblem(400, "request", "A decision is a JSON object with verdict and reason.") from None
    if verdict not in ("Approve", "Deny") or not isinstance(reason, str):
        raise AdminProblem(400, "request", "verdict is Approve or Deny, reason a text.")
    reason = reason.encode("utf-8", "replace").decode()
    if len(reason) > MAX_REASON:
        raise AdminProblem(400, "request", f"The reason has {len(reason)} characters; {MAX_REASON} are kept at most.")
    return cast(Verdict, verdict), reason


def told(work: Callable[[Request, Given], Awaitable[object]]) -> Handler:
    """The work as a handler; that approvals cannot be read or written is told too."""

    async def guarded(request: Request, given: Given) -> object:
        try:
            return await work(request, given)
        except ApprovalsError as problem:
            raise AdminProblem(503, "store", str(problem)) from None

    return told_otherwise(guarded)
