"""Replay on a page: policies that somebody would like to have, against what was recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from ostiary_console import asked_for, handling, replaying
from ostiary_console.handling import both, console_of, form, html, parameter, scope_of, who_asks
from ostiary_console.limits import Full
from ostiary_console.problems import Problem, bad, too_many
from ostiary_console.shown.replay import replay_page
from ostiary_console.views import Rendered
from ostiary_gateway.logging import get_logger
from ostiary_store.model import RuleHits
from ostiary_store.replay.report import Report

log = get_logger(__name__)

MAX_TEXT: Final = 1024 * 1024
"""Characters of candidate policies."""
MAX_FILES: Final = 50
_PASTED: Final = "pasted"


async def _would_have(request: web.Request, since: float) -> list[RuleHits]:
    hits = await console_of(request).store.rule_hits(since, await scope_of(request))
    return [each for each in hits if not each.enforced]


async def empty(request: web.Request) -> Rendered:
    """GET /replay: the form, and what rules in `enforcement: Audit` would have done."""
    since, connection = parameter(request, "since", "24h") or "24h", parameter(request, "connection")
    began = asked_for.moment(since, console_of(request).clock()) or 0.0
    page = replay_page(
        since=since, connection=connection, policies="", report=None, seconds=0.0, complete=True, problems=(),
        would_have=await _would_have(request, began),
    )  # fmt: skip
    return Rendered("replay", page, "Replay", "replay")


async def _texts(request: web.Request) -> Mapping[str, str]:
    """What was pasted and uploaded, by name. Raises Problem."""
    found: dict[str, str] = {}
    if request.content_type == "multipart/form-data":
        fields = await request.post()
        for each in fields.getall("files", []):
            if isinstance(each, web.FileField) and each.filename:
                raw = await asyncio.to_thread(each.file.read, MAX_TEXT + 1)
                found[_name(each.filename, found)] = raw.decode("utf-8", "replace")
        pasted = fields.get("policies", "")
    else:
        pasted = (await form(request)).get("policies", "")
    if isinstance(pasted, str) and pasted.strip():
        found[_PASTED] = pasted
    if len(found) > MAX_FILES or sum(map(len, found.values())) > MAX_TEXT:
        raise Problem(413, "Too large", f"At most {MAX_FILES} files and {MAX_TEXT >> 20} MiB are taken.")
    return found


def _name(filename: str, taken: Mapping[str, str]) -> str:
    """As problems name the file: nothing is ever opened by it."""
    name = "".join(c if c.isprintable() else "?" for c in filename.replace("\\", "/").rpartition("/")[2])[:100]
    return name if name and name not in taken else f"{name or 'file'} ({len(taken) + 1})"


async def run(request: web.Request) -> Rendered:
    """POST /replay: `policies` (pasted), `files`, `since`, `connection`; `only=1`: no other policies than these."""
    console, who, scope = console_of(request), who_asks(request), await scope_of(request)
    fields = await form(request)
    texts = await _texts(request)
    since, connection = fields.get("since", "").strip() or "24h", fields.get("connection", "").strip()
    began = asked_for.moment(since, console.clock())
    if began is None:
        raise bad("The field since is no time.")
    report: Report | None = None
    seconds = 0.0
    problems: tuple[str, ...] = ("There is nothing to try: paste a policy, or choose a file.",)
    if texts:
        try:
            with console.replays.place(who.name):
                policies, connections = await asyncio.gather(
                    console.world.policies(who), console.world.connections(who)
                )
                chosen = await asyncio.to_thread(
                    replaying.candidate, texts, policies, connections, only=fields.get("only") == "1"
                )
                log.info("a replay begins", by=who.name, since=since)
                report, seconds = await replaying.replay(
                    console.store, scope, chosen, since=began, connection=connection
                )
                problems = ()
        except replaying.Unfit as unfit:
            problems = unfit.problems
        except Full:
            raise too_many("A replay of yours runs already, or too many of others do.") from None
    page = replay_page(
        since=since, connection=connection, policies=texts.get(_PASTED, ""), report=report, seconds=seconds,
        complete=report is None or report.complete, problems=problems, would_have=await _would_have(request, began),
        only=fields.get("only") == "1",
    )  # fmt: skip
    return Rendered("replay", page, "Replay", "replay", 200 if report is not None else 422)


async def _run(request: web.Request) -> web.StreamResponse:
    rendered = await run(request)
    if handling.is_api(request):
        return handling.as_json(rendered.page, rendered.status)
    return await html(request, rendered)


def routes() -> list[web.RouteDef]:
    return [
        *both("/replay", empty),
        web.post("/replay", _run),
        web.post(f"{handling.API}/replay", _run),
    ]


