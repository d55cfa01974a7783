"""Policies with what their rules did, Connections with their health."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Final

from aiohttp import web

from ostiary_console import asked_for
from ostiary_console.handling import both, console_of, parameter, scope_of, who_asks
from ostiary_console.problems import Problem, bad
from ostiary_console.shown.connections import connections_page
from ostiary_console.shown.policies import policies_page
from ostiary_console.views import Rendered
from ostiary_console.world import Manifest
from ostiary_store.model import RequestQuery, RequestRow, RuleHits, Scope
from ostiary_store.store import Store

DAY: Final = 86_400.0
DENIALS: Final = 5
"""Last denials of each policy that are shown."""
LOOKED: Final = 100
"""Policies whose last denials are looked for."""
AT_ONCE: Final = 4


async def policies(request: web.Request) -> Rendered:
    """/policies: what they say, how often each rule held since `since`, and the last denials."""
    console, who, scope = console_of(request), who_asks(request), await scope_of(request)
    since, now = parameter(request, "since", "7d") or "7d", console.clock()
    began = asked_for.moment(since, now)
    if began is None:
        raise bad("The parameter since is no time.", "Write 24h or 7d.")
    hits, tallies, (manifests, problem) = await asyncio.gather(
        console.store.rule_hits(began, scope),
        console.store.tallies(began, now, scope),
        _read(console.world.policies(who)),
    )
    denials = await _denials(console.store, hits, began, scope)
    page = policies_page(
        manifests, hits=hits, tallies=tallies, denials=denials, since=since, now=now, problem=problem
    )  # fmt: skip
    return Rendered("policies", page, "Policies", "policies")


async def _denials(
    store: Store, hits: Sequence[RuleHits], since: float, scope: Scope
) -> Mapping[str, Sequence[RequestRow]]:
    denying = sorted({each.policy for each in hits if each.policy and each.action == "Deny" and each.enforced})
    slots = asyncio.Semaphore(AT_ONCE)

    async def of(policy: str) -> tuple[str, Sequence[RequestRow]]:
        async with slots:
            query = RequestQuery(policy=policy, action="Deny", since=since, limit=DENIALS)
            return policy, (await store.requests(query, scope)).requests

    return dict(await asyncio.gather(*(of(policy) for policy in denying[:LOOKED])))


async def _read(reading: Awaitable[Sequence[Manifest]]) -> tuple[Sequence[Manifest], str]:
    """What the person may not read, or nobody can now, leaves what the record says."""
    try:
        return await reading, ""
    except Problem as problem:
        if problem.status == 401:
            raise
        return (), f"{problem} {problem.next_step}".strip()


async def connections(request: web.Request) -> Rendered:
    """/connections: health as the operator or the gateway says it, and what went through in a day."""
    console, who, scope = console_of(request), who_asks(request), await scope_of(request)
    now = console.clock()
    tallies, records, (manifests, problem), live = await asyncio.gather(
        console.store.tallies(now - DAY, now, scope),
        console.store.records(),
        _read(console.world.connections(who)),
        _live(request, scope),
    )
    if not console.world.standalone:
        records = [each for each in records if asked_for.touches(scope, str(each.get("gateway", "")).partition("/")[0])]
    page = connections_page(
        manifests, tallies=tallies, records=records, live=live, now=now, problem=problem
    )  # fmt: skip
    return Rendered("connections", page, "Connections", "connections")


async def _live(request: web.Request, scope: Scope) -> Mapping[str, int] | None:
    try:
        found = await console_of(request).world.live()
    except Problem:
        return None
    counts: dict[str, int] = {}
    for each in found.items:
        connection = str(each.get("connection", ""))
        if asked_for.within(scope, connection):
            counts[connection] = counts.get(connection, 0) + 1
    return counts


def routes() -> list[web.RouteDef]:
    return [*both("/policies", policies), *both("/connections", connections)]
