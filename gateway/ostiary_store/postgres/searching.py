"""Finds requests, newest first: by an index over the words where that helps, else step by step back through time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

import asyncpg

from ostiary_store.model import RequestPage, RequestQuery, RequestRow, Scope, StoreError
from ostiary_store.postgres import rows
from ostiary_store.postgres.database import Database, told
from ostiary_store.postgres.days import Days, partition
from ostiary_store.postgres.names import Names
from ostiary_store.postgres.pages import Mark
from ostiary_store.postgres.rows import Values, storable
from ostiary_store.words import Part, parse

_SPACES: Final = "./-:@&<+~_"
"""Signs that PostgreSQL's parser does not take for spaces, or not everywhere (see schema/0001.sql)."""
_SPACED: Final = f"translate(lower(coalesce(q.folded, q.text) collate \"C\"), '{_SPACES}', '{' ' * len(_SPACES)}')"
_WORDS: Final = f"to_tsvector('simple', {_SPACED})"
"""As the index has it."""
_UNINDEXED: Final = f"to_tsvector('simple', {_SPACED} || '')"
"""The same for whoever reads every row anyway."""
_TEXT: Final = "coalesce(q.folded, q.text)"

STEP: Final = 2_000
"""Requests that the first step back looks through."""

_COLUMNS: Final = (
    "q.begun, q.session, q.number, q.ended, q.rows, q.bytes, q.who, q.verdict, q.decision, q.outcome, q.text"
)
_FEW: Final = 64
"""As many that asked are looked for one by one."""
SHARE: Final = 0.75
"""Of the time, for finding; the rest is for what belongs to it."""


class _Way(Enum):
    """Of finding the newest."""

    GUESSED = "as the database thinks is best"
    WORDS = "by the index over the words"
    EACH = "the newest of each that may have asked"
    TIME = "back through time"


class Late(Exception):
    """The deadline came."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A query as conditions. `whos`: None, anybody."""

    whos: tuple[int, ...] | None
    verdicts: tuple[int, ...] | None
    flagged: bool
    session: tuple[int, int] | None
    """Its key and its day."""
    outcome: str | None
    since: float | None
    until: float | None
    parts: tuple[Part, ...]
    excluded: tuple[Part, ...]


class Search:
    """Questions about requests."""

    def __init__(self, database: Database, days: Days, who: Names, verdicts: Names) -> None:
        self._database = database
        self._days = days
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
        deadline = time.monotonic() + max(0.0, query.deadline * SHARE)
        mark = Mark.parse(query.after) if query.after else None
        wanted = await self.wanted(query, scope)
        if wanted is None:
            return RequestPage((), "")
        limit = max(1, min(query.limit, 10_000))
        found, reached, slowly = await self.find(wanted, mark, limit + 1, deadline)
        following = ""
        if len(found) > limit:
            del found[limit:]
            last = found[-1]
            following = str(Mark(last["begun"], last["session"], last["number"], slowly))
            reached = None
        elif reached is not None:
            following = str(Mark(reached, -(2**63), 0, slowly))
        return RequestPage(await self._rows(found), following, reached)

    async def find(
        self, wanted: Wanted, mark: Mark | None, limit: int, deadline: float
    ) -> tuple[list[Any], float | None, bool]:
        """The newest before `mark`; how far back it was looked, if there was no time for all; and whether that was step
        by step, as it has to go on then.

        Which way is the quick one depends on how common the words are, and on whether what fits lies together. The
        database guesses that well, not always. So each way has its time.
        """
        if mark is None or not mark.slowly:
            try:
                return *await self._by_days(wanted, mark, limit, _share(0.75, deadline)), False
            except Late:
                pass
        return *await self._step(wanted, mark or Mark(math.inf, 2**63 - 1), limit, deadline), True

    async def _by_days(
        self, wanted: Wanted, mark: Mark | None, limit: int, deadline: float
    ) -> tuple[list[Any], float | None]:
        """Day for day, the newest first, each by its own indexes. Late, if there was no time for one.

        A day has the requests of sessions that were opened on it, so those of older days may have begun later.
        """
        found: list[Any] = []
        low = -math.inf if wanted.since is None else wanted.since
        high = math.inf if mark is None else mark.begun
        if wanted.until is not None:
            high = min(high, wanted.until)
        left = await self._days_between(low, high) if wanted.session is None else [wanted.session[1]]
        first = True
        while left:
            try:
                more = await self._of_day(left[0], wanted, mark, limit, deadline)
            except Late:
                newest = await self._newest(left, high)
                if newest is None:
                    return found, None
                # What began at that moment itself was not looked at.
                reached = math.nextafter(newest, math.inf)
                if first or reached >= high:
                    raise
                return [row for row in found if row["begun"] >= reached], reached
            first = False
            found = sorted([*found, *more], key=_newest_first)[:limit]
            del left[0]
            if len(found) == limit and left:
                newer = await self._days_between(found[-1]["begun"], high)
                left = [day for day in left if day in newer]
        return found, None

    async def _of_day(self, day: int, wanted: Wanted, mark: Mark | None, limit: int, deadline: float) -> list[Any]:
        """The newest of one day. Late."""
        ways = [_Way.GUESSED]
        if any(part.words for part in wanted.parts):
            ways.append(_Way.WORDS)
        if wanted.whos is not None and len(wanted.whos) <= _FEW:
            ways.append(_Way.EACH)
        for at, way in enumerate(ways, 1):
            until = deadline if at == len(ways) else _share(0.4, deadline)
            try:
                return await self._fetch(way, wanted, mark, limit, until, table=partition("request", day))
            except Late:
                if at == len(ways):
                    raise
        raise AssertionError

    async def _days_between(self, low: float, high: float) -> list[int]:
        """Days that have requests which began then, the newest first."""
        async with self._database.connection() as connection:
            days = await self._days.existing(connection)
            if math.isinf(low) and math.isinf(high):
                return days
            found = await connection.fetch(
                "select day from unnest($1::integer[]) as each (day) cross join lateral (select 1 from request q"
                " where q.day = each.day and q.begun >= $2 and q.begun <= $3 limit 1) q",
                days, low, high,
            )  # fmt: skip
        return sorted((row["day"] for row in found), reverse=True)

    async def _newest(self, days: list[int], high: float) -> float | None:
        """When the last request before `high` began, of these days."""
        row = await self._database.fetchrow(
            "select max(q.begun) as newest from unnest($1::integer[]) as each (day) cross join lateral (select q.begun"
            " from request q where q.day = each.day and q.begun <= $2 order by q.begun desc limit 1) q",
            days, high,
        )  # fmt: skip
        return None if row["newest"] is None else float(row["newest"])

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
        session: tuple[int, int] | None = None
        if query.session is not None:
            session = await self._session(query.session, scope)
            if session is None:
                return None
        if whos == () or verdicts == ():
            return None
        words = parse(query.text)
        flagged = query.action in ("Deny", "RequireApproval") or query.would_deny is True
        return Wanted(
            whos, verdicts, flagged, session, query.outcome, query.since, query.until, words.parts, words.excluded
        )

    async def _ids(self, query: str, values: Values) -> tuple[int, ...]:
        return tuple(row[0] for row in await self._database.fetch(query, *values))

    async def _session(self, name: str, scope: Scope) -> tuple[int, int] | None:
        """The one that may be seen: a gateway that lies can use an id that another one has."""
        values = Values()
        seen = rows.in_scope(scope, values)
        row = await self._database.fetchrow(
            f"select s.key, s.day from session s join who w on w.id = s.who where {seen}"
            f" and s.id = {values.place(storable(name))} order by s.key limit 1", *values,
        )  # fmt: skip
        return None if row is None else (int(row["key"]), int(row["day"]))

    async def _fetch(
        self, way: _Way, wanted: Wanted, mark: Mark | None, limit: int, deadline: float, low: float | None = None,
        table: str = "request",
    ) -> list[Any]:  # fmt: skip
        """The newest before `mark` and not before `low`. Late."""
        values = Values()
        where = _conditions(wanted, values, indexed=way in (_Way.GUESSED, _Way.WORDS))
        if low is not None:
            where.append(f"q.begun >= {values.place(low)}")
        if mark is not None:
            begun, session, number = values.place(mark.begun), values.place(mark.session), values.place(mark.number)
            where.append(f"q.begun <= {begun} and (q.begun, q.session, q.number) < ({begun}, {session}, {number})")
        order = f"order by q.begun desc, q.session desc, q.number desc limit {limit}"
        if way is _Way.EACH:
            assert wanted.whos is not None
            inner = f"select {_COLUMNS} from {table} q where {' and '.join(where)} and q.who = w.id {order}"
            whos = values.place(list(wanted.whos))
            text = f"select q.* from unnest({whos}::integer[]) as w (id) cross join lateral ({inner}) q {order}"
            return await self.run(text, values, deadline)
        if wanted.whos is not None:
            where.append(f"q.who = any({values.place(list(wanted.whos))}::integer[])")
        inner = f"select {_COLUMNS} from {table} q where {' and '.join(where)}"
        if way is _Way.WORDS:
            # Behind `offset` the order is not seen, so that only the index over the words is left.
            inner = f"select q.* from ({inner} offset 0) q"
        return await self.run(f"{inner} {order}", values, deadline)

    async def run(self, text: str, values: Values, deadline: float) -> list[Any]:
        """Late, if it takes longer."""
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
                least = -math.inf if low is None else low
                found += await self._fetch(_Way.TIME, wanted, high, limit - len(found), until, least)
            except Late:
                if math.isinf(high.begun):
                    raise StoreError("the store's database is too busy to search just now; try again") from None
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


def _share(part: float, deadline: float) -> float:
    """When so much of the time that is left will be over."""
    now = time.monotonic()
    return now + part * (deadline - now)


def _newest_first(row: Any) -> tuple[float, int, int]:
    return -row["begun"], -row["session"], -row["number"]


def _conditions(wanted: Wanted, values: Values, *, indexed: bool = True) -> list[str]:
    """All but who asked."""
    where = ["true"]
    if wanted.verdicts is not None:
        where.append(f"q.verdict = any({values.place(list(wanted.verdicts))}::integer[])")
    if wanted.flagged:
        where.append("q.flagged")
    if wanted.session is not None:
        where.append(f"q.session = {values.place(wanted.session[0])} and q.day = {values.place(wanted.session[1])}")
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
        told.append(f"{_TEXT} ilike {values.place(_pattern(part.phrase))}")
    elif not indexed:
        told += [f"{_TEXT} ilike {values.place(_pattern(word))}" for word in part.words]
    if part.words:
        words = [f"'{word}'" for word in part.words]
        if part.begins:
            words[-1] += ":*"
        place = values.place(" & ".join(words))
        told.append(f"{_WORDS if indexed else _UNINDEXED} @@ to_tsquery('simple', {place})")
    return "(" + " and ".join(told) + ")"


def _pattern(text: str) -> str:
    return "%" + text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
