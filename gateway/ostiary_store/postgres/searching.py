"""Finds requests, newest first: by an index over the words where that helps, else step by step back through time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Final

import asyncpg

from ostiary_store.model import RequestPage, RequestQuery, RequestRow, Scope
from ostiary_store.postgres import rows
from ostiary_store.postgres.database import Database, told
from ostiary_store.postgres.names import Names
from ostiary_store.postgres.pages import Mark
from ostiary_store.postgres.rows import Values
from ostiary_store.words import SEPARATORS, Part, parse

_QUOTED: Final = SEPARATORS.replace("'", "''")
WORDS: Final = f"to_tsvector('simple', translate(q.text, '{_QUOTED}', '{' ' * len(SEPARATORS)}'))"
"""As the index has it."""
_UNINDEXED: Final = f"to_tsvector('simple', translate(q.text, '{_QUOTED}', '{' ' * len(SEPARATORS)}') || '')"
"""The same for whoever reads every row anyway."""

STEP: Final = 4_000
"""Requests that the first step back looks through."""

_COLUMNS: Final = (
    "q.begun, q.session, q.number, q.ended, q.rows, q.bytes, q.who, q.verdict, q.decision, q.outcome, q.text"
)
_FEW: Final = 8
"""As many that asked are looked for one by one."""


class Late(Exception):
    """The deadline came."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A query as conditions. `whos`: None, anybody."""

    whos: tuple[int, ...] | None
    verdicts: tuple[int, ...] | None
    flagged: bool
    session: int | None
    outcome: str | None
    since: float | None
    until: float | None
    parts: tuple[Part, ...]
    excluded: tuple[Part, ...]


class Search:
    """Questions about requests."""

    def __init__(self, database: Database, who: Names, verdicts: Names) -> None:
        self._database = database
        self._who = who
        self._verdicts = verdicts

    async def request(self, request: str, scope: Scope) -> RequestRow:
        name, _, number = request.rpartition("-")
        if not name or not number.isdecimal() or len(number) > 18:
            raise LookupError(f"{request!r} is not the id of a request: a session's id, '-' and a number.")
        values = Values()
        seen = rows.in_scope(scope, values)
        found = await self._database.fetchrow(
            f"select {_COLUMNS} from session s join who w on w.id = s.who join request q on q.day = s.day"
            f" and q.session = s.key where {seen} and s.id = {values.place(name)} and q.number ="
            f" {values.place(int(number))} order by s.key, q.begun limit 1",
            *values,
        )
        if found is None:
            raise LookupError(f"there is no request {request!r} in this store.")
        return (await self._rows([found]))[0]

    async def requests(self, query: RequestQuery, scope: Scope) -> RequestPage:
        deadline = time.monotonic() + max(0.01, query.deadline)
        wanted = await self.wanted(query, scope)
        if wanted is None:
            return RequestPage((), "")
        mark = Mark.parse(query.after) if query.after else None
        limit = max(1, min(query.limit, 10_000))
        found: list[Any] = []
        reached: float | None = None
        if mark is None or not mark.slowly:
            try:
                found = await self.fetch(wanted, mark, limit + 1, deadline)
            except Late:
                mark = Mark(math.inf if mark is None else mark.begun, 2**63 - 1 if mark is None else mark.session,
                            0 if mark is None else mark.number, slowly=True)  # fmt: skip
                deadline = max(deadline, time.monotonic() + 0.05)
        if mark is not None and mark.slowly:
            found, reached = await self._step(wanted, mark, limit + 1, deadline)
        more = len(found) > limit
        del found[limit:]
        following = ""
        if more:
            last = found[-1]
            following = str(Mark(last["begun"], last["session"], last["number"], mark is not None and mark.slowly))
            reached = None
        elif reached is not None:
            following = str(Mark(reached, -(2**63), 0, slowly=True))
        return RequestPage(await self._rows(found), following, reached)

    async def wanted(self, query: RequestQuery, scope: Scope) -> Wanted | None:
        """None: nothing can fit."""
        whos = verdicts = None
        if scope.connections is not None or query.connection or query.username is not None or query.protocol:
            values = Values()
            where = [rows.in_scope(scope, values)]
            for column, value in (
                ("connection", query.connection), ("username", query.username), ("protocol", query.protocol),
            ):  # fmt: skip
                if value is not None:
                    where.append(f"w.{column} = {values.place(value)}")
            whos = await self._ids(f"select id from who w where {' and '.join(where)}", values)
        asked = [
            (column, value)
            for column, value in (
                ("action", query.action), ("policy", query.policy), ("rule", query.rule),
                ("would_deny", query.would_deny),
            )
            if value is not None
        ]  # fmt: skip
        if asked:
            values = Values()
            conditions = [f"{column} = {values.place(value)}" for column, value in asked]
            verdicts = await self._ids(f"select id from verdict where {' and '.join(conditions)}", values)
        session: int | None = None
        if query.session is not None:
            session = await self._session(query.session)
        if whos == () or verdicts == () or session == -1:
            return None
        words = parse(query.text)
        flagged = query.action in ("Deny", "RequireApproval") or query.would_deny is True
        return Wanted(
            whos, verdicts, flagged, session, query.outcome, query.since, query.until, words.parts, words.excluded
        )

    async def _ids(self, query: str, values: Values) -> tuple[int, ...]:
        return tuple(row[0] for row in await self._database.fetch(query, *values))

    async def _session(self, name: str) -> int:
        row = await self._database.fetchrow("select key from session where id = $1 order by key limit 1", name)
        return -1 if row is None else int(row["key"])

    async def fetch(
        self, wanted: Wanted, mark: Mark | None, limit: int, deadline: float, low: float | None = None
    ) -> list[Any]:
        """The newest before `mark`. Late."""
        values = Values()
        where = conditions(wanted, values, indexed=low is None)
        if low is not None:
            where.append(f"q.begun >= {values.place(low)}")
        if mark is not None:
            begun, session, number = values.place(mark.begun), values.place(mark.session), values.place(mark.number)
            where.append(f"q.begun <= {begun} and (q.begun, q.session, q.number) < ({begun}, {session}, {number})")
        order = "order by q.begun desc, q.session desc, q.number desc"
        if wanted.whos is not None and len(wanted.whos) <= _FEW and low is None and not wanted.parts:
            where.append("q.who = w.id")
            inner = " and ".join(where)
            text = (
                f"select q.* from unnest({values.place(list(wanted.whos))}::integer[]) as w (id) cross join lateral"
                f" (select {_COLUMNS} from request q where {inner} {order} limit {limit}) q {order} limit {limit}"
            )
        else:
            if wanted.whos is not None:
                where.append(f"q.who = any({values.place(list(wanted.whos))}::integer[])")
            text = f"select {_COLUMNS} from request q where {' and '.join(where)} {order} limit {limit}"
        return await self._run(text, values, deadline)

    async def _run(self, text: str, values: Values, deadline: float) -> list[Any]:
        left = deadline - time.monotonic()
        if left < 0.002:
            raise Late
        try:
            with told():
                async with self._database.pool.acquire(timeout=10) as connection, connection.transaction():
                    await connection.execute(f"set local statement_timeout = {max(2, int(left * 1000))}")
                    return list(await connection.fetch(text, *values))
        except Exception as error:
            cause = error.__cause__
            if isinstance(cause, asyncpg.QueryCanceledError):
                raise Late from None
            raise

    async def _step(self, wanted: Wanted, mark: Mark, limit: int, deadline: float) -> tuple[list[Any], float | None]:
        """Back through time, so many requests at once as there is time for. What was found, and how far it got if it
        did not get to the end."""
        found: list[Any] = []
        step = STEP
        high = mark
        while True:
            began = time.monotonic()
            low = await self._before(wanted, high, step)
            try:
                # The first step is always taken to its end: who asks again gets on.
                until = deadline if step > STEP else max(deadline, began + 2.0)
                found += await self.fetch(wanted, high, limit - len(found), until, -math.inf if low is None else low)
            except Late:
                return found, high.begun
            if len(found) >= limit or low is None:
                return found, None
            high = Mark(low, -(2**63))
            took = time.monotonic() - began
            left = deadline - time.monotonic()
            if left < took / 2:
                return found, low
            step = int(step * min(4.0, max(0.5, left / 2 / max(took, 0.001))))

    async def _before(self, wanted: Wanted, mark: Mark, step: int) -> float | None:
        """When the request began that is so many requests before."""
        values = Values()
        where = [f"q.begun < {values.place(mark.begun)}"]
        if wanted.since is not None:
            where.append(f"q.begun >= {values.place(wanted.since)}")
        row = await self._database.fetchrow(
            f"select q.begun from request q where {' and '.join(where)} order by q.begun desc offset {step} limit 1",
            *values,
        )
        return None if row is None else float(row["begun"])

    async def _rows(self, found: list[Any]) -> list[RequestRow]:
        whos = await self._who.names({row["who"] for row in found})
        verdicts = await self._verdicts.names({row["verdict"] for row in found})
        keys = {row["session"] for row in found}
        decided = {row["decision"] for row in found if row["decision"] is not None}
        sessions = dict(
            map(tuple, await self._database.fetch("select key, id from session where key = any($1)", list(keys)))
        ) if keys else {}  # fmt: skip
        decisions = dict(
            map(tuple, await self._database.fetch("select n, id from decision where n = any($1)", list(decided)))
        ) if decided else {}  # fmt: skip
        made = []
        for row in found:
            connection, protocol, username = whos.get(row["who"], ("", "", ""))
            action, policy, rule, would_deny = verdicts.get(row["verdict"], ("", "", "", False))
            decision = decisions.get(row["decision"], b"").hex()
            made.append(
                RequestRow(
                    sessions.get(row["session"], f"#{row['session']}"), row["number"], row["begun"], row["ended"],
                    str(connection), str(protocol), str(username), row["text"], str(action), str(policy), str(rule),
                    decision, bool(would_deny), row["outcome"], row["rows"], row["bytes"],
                )
            )  # fmt: skip
        return made


def conditions(wanted: Wanted, values: Values, *, indexed: bool = True) -> list[str]:
    """All but who asked."""
    where = ["true"]
    if wanted.verdicts is not None:
        where.append(f"q.verdict = any({values.place(list(wanted.verdicts))}::integer[])")
    if wanted.flagged:
        where.append("q.flagged")
    if wanted.session is not None:
        where.append(f"q.session = {values.place(wanted.session)}")
    if wanted.outcome is not None:
        where.append(f"q.outcome = {values.place(wanted.outcome)}")
    if wanted.since is not None:
        where.append(f"q.begun >= {values.place(wanted.since)}")
    if wanted.until is not None:
        where.append(f"q.begun < {values.place(wanted.until)}")
    where += [_occurs(part, values, indexed) for part in wanted.parts]
    where += [f"not ({_occurs(part, values, False)})" for part in wanted.excluded]
    return where


def _occurs(part: Part, values: Values, indexed: bool) -> str:
    told = []
    if part.phrase:
        told.append(f"q.text ilike {values.place(_pattern(part.phrase))}")
    elif not indexed:
        told += [f"q.text ilike {values.place(_pattern(word))}" for word in part.words]
    if part.words:
        words = [f"'{word}'" for word in part.words]
        if part.begins:
            words[-1] += ":*"
        place = values.place(" & ".join(words))
        told.append(f"{WORDS if indexed else _UNINDEXED} @@ to_tsquery('simple', {place})")
    return "(" + " and ".join(told) + ")"


def _pattern(text: str) -> str:
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
