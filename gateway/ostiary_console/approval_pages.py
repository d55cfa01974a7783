"""Approvals: what waits for a person, one question with its evidence, and the answer, given as the person who looks."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from aiohttp import web

from ostiary_console import handling
from ostiary_console.handling import Console, both, console_of, form, html, who_asks
from ostiary_console.problems import Problem, bad, changed, not_found
from ostiary_console.shown.approvals import approval_view
from ostiary_console.signed_in import SignedIn
from ostiary_console.views import ApprovalPage, ApprovalsPage, ApprovalView, Rendered
from ostiary_console.world import Decidable
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

MAX_REASON: Final = 1024
MAX_CLOSED: Final = 200
_VERDICTS: Final = {"Approve": "approved", "Deny": "denied"}
_SHOWN_AGAIN: Final = frozenset({403, 409, 422, 429, 503})
"""What keeps an answer from being taken, and is told beside the question."""


async def listed(request: web.Request) -> Rendered:
    """/approvals: those that wait, the oldest first; with `all=1` also what became of others."""
    console, everything = console_of(request), request.query.get("all") == "1"
    try:
        found = await console.world.approvals(who_asks(request), closed=everything)
        views = await asyncio.to_thread(_views, found, console.clock())
        problem = ""
    except Problem as why:
        if why.status not in (403, 503):
            raise
        views, problem = [], f"{why} {why.next_step}".strip()
    waiting = sorted((each for each in views if each.state == "Pending"), key=lambda each: each.asked or 0.0)
    closed = sorted((each for each in views if each.state != "Pending"), key=lambda each: -(each.asked or 0.0))
    page = ApprovalsPage(tuple(waiting), tuple(closed[:MAX_CLOSED]), everything, problem)
    return Rendered("approvals", page, "Approvals", "approvals")


def _views(found: Sequence[Decidable], now: float) -> list[ApprovalView]:
    return [_view(each, now) for each in found]


def _view(found: Decidable, now: float) -> ApprovalView:
    return approval_view(found.item, now=now, can_decide=found.can_decide, why_not=found.why_not)


async def _shown(request: web.Request, verdict: str = "", problem: str = "", status: int = 200) -> Rendered:
    console = console_of(request)
    namespace, name = _named(request)
    found = await console.world.approval(who_asks(request), namespace, name)
    page = ApprovalPage(_view(found, console.clock()), verdict, problem)
    return Rendered("approval", page, f"Approval {name}", "approvals", status)


def _named(request: web.Request) -> tuple[str, str]:
    namespace, name = request.match_info["namespace"], request.match_info["name"]
    for part in (namespace, name):
        if not part or len(part) > 253 or not all(c.isascii() and (c.isalnum() or c in "-.") for c in part):
            raise not_found("approval")
    return namespace, name


async def one(request: web.Request) -> Rendered:
    """/approvals/{ns}/{name}; `verdict` is what the person is about to answer."""
    verdict = request.query.get("verdict", "")
    return await _shown(request, verdict if verdict in _VERDICTS else "")


async def decide(request: web.Request) -> web.StreamResponse:
    """POST …/decide: `verdict`, `reason`, and the `hash` of the question that was shown."""
    console, who = console_of(request), who_asks(request)
    namespace, name = _named(request)
    fields = await form(request)
    verdict, reason = fields.get("verdict", ""), fields.get("reason", "").strip()
    if verdict not in _VERDICTS:
        raise bad("A verdict is Approve or Deny.")
    if len(reason) > MAX_REASON:
        raise bad(f"The reason has {len(reason):,} characters; {MAX_REASON:,} are kept.", "Say it shorter.")
    try:
        if verdict == "Approve" and fields.get("unseen") != "1":
            found = await console.world.approval(who, namespace, name)
            if _view(found, console.clock()).truncated:
                raise changed(
                    "Not all of what would run is shown, and you have not said that you know it.",
                    "Look for the whole of it elsewhere, and say so in the form; or deny it.",
                )
        await handling.done(_decided(console, who, namespace, name, verdict, reason, fields.get("hash", "")))
    except Problem as problem:
        log.info("an answer was not taken", approval=f"{namespace}/{name}", by=who.name, problem=str(problem))
        if handling.is_api(request) or problem.status not in _SHOWN_AGAIN:
            raise
        return await html(request, await _shown(request, verdict, str(problem), problem.status))
    if handling.is_api(request):
        return handling.as_json({"approval": f"{namespace}/{name}", "verdict": verdict})
    return handling.redirect(f"/approvals/{namespace}/{name}", done=_VERDICTS[verdict])


async def _decided(
    console: Console, who: SignedIn, namespace: str, name: str, verdict: str, reason: str, shown_hash: str
) -> None:
    await console.world.decide(who, namespace, name, verdict, reason, shown_hash)
    console.counts.decisions[verdict] += 1
    log.info("an approval was answered", approval=f"{namespace}/{name}", by=who.name, verdict=verdict)


def routes() -> list[web.RouteDef]:
    path = "/approvals/{namespace}/{name}"
    return [
        *both("/approvals", listed),
        *both(path, one),
        web.post(f"{path}/decide", decide),
        web.post(f"{handling.API}{path}/decide", decide),
    ]
