"""What is counted: facets of a search, tallies by hour, hits of rules; and the records that came."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from ostiary_store.model import Facets, RequestQuery, RuleHits, Scope, Tally
from ostiary_store.postgres import rows
from ostiary_store.postgres.database import Database
from ostiary_store.postgres.names import Names
from ostiary_store.postgres.rows import Values
from ostiary_store.postgres.searching import SHARE, Late, Search

COUNTED: Final = 1_000
"""Matches of a text that facets are counted among."""

_TALLY: Final = (
    "from tally t join who w on w.id = t.who join hit h on h.id = t.hit where t.hour >= {since} and t.hour < {until}"
    " and {seen}"
)


class Counting:
    """Questions that are answered with numbers."""

    def __init__(self, database: Database, search: Search, who: Names, verdicts: Names) -> None:
        self._database = database
        self._search = search
        self._who = who
        self._verdicts = verdicts

    async def facets(self, query: RequestQuery, scope: Scope) -> Facets:
        deadline = time.monotonic() + max(0.0, query.deadline * SHARE)
        whole = (query.text, query.session, query.outcome, query.would_deny) == ("", None, None, None)
        if whole:
            try:
                return await self._all(query, scope, deadline - query.deadline * SHARE / 2)
            except Late:
                pass
        return await self._among_matches(query, scope, deadline)

    async def _all(self, query: RequestQuery, scope: Scope, deadline: float) -> Facets:
        values = Values()
        seen = [rows.in_scope(scope, values), "h.enforced", "h.action = any('{Allow,Deny,RequireApproval}')"]
        for column, value in (
            ("w.connection", query.connection), ("w.username", query.username), ("w.protocol", query.protocol),
            ("h.action", query.action), ("h.policy", query.policy), ("h.rule", query.rule),
        ):  # fmt: skip
            if value is not None:
                seen.append(f"{column} = {values.place(value)}")
        first, behind = _hours(query.since, query.until)
        found = await self._search.run(
            "select w.connection, w.username, h.action, h.policy, h.rule, sum(t.requests)::bigint "
            + _TALLY.format(since=values.place(first), until=values.place(behind), seen=" and ".join(seen))
            + " group by 1, 2, 3, 4, 5",
            values,
            deadline,
        )
        return _facets([tuple(row) for row in found], complete=True)

    async def _among_matches(self, query: RequestQuery, scope: Scope, deadline: float) -> Facets:
        wanted = await self._search.wanted(query, scope)
        if wanted is None:
            return _facets([], complete=True)
        found, reached, _ = await self._search.find(wanted, None, COUNTED + 1, deadline)
        complete = reached is None and len(found) <= COUNTED
        del found[COUNTED:]
        pairs = Counter((row["who"], row["verdict"]) for row in found)
        whos = await self._who.names({who for who, _ in pairs})
        verdicts = await self._verdicts.names({verdict for _, verdict in pairs})
        told = []
        for (who, verdict), count in pairs.items():
            connection, _, username = whos.get(who, ("", "", ""))
            action, policy, rule, _ = verdicts.get(verdict, ("", "", "", False))
            told.append((connection, username, action, policy, rule, count))
        return _facets(told, complete=complete)

    async def rule_hits(self, since: float, scope: Scope) -> Sequence[RuleHits]:
        values = Values()
        seen = rows.in_scope(scope, values)
        first, behind = _hours(since, None)
        found = await self._database.fetch(
            "select h.policy, h.rule, h.action, h.enforced, sum(t.requests)::bigint, max(t.last) "
            + _TALLY.format(since=values.place(first), until=values.place(behind), seen=seen)
            + " group by 1, 2, 3, 4 order by 1, 2, 3, 4",
            *values,
        )
        return [RuleHits(*row) for row in found]

    async def tallies(self, since: float, until: float, scope: Scope) -> Sequence[Tally]:
        values = Values()
        seen = rows.in_scope(scope, values)
        first, behind = _hours(since, until)
        found = await self._database.fetch(
            "select t.hour, w.connection, '', h.action, h.policy, h.rule, h.enforced, sum(t.requests)::bigint "
            + _TALLY.format(since=values.place(first), until=values.place(behind), seen=seen)
            + " group by 1, 2, 4, 5, 6, 7 order by 1, 2, 4, 5, 6, 7",
            *values,
        )
        return [Tally(*row) for row in found]

    async def records(self) -> Sequence[Mapping[str, object]]:
        found = await self._database.fetch(
            "select uuid, gateway, instance, address, keys, position, number, link, seal, last from record order by id"
        )
        return [
            {**dict(row), "uuid": row["uuid"].hex(), "link": row["link"].hex(), "keys": list(row["keys"])}
            for row in found
        ]


def _hours(since: float | None, until: float | None) -> tuple[int, int]:
    """Whole hours that hold this time."""
    first = 0 if since is None else int(max(0.0, min(since, 1e15)) // 3600) * 3600
    behind = 2**62 if until is None else -int(-max(0.0, min(until, 1e15)) // 3600) * 3600
    return first, behind


def _facets(found: Sequence[Sequence[object]], *, complete: bool) -> Facets:
    connections: Counter[str] = Counter()
    usernames: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    rules: Counter[str] = Counter()
    total = 0
    for connection, username, action, policy, rule, count in found:
        assert isinstance(count, int)
        connections[str(connection)] += count
        usernames[str(username)] += count
        actions[str(action)] += count
        if rule:
            rules[f"{policy}/{rule}"] += count
        total += count
    return Facets(
        dict(connections.most_common()), dict(usernames.most_common()), dict(actions.most_common()),
        dict(rules.most_common()), total, complete,
    )  # fmt: skip
